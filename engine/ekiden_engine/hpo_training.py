"""How a spec wants its models trained: once with what is given, or as a search; and the configuration of that search.

`process` calls `write_configuration`, `train` calls `plan_training` and then `Training.fit` per target.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ekiden.contracts.hpo import HPO_FILE, HpoModel
from ekiden.contracts.hpo_metric import EvalMetric
from ekiden.contracts.hpo_names import model_faults
from ekiden.contracts.spec import PipelineSpec
from ekiden.contracts.spec_model import CUSTOM
from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Split, Target
from ekiden_engine.hpo import bad_configuration, read_hpo, write_hpo
from ekiden_engine.hpo_objective import MODELS_OWN, objective_of
from ekiden_engine.models import make_trainer
from ekiden_engine.models.base import Fit, Progress, Trainer
from ekiden_engine.search import search

IMBALANCED: Final = 0.8
"""Share of the most frequent training class from which on accuracy says little: F1 is improved instead."""


@dataclass(frozen=True, slots=True)
class Training:
    """The model in force, its hyperparameters, and the search, if `space` and more than one of `jobs` say so."""

    model: str
    hyperparameters: Mapping[str, str]
    space: HpoModel | None = None
    jobs: int = 1
    minutes: float | None = None

    @property
    def metric(self) -> EvalMetric:
        """What models are compared by."""
        return self.space.metric if self.space is not None else MODELS_OWN

    def trainer(self, target: Target, hyperparameters: Mapping[str, str]) -> Trainer:
        """The trainer of the model in force. Raises `BadData` as `make_trainer`."""
        return make_trainer(self.model, target.task, hyperparameters)

    def fit(self, graph: EncodedGraph, target: Target, progress: Progress) -> Fit:
        """Train for one target, or search; `Fit.trials` has the trials. Raises `BadData` as they do."""
        if self.space is None or self.jobs < 2:
            return self.trainer(target, self.hyperparameters).fit(graph, target, progress)
        return search(
            lambda given: self.trainer(target, given),
            self.space,
            graph,
            target,
            progress,
            jobs=self.jobs,
            given=self.hyperparameters,
            minutes=self.minutes,
        )

    def objective_line(self, fit: Fit, graph: EncodedGraph, target: Target) -> str | None:
        """The log line that a SageMaker tuning job reads its objective from; print it last, for the first target. None
        without validation rows, and where a script's own lines are read instead."""
        if self.metric.is_scripts_own:
            return None
        try:
            return objective_of(fit, graph, target, self.metric).line()
        except BadData:
            return None


def plan_training(spec: PipelineSpec, hyperparameters: Mapping[str, str], processed: Path) -> Training:
    """What the spec asks for. With a search, model-hpo-configuration.json in `processed` decides: its model too, which
    beats the spec's; a training job of a tuning job has been given its hyperparameters and trains once.

    Raises `BadData`: BAD_HPO_CONFIGURATION (also for a model that cannot do the targets), NO_HPO_CONFIGURATION.
    """
    where, asked = spec.model.searches_in, spec.model.search
    if where is None or asked is None:
        return Training(spec.model.name, hyperparameters)
    space = read_hpo(processed)
    if space is None:
        raise BadData("NO_HPO_CONFIGURATION", f"the processed data has no {HPO_FILE}: run the stage process again")
    if faults := tuple(model_faults(space.model, (target.task for target in spec.predicts))):
        raise bad_configuration(space.source, faults)
    if where == "tuning-job":
        return Training(space.model, hyperparameters, space)
    return Training(space.model, hyperparameters, space, asked.jobs, asked.minutes)


def write_configuration(folder: Path, spec: PipelineSpec, graph: EncodedGraph, source: Path | None = None) -> None:
    """Write model-hpo-configuration.json for the spec's model and the graph's targets into `folder`.

    `source` is the folder of a custom model's scripts: a configuration there is the user's own, and is copied as it is.
    Raises `BadData` BAD_HPO_CONFIGURATION if that one cannot be used, NO_HPO_CONFIGURATION if it is missing though the
    spec asks for a search: nobody else knows what a script's hyperparameters may be.
    """
    if spec.model.name == CUSTOM and source is not None:
        own = read_hpo(source)
        if own is not None:
            shutil.copyfile(source / own.source, folder / HPO_FILE)
            return
        if spec.model.searches_in is not None:
            message = (
                f"model.source has no {HPO_FILE}: model.search of a custom model needs one, it says what is varied"
            )
            raise BadData("NO_HPO_CONFIGURATION", message)
    first = graph.targets[0]
    write_hpo(
        folder,
        spec.model.name,
        spec.model.hyperparameters,
        [target.task for target in graph.targets],
        multi_label=first.multi_label,
        imbalanced=_is_imbalanced(graph, first),
        pinned=spec.model.search is not None,
    )


def _is_imbalanced(graph: EncodedGraph, target: Target) -> bool:
    if not target.is_classification or target.multi_label:
        return False
    labels = graph.labels(target)
    known = labels.values[labels.rows(Split.TRAIN)] if labels.values is not None else np.zeros(0, np.int32)
    return bool(len(known)) and float(np.bincount(known[known >= 0]).max()) / len(known) >= IMBALANCED
