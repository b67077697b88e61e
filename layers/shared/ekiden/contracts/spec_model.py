"""``model`` of a pipeline spec: which model is trained, with which hyper-parameters, and how they are searched for."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from ekiden.contracts.base import INSTANCE, DocumentError, Fault, Strict, kind_of, shorten
from ekiden.contracts.s3uri import S3Uri

ALLOW_LOCAL_SOURCE: Final = "allow_local_source"
"""Key of the validation context: folders of this machine may stand where an S3 prefix is needed; they are uploaded."""
CUSTOM: Final = "custom"
MAX_HYPERPARAMETER = 2500
MIN_TUNING_MINUTES = 2
"""SageMaker takes no tuning job that may run for less."""
NEPTUNE_NAMES: Final = {"maxHPONumberOfTrainingJobs": "jobs", "maxHPOParallelTrainingJobs": "parallel"}
_ARGUMENT = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,255}")
_SCRIPT = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*\.py")
TRAINING_SCRIPT, TRANSFORM_SCRIPT = "training.py", "transform.py"


def _is_plain(value: object) -> object:
    if not isinstance(value, bool | int | float | str):
        raise ValueError(f"a hyper-parameter is a number, a text, true or false; found {kind_of(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    if isinstance(value, int | str) and len(str(value)) > MAX_HYPERPARAMETER:
        raise ValueError(f"SageMaker takes at most {MAX_HYPERPARAMETER:,} characters")
    return value


HyperparameterValue = Annotated[bool | int | float | str, BeforeValidator(_is_plain)]

InstanceType = Annotated[str, Field(pattern=INSTANCE)]


class Search(Strict):
    """How many models are trained to find good hyper-parameters; model-hpo-configuration.json says what is varied.

    ``in-process``: one after another in the one training job, bad ones broken off. ``tuning-job``: a SageMaker tuning
    job, where each is a training job of its own. Neptune ML's names of the first two are understood, too.
    """

    jobs: Annotated[int, Field(ge=1, le=500, description="models to train; 1 is no search")] = 20
    parallel: Annotated[int, Field(ge=1, le=100, description="training jobs at a time (tuning-job only)")] = 1
    where: Literal["in-process", "tuning-job"] = "in-process"
    minutes: Annotated[float, Field(gt=0, le=7200, description="begin no further model after so long")] | None = None

    @model_validator(mode="before")
    @classmethod
    def _neptunes_names(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {NEPTUNE_NAMES.get(key, key): item for key, item in value.items()}

    @model_serializer(mode="wrap")
    def _without_silence(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in cast(dict[str, Any], dump(self)).items() if value is not None}


ModelName = Literal["rgcn", "mf", "fm", "transe", "distmult", "complex", "rotate", "custom"]


class Model(Strict):
    """Which model to train and how; hyper-parameters carry Neptune ML's names where it has them.

    ``source`` and the entry points are for ``custom``: a folder with the user's own scripts.
    """

    name: ModelName = "rgcn"
    hyperparameters: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=256)], HyperparameterValue],
        Field(max_length=90, description="docs/hyperparameters.md lists them"),
    ] = {}
    instance_type: InstanceType = "ml.m5.xlarge"
    spot: Annotated[
        bool,
        Field(description="train on spare capacity: cheaper, may be interrupted, then goes on from a checkpoint"),
    ] = False
    search: Search | None = None
    source: Annotated[
        str | None, Field(description="s3://bucket/prefix/ of a custom model's scripts, or a local folder")
    ] = None
    training_entry_point: str | None = None
    transform_entry_point: str | None = None

    @field_validator("source")
    @classmethod
    def _is_reachable(cls, source: str | None, info: ValidationInfo) -> str | None:
        if source is None or ((info.context or {}).get(ALLOW_LOCAL_SOURCE) and not source.startswith("s3://")):
            return source
        uri = str(S3Uri.parse(source))
        return uri if uri.endswith("/") else f"{uri}/"

    @field_validator("training_entry_point", "transform_entry_point")
    @classmethod
    def _is_a_script(cls, path: str | None) -> str | None:
        if path is not None and (len(path) > 256 or not _SCRIPT.fullmatch(path)):
            raise ValueError(f"{shorten(path)} must be the path of a .py file below model.source, such as training.py")
        return path

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        faults = [*self._custom_faults(), *self._search_faults()]
        if faults:
            raise DocumentError(faults)
        return self

    def _custom_faults(self) -> Iterator[Fault]:
        if self.name == CUSTOM:
            if self.source is None:
                yield Fault("model.source", "a custom model needs the folder of its scripts: s3://bucket/prefix/")
            for name in self.hyperparameters:
                if not _ARGUMENT.fullmatch(name):
                    message = "is passed to the script as --name: use letters, digits, hyphens and underscores"
                    yield Fault(f"model.hyperparameters.{shorten(name)}", message)
            return
        for name in ("source", "training_entry_point", "transform_entry_point"):
            if getattr(self, name) is not None:
                yield Fault(f"model.{name}", f"is for name: {CUSTOM}; {self.name} brings its own code. Remove it")

    def _search_faults(self) -> Iterator[Fault]:
        search = self.search
        if search is None:
            return
        if search.parallel > search.jobs:
            yield Fault("model.search.parallel", f"is above jobs ({search.jobs})")
        if search.where == "in-process" and search.parallel > 1:
            message = "is for where: tuning-job; in-process models are trained one after another, each on all cores"
            yield Fault("model.search.parallel", message)
        if search.where == "tuning-job" and search.minutes is not None and search.minutes < MIN_TUNING_MINUTES:
            yield Fault("model.search.minutes", f"a SageMaker tuning job takes {MIN_TUNING_MINUTES} at least")

    @property
    def searches_in(self) -> Literal["in-process", "tuning-job"] | None:
        """Where hyper-parameters are searched for; ``None`` if one model is trained with what is given."""
        return self.search.where if self.search is not None and self.search.jobs > 1 else None

    @property
    def scripts(self) -> tuple[str, str]:
        """A custom model's training and transform script, relative to its source."""
        return self.training_entry_point or TRAINING_SCRIPT, self.transform_entry_point or TRANSFORM_SCRIPT

    @model_serializer(mode="wrap")
    def _as_old_as_can_be(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Fields younger than the first version stay out of the ledger while they say nothing: it refuses them."""
        silent: dict[str, Any] = dict.fromkeys(("search", "source", "training_entry_point", "transform_entry_point"))
        silent["spot"] = False
        fields = cast(dict[str, Any], dump(self))
        return {name: value for name, value in fields.items() if name not in silent or value != silent[name]}
