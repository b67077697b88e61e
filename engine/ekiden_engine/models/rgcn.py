"""Model `rgcn`: edge regression on a heterogeneous graph with a relational encoder per end point and a dot
decoder.

    label(s, t) = mean + bias_s + bias_t + <vector_s, vector_t>

Training, per member of a small seed ensemble: labels of unit variance; batches of training edges; the edges
of a batch are hidden in the relations that carry labels, and stay in the others; L2 weighted by degree; Adam;
the epoch that is best on validation edges is kept. Edge types other than the target bring messages to the
end points' node types; their own features and labels are not used, nor are edge types that touch neither end.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Split, Target
from ekiden_engine.models.base import Curve, Fit, FloatArray, Progress, Step
from ekiden_engine.models.dot import DotPredictor, Side
from ekiden_engine.models.encoder import Neighbours
from ekiden_engine.models.fitting import METRIC, STRENGTH, Member, Problem, fit_member
from ekiden_engine.models.settings import as_hyperparameters, decided, read_settings, setting

LADDER = (1.0, 3.0, 9.0)
"""Regularisation multiples that `auto` tries in turn."""
WORTHWHILE = 0.003
"""Relative gain in validation RMSE that makes `auto` take the next multiple. Not less: an ensemble averages
variance away, so it prefers weaker regularisation than one member does."""
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
    regularization: float | None = setting("rgcn", "regularization-coef")
    early_stop: bool = setting("rgcn", "enable-early-stop")
    patience: int = setting("rgcn", "window-for-early-stop")
    seed: int = setting("rgcn", "seed")
    seeds: int = setting("rgcn", "seeds")


class Rgcn:
    """The trainer (see the module)."""

    relational: ClassVar[bool] = True
    """Whether the encoder sees relations and features; without them it is matrix factorisation."""

    def __init__(self, hyperparameters: Mapping[str, str]) -> None:
        """Raises `BadData` BAD_HYPERPARAMETERS."""
        given = read_settings(RgcnSettings, "rgcn", hyperparameters)
        self.settings = decided(given, width=32, epochs=60, lr=0.002, dropout=0.0, patience=6)

    def fit(self, graph: EncodedGraph, target: Target, progress: Progress) -> Fit:
        """See `EdgeTrainer`. Raises `BadData` EMPTY_TRAINING_SET if there is no training edge."""
        problem = make_problem(graph, target, relational=self.relational)
        threads = threads_for(problem.train_count)
        torch.set_num_threads(threads)
        settings = self.settings
        curves: list[Curve] = []
        if settings.regularization is None:
            chosen, first = self._climb(problem, curves, progress)
        else:
            chosen, first = settings.regularization, None
        members = [] if first is None else [first]
        for index in range(len(members), settings.seeds):
            if members and progress.stop_requested():
                break
            step = Step(f"member {index + 1}/{settings.seeds}", settings.seeds - index - 1)
            member = self._member(problem, index, chosen, step, progress)
            members.append(member)
            curves.append(member.curve)
        resolved = replace(settings, regularization=chosen)
        return Fit(
            predictor=_combine(members, problem, target),
            curves=tuple(curves),
            hyperparameters=as_hyperparameters(resolved),
            stopped=progress.stop_requested(),
            threads=threads,
        )

    def _climb(self, problem: Problem, curves: list[Curve], progress: Progress) -> tuple[float, Member]:
        """Try stronger regularisation with the first seed while validation says that it pays."""
        seeds = self.settings.seeds

        def search(multiple: float, left: int) -> Step:
            return Step(f"search for the regularization, strength {multiple:g}", left)

        best = self._member(problem, 0, LADDER[0], search(LADDER[0], seeds), progress)
        curves.append(best.curve)
        for multiple in LADDER[1:]:
            if progress.stop_requested():
                break
            trial = self._member(problem, 0, multiple, search(multiple, seeds - 1), progress)
            before, after = best.curve.best_valid, trial.curve.best_valid
            better = after < before * (1 - WORTHWHILE)
            loser = len(curves) - 1 if better else len(curves)
            curves.append(trial.curve)
            curves[loser] = replace(curves[loser], kept=False)
            progress.note(
                f"regularization strength {multiple:g}: valid rmse {after:.4f}, {_strength(best):g} had "
                f"{before:.4f}: {'better' if better else 'not worth it'}"
            )
            if not better:
                break
            best = trial
        progress.note(f"regularization strength {_strength(best):g} it is; that model is member 1/{seeds}")
        return _strength(best), best

    def _member(self, problem: Problem, index: int, multiple: float, step: Step, progress: Progress) -> Member:
        settings = self.settings
        batch = settings.batch_size or max(64, -(-problem.train_count // 16))
        return fit_member(
            problem,
            seed=settings.seed + index,
            width=settings.width,
            epochs=settings.epochs,
            lr=settings.lr,
            dropout=settings.dropout,
            batch_size=batch,
            regularization=multiple,
            patience=settings.patience if settings.early_stop else settings.epochs,
            report=lambda point: progress.epoch(step, settings.epochs, METRIC, point),
            stop_requested=progress.stop_requested,
        )


def make_problem(graph: EncodedGraph, target: Target, *, relational: bool) -> Problem:
    """Arrays of one regression target, training and validation edges only.

    Raises `BadData` EMPTY_TRAINING_SET.
    """
    if target.edge is None:
        raise ValueError("edge regression needs an edge type")
    edges, labels = graph.edge(target.edge), graph.labels(target)
    train, valid = labels.rows(Split.TRAIN), labels.rows(Split.VALID)
    if labels.values is None or not len(train):
        raise BadData(
            "EMPTY_TRAINING_SET",
            f"no edge of {target.subject[:200]} has a {target.property[:100]} and belongs to the training "
            "split: check split_rate, or the file custom_split_filenames.train names",
        )
    source, dest = graph.node(target.edge[0]), graph.node(target.edge[2])
    blank = (np.zeros((len(source), 0), np.float32), np.zeros((len(dest), 0), np.float32))
    return Problem(
        source=edges.source,
        dest=edges.dest,
        label=labels.values,
        train=train,
        valid=valid,
        source_features=source.features if relational else blank[0],
        dest_features=dest.features if relational else blank[1],
        same_type=source.label == dest.label,
        source_extra=_extra(graph, target, source.label) if relational else (),
        dest_extra=_extra(graph, target, dest.label) if relational else (),
        relational=relational,
    )


def _extra(graph: EncodedGraph, target: Target, label: str) -> tuple[Neighbours, ...]:
    """Relations other than the target that touch nodes of type `label`, in either direction."""
    found = []
    for edges in graph.edges:
        if edges.edge_type == target.edge or not len(edges):
            continue
        ends = ((edges.source_label, edges.source), (edges.dest_label, edges.dest))
        for way, ((here, rows), (there, columns)) in (("out", ends), ("in", ends[::-1])):
            if here == label:
                other = graph.node(there)
                features = other.features if other.features.shape[1] else None
                name = f"{way} {'-'.join(edges.edge_type)}"
                found.append(Neighbours(name, rows, columns, len(other), features=features))
    return tuple(found)


def _strength(member: Member) -> float:
    return member.curve.settings[STRENGTH]


def _combine(members: list[Member], problem: Problem, target: Target) -> DotPredictor:
    """The mean of the members' predictions as one dot product."""
    scale = 1 / np.sqrt(len(members))
    labels = problem.label[problem.train]

    def side(encodings: list[FloatArray], extra: tuple[Neighbours, ...], ends: FloatArray, x: FloatArray) -> Side:
        seen = (ends > 0) | x.any(1)
        for relation in extra:
            seen |= np.bincount(relation.rows, minlength=len(seen)) > 0
        vectors = np.concatenate([e[:, :-1] for e in encodings], axis=1) * scale
        bias = np.mean([e[:, -1] for e in encodings], axis=0)
        unseen = np.flatnonzero(~seen)
        vectors[unseen], bias[unseen] = vectors[-1], bias[-1]
        return Side(np.ascontiguousarray(vectors, np.float32), bias.astype(np.float32), seen)

    degrees = problem.degrees(problem.train)
    source = side([m.source for m in members], problem.source_extra, degrees[0], problem.source_features)
    dest = side([m.dest for m in members], problem.dest_extra, degrees[1], problem.dest_features)
    ends = (target.edge[0], target.edge[2]) if target.edge else ("", "")
    return DotPredictor(ends, source, dest, float(labels.mean()), float(labels.min()), float(labels.max()))


def threads_for(edges: int) -> int:
    """Threads for torch: one for small graphs, whose kernels take microseconds, else the cores of the job.

    `OMP_NUM_THREADS` bounds it.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))
    return cores if edges > ONE_THREAD_EDGES else 1
