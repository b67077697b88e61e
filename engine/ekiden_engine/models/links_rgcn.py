"""Model `rgcn` for links: a relational encoder with an inner-product decoder, blended with closed forms.

The encoder (`links_encoder`) is trained with a softmax over all candidates (or bpr, or contrastive, against drawn ones)
in both directions; the epoch that is best on validation links is kept. With `closed-form`, EASE and iALS are fitted on
the same training links, per edge type, and the weighted sum that ranks the validation links best is the model: on small
item sets with many links each, closed forms are hard to beat, and the sum is at least as good on validation links as
its best part. Where they are not affordable (see `links_blend`), or above eight edge types, the encoder stands alone.
All of it is one inner product (`links_predictor`). Where the encoder does not fit into memory it is trained on samples
of neighbours (`links_sampled`).

Defaults were chosen on validation links carved from the training links of a rating graph.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.checkpoints import Checkpoints, State, checkpoints_of
from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.models.base import Curve, CurvePoint, Direction, Fit, FloatArray, Progress, Step
from ekiden_engine.models.device import CPU, device_name, pick_device
from ekiden_engine.models.fanout import choose_fanout
from ekiden_engine.models.links_blend import METRIC as BLEND_METRIC
from ekiden_engine.models.links_blend import Asked, Block, Scorer, choose_weights, closed_forms
from ekiden_engine.models.links_data import LinkProblem, Validation, make_problem, relation_of
from ekiden_engine.models.links_encoder import LinkEncoder, full_batch_bytes
from ekiden_engine.models.links_losses import LinkRecipe
from ekiden_engine.models.links_predictor import DIRECTIONS, Ends, LinkVectors
from ekiden_engine.models.links_questions import LongArray
from ekiden_engine.models.links_relations import SEPARATE
from ekiden_engine.models.links_sampled import SAMPLED_BATCH, SampledLinkEncoder
from ekiden_engine.models.links_training import LinkTraining
from ekiden_engine.models.rgcn import threads_for
from ekiden_engine.models.settings import as_hyperparameters, decided, read_settings, setting

METRIC = "mrr"
MOST_QUESTIONS, FEWEST_QUESTIONS, VALIDATION_SCORES = 20_000, 500, 40_000_000
"""Validation questions per epoch: as many as cost so many scores, within bounds."""
BATCH, BATCHES = 512, 64
"""Questions per step: not fewer than the first, more where an epoch would have more batches than the second."""
FEWEST_STEPS, EPOCHS, MOST_EPOCHS = 200, 15, 60
SAMPLED_EPOCHS = 2 * EPOCHS
"""At least, with samples: what a step does not use, it does not move, so they need more to be as good."""
ENCODER = "encoder"


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Hyperparameters of `rgcn` that links have."""

    width: int | None = setting("rgcn", "num-hidden")
    epochs: int | None = setting("rgcn", "num-epochs")
    lr: float | None = setting("rgcn", "lr")
    batch_size: int | None = setting("rgcn", "batch-size")
    fanout: int | None = setting("rgcn", "fanout")
    regularization: float | None = setting("rgcn", "regularization-coef")
    early_stop: bool = setting("rgcn", "enable-early-stop")
    patience: int | None = setting("rgcn", "window-for-early-stop")
    loss: str = setting("rgcn", "loss")
    negatives: int | None = setting("rgcn", "num-negs")
    gamma: float = setting("rgcn", "gamma")
    closed_form: bool = setting("rgcn", "closed-form")
    seed: int = setting("rgcn", "seed")


class LinkRgcn:
    """The trainer (see the module)."""

    def __init__(self, hyperparameters: Mapping[str, str]) -> None:
        """Raises `BadData` BAD_HYPERPARAMETERS."""
        given = read_settings(LinkSettings, "rgcn", hyperparameters)
        self.settings = decided(given, width=64, lr=0.005, regularization=0.2, patience=3)

    def fit(self, graph: EncodedGraph, target: Target, progress: Progress) -> Fit:
        """See `Trainer`. Raises `BadData` EMPTY_TRAINING_SET, or TRAINING_DIVERGED."""
        settings = self.settings
        problem = make_problem(graph, target, context=True, seed=settings.seed)
        threads = threads_for(len(problem.train.answers))
        torch.set_num_threads(threads)
        questions = int(np.searchsorted(problem.train.relation, 2 * len(problem.edge_types)))
        batch = max(BATCH, questions // BATCHES)
        recipe = _recipe(decided(settings, batch_size=batch))
        fanout = choose_fanout(settings.fanout, full_batch_bytes(problem, graph, recipe), progress)
        settings = decided(replace(settings, fanout=fanout), batch_size=min(batch, SAMPLED_BATCH) if fanout else batch)
        steps = max(-(-questions // (settings.batch_size or 1)), 1)
        fewest = max(SAMPLED_EPOCHS if fanout else EPOCHS, -(-FEWEST_STEPS // steps))
        settings = decided(settings, epochs=min(fewest, MOST_EPOCHS))
        device = CPU if fanout else pick_device()
        with ExitStack() as stack:
            if fanout:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ekiden-sampled-")))
                problem = problem.on_disk(folder)
                encoder: LinkTraining = SampledLinkEncoder(
                    graph, problem, _recipe(settings), fanout, settings.seed, folder
                )
            else:
                encoder = LinkEncoder(graph, problem, _recipe(settings), settings.seed, device)
            candidates = int(np.diff(problem.ranges, axis=1).max(initial=1))
            affordable = min(max(VALIDATION_SCORES // candidates, FEWEST_QUESTIONS), MOST_QUESTIONS)
            validation = Validation(problem, affordable, settings.seed)
            curve, stopped = _train(encoder, settings, validation, progress)
            predictor = _blended(encoder, problem, validation, settings, progress)
        return Fit(
            predictor=predictor,
            curves=(curve,),
            hyperparameters=as_hyperparameters(settings),
            stopped=stopped or progress.stop_requested(),
            threads=threads,
            device=device_name(device),
        )


def _recipe(settings: LinkSettings) -> LinkRecipe:
    return LinkRecipe(
        settings.width or 64,
        settings.lr or 0.005,
        settings.batch_size or BATCH,
        settings.loss,
        settings.gamma,
        settings.negatives or 0,
        0.2 if settings.regularization is None else settings.regularization,
    )


def _train(
    encoder: LinkTraining, settings: LinkSettings, validation: Validation, progress: Progress
) -> tuple[Curve, bool]:
    """Train the encoder and leave it at its best epoch."""
    epochs, rate, patience = settings.epochs or EPOCHS, settings.lr or 0.005, settings.patience or 3
    checkpoints = checkpoints_of(progress)
    points, best, kept = _resume(checkpoints.load(ENCODER), encoder)
    step = Step("encoder", 0, resumed=len(points))
    for point in points:
        progress.epoch(step, epochs, METRIC, point)
    if points:
        progress.note(f"resumed after epoch {len(points)}/{epochs} of the encoder")
    started, stopped = time.perf_counter() - (points[-1].seconds if points else 0.0), False
    for epoch in range(len(points) + 1, epochs + 1):
        if stopped or (points and settings.early_stop and len(points) - best >= patience):
            break
        rates = (rate * (1 - (epoch - 1) / epochs), rate * (1 - epoch / epochs))
        loss, whole = encoder.epoch(rates, progress.stop_requested)
        if points and not whole:
            stopped = True
            break
        if not np.isfinite(loss):
            break
        mrr = encoder.mrr(validation)
        points.append(CurvePoint(epoch, loss, mrr, time.perf_counter() - started))
        progress.epoch(step, epochs, METRIC, points[-1])
        if best == 0 or mrr > points[best - 1].valid:
            best, kept = epoch, encoder.state()
        stopped = progress.stop_requested()
        if checkpoints.due() and whole:
            _keep(checkpoints, encoder, points, best, kept)
    if checkpoints.kept and not stopped:  # the closed forms that follow may take their time
        _keep(checkpoints, encoder, points, best, kept)
    if best == 0:
        raise BadData("TRAINING_DIVERGED", f"the loss is no number: lower lr (it is {rate:g})")
    encoder.restore(kept)
    return Curve(settings.seed, METRIC, True, best, True, tuple(points)), stopped


def _keep(
    checkpoints: Checkpoints, encoder: LinkTraining, points: Sequence[CurvePoint], best: int, kept: Sequence[Tensor]
) -> None:
    random, arrays = encoder.arrays(kept)
    document = {"points": [astuple(p) for p in points], "best": best, "steps": encoder.steps_done, "random": random}
    checkpoints.save(ENCODER, document, arrays)


def _resume(state: State | None, encoder: LinkTraining) -> tuple[list[CurvePoint], int, list[Tensor]]:
    """The learning curve so far, the best epoch and its parameters; those of a new encoder without a state."""
    if state is None:
        return [], 0, encoder.state()
    said = state.document
    kept = encoder.resume(said["random"], said["steps"], state.arrays)
    return [CurvePoint(*point) for point in said["points"]], said["best"], kept


def _blended(
    encoder: LinkTraining, problem: LinkProblem, validation: Validation, settings: LinkSettings, progress: Progress
) -> LinkVectors:
    vectors, factors, bias = encoder.tables()
    seen = encoder.seen()
    parts = [slice(int(a), int(b)) for a, b in zip(problem.bounds[:-1], problem.bounds[1:], strict=True)]
    ends = []
    for index, edge_type in enumerate(problem.edge_types):
        blocks: list[Block] = []
        if settings.closed_form and len(problem.edge_types) <= SEPARATE and not progress.stop_requested():
            for block in closed_forms(problem, index, validation, settings.seed):
                progress.note(f"{'-'.join(edge_type)[:100]}: {block.note}")
                blocks.append(block)
        weights: dict[Direction, dict[str, float]] = {}
        for direction in DIRECTIONS:
            weights[direction] = {ENCODER: 1.0}
            if blocks:
                relation = relation_of(index, direction)
                scorers: dict[str, Scorer] = {
                    ENCODER: _encoder_scorer(problem, vectors, factors[index], bias[relation], relation),
                    **{block.name: block.scorer(direction) for block in blocks},
                }
                weights[direction], value = choose_weights(Asked.of(problem, validation, index, direction), scorers)
                shown = ", ".join(f"{name} {weight:.3g}" for name, weight in weights[direction].items())
                progress.note(f"{'-'.join(edge_type)[:100]}, {direction}: {shown}: {BLEND_METRIC} {value:.4f}")
        ends.append(_ends(problem, index, factors[index], bias, blocks, weights))
    return LinkVectors(
        problem.edge_types,
        {label: vectors[part] for label, part in zip(problem.labels, parts, strict=True)},
        {label: seen[part] for label, part in zip(problem.labels, parts, strict=True)},
        ends,
    )


def _encoder_scorer(
    problem: LinkProblem, vectors: FloatArray, factor: FloatArray, bias: FloatArray, relation: int
) -> _Scorer:
    low, high = problem.ranges[relation].tolist()
    begin = int(problem.ranges[relation ^ 1, 0])
    return _Scorer(vectors[begin:] * factor, vectors[low:high], bias)


@dataclass(frozen=True, slots=True, eq=False)
class _Scorer:
    given: FloatArray
    asked: FloatArray
    bias: FloatArray

    def __call__(self, nodes: LongArray) -> FloatArray:
        found: FloatArray = self.given[nodes] @ self.asked.T + self.bias
        return found


def _ends(
    problem: LinkProblem,
    index: int,
    factor: FloatArray,
    bias: list[FloatArray],
    blocks: list[Block],
    weights: dict[Direction, dict[str, float]],
) -> Ends:
    """The blocks that have a weight in either direction, side by side."""
    used = [b for b in blocks if any(weights[direction][b.name] for direction in DIRECTIONS)]
    (dest_low, dest_high), (low, high) = problem.ranges[2 * index : 2 * index + 2].tolist()
    nothing = np.zeros((high - low, 0), np.float32), np.zeros((dest_high - dest_low, 0), np.float32)
    by_encoder = np.array([weights[direction][ENCODER] for direction in DIRECTIONS], np.float32)
    return Ends(
        source=np.concatenate((nothing[0], *(b.source for b in used)), axis=1),
        dest=np.concatenate((nothing[1], *(b.dest for b in used)), axis=1),
        weight=np.array(
            [[weights[direction][b.name] for b in used for _ in range(b.source.shape[1])] for direction in DIRECTIONS],
            np.float32,
        ),
        source_bias=bias[relation_of(index, "head")] * by_encoder[1],
        dest_bias=bias[relation_of(index, "tail")] * by_encoder[0],
        factor=by_encoder[:, None] * factor,
    )
