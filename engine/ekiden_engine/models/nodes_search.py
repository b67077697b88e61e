"""Candidates for the model of a node property: which there are, and which of them validates best (see `nodes`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from ekiden_engine.checkpoints import checkpoints_of
from ekiden_engine.models.base import Curve, Progress, Step, curve_of
from ekiden_engine.models.device import array_of
from ekiden_engine.models.nodes_fitting import FullBatch, Member, Recipe, fit_member, restore_member
from ekiden_engine.models.nodes_network import Design, free_types
from ekiden_engine.models.nodes_problem import NodeProblem
from ekiden_engine.models.nodes_sampled import SampledBatches, epochs_for
from ekiden_engine.models.nodes_sampled_lists import Lists
from ekiden_engine.models.nodes_views import Matrices
from ekiden_engine.models.passes import Pass
from ekiden_engine.models.settings import setting

LAYERS_AND_STEPS: Final = ((0, 10), (2, 0), (1, 10), (0, 0))
"""Candidates of `auto`, in the order in which they are tried."""
DROPOUTS: Final = (0.5, 0.1)
DECAYS: Final = (0.005, 0.0005)
"""Regularisation, strong and light: where `auto`, both change together."""
HOPELESS: Final = 1.5
"""What loses by more than this factor under strong regularisation is not tried again under light."""
LARGE_EDGES: Final = 4_000_000
"""From here on (both directions counted) only the first two designs are compared: trials take their time."""
WORTHWHILE: Final = 0.03
"""Relative gain in validation loss that makes a later candidate the choice: about the error of that loss over 500
rows."""
LEAST_GAIN: Final = 0.005
"""And the gain itself (nats, or shares of the label's variance): less decides nothing."""
EPOCHS, PATIENCE = 300, 50
"""Of full batches, where they are not given."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Hyperparameters; what is None here stays for `fit` to decide."""

    width: int = setting("rgcn", "num-hidden")
    epochs: int | None = setting("rgcn", "num-epochs")
    lr: float = setting("rgcn", "lr")
    dropout: float | None = setting("rgcn", "dropout")
    early_stop: bool = setting("rgcn", "enable-early-stop")
    patience: int | None = setting("rgcn", "window-for-early-stop")
    seed: int = setting("rgcn", "seed")
    seeds: int = setting("rgcn", "seeds")
    layers: int | None = setting("rgcn", "num-layer")
    steps: int | None = setting("rgcn", "propagation-steps")
    free: bool | None = setting("rgcn", "concat-node-embed")
    bases: int = setting("rgcn", "num-bases")
    self_loop: bool = setting("rgcn", "use-self-loop")
    class_weights: bool = setting("rgcn", "use-class-weight")
    decay: float | None = setting("rgcn", "weight-decay")
    fanout: int | None = setting("rgcn", "fanout")
    batch_size: int | None = setting("rgcn", "batch-size")


@dataclass(frozen=True, slots=True)
class Candidate:
    """What `auto` chooses between."""

    design: Design
    dropout: float
    decay: float

    @property
    def words(self) -> str:
        """`2 layers, dropout 0.5, weight decay 0.005`."""
        return f"{self.design.words}, dropout {self.dropout:g}, weight decay {self.decay:g}"

    @property
    def settings(self) -> dict[str, float]:
        """By public name."""
        return {
            "num-layer": self.design.layers,
            "propagation-steps": self.design.steps,
            "concat-node-embed": int(self.design.free),
            "dropout": self.dropout,
            "weight-decay": self.decay,
        }


class Search:
    """Trains members, keeps their curves, and finds the best candidate."""

    def __init__(
        self, problem: NodeProblem, settings: NodeSettings, progress: Progress, view: Matrices | Lists
    ) -> None:
        self.problem, self.settings, self.progress, self.view = problem, settings, progress, view
        self.curves: list[Curve] = []
        self._tried: dict[Candidate, tuple[int, float]] = {}
        """Candidates to where their curves are, and their losses."""

    def best(self) -> tuple[Candidate, Member]:
        """The candidate that validates best, and its first member."""
        strong = self._strength(0)
        first, *others = [Candidate(design, *strong) for design in designs_of(self.problem, self.settings)]
        so_far = (first, self._trial(first))
        for other in others:
            so_far = self._better(so_far, other)
        light = self._strength(1)
        if light != strong:
            before = so_far[0]
            so_far = self._better(so_far, replace(before, dropout=light[0], decay=light[1]))
            if so_far[0] is not before:
                hopeless = self._tried[before][1] * HOPELESS
                for design in designs_of(self.problem, self.settings):
                    if self._tried.get(Candidate(design, *strong), (0, np.inf))[1] < hopeless:
                        so_far = self._better(so_far, Candidate(design, *light))
        if tries_free(self.problem, self.settings):
            design = replace(so_far[0].design, free=True)
            so_far = self._better(so_far, replace(so_far[0], design=design))
        if len(self.curves) > 1:
            self.progress.note(f"{so_far[0].words} it is; that model is member 1/{self.settings.seeds}")
        return so_far

    def member(self, candidate: Candidate, index: int, step: Step) -> Member:
        """Train a member with the seed at `index`, or take it from the checkpoints: members are trained in the same
        order by every start of the job."""
        settings, name = self.settings, f"member-{len(self.curves)}"
        epochs, patience = self.epochs(candidate.design)
        member = self._restored(name, candidate, settings.seed + index, step)
        if member is None:
            recipe = Recipe(
                epochs=epochs,
                patience=patience if settings.early_stop else epochs,
                lr=settings.lr,
                dropout=candidate.dropout,
                decay=candidate.decay,
                class_weights=settings.class_weights,
            )
            run = Pass(checkpoints_of(self.progress), name)
            if run.resumed:
                self.progress.note(f"resumed after epoch {len(run.points)}/{epochs} of {step.words}")
            told = run.step(step)
            member = fit_member(
                self.problem,
                self.view,
                candidate.design,
                recipe,
                settings.seed + index,
                report=lambda metric, point: self.progress.epoch(told, epochs, metric, point),
                stop_requested=self.progress.stop_requested,
                run=run,
                make_training=FullBatch
                if isinstance(self.view, Matrices)
                else partial(SampledBatches, lists=self.view, fanout=settings.fanout or 0, size=settings.batch_size),
            )
            if not self.progress.stop_requested():
                document = {"words": candidate.words, "loss": member.loss, "curve": asdict(member.curve)}
                values = [parameter.value for parameter in member.network.parameters(0.0)]
                for value in values:
                    value.requires_grad_(False)
                checkpoints_of(self.progress).save(name, document, {str(i): array_of(v) for i, v in enumerate(values)})
                run.done()
        self.curves.append(replace(member.curve, settings=candidate.settings))
        return member

    def epochs(self, design: Design) -> tuple[int, int]:
        """Epochs and patience: as given, or what fits the steps that an epoch has."""
        given, usual = self.settings, (EPOCHS, PATIENCE)
        if given.fanout:
            usual = epochs_for(self.problem, design, given.fanout, given.batch_size, usual)
        return usual[0] if given.epochs is None else given.epochs, given.patience or usual[1]

    def _restored(self, name: str, candidate: Candidate, seed: int, step: Step) -> Member | None:
        state = checkpoints_of(self.progress).load(name)
        if state is None or state.document["words"] != candidate.words:
            return None
        curve = curve_of(state.document["curve"])
        told = replace(step, resumed=len(curve.points))
        for point in curve.points:
            self.progress.epoch(told, self.epochs(candidate.design)[0], curve.metric, point)
        self.progress.note(f"resumed: {step.words} was trained before")
        values = [state.arrays[str(i)] for i in range(len(state.arrays))]
        kept = (values, state.document["loss"], curve)
        return restore_member(self.problem, self.view, candidate.design, seed, kept)

    def _strength(self, position: int) -> tuple[float, float]:
        """Dropout and weight decay, strong (0) or light (1), as far as they are not given."""
        dropout, decay = self.settings.dropout, self.settings.decay
        return DROPOUTS[position] if dropout is None else dropout, DECAYS[position] if decay is None else decay

    def _trial(self, candidate: Candidate) -> Member:
        member = self.member(candidate, 0, Step(f"trial of {candidate.words}", self.settings.seeds - 1))
        self._tried[candidate] = len(self.curves) - 1, member.loss
        return member

    def _better(self, so_far: tuple[Candidate, Member], candidate: Candidate) -> tuple[Candidate, Member]:
        """Whichever of the two validates better; one that was tried already, or comes after a request to stop, is not
        tried."""
        if candidate in self._tried or self.progress.stop_requested():
            return so_far
        trial = self._trial(candidate)
        before, after = so_far[1].loss, trial.loss
        better = after < before * (1 - WORTHWHILE) - LEAST_GAIN
        loser, _ = self._tried[so_far[0] if better else candidate]
        self.curves[loser] = replace(self.curves[loser], kept=False)
        self.progress.note(
            f"{candidate.words}: valid loss {after:.4f}, {so_far[0].words} had {before:.4f}: "
            f"{'better' if better else 'not worth it'}"
        )
        return (candidate, trial) if better else so_far


def designs_of(problem: NodeProblem, given: NodeSettings) -> list[Design]:
    """Those that are compared, but for free vectors."""
    known = LAYERS_AND_STEPS[: 2 if problem.edge_count > LARGE_EDGES else None]
    pairs = [
        (layers, steps)
        for layers, steps in (known if problem.relations else ((0, 0),))
        if given.layers in (None, layers) and given.steps in (None, steps)
    ]
    if not pairs:  # a given number that is none of the candidates'
        pairs = [(2 if given.layers is None else given.layers, 0 if given.steps is None else given.steps)]
    free = bool(given.free)
    return [Design(layers, steps, free, given.width, given.bases, given.self_loop) for layers, steps in pairs]


def tries_free(problem: NodeProblem, given: NodeSettings) -> bool:
    """Whether free vectors for the nodes of all types are tried: where that is for more than have them anyway."""
    more = free_types(problem, everywhere=True) != free_types(problem, everywhere=False)
    return given.free is None and bool(problem.relations) and more
