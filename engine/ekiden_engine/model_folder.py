"""A model folder: writing what a training made, and loading it for serving, without torch.

`config.json` says what there is. Per target a folder `targets/<i>` with the files of its predictor; `mappings/` the
ids of every node type in index order (Parquet); `links/<i>.npz` the edges that a link target is about, so that an
answer can leave out what the graph has; `features.json` and `features/` the encoders, for nodes that come in a
request. `manifest.json` has the hash of each.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from ekiden.contracts.tasks import Task
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.features import FeatureBook
from ekiden_engine.graph import EdgeSet, EdgeType, EncodedGraph, Target
from ekiden_engine.graph_files import FEATURES_FILE
from ekiden_engine.manifest import check_manifest
from ekiden_engine.mapping import file_stems, read_mapping, write_mapping
from ekiden_engine.models import predictor_class
from ekiden_engine.models.base import Fit, Predictor

CONFIG_FILE: Final = "config.json"
RUN_VARIABLE: Final = "EKIDEN_RUN_ID"


class TargetEntry(BaseModel):
    """One target of a model: what is predicted, the kind of its predictor and the folder with its files."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    target: Target
    predictor: str
    folder: str
    hyperparameters: dict[str, str]


class LinksEntry(BaseModel):
    """The known links of one edge type: an npz file with `source` and `dest`, int32 [E] each."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    edge: EdgeType
    file: str


class ModelConfig(BaseModel):
    """`config.json`; `mappings` is the id file of each node type, `edges` are all edge types of the graph."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal["ekiden.model.v2"] = "ekiden.model.v2"
    model: str
    targets: tuple[TargetEntry, ...]
    mappings: dict[str, str]
    edges: tuple[EdgeType, ...] = ()
    links: tuple[LinksEntry, ...] = ()
    run_id: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class KnownLinks:
    """The links of one edge type that the graph has: `source`, `dest` int32 [E]."""

    source: npt.NDArray[np.int32]
    dest: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model ready to serve: a predictor per target of `config`, node ids in index order by node type, known links by
    edge type, the encoders of features."""

    config: ModelConfig
    predictors: tuple[Predictor, ...]
    ids: Mapping[str, pa.StringArray]
    links: Mapping[EdgeType, KnownLinks]
    features: FeatureBook


def save_model(
    folder: Path, graph: EncodedGraph, fits: Sequence[tuple[Target, Fit]], model: str, features: FeatureBook
) -> None:
    """Write everything but the manifest, which the caller writes last, over the other files of the job too."""
    entries = []
    for position, (target, fit) in enumerate(fits):
        own = f"targets/{position}"
        (folder / own).mkdir(parents=True)
        fit.predictor.save(folder / own)
        entries.append(
            TargetEntry(
                target=target, predictor=fit.predictor.kind, folder=own, hyperparameters=dict(fit.hyperparameters)
            )
        )
    (folder / "mappings").mkdir()
    labels = [nodes.label for nodes in graph.nodes]
    mappings = {}
    for label, stem in zip(labels, file_stems(labels), strict=True):
        mappings[label] = f"mappings/{stem}.parquet"
        write_mapping(folder / mappings[label], graph.node(label).ids)
    features.save(folder / FEATURES_FILE)
    config = ModelConfig(
        model=model,
        targets=tuple(entries),
        mappings=mappings,
        edges=tuple(edges.edge_type for edges in graph.edges),
        links=tuple(_save_links(folder, graph, [target for target, _ in fits])),
        run_id=os.environ.get(RUN_VARIABLE),
    )
    (folder / CONFIG_FILE).write_text(config.model_dump_json(indent=1) + "\n", "utf-8")


def load_model(folder: Path) -> LoadedModel:
    """Check the manifest, then load.

    Raises `BadData` CORRUPT_ARTIFACT: a file is missing, differs from its hash in manifest.json, is not in it, or
    contradicts config.json; UNKNOWN_MODEL: a kind of predictor that this version does not have.
    """
    vouched = check_manifest(folder).paths()
    try:
        config = ModelConfig.model_validate_json((folder / CONFIG_FILE).read_bytes())
    except (ValidationError, OSError) as error:
        raise BadData("CORRUPT_ARTIFACT", f"{CONFIG_FILE}: {str(error)[:200]}") from error
    needed = [CONFIG_FILE, FEATURES_FILE, *config.mappings.values(), *(links.file for links in config.links)]
    needed += [f"{entry.folder}/{name}" for entry in config.targets for name in predictor_class(entry.predictor).files]
    _check_vouched(needed, vouched)
    features = FeatureBook.load(folder / FEATURES_FILE)
    _check_vouched(features.files(), vouched)
    ids = {label: read_mapping(folder / name) for label, name in config.mappings.items()}
    predictors = []
    for entry in config.targets:
        predictor = predictor_class(entry.predictor).load(folder / entry.folder)
        _check_types(entry, ids)
        _check_counts(predictor, ids, entry)
        predictors.append(predictor)
    links = {entry.edge: _load_links(folder / entry.file, entry.edge, ids) for entry in config.links}
    return LoadedModel(config, tuple(predictors), ids, links, features)


def _check_vouched(names: Iterable[str], vouched: Collection[str]) -> None:
    for name in names:
        if name not in vouched:
            raise BadData("CORRUPT_ARTIFACT", f"{name[:200]} is not in manifest.json")


def _check_types(entry: TargetEntry, ids: Mapping[str, pa.StringArray]) -> None:
    ends = entry.target.edge or ()
    for label in (entry.target.node, *ends[::2]):
        if label is not None and label not in ids:
            raise BadData("CORRUPT_ARTIFACT", f"{entry.folder}: node type {quoted(label)} is not in mappings")


def _check_counts(predictor: Predictor, ids: Mapping[str, pa.StringArray], entry: TargetEntry) -> None:
    for label, count in predictor.counts().items():
        if label not in ids or len(ids[label]) != count:
            there = len(ids[label]) if label in ids else "no"
            raise BadData(
                "CORRUPT_ARTIFACT", f"{entry.folder}: the model has {count} {label[:100]} nodes, mappings has {there}"
            )


def _save_links(folder: Path, graph: EncodedGraph, targets: Sequence[Target]) -> Iterator[LinksEntry]:
    """The edge types of all link targets, each once."""
    wanted: dict[EdgeType, EdgeSet] = {}
    for target in targets:
        if target.task is Task.LINK_PREDICTION:
            wanted |= {edges.edge_type: edges for edges, _ in graph.link_labels(target)}
    if wanted:
        (folder / "links").mkdir()
    for position, (edge_type, edges) in enumerate(wanted.items()):
        file = f"links/{position}.npz"
        np.savez(folder / file, source=edges.source, dest=edges.dest)
        yield LinksEntry(edge=edge_type, file=file)


def _load_links(path: Path, edge: EdgeType, ids: Mapping[str, pa.StringArray]) -> KnownLinks:
    name = f"{path.parent.name}/{path.name}"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = KnownLinks(arrays["source"], arrays["dest"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BadData("CORRUPT_ARTIFACT", f"{name}: {str(error)[:200]}") from error
    if found.source.ndim != 1 or found.source.shape != found.dest.shape:
        raise BadData("CORRUPT_ARTIFACT", f"{name}: source and dest must be equally long")
    for rows, label in ((found.source, edge[0]), (found.dest, edge[2])):
        if len(rows) and (label not in ids or rows.min() < 0 or rows.max() >= len(ids[label])):
            raise BadData("CORRUPT_ARTIFACT", f"{name}: a link to a {quoted(label)} node that mappings does not have")
    return found
