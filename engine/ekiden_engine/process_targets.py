"""The targets of an exported graph: which there are, and how the rows of each type are labelled and split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ekiden.contracts.hyperparameters import HYPERPARAMETERS, as_text
from ekiden.contracts.spec import PipelineSpec
from ekiden.contracts.tasks import Task, task_of
from ekiden.contracts.training_data import GraphConfig, LabelConfig
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.graph import EdgeType, Labels, Split, SplitArray, Target
from ekiden_engine.log import log
from ekiden_engine.process_labels import ClassColumn, LabelColumn, LinkColumn, NumberColumn
from ekiden_engine.splits import DEFAULT_SPLIT_RATE, Keys, SplitFiles, describe_split, split_by_rate

Kind = str | EdgeType
"""A node type, or an edge type."""

EVERY_LINK = LabelConfig(label=("", "link_prediction"))
"""A configuration without any label: Neptune ML predicts links then, 90 % for training, 10 % for validation."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What one type adds to the target at `position`."""

    position: int
    config: LabelConfig


class TargetReader:
    """Fills in the targets of a configuration, type by type: `columns`, then the rows, then `finish`."""

    def __init__(self, graph: GraphConfig, spec: PipelineSpec, folder: Path) -> None:
        """`folder` is the export."""
        self._targets: list[Target] = []
        self._wanted: dict[Kind, list[_Wanted]] = {}
        self._seed = _seed(spec)
        self._files = SplitFiles(folder)
        for target, labels in _declared(graph, spec):
            for kind, config in labels.items():
                self._wanted.setdefault(kind, []).append(_Wanted(len(self._targets), config))
            self._targets.append(target)
        self._shares_files = {p for p, t in enumerate(self._targets) if t.edge is None and t.node is None}

    def columns(self, kind: Kind) -> dict[str, LabelColumn]:
        """An empty column per property of the type that is to be predicted, to be filled while its rows are read."""
        return {
            wanted.config.column: (
                NumberColumn() if wanted.config.task == "regression" else ClassColumn(wanted.config.separator)
            )
            for wanted in self._wanted.get(kind, ())
            if wanted.config.task != "link_prediction"
        }

    def finish(self, kind: Kind, keys: Keys, columns: Mapping[str, LabelColumn]) -> tuple[Labels, ...]:
        """The labels of the type, with splits; its targets then know their classes or range.

        Raises `BadData`: NO_LABELS, NO_TRAINING_NODES, NO_TRAINING_EDGES, TOO_MANY_CLASSES, ONE_CLASS, and those of
        `SplitFiles.assign`.
        """
        found = []
        for wanted in self._wanted.get(kind, ()):
            links = wanted.config.task == "link_prediction"
            column = LinkColumn(lambda: len(keys)) if links else columns[wanted.config.column]
            name = f"{keys.subject} {wanted.config.column}".strip()
            split = self._split(kind, wanted.config, keys, column, name)
            if not (split == Split.TRAIN).any() and len(keys):
                code = "NO_TRAINING_NODES" if isinstance(kind, str) else "NO_TRAINING_EDGES"
                raise BadData(code, f"the split of {quoted(name)} leaves nothing for training")
            target, values = column.finish(self._targets[wanted.position], split)
            self._targets[wanted.position] = target
            labels = Labels(wanted.position, split, values)
            log(f"{_text(kind)}.{wanted.config.column or 'links'}: {describe_split(labels)}")
            found.append(labels)
        return tuple(found)

    def relation(self, edge_type: EdgeType) -> str | None:
        """The relation, where the split files of a target may be about several edge types."""
        shared = any(wanted.position in self._shares_files for wanted in self._wanted.get(edge_type, ()))
        return edge_type[1] if shared else None

    def targets(self) -> tuple[Target, ...]:
        """All targets, once every type is finished. Raises `BadData` UNKNOWN_SPLIT_ROW."""
        self._files.finish()
        return tuple(self._targets)

    def _split(self, kind: Kind, config: LabelConfig, keys: Keys, column: LabelColumn, name: str) -> SplitArray:
        if config.custom_split_filenames is not None:
            return self._files.assign(config.custom_split_filenames, keys, column, config.column)
        labelled = column.labelled()
        if not labelled.any() and config.task != "link_prediction":
            raise BadData("NO_LABELS", f"no {quoted(keys.subject)} has a value for {quoted(config.column)}")
        subject = (kind,) if isinstance(kind, str) else kind
        return split_by_rate(labelled, config.split_rate or DEFAULT_SPLIT_RATE, self._seed, subject)


def _declared(graph: GraphConfig, spec: PipelineSpec) -> list[tuple[Target, dict[Kind, LabelConfig]]]:
    """The targets that the configuration names, those of the spec first and in its order."""
    found: dict[tuple[Kind | None, str], tuple[Target, dict[Kind, LabelConfig]]] = {}
    edge_types = list(dict.fromkeys(file.edge_type for file in graph.edges))
    links: dict[Kind, LabelConfig] = {}
    for kind, config in _labels(graph):
        if config.task == "link_prediction":
            links.setdefault(kind, config)
            continue
        on_node = isinstance(kind, str)
        target = Target(
            task=task_of(config.task, on_node=on_node),
            node=kind if isinstance(kind, str) else None,
            edge=None if isinstance(kind, str) else kind,
            property=config.column,
        )
        found.setdefault((kind, config.column), (target, {kind: config}))
    if not found and not links:
        links = dict.fromkeys(edge_types, EVERY_LINK)
    one_by_one = {target.edge for target in spec.predicts if target.task is Task.LINK_PREDICTION} - {None}
    if links and len(links) == len(edge_types) and not one_by_one:
        found[None, ""] = Target(task=Task.LINK_PREDICTION), links
    else:
        for kind, config in links.items():
            if not isinstance(kind, str):
                found[kind, ""] = Target(task=Task.LINK_PREDICTION, edge=kind), {kind: config}
    order = {(target.node or target.edge, target.property or ""): i for i, target in enumerate(spec.predicts)}
    return [found[key] for key in sorted(found, key=lambda key: order.get(key, len(order)))]


def _labels(graph: GraphConfig) -> Iterator[tuple[Kind, LabelConfig]]:
    files: Iterable[tuple[Kind, tuple[LabelConfig, ...]]] = [
        *((file.node[1], file.labels) for file in graph.nodes),
        *((file.edge_type, file.labels) for file in graph.edges),
    ]
    for kind, labels in files:
        for config in labels:
            if isinstance(kind, str) and config.task == "link_prediction":
                raise BadData("BAD_CONFIGURATION", f"node type {quoted(kind)}: link_prediction is for edges")
            yield kind, config


def _text(kind: Kind) -> str:
    return kind if isinstance(kind, str) else "-".join(kind)


def _seed(spec: PipelineSpec) -> int:
    """The spec's hyperparameter `seed`, or its default; a custom model's own `seed` counts if it is a number."""
    given = as_text(spec.model.hyperparameters.get("seed", 0))
    table = HYPERPARAMETERS.get(spec.model.name)
    if table is None:
        return int(given) if given.isdecimal() and len(given) < 10 else 0
    try:
        return int(table["seed"].parse(given) or 0)
    except ValueError as error:
        raise BadData("BAD_HYPERPARAMETERS", f"model.hyperparameters.seed: {error}") from None
