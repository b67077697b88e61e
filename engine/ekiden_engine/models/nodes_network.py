"""The network of a node target: relational layers, then a propagation of what they say along all edges.

For a node i of type t, with N_r(i) its neighbours under relation r (every edge type gives two, one per direction):

    h_0 = relu(x_i X_t + f_i + c_t)                                          f_i: a free vector, where there is one
    h_l = relu(h_{l-1} S_l + sum_r mean_{j in N_r(i)} h_{l-1, j} R_{r,l} + c_l)             R-GCN, l = 1 … layers
    z_0 = h_layers O + c
    z_k = (1 - a) mean_{j in N(i) and i} z_{k-1, j} + a z_0                  APPNP, k = 1 … steps

R-GCN: Schlichtkrull et al. 2018; R may be combined from a few bases. APPNP: Gasteiger et al. 2019. Layers learn what a
neighbour under each relation means; the propagation has nothing to learn, reaches far, and needs few labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor

from ekiden_engine.models.device import CPU, generator_on, on
from ekiden_engine.models.nodes_problem import NodeProblem
from ekiden_engine.models.nodes_views import Rows, View
from ekiden_engine.models.optimizer import Parameter

FREE_STD: Final = 0.1
TELEPORT: Final = 0.1
"""Share of its own voice that a node keeps in each step of the propagation (a above)."""


@dataclass(frozen=True, slots=True)
class Design:
    """What varies between candidates: `layers` of R-GCN, `steps` of APPNP, `free` vectors for all node types (see
    `free_types`)."""

    layers: int
    steps: int
    free: bool
    width: int
    bases: int
    self_loop: bool
    teleport: float = TELEPORT

    @property
    def words(self) -> str:
        """`2 layers, 10 steps of propagation`."""
        parts = [f"{self.layers} layer{'' if self.layers == 1 else 's'}"]
        parts += [f"{self.steps} steps of propagation"] if self.steps else []
        return ", ".join([*parts, "free vectors"] if self.free else parts)


Weights = Callable[[int, int], Tensor]
"""Makes a matrix of so many rows and columns."""


class Network:
    """The parameters of one member, and its forward pass. `half` is the type of the products with the features.

    A pass computes what its view shows (see `nodes_views`): all nodes, as `view` has them, unless another is given.
    """

    def __init__(self, problem: NodeProblem, view: View, design: Design, generator: torch.Generator) -> None:
        """Weights as by Glorot and Bengio 2010; the same generator (of the CPU) gives the same network."""
        self.problem, self.design = problem, design
        self.device = device = view.device
        self.half = torch.float32
        self.view = view
        self.noise = generator if device.type == "cpu" else generator_on(device, generator.initial_seed())
        self._x = [on(device, x) for x in problem.x]
        self.reach = reach(problem, design)
        width, outputs = design.width, problem.outputs
        types = range(len(problem.labels))

        def weights(rows: int, columns: int) -> Tensor:
            bound = (6 / (rows + columns)) ** 0.5
            found: Tensor = (torch.rand(rows, columns, generator=generator) * 2 - 1) * bound
            return found.to(device)

        used = self.reach[0]
        self.project = {t: weights(x.shape[1], width) for t, x in zip(types, self._x, strict=True) if t in used}
        self.shift = {t: torch.zeros(width, device=device) for t in types if t in used}
        self.free = {
            t: (torch.randn(problem.counts[t], width, generator=generator) * FREE_STD).to(device)
            for t in types
            if t in used and t in free_types(problem, everywhere=design.free)
        }
        self.layers = [
            _Layer(problem, self.reach[level + 1], design, weights, device) for level in range(design.layers)
        ]
        self.out, self.out_shift = weights(width, outputs), torch.zeros(outputs, device=device)

    def parameters(self, decay: float, *, tables: bool = True) -> list[Parameter]:
        """Every tensor to train, with or without the `tables` of free vectors; `decay` is the L2 weight of what grows
        with the number of columns or nodes."""
        free = self.free.values() if tables else ()
        found = [Parameter(p, decay) for p in (*self.project.values(), *free)]
        found += [Parameter(p, 0.0) for p in (*self.shift.values(), self.out, self.out_shift)]
        found += [Parameter(p, decay * part) for layer in self.layers for p, part in layer.parameters()]
        for parameter in found:
            parameter.value.requires_grad_()
        return found

    def forward(self, dropout: float = 0.0, view: View | None = None) -> Tensor:
        """Raw outputs of the nodes of the target's type, float32 [n, k]; of a batch: of its nodes."""
        view = view or self.view
        hidden = {t: self._dropped(h, dropout) for t, h in self.hidden(dropout, view)[-1].items()}
        target = self.problem.target
        if self.problem.outputs > self.design.width:  # the same by linearity, on the narrower side of the matrix
            return self.said({target: self.propagate(hidden, view)[target]}, view)[target]
        return self.propagate(self.said(hidden, view), view)[target]

    def hidden(self, dropout: float = 0.0, view: View | None = None) -> list[dict[int, Tensor]]:
        """`h_0` to `h_layers`, each per node type that later ones need, float32 [n, width]."""
        view = view or self.view
        found = [{t: view.each(0, t, partial(self._first, view, t, dropout)) for t in self.project}]
        for level, layer in enumerate(self.layers, 1):
            before = {t: self._dropped(h, dropout) for t, h in found[-1].items()}
            at = partial(layer.forward, view, level, layer.matrices(), before)
            found.append({t: view.each(level, t, partial(at, t)) for t in sorted(layer.active)})
        return found

    def said(self, vectors: dict[int, Tensor], view: View | None = None) -> dict[int, Tensor]:
        """What vectors [n, width] of each type say, [n, k]."""
        view, level = view or self.view, len(self.layers) + 1

        def of(x: Tensor, rows: Rows) -> Tensor:
            return x[rows] @ self.out + self.out_shift

        return {t: view.each(level, t, partial(of, x)) for t, x in vectors.items()}

    def propagate(self, start: dict[int, Tensor], view: View | None = None) -> dict[int, Tensor]:
        """`z_steps` of each type, given z_0 (or anything else) of each, float32 [n, any]."""
        return (view or self.view).propagate(start, self.design.steps, self.design.teleport)

    def _first(self, view: View, t: int, dropout: float, rows: Rows) -> Tensor:
        value = self._product(self._dropped(self._x[t][rows], dropout), self.project[t]) + self.shift[t]
        if t in self.free:
            value = value + self._rows_dropped(view.vectors(t, self.free[t], rows), dropout)
        return value.relu()

    def _dropped(self, x: Tensor, share: float) -> Tensor:
        return x * kept(x.shape, share, self.noise, self.device) if share else x

    def _product(self, x: Tensor, weights: Tensor) -> Tensor:
        return x @ weights if self.half is torch.float32 else (x.to(self.half) @ weights.to(self.half)).float()

    def _rows_dropped(self, x: Tensor, share: float) -> Tensor:
        """Hide whole vectors: the network must also make sense of a node that has none."""
        return x * kept((x.shape[0], 1), share, self.noise, self.device) if share else x


def kept(shape: Sequence[int], share: float, generator: torch.Generator, device: torch.device = CPU) -> Tensor:
    """A dropout mask: `share` (to the nearest 1/256) of it 0, the rest such that the mean is 1, float32.

    Eight entries are made of each random number: drawing one for each would take longer than the network.
    """
    count = math.prod(shape)
    words = torch.randint(-(2**63), 2**63 - 1, (-(-count // 8),), generator=generator, device=device)
    hidden = round(share * 256)
    stays = words.view(torch.uint8)[:count].view(*shape) >= hidden
    return stays.float().mul_(256 / (256 - hidden))


class _Layer:
    """One relational layer; `active`: the types whose nodes it computes."""

    def __init__(
        self,
        problem: NodeProblem,
        active: frozenset[int],
        design: Design,
        weights: Weights,
        device: torch.device,
    ) -> None:
        width = design.width
        self.active = active
        self.relations = [relation for relation in problem.relations if relation.here in active]
        self.self_loop = weights(width, width) if design.self_loop else None
        self.shift = torch.zeros(width, device=device)
        count = len(self.relations)
        if design.bases and design.bases < count:
            self.bases: Tensor | None = torch.stack([weights(width, width) for _ in range(design.bases)])
            self.mixing = weights(count, design.bases)
        else:
            self.bases = None
            each = [weights(width, width) for _ in range(count)]
            self.mixing = torch.stack(each) if each else torch.zeros(0, width, width, device=device)

    def parameters(self) -> list[tuple[Tensor, float]]:
        found = [(self.shift, 0.0), (self.mixing, 0.0 if self.bases is not None else 1.0)]
        found += [] if self.self_loop is None else [(self.self_loop, 1.0)]
        return found if self.bases is None else [*found, (self.bases, 1.0)]

    def matrices(self) -> Tensor:
        """R of every relation, [relations, width, width]."""
        return self.mixing if self.bases is None else torch.einsum("rb,bij->rij", self.mixing, self.bases)

    def forward(
        self, view: View, level: int, matrices: Tensor, before: dict[int, Tensor], t: int, rows: Rows
    ) -> Tensor:
        """The states of nodes of type t, given those before, and what `matrices` gives."""
        own = view.own(level, t, before[t], rows)
        value = self.shift if self.self_loop is None else own @ self.self_loop + self.shift
        for position, relation in enumerate(self.relations):
            if relation.here == t:
                value = value + view.mean(level, relation, before[relation.there], rows) @ matrices[position]
        return value.expand(own.shape[0], -1).relu()


def free_types(problem: NodeProblem, *, everywhere: bool) -> frozenset[int]:
    """The node types with free vectors: all, or only those that have no features.

    Among these, the target's type is one only if no neighbour is of another type: vectors of their own would let the
    training nodes be learnt by heart, where neighbours say what holds for the others, too.
    """
    types = frozenset(range(len(problem.labels)))
    if everywhere:
        return types
    alone = all(r.there == problem.target for r in problem.relations if r.here == problem.target)
    return frozenset(t for t in types if problem.bare[t] and (t != problem.target or alone))


def reach(problem: NodeProblem, design: Design) -> list[frozenset[int]]:
    """The node types that each of `h_0` … `h_layers` is needed of."""
    last = frozenset(range(len(problem.labels))) if design.steps else frozenset({problem.target})
    found = [last]
    for _ in range(design.layers):
        found.insert(0, found[0] | {r.there for r in problem.relations if r.here in found[0]})
    return found
