"""A model folder: what it says about itself, and loading it for serving, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EdgeType
from ekiden_engine.manifest import check_manifest
from ekiden_engine.mapping import read_mapping
from ekiden_engine.models import predictor_class
from ekiden_engine.models.base import EdgePredictor

CONFIG_FILE = "config.json"


class ModelConfig(BaseModel):
    """`config.json`: the model's name and target, the kind of predictor, and the id file of each end's node
    type."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal["ekiden.model.v1"] = "ekiden.model.v1"
    model: str
    predictor: str
    edge: EdgeType
    property: str
    mappings: dict[str, str]
    hyperparameters: dict[str, str]
    run_id: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model ready to serve; `source_ids`, `dest_ids` are the node ids in index order."""

    config: ModelConfig
    predictor: EdgePredictor
    source_ids: pa.StringArray
    dest_ids: pa.StringArray


def load_model(folder: Path) -> LoadedModel:
    """Check the manifest, then load.

    Raises `BadData` CORRUPT_ARTIFACT: a file is missing, differs from its hash in manifest.json, is not in
    it, or contradicts config.json; UNKNOWN_MODEL: a kind of predictor that this version does not have.
    """
    known = check_manifest(folder).paths()
    try:
        config = ModelConfig.model_validate_json((folder / CONFIG_FILE).read_bytes())
    except (ValidationError, OSError) as error:
        raise BadData("CORRUPT_ARTIFACT", f"{CONFIG_FILE}: {str(error)[:200]}") from error
    ids = []
    for label in (config.edge[0], config.edge[2]):
        name = config.mappings.get(label, "")
        if name not in known:
            raise BadData("CORRUPT_ARTIFACT", f"{CONFIG_FILE}: no id file for node type {label[:100]}")
        ids.append(read_mapping(folder / name))
    kind = predictor_class(config.predictor)
    for name in (CONFIG_FILE, *kind.files):
        if name not in known:
            raise BadData("CORRUPT_ARTIFACT", f"{name} is not in manifest.json")
    predictor = kind.load(folder)
    if predictor.counts != (len(ids[0]), len(ids[1])):
        raise BadData("CORRUPT_ARTIFACT", "the model has another number of nodes than its id files")
    return LoadedModel(config, predictor, ids[0], ids[1])
