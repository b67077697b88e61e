"""Model `rgcn` of node properties: relational layers, a propagation, or both, whichever the validation rows prefer.

The network is in `nodes_network`. With `auto`, candidates are trained in turn with the first seed: a propagation
without layers (best where neighbours are alike and labels few), two relational layers (best where it matters what kind
of neighbour says what), one layer and the propagation, and no neighbours at all; then the best of them with lighter
regularisation (best where labels are many or columns few), and with free vectors for the nodes of all types. A
later candidate must lower the validation loss clearly. The chosen one is trained with further seeds, and the members'
probabilities are averaged; a temperature, chosen on the validation rows, makes them honest (Guo et al. 2017). Last, the
labels around a node are mixed in as far as that validates better (see `nodes_labels`). Where full batches do not fit
into memory, or a fanout is given, all of this is done by samples of neighbours (`nodes_sampled`).

Defaults were chosen, and alternatives of the design compared, by validation loss and accuracy on a citation graph and
on generated graphs; the figures of `make bench NAME=quality` are those of test rows.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import torch

from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.models.base import Fit, Progress, Step
from ekiden_engine.models.device import CPU, device_name, pick_device
from ekiden_engine.models.fanout import choose_fanout
from ekiden_engine.models.nodes_problem import make_node_problem
from ekiden_engine.models.nodes_result import make_predictor
from ekiden_engine.models.nodes_sampled import full_batch_bytes
from ekiden_engine.models.nodes_sampled_lists import Lists
from ekiden_engine.models.nodes_search import NodeSettings, Search, designs_of, tries_free
from ekiden_engine.models.nodes_views import Matrices
from ekiden_engine.models.settings import as_hyperparameters, decided, read_settings

ONE_THREAD_EDGES: Final = 200_000
"""Up to here a second thread gains little on an idle machine, and loses on a busy one."""


class NodeRgcn:
    """The trainer of node classification and node regression (see the module)."""

    def __init__(self, hyperparameters: Mapping[str, str]) -> None:
        """Raises `BadData` BAD_HYPERPARAMETERS."""
        given = read_settings(NodeSettings, "rgcn", hyperparameters)
        self.settings = decided(given, width=64, lr=0.02)

    def fit(self, graph: EncodedGraph, target: Target, progress: Progress) -> Fit:
        """See `Trainer`. Raises `BadData` EMPTY_TRAINING_SET, TRAINING_DIVERGED."""
        problem = make_node_problem(graph, target)
        threads = threads_for(problem.edge_count)
        torch.set_num_threads(threads)
        designs = designs_of(problem, self.settings)
        if tries_free(problem, self.settings):
            designs += [replace(design, free=True) for design in designs]
        fanout = choose_fanout(self.settings.fanout, full_batch_bytes(problem, designs, self.settings.seeds), progress)
        device = CPU if fanout else pick_device()
        if self.settings.batch_size and not fanout:
            progress.note("batch-size is for training with a fanout: without one, every step is on all training nodes")
        settings = replace(self.settings, fanout=fanout)
        with ExitStack() as stack:
            if fanout:
                scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="ekiden-sampled-"))
                search = Search(problem, settings, progress, Lists(problem, Path(scratch)))
            else:
                search = Search(problem, settings, progress, Matrices(problem, device))
            chosen, first = search.best()
            members = [first]
            for index in range(1, settings.seeds):
                if progress.stop_requested():
                    break
                step = Step(f"member {index + 1}/{settings.seeds}", settings.seeds - index - 1)
                members.append(search.member(chosen, index, step))
            design = chosen.design
            predictor = make_predictor(problem, design, [m.network for m in members], target)
        epochs, patience = search.epochs(design)
        resolved = replace(
            settings,
            epochs=epochs,
            patience=patience,
            layers=design.layers,
            steps=design.steps,
            free=design.free,
            dropout=chosen.dropout,
            decay=chosen.decay,
        )
        return Fit(
            predictor=predictor,
            curves=tuple(search.curves),
            hyperparameters=as_hyperparameters(resolved),
            stopped=progress.stop_requested(),
            threads=threads,
            device=device_name(device),
        )


def threads_for(edges: int) -> int:
    """Threads for torch: one for small graphs, else the cores of the job; `OMP_NUM_THREADS` bounds it."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    cores = int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))
    return cores if edges > ONE_THREAD_EDGES else 1
