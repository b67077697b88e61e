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
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ekiden_engine.kernels import EdgeMatrix, aggregate
from ekiden_engine.models.device import CPU, generator_on, on
from ekiden_engine.models.nodes_problem import NodeProblem, Relation
from ekiden_engine.models.nodes_structure import RelationKey
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


class Matrices:
    """The graph as sparse matrices on a device: shared by all members, made when first needed."""

    def __init__(self, problem: NodeProblem, device: torch.device = CPU) -> None:
        """Nothing is computed yet."""
        self.device = device
        self._problem = problem
        self._means: dict[RelationKey, EdgeMatrix] = {}
        self._whole: EdgeMatrix | None = None

    def mean(self, relation: Relation) -> EdgeMatrix:
        """The mean over the neighbours under `relation`, [nodes here, nodes there]."""
        if relation.key not in self._means:
            counts = self._problem.counts
            degree = np.maximum(np.bincount(relation.rows, minlength=counts[relation.here]), 1)
            values = (1 / degree).astype(np.float32)[relation.rows]
            shape = (counts[relation.here], counts[relation.there])
            self._means[relation.key] = EdgeMatrix(relation.rows, relation.columns, values, shape, self.device)
        return self._means[relation.key]

    def whole(self) -> EdgeMatrix:
        """The mean over all neighbours and oneself, over the nodes of all types one after the other, [all, all]."""
        if self._whole is None:
            problem = self._problem
            offsets = np.concatenate([[0], np.cumsum(problem.counts)])
            own = np.arange(offsets[-1])
            rows = np.concatenate([own, *(r.rows + offsets[r.here] for r in problem.relations)])
            columns = np.concatenate([own, *(r.columns + offsets[r.there] for r in problem.relations)])
            values = (1 / np.bincount(rows)).astype(np.float32)[rows]
            self._whole = EdgeMatrix(rows, columns, values, (len(own), len(own)), self.device)
        return self._whole


class Network:
    """The parameters of one member, and its forward pass. `half` is the type of the products with the features."""

    def __init__(self, problem: NodeProblem, matrices: Matrices, design: Design, generator: torch.Generator) -> None:
        """Weights as by Glorot and Bengio 2010; the same generator (of the CPU) gives the same network."""
        self.problem, self.design = problem, design
        self.device = device = matrices.device
        self.half = torch.float32
        self._matrices = matrices
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

    def parameters(self, decay: float) -> list[Parameter]:
        """Every tensor to train; `decay` is the L2 weight of what grows with the number of columns or nodes."""
        found = [Parameter(p, decay) for p in (*self.project.values(), *self.free.values())]
        found += [Parameter(p, 0.0) for p in (*self.shift.values(), self.out, self.out_shift)]
        found += [Parameter(p, decay * part) for layer in self.layers for p, part in layer.parameters()]
        for parameter in found:
            parameter.value.requires_grad_()
        return found

    def forward(self, dropout: float = 0.0) -> Tensor:
        """Raw outputs of the nodes of the target's type, float32 [n, k]."""
        hidden = {t: self._dropped(h, dropout) for t, h in self.hidden(dropout)[-1].items()}
        target = self.problem.target
        if self.problem.outputs > self.design.width:  # the same by linearity, on the narrower side of the matrix
            return self.propagate(hidden)[target] @ self.out + self.out_shift
        return self.propagate({t: h @ self.out + self.out_shift for t, h in hidden.items()})[target]

    def hidden(self, dropout: float = 0.0) -> list[dict[int, Tensor]]:
        """`h_0` to `h_layers`, each per node type that later ones need, float32 [n, width]."""
        first = {}
        for t, project in self.project.items():
            value = self._product(self._dropped(self._x[t], dropout), project) + self.shift[t]
            if t in self.free:
                value = value + self._rows_dropped(self.free[t], dropout)
            first[t] = value.relu()
        found = [first]
        for layer in self.layers:
            before = {t: self._dropped(h, dropout) for t, h in found[-1].items()}
            found.append(layer.forward(before, self._matrices))
        return found

    def propagate(self, start: dict[int, Tensor]) -> dict[int, Tensor]:
        """`z_steps` of each type, given z_0 (or anything else) of each, float32 [n, any]."""
        if not self.design.steps:
            return start
        value = torch.cat([start[t] for t in sorted(start)])
        whole, keep = self._matrices.whole(), self.design.teleport
        own = value * keep
        for _ in range(self.design.steps):
            value = torch.add(own, aggregate(whole, value), alpha=1 - keep)
        parts = torch.split(value, [self.problem.counts[t] for t in sorted(start)])
        return dict(zip(sorted(start), parts, strict=True))

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

    def forward(self, before: dict[int, Tensor], matrices: Matrices) -> dict[int, Tensor]:
        each = self.matrices()
        found = {}
        for t in sorted(self.active):
            value = self.shift if self.self_loop is None else before[t] @ self.self_loop + self.shift
            for position, relation in enumerate(self.relations):
                if relation.here == t:
                    value = value + aggregate(matrices.mean(relation), before[relation.there]) @ each[position]
            found[t] = value.expand(before[t].shape[0], -1).relu()
        return found


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
