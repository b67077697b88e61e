"""Model `rgcn` of edge properties, numbers and classes: a relational encoder per end point (`encoder`) and a decoder
(`edges_decoders`).

Training, per member of a small seed ensemble: labels of unit variance; batches of training edges; the edges
of a batch are hidden in the relations that carry labels, and stay in the others; L2 weighted by degree; Adam;
the epoch that is best on validation edges is kept. Of the target's own edges the encoder sees those of the training
split only. Edge types other than the target bring messages to the end points' node types; their own features and labels
are not used, nor are edge types that touch neither end. Where that does not fit into memory, it is trained on samples
of neighbours instead (`edges_sampled`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from ekiden_engine.checkpoints import checkpoints_of
from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.models.base import Curve, CurvePoint, Fit, Progress, Step
from ekiden_engine.models.device import CPU, device_name, pick_device
from ekiden_engine.models.edges_checkpoints import restored_member, save_member
from ekiden_engine.models.edges_memory import full_batch_bytes
from ekiden_engine.models.edges_objectives import ClassObjective, NumberObjective, Objective
from ekiden_engine.models.edges_problem import EdgeProblem, RowArray, make_edge_problem
from ekiden_engine.models.edges_result import make_predictor
from ekiden_engine.models.edges_sampled import SAMPLED_BATCH, fit_sampled
from ekiden_engine.models.fanout import choose_fanout
from ekiden_engine.models.fitting import STRENGTH, Member, Recipe, fit_member
from ekiden_engine.models.passes import Pass
from ekiden_engine.models.settings import as_hyperparameters, decided, read_settings, setting

LADDER = (1.0, 3.0, 9.0)
"""Regularisation multiples that `auto` tries in turn."""
WORTHWHILE = 0.003
"""Relative gain in validation RMSE (of classes: log loss) that makes `auto` take the next multiple. Not less: an
ensemble averages variance away, so it prefers weaker regularisation than one member does."""
ONE_THREAD_EDGES = 200_000
"""Up to here a second thread gains little on an idle machine, and on a busy one its barriers cost a factor of
four."""


@dataclass(frozen=True, slots=True)
class RgcnSettings:
    """Hyperparameters; defaults chosen on validation edges carved from the training sets of rating graphs."""

    width: int = setting("rgcn", "num-hidden")
    epochs: int = setting("rgcn", "num-epochs")
    lr: float = setting("rgcn", "lr")
    dropout: float = setting("rgcn", "dropout")
    batch_size: int | None = setting("rgcn", "batch-size")
    fanout: int | None = setting("rgcn", "fanout")
    regularization: float | None = setting("rgcn", "regularization-coef")
    early_stop: bool = setting("rgcn", "enable-early-stop")
    patience: int = setting("rgcn", "window-for-early-stop")
    seed: int = setting("rgcn", "seed")
    seeds: int = setting("rgcn", "seeds")
    class_weights: bool = setting("rgcn", "use-class-weight")


class Rgcn:
    """The trainer (see the module)."""

    model: ClassVar[str] = "rgcn"
    """Whose hyperparameters it takes."""
    relational: ClassVar[bool] = True
    """Whether the encoder sees relations and features; without them it is matrix factorisation."""

    def __init__(self, hyperparameters: Mapping[str, str]) -> None:
        """Raises `BadData` BAD_HYPERPARAMETERS."""
        given = read_settings(RgcnSettings, self.model, hyperparameters)
        self.settings = decided(given, width=32, epochs=60, lr=0.002, dropout=0.0, patience=6)
        self._fanout = 0

    def fit(self, graph: EncodedGraph, target: Target, progress: Progress) -> Fit:
        """See `Trainer`. Raises `BadData` EMPTY_TRAINING_SET, TRAINING_DIVERGED."""
        problem = make_edge_problem(graph, target, relational=self.relational)
        needed = full_batch_bytes(problem, self.settings.width, self.settings.seeds)
        fanout = choose_fanout(self.settings.fanout, needed, progress)
        threads = 1 if fanout else threads_for(len(problem.train))  # samples are small, too
        torch.set_num_threads(threads)
        self._fanout, device = fanout, CPU if fanout else pick_device()
        settings = self.settings
        curves: list[Curve] = []
        if settings.regularization is None:
            chosen, first = self._climb(problem, curves, progress, device)
        else:
            chosen, first = settings.regularization, None
        members = [] if first is None else [first]
        for index in range(len(members), settings.seeds):
            if members and progress.stop_requested():
                break
            step = Step(f"member {index + 1}/{settings.seeds}", settings.seeds - index - 1)
            member = self._member(problem, index, chosen, step, progress, device)
            members.append(member)
            curves.append(member.curve)
        resolved = replace(settings, regularization=chosen, fanout=fanout)
        return Fit(
            predictor=make_predictor(problem, [m.trained for m in members]),
            curves=tuple(curves),
            hyperparameters=as_hyperparameters(resolved),
            stopped=progress.stop_requested(),
            threads=threads,
            device=device_name(device),
        )

    def _climb(
        self, problem: EdgeProblem, curves: list[Curve], progress: Progress, device: torch.device
    ) -> tuple[float, Member]:
        """Try stronger regularisation with the first seed while validation says that it pays."""
        seeds = self.settings.seeds

        def search(multiple: float, left: int) -> Step:
            return Step(f"search for the regularization, strength {multiple:g}", left)

        best = self._member(problem, 0, LADDER[0], search(LADDER[0], seeds), progress, device)
        curves.append(best.curve)
        for multiple in LADDER[1:]:
            if progress.stop_requested():
                break
            trial = self._member(problem, 0, multiple, search(multiple, seeds - 1), progress, device)
            before, after = best.loss, trial.loss
            better = after < before * (1 - WORTHWHILE)
            loser = len(curves) - 1 if better else len(curves)
            curves.append(trial.curve)
            curves[loser] = replace(curves[loser], kept=False)
            progress.note(
                f"regularization strength {multiple:g}: valid {_shown(problem, trial)}, {_strength(best):g} had "
                f"{_shown(problem, best)}: {'better' if better else 'not worth it'}"
            )
            if not better:
                break
            best = trial
        progress.note(f"regularization strength {_strength(best):g} it is; that model is member 1/{seeds}")
        return _strength(best), best

    def _member(
        self,
        problem: EdgeProblem,
        index: int,
        multiple: float,
        step: Step,
        progress: Progress,
        device: torch.device,
    ) -> Member:
        """Train a member with the seed at `index`, or take it from the checkpoints."""
        settings, name = self.settings, f"member-{index}-{multiple:g}"
        if self._fanout:  # what memory decides may differ from one start of the job to the next
            name = f"{name}-fanout-{self._fanout}"
        restored = restored_member(progress, name, step, settings.epochs)
        if restored is not None:
            return restored
        most = SAMPLED_BATCH if self._fanout else len(problem.train)
        batch = settings.batch_size or max(64, min(most, -(-len(problem.train) // 16)))
        recipe = Recipe(
            width=settings.width,
            epochs=settings.epochs,
            lr=settings.lr,
            dropout=settings.dropout,
            batch_size=batch,
            regularization=multiple,
            patience=settings.patience if settings.early_stop else settings.epochs,
        )

        def report(metric: str, point: CurvePoint) -> None:
            progress.epoch(told, settings.epochs, metric, point)

        run = Pass(checkpoints_of(progress), name)
        if run.resumed:
            progress.note(f"resumed after epoch {len(run.points)}/{settings.epochs} of {step.words}")
        told = run.step(step)
        seed, stop = settings.seed + index, progress.stop_requested
        if self._fanout:
            weights = settings.class_weights
            member = fit_sampled(problem, recipe, self._fanout, seed, report, stop, run=run, class_weights=weights)
        else:
            member = fit_member(problem, self.objective, recipe, seed, report, stop, device, run)
        if not progress.stop_requested():  # else it may be cut short
            save_member(checkpoints_of(progress), name, member)
            run.done()
        return member

    def objective(
        self,
        problem: EdgeProblem,
        rows: tuple[RowArray, RowArray],
        width: int,
        generator: torch.Generator,
        device: torch.device,
    ) -> Objective:
        """What a member is trained for."""
        if problem.kind == "number":
            return NumberObjective(problem, rows, width, generator, device)
        weights = self.settings.class_weights
        return ClassObjective(problem, rows, width, generator, device, class_weights=weights)


def _strength(member: Member) -> float:
    return member.curve.settings[STRENGTH]


def _shown(problem: EdgeProblem, member: Member) -> str:
    """What the search decides by, in units that people know."""
    number = problem.kind == "number"
    return f"rmse {member.curve.best_valid:.4f}" if number else f"loss {member.loss:.4f}"


def threads_for(edges: int) -> int:
    """Threads for torch: one for small graphs, whose kernels take microseconds, else the cores of the job.

    `OMP_NUM_THREADS` bounds it.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))
    return cores if edges > ONE_THREAD_EDGES else 1
