"""Model `fm`: a Bayesian factorization machine for edge regression, by Gibbs sampling.

Ids, features and implicit sets of both ends, and the sets of other relations (`fm_design`); the sampler is in
`fm_gibbs`, the mean of its draws in `fm_average`. Labels are scaled to unit variance. There is nothing to tune per
graph and nothing to stop early: validation edges only show how it goes.

Default hyperparameters, and the constants of `fm_gibbs`, were chosen on a tenth of the training edges of three rating
graphs (MovieLens 100K, 60 % of MovieLens 1M, MovieTweetings 100K), one choice for all three.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from ekiden_engine.checkpoints import Checkpoints, State, checkpoints_of
from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.models.base import Curve, CurvePoint, Fit, FloatArray, Progress, Step
from ekiden_engine.models.dot import DotPredictor, Side
from ekiden_engine.models.fm_average import PosteriorMean
from ekiden_engine.models.fm_design import Design, DoubleArray, Ratings, make_designs, read_ratings
from ekiden_engine.models.fm_gibbs import WARM_UP, EndState, Estimate, Sampler
from ekiden_engine.models.fm_predictor import Coefficients, FmPredictor
from ekiden_engine.models.settings import as_hyperparameters, decided, read_settings, setting

METRIC = "rmse"
STATE = "sampling"
"""The name of its checkpoint."""
BURN_IN = 5
"""What `auto` means where there are iterations enough."""
EVERY = 2
"""Every so manieth draw goes into the mean: neighbouring draws are alike, and a mean of all predicts no better."""


@dataclass(frozen=True, slots=True)
class FmSettings:
    """Hyperparameters."""

    rank: int = setting("fm", "num-hidden")
    iterations: int = setting("fm", "num-epochs")
    burn_in: int | None = setting("fm", "burn-in")
    regularization: float = setting("fm", "regularization-coef")
    width: int = setting("fm", "mean-rank")
    seed: int = setting("fm", "seed")


class FactorizationMachine:
    """The trainer (see the module)."""

    def __init__(self, hyperparameters: Mapping[str, str]) -> None:
        """Raises `BadData` BAD_HYPERPARAMETERS."""
        settings = read_settings(FmSettings, "fm", hyperparameters)
        room = max(0, settings.iterations - WARM_UP - 1)
        self.settings = decided(settings, burn_in=min(BURN_IN, room))

    def fit(self, graph: EncodedGraph, target: Target, progress: Progress) -> Fit:
        """See `Trainer`. Raises `BadData` EMPTY_TRAINING_SET if there is no training edge."""
        settings = self.settings
        ratings = read_ratings(graph, target)
        designs = make_designs(graph, target, ratings)
        labels = ratings.label.astype(np.float64)
        mean, scale = float(labels.mean()), float(labels.std()) or 1.0
        threads = threads_available()
        sampler = Sampler(
            designs,
            ratings.source,
            ratings.dest,
            ((labels - mean) / scale).astype(np.float32),
            rank=settings.rank,
            scale=settings.regularization,
            seed=settings.seed,
            threads=threads,
        )
        try:
            average, points = self._sample(sampler, ratings, (mean, scale), progress)
        finally:
            sampler.close()
        curve = Curve(settings.seed, METRIC, False, len(points), True, tuple(points))
        return Fit(
            predictor=_predictor(average.tables(), sampler, ratings, target, (mean, scale)),
            curves=(curve,),
            hyperparameters=as_hyperparameters(settings),
            stopped=len(points) < settings.iterations,
            threads=threads,
        )

    def _sample(
        self, sampler: Sampler, ratings: Ratings, units: tuple[float, float], progress: Progress
    ) -> tuple[PosteriorMean, list[CurvePoint]]:
        """Run the chain to its end, or to a stop request; then the draws so far count, or the last if burn-in is not
        over. A chain resumed from a checkpoint goes on to the bit as it would have."""
        settings = self.settings
        nodes = (len(sampler.source.drawn) + 1, len(sampler.dest.drawn) + 1)
        average = PosteriorMean(nodes, settings.width)
        dropped = min(WARM_UP + (settings.burn_in or 0), settings.iterations - 1)
        if settings.iterations <= WARM_UP:
            progress.note(
                f"num-epochs {settings.iterations} ends within the warm-up of {WARM_UP} iterations: the model is the "
                "last draw alone, and poor; give num-epochs more"
            )
        shown = _Shown(ratings, units)
        if not len(ratings.valid_label):
            progress.note("no validation edges: the learning curve shows training edges")
        kept = checkpoints_of(progress)
        points = _resume(kept.load(STATE), sampler, average, shown)
        step = Step("sampling", 0, resumed=len(points))
        for point in points:
            progress.epoch(step, settings.iterations, METRIC, point)
        if points:
            progress.note(f"resumed after iteration {len(points)}/{settings.iterations} of the sampling")
        started = time.perf_counter() - (points[-1].seconds if points else 0.0)
        for iteration in range(len(points) + 1, settings.iterations + 1):
            estimate = sampler.step()
            train = sampler.train_rmse * units[1]
            valid = shown.rmse(estimate, fresh=iteration <= dropped + 1)
            point = CurvePoint(iteration, train, train if valid is None else valid, time.perf_counter() - started)
            points.append(point)
            progress.epoch(step, settings.iterations, METRIC, point)
            if iteration > dropped and iteration % EVERY == 0:
                average.add(estimate)
            if iteration == settings.iterations or progress.stop_requested():
                break
            if kept.due():
                _keep(kept, sampler, average, shown, points)
        if len(points) < settings.iterations and kept.due():
            _keep(kept, sampler, average, shown, points)
        if not average.count:
            average.add(estimate)
        return average, points


def _keep(
    kept: Checkpoints, sampler: Sampler, average: PosteriorMean, shown: _Shown, points: Sequence[CurvePoint]
) -> None:
    chain, arrays = sampler.state()
    count, mean = average.state()
    document = {"chain": chain, "count": count, "shown": shown.count, "points": [astuple(p) for p in points]}
    found = {**arrays, **{f"mean.{name}": array for name, array in mean.items()}, "shown": shown.total}
    kept.save(STATE, document, found)


def _resume(state: State | None, sampler: Sampler, average: PosteriorMean, shown: _Shown) -> list[CurvePoint]:
    """Put everything where `_keep` found it; the learning curve until there, empty without a state."""
    if state is None:
        return []
    said, arrays = state.document, state.arrays
    sampler.restore(said["chain"], arrays)
    average.restore(said["count"], {n.removeprefix("mean."): a for n, a in arrays.items() if n.startswith("mean.")})
    shown.count, shown.total = said["shown"], arrays["shown"]
    return [CurvePoint(*point) for point in said["points"]]


class _Shown:
    """RMSE on the validation edges under the mean of the draws so far."""

    def __init__(self, ratings: Ratings, units: tuple[float, float]) -> None:
        self._source, self._dest, self._label = ratings.valid_source, ratings.valid_dest, ratings.valid_label
        self._mean, self._scale = units
        self._low, self._high = float(ratings.label.min()), float(ratings.label.max())
        self.total: DoubleArray = np.zeros(len(self._label))
        self.count = 0

    def rmse(self, estimate: Estimate, *, fresh: bool) -> float | None:
        """`fresh`: forget the draws before. None without validation edges."""
        if not len(self._label):
            return None
        if fresh:
            self.total, self.count = np.zeros(len(self._label)), 0
        s, t = estimate.source[self._source], estimate.dest[self._dest]
        self.total += np.vecdot(s[:, :-1], t[:, :-1]) + s[:, -1] + t[:, -1]
        self.count += 1
        said = np.clip(self._mean + self._scale * self.total / self.count, self._low, self._high)
        return float(np.sqrt(np.mean((said - self._label) ** 2)))


def threads_available() -> int:
    """The cores of the job; `OMP_NUM_THREADS` bounds them."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0))
    return min(cores, int(given)) if given.isdecimal() and int(given) else cores


def _predictor(
    tables: Estimate, sampler: Sampler, ratings: Ratings, target: Target, units: tuple[float, float]
) -> FmPredictor:
    """The mean of the draws in units of the labels."""
    assert target.edge is not None  # noqa: S101
    mean, scale = units
    sides, coefficients = [], []
    for table, end in ((tables.source, sampler.source), (tables.dest, sampler.dest)):
        vectors = np.ascontiguousarray(table[:, :-1] * np.float32(np.sqrt(scale)))
        bias = table[:, -1] * np.float32(scale)
        n = len(end.drawn)
        pseudo = float(end.own[-1] / sampler.alpha)
        coefficients.append(Coefficients(end.design.groups, vectors[n + 1 :].copy(), bias[n + 1 :].copy(), pseudo))
        sides.append(_side(vectors[: n + 1], bias[: n + 1], end))
    sides[0].bias[:] += np.float32(mean)
    low, high = float(ratings.label.min()), float(ratings.label.max())
    dot = DotPredictor((target.edge[0], target.edge[2]), sides[0], sides[1], mean, low, high)
    return FmPredictor(dot, coefficients[0], coefficients[1])


def _side(vectors: FloatArray, bias: FloatArray, end: EndState) -> Side:
    design: Design = end.design
    vectors, bias = vectors.copy(), bias.copy()
    unseen = np.flatnonzero(~design.seen)
    vectors[unseen], bias[unseen] = vectors[-1], bias[-1]
    return Side(vectors, bias, design.seen)
