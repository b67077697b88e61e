"""Model `rgcn` of node properties: relational layers, a propagation, or both, whichever the validation rows prefer.

The network is in `nodes_network`. With `auto`, candidates are trained in turn with the first seed: a propagation
without layers (best where neighbours are alike and labels few), two relational layers (best where it matters what kind
of neighbour says what), one layer and the propagation, and no neighbours at all; then the best of them with lighter
regularisation (best where labels are many or columns few), and with free vectors for the nodes of all types. A
later candidate must lower the validation loss clearly. The chosen one is trained with further seeds, and the members'
probabilities are averaged; a temperature, chosen on the validation rows, makes them honest (Guo et al. 2017). Last, the
labels around a node are mixed in as far as that validates better (see `nodes_labels`).

Defaults were chosen, and alternatives of the design compared, by validation loss and accuracy on a citation graph and
on generated graphs; the figures of `make bench NAME=quality` are those of test rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final

import numpy as np
import torch

from ekiden_engine.checkpoints import checkpoints_of
from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.models.base import Curve, Fit, Progress, Step, curve_of
from ekiden_engine.models.device import array_of, device_name, pick_device
from ekiden_engine.models.nodes_fitting import Member, Recipe, fit_member, restore_member
from ekiden_engine.models.nodes_network import Design, Matrices, free_types
from ekiden_engine.models.nodes_problem import NodeProblem, make_node_problem
from ekiden_engine.models.nodes_result import make_predictor
from ekiden_engine.models.passes import Pass
from ekiden_engine.models.settings import as_hyperparameters, decided, read_settings, setting

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
ONE_THREAD_EDGES: Final = 200_000
"""Up to here a second thread gains little on an idle machine, and loses on a busy one."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Hyperparameters; what is None here stays for `fit` to decide."""

    width: int = setting("rgcn", "num-hidden")
    epochs: int = setting("rgcn", "num-epochs")
    lr: float = setting("rgcn", "lr")
    dropout: float | None = setting("rgcn", "dropout")
    early_stop: bool = setting("rgcn", "enable-early-stop")
    patience: int = setting("rgcn", "window-for-early-stop")
    seed: int = setting("rgcn", "seed")
    seeds: int = setting("rgcn", "seeds")
    layers: int | None = setting("rgcn", "num-layer")
    steps: int | None = setting("rgcn", "propagation-steps")
    free: bool | None = setting("rgcn", "concat-node-embed")
    bases: int = setting("rgcn", "num-bases")
    self_loop: bool = setting("rgcn", "use-self-loop")
    class_weights: bool = setting("rgcn", "use-class-weight")
    decay: float | None = setting("rgcn", "weight-decay")


class NodeRgcn:
    """The trainer of node classification and node regression (see the module)."""

    def __init__(self, hyperparameters: Mapping[str, str]) -> None:
        """Raises `BadData` BAD_HYPERPARAMETERS."""
        given = read_settings(NodeSettings, "rgcn", hyperparameters)
        self.settings = decided(given, width=64, epochs=300, lr=0.02, patience=50)

    def fit(self, graph: EncodedGraph, target: Target, progress: Progress) -> Fit:
        """See `Trainer`. Raises `BadData` EMPTY_TRAINING_SET, TRAINING_DIVERGED."""
        problem = make_node_problem(graph, target)
        threads = threads_for(problem.edge_count)
        torch.set_num_threads(threads)
        device = pick_device()
        search = _Search(problem, self.settings, progress, device)
        chosen, first = search.best()
        members = [first]
        for index in range(1, self.settings.seeds):
            if progress.stop_requested():
                break
            step = Step(f"member {index + 1}/{self.settings.seeds}", self.settings.seeds - index - 1)
            members.append(search.member(chosen, index, step))
        design = chosen.design
        resolved = replace(
            self.settings,
            layers=design.layers,
            steps=design.steps,
            free=design.free,
            dropout=chosen.dropout,
            decay=chosen.decay,
        )
        return Fit(
            predictor=make_predictor(problem, design, [m.network for m in members], target),
            curves=tuple(search.curves),
            hyperparameters=as_hyperparameters(resolved),
            stopped=progress.stop_requested(),
            threads=threads,
            device=device_name(device),
        )


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What `auto` chooses between."""

    design: Design
    dropout: float
    decay: float

    @property
    def words(self) -> str:
        return f"{self.design.words}, dropout {self.dropout:g}, weight decay {self.decay:g}"

    @property
    def settings(self) -> dict[str, float]:
        return {
            "num-layer": self.design.layers,
            "propagation-steps": self.design.steps,
            "concat-node-embed": int(self.design.free),
            "dropout": self.dropout,
            "weight-decay": self.decay,
        }


class _Search:
    """Trains members, keeps their curves, and finds the best candidate."""

    def __init__(self, problem: NodeProblem, settings: NodeSettings, progress: Progress, device: torch.device) -> None:
        self.problem, self.settings, self.progress = problem, settings, progress
        self.matrices = Matrices(problem, device)
        self.curves: list[Curve] = []
        self._tried: dict[_Candidate, tuple[int, float]] = {}
        """Candidates to where their curves are, and their losses."""

    def best(self) -> tuple[_Candidate, Member]:
        """The candidate that validates best, and its first member."""
        strong = self._strength(0)
        first, *others = [_Candidate(design, *strong) for design in self._designs()]
        so_far = (first, self._trial(first))
        for other in others:
            so_far = self._better(so_far, other)
        light = self._strength(1)
        if light != strong:
            before = so_far[0]
            so_far = self._better(so_far, replace(before, dropout=light[0], decay=light[1]))
            if so_far[0] is not before:
                hopeless = self._tried[before][1] * HOPELESS
                for design in self._designs():
                    if self._tried.get(_Candidate(design, *strong), (0, np.inf))[1] < hopeless:
                        so_far = self._better(so_far, _Candidate(design, *light))
        more = free_types(self.problem, everywhere=True) != free_types(self.problem, everywhere=False)
        if self.settings.free is None and self.problem.relations and more:
            design = replace(so_far[0].design, free=True)
            so_far = self._better(so_far, replace(so_far[0], design=design))
        if len(self.curves) > 1:
            self.progress.note(f"{so_far[0].words} it is; that model is member 1/{self.settings.seeds}")
        return so_far

    def member(self, candidate: _Candidate, index: int, step: Step) -> Member:
        """Train a member with the seed at `index`, or take it from the checkpoints: members are trained in the same
        order by every start of the job."""
        settings, name = self.settings, f"member-{len(self.curves)}"
        member = self._restored(name, candidate, settings.seed + index, step)
        if member is None:
            recipe = Recipe(
                epochs=settings.epochs,
                patience=settings.patience if settings.early_stop else settings.epochs,
                lr=settings.lr,
                dropout=candidate.dropout,
                decay=candidate.decay,
                class_weights=settings.class_weights,
            )
            run = Pass(checkpoints_of(self.progress), name)
            if run.resumed:
                self.progress.note(f"resumed after epoch {len(run.points)}/{settings.epochs} of {step.words}")
            told = run.step(step)
            member = fit_member(
                self.problem,
                self.matrices,
                candidate.design,
                recipe,
                settings.seed + index,
                report=lambda metric, point: self.progress.epoch(told, settings.epochs, metric, point),
                stop_requested=self.progress.stop_requested,
                run=run,
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

    def _restored(self, name: str, candidate: _Candidate, seed: int, step: Step) -> Member | None:
        state = checkpoints_of(self.progress).load(name)
        if state is None or state.document["words"] != candidate.words:
            return None
        curve = curve_of(state.document["curve"])
        told = replace(step, resumed=len(curve.points))
        for point in curve.points:
            self.progress.epoch(told, self.settings.epochs, curve.metric, point)
        self.progress.note(f"resumed: {step.words} was trained before")
        values = [state.arrays[str(i)] for i in range(len(state.arrays))]
        kept = (values, state.document["loss"], curve)
        return restore_member(self.problem, self.matrices, candidate.design, seed, kept)

    def _strength(self, position: int) -> tuple[float, float]:
        """Dropout and weight decay, strong (0) or light (1), as far as they are not given."""
        dropout, decay = self.settings.dropout, self.settings.decay
        return DROPOUTS[position] if dropout is None else dropout, DECAYS[position] if decay is None else decay

    def _designs(self) -> list[Design]:
        given = self.settings
        known = LAYERS_AND_STEPS[: 2 if self.problem.edge_count > LARGE_EDGES else None]
        pairs = [
            (layers, steps)
            for layers, steps in (known if self.problem.relations else ((0, 0),))
            if given.layers in (None, layers) and given.steps in (None, steps)
        ]
        if not pairs:  # a given number that is none of the candidates'
            pairs = [(2 if given.layers is None else given.layers, 0 if given.steps is None else given.steps)]
        free = bool(given.free)
        return [Design(layers, steps, free, given.width, given.bases, given.self_loop) for layers, steps in pairs]

    def _trial(self, candidate: _Candidate) -> Member:
        member = self.member(candidate, 0, Step(f"trial of {candidate.words}", self.settings.seeds - 1))
        self._tried[candidate] = len(self.curves) - 1, member.loss
        return member

    def _better(self, so_far: tuple[_Candidate, Member], candidate: _Candidate) -> tuple[_Candidate, Member]:
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


def threads_for(edges: int) -> int:
    """Threads for torch: one for small graphs, else the cores of the job; `OMP_NUM_THREADS` bounds it."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))
    return cores if edges > ONE_THREAD_EDGES else 1
