"""Models `transe`, `distmult`, `complex` and `rotate`: links of a knowledge graph by vectors of nodes and relations.

Relations for both directions, softmax over all candidates (or drawn ones), nuclear 3-norm, Adagrad whose rate falls
to zero; the epoch that is best on validation links is kept. See `kge_scores` for the formulas, `kge_training` for how
it is made quick. A target of one edge type is trained together with all other edge types of the graph: what they say
of a node helps; only the target's own links are validated.

Defaults were chosen on the validation triples of FB15k-237.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from itertools import islice
from typing import ClassVar

import numpy as np
import torch

from ekiden_engine.checkpoints import Checkpoints, State, checkpoints_of
from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.models.base import Curve, CurvePoint, Fit, Progress, Step
from ekiden_engine.models.device import array_of, device_name, pick_device
from ekiden_engine.models.kge_predictor import KgePredictor
from ekiden_engine.models.kge_scores import Kge
from ekiden_engine.models.kge_training import Embedding, Recipe
from ekiden_engine.models.links_data import LinkProblem, Validation, make_problem
from ekiden_engine.models.links_questions import LongArray
from ekiden_engine.models.rgcn import threads_for
from ekiden_engine.models.settings import as_hyperparameters, decided, read_settings, setting

METRIC = "mrr"
STATE = "training"
"""The name of its checkpoint."""
EPOCHS, FEWEST_STEPS, MOST_EPOCHS = 8, 1000, 200
"""Epochs, more of them until there are so many steps, but never more than the last."""
LARGEST_BATCH, SMALLEST_BATCH, BATCHES = 1024, 32, 32
"""Questions per step, fewer where an epoch would have fewer batches than the last."""
MOST_QUESTIONS, FEWEST_QUESTIONS, VALIDATION_SCORES = 4000, 500, 60_000_000
"""Validation questions per epoch: as many as cost so many scores, within bounds."""
GAMMA = 12.0


@dataclass(frozen=True, slots=True)
class KgeSettings:
    """Hyperparameters; the table of `distmult` stands for all four, whose defaults `KgeTrainer` fills in."""

    width: int = setting("distmult", "num-hidden")
    epochs: int | None = setting("distmult", "num-epochs")
    lr: float = setting("distmult", "lr")
    batch_size: int | None = setting("distmult", "batch-size")
    negatives: int | None = setting("distmult", "num-negs")
    loss: str = setting("distmult", "loss")
    gamma: float | None = setting("distmult", "gamma")
    regularization: float = setting("distmult", "regularization-coef")
    early_stop: bool = setting("distmult", "enable-early-stop")
    patience: int = setting("distmult", "window-for-early-stop")
    seed: int = setting("distmult", "seed")


class KgeTrainer:
    """The trainer (see the module); a class per model says which."""

    model: ClassVar[Kge]

    def __init__(self, hyperparameters: Mapping[str, str]) -> None:
        """Raises `BadData` BAD_HYPERPARAMETERS."""
        from ekiden.contracts.hyperparameters import HYPERPARAMETERS

        name = "regularization-coef"
        default = str(HYPERPARAMETERS[self.model.value][name].default)
        given = read_settings(KgeSettings, self.model.value, {name: default, **hyperparameters})
        self.settings = decided(given, gamma=GAMMA if self.model.is_distance else 0.0)

    def fit(self, graph: EncodedGraph, target: Target, progress: Progress) -> Fit:
        """See `Trainer`. Raises `BadData` EMPTY_TRAINING_SET, or TRAINING_DIVERGED."""
        settings = self.settings
        problem = make_problem(graph, target, context=True, seed=settings.seed)
        threads = threads_for(len(problem.train.answers))
        torch.set_num_threads(threads)
        device = pick_device()
        settings = decided(settings, batch_size=_batch_size(len(problem.train)))
        steps = -(-len(problem.train) // (settings.batch_size or 1))
        settings = decided(settings, epochs=min(max(EPOCHS, -(-FEWEST_STEPS // steps)), MOST_EPOCHS))
        recipe = Recipe(
            self.model, settings.width, settings.batch_size or 1, settings.loss, settings.gamma or 0.0,
            settings.negatives or 0, settings.regularization,
        )  # fmt: skip
        embedding = Embedding(problem, recipe, settings.seed, device)
        curve, stopped = self._train(embedding, problem, settings, progress)
        return Fit(
            predictor=_predictor(self.model, embedding, problem),
            curves=(curve,),
            hyperparameters=as_hyperparameters(settings),
            stopped=stopped,
            threads=threads,
            device=device_name(device),
        )

    def _train(
        self, embedding: Embedding, problem: LinkProblem, settings: KgeSettings, progress: Progress
    ) -> tuple[Curve, bool]:
        """Train, and leave the best epoch's vectors in `embedding`."""
        candidates = int(np.diff(problem.ranges, axis=1).max(initial=1))
        affordable = min(max(VALIDATION_SCORES // candidates, FEWEST_QUESTIONS), MOST_QUESTIONS)
        validation = Validation(problem, affordable, settings.seed)
        epochs = settings.epochs or EPOCHS
        kept = checkpoints_of(progress)
        run = _Run.resumed(kept.load(STATE), embedding) or _Run(embedding)
        points, stopped = run.points, False
        step = Step("training", 0, resumed=len(points))
        for point in points:
            progress.epoch(step, epochs, METRIC, point)
        if run.batches or points:
            progress.note(f"resumed after epoch {len(points)}/{epochs} and {run.batches} of {embedding.steps} batches")
        started = time.perf_counter() - run.seconds
        steps = epochs * embedding.steps
        for epoch in range(len(points) + 1, epochs + 1):
            if stopped or (points and settings.early_stop and len(points) - run.best >= settings.patience):
                break
            for batch in run.left(embedding):
                stopping = progress.stop_requested()
                if kept.due() and (run.batches or not stopping):
                    run.keep(kept, embedding, time.perf_counter() - started)
                if stopping and run.batches:
                    break
                done = (epoch - 1) * embedding.steps + run.batches
                run.losses.append(embedding.step(batch, settings.lr * (1 - done / steps)))
                run.sizes.append(float(problem.train.counts[batch].sum()))
            whole = run.batches == embedding.steps
            loss = float(np.average(run.losses, weights=run.sizes))
            mrr = embedding.ranks(validation)[1]
            points.append(CurvePoint(epoch, loss, mrr, time.perf_counter() - started))
            progress.epoch(step, epochs, METRIC, points[-1])
            if not np.isfinite(loss):
                break
            if run.best == 0 or mrr > points[run.best - 1].valid:
                run.best, run.kept = epoch, embedding.state()
            stopped = progress.stop_requested()
            run.end_epoch(embedding)
            if stopped and whole and epoch < epochs and kept.due():
                run.keep(kept, embedding, time.perf_counter() - started)
        if run.best == 0:
            raise BadData("TRAINING_DIVERGED", f"the loss is no number: lower lr (it is {settings.lr:g})")
        embedding.nodes, embedding.relations = run.kept
        return Curve(settings.seed, METRIC, True, run.best, True, tuple(points)), stopped


class _Run:
    """Where a training is: after so many epochs, and so many batches of the next one."""

    def __init__(self, embedding: Embedding) -> None:
        """At the beginning."""
        self.points: list[CurvePoint] = []
        self.best, self.kept = 0, embedding.state()
        self.seconds = 0.0
        self.losses: list[float] = []
        self.sizes: list[float] = []
        self._random_before = self._random_now = embedding.random

    @classmethod
    def resumed(cls, state: State | None, embedding: Embedding) -> _Run | None:
        """Where an earlier start was, the embedding included; None without a state."""
        if state is None:
            return None
        said, arrays = state.document, state.arrays
        run = cls(embedding)
        embedding.restore(arrays)
        run.points = [CurvePoint(*point) for point in said["points"]]
        run.best, run.seconds = said["best"], said["seconds"]
        if run.best:
            run.kept = embedding.tensors(arrays["kept.nodes"], arrays["kept.relations"])
        run.losses, run.sizes = said["losses"], said["sizes"]
        run._random_before, run._random_now = said["random_before"], said["random"]
        return run

    @property
    def batches(self) -> int:
        """Batches of the current epoch that are done."""
        return len(self.losses)

    def end_epoch(self, embedding: Embedding) -> None:
        """The next batch will be the first of an epoch."""
        self.losses, self.sizes = [], []
        self._random_before = embedding.random

    def left(self, embedding: Embedding) -> Iterator[LongArray]:
        """The batches of the current epoch that are still to be done."""
        embedding.random = self._random_before
        batches = embedding.batches()  # draws their order before the first
        if list(islice(batches, self.batches)):
            embedding.random = self._random_now
        yield from batches

    def keep(self, checkpoints: Checkpoints, embedding: Embedding, seconds: float) -> None:
        """Save all of it."""
        arrays = embedding.arrays()
        if self.best:
            arrays |= {f"kept.{name}": array_of(t) for name, t in zip(("nodes", "relations"), self.kept, strict=True)}
        document = {
            "points": [astuple(point) for point in self.points],
            "best": self.best,
            "seconds": seconds,
            "losses": self.losses,
            "sizes": self.sizes,
            "random_before": self._random_before,
            "random": embedding.random,
        }
        checkpoints.save(STATE, document, arrays)


class TransE(KgeTrainer):
    """Model `transe`."""

    model = Kge.TRANSE


class DistMult(KgeTrainer):
    """Model `distmult`."""

    model = Kge.DISTMULT


class ComplEx(KgeTrainer):
    """Model `complex`."""

    model = Kge.COMPLEX


class RotatE(KgeTrainer):
    """Model `rotate`."""

    model = Kge.ROTATE


def _batch_size(questions: int) -> int:
    return min(max(questions // BATCHES, SMALLEST_BATCH), LARGEST_BATCH)


def _predictor(model: Kge, embedding: Embedding, problem: LinkProblem) -> KgePredictor:
    relations = embedding.relations[: 2 * len(problem.edge_types)]
    if model is Kge.ROTATE:
        relations = torch.cat((relations.cos(), relations.sin()), 1)
    nodes, seen = array_of(embedding.nodes), problem.seen()
    parts = [slice(int(a), int(b)) for a, b in zip(problem.bounds[:-1], problem.bounds[1:], strict=True)]
    return KgePredictor(
        model,
        problem.edge_types,
        {label: nodes[part] for label, part in zip(problem.labels, parts, strict=True)},
        {label: seen[part] for label, part in zip(problem.labels, parts, strict=True)},
        np.ascontiguousarray(array_of(relations), np.float32),
    )
