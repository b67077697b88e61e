"""A fitted model of a node property: the answers for every node of the graph, and what it takes to answer for new ones.

Known nodes are looked up. A new node is run through the network (see `nodes_network`) in numpy, from its features and
from the stored hidden states of the neighbours that a request names; the neighbours stay as they are. For the
propagation that is its fixed point: z = ((1 - a) (sum of the neighbours' z + z) / (neighbours + 1)) + a z_0, solved
for z.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ekiden_engine.errors import BadData
from ekiden_engine.models.base import BoolArray, FloatArray, IndexArray, NewNode
from ekiden_engine.models.nodes_labels import LEAST_REACHED, label_answers, labels_around, mixed
from ekiden_engine.models.nodes_structure import Structure, Tensors, check_tensors

STRUCTURE_FILE: Final = "nodes.json"
TENSOR_FILE: Final = "nodes.safetensors"

RowArray = npt.NDArray[np.int64]
Ends = tuple[RowArray, RowArray]
"""Of one relation, for each neighbour: the position of its new node, and its own index."""


class NodeTablePredictor:
    """See the module.

    Tensors, M members: `answers` [n, k] or [n]; `seen` bool [n]; `prior` [1, k] or [1]; `embeddings.<type>` [n, d];
    `centre`, `factor` [f]; `project` [M, f, d]; `shift` [M, d]; per layer l `layer.<l>.self` [M, d, d] (absent without
    self loop), `layer.<l>.shift` [M, d], `layer.<l>.relations` [M, relations, d, d]; `out` [M, d, k]; `out_shift`
    [M, k]; float16 `state.<l>.<type>` [M, n, d], and `said.<type>` [M, n, k] if there is a propagation; `told.<type>`
    float32 [n, k + 1] if labels are mixed in (see `nodes_labels`).
    """

    kind: ClassVar[str] = "nodes"
    files: ClassVar[tuple[str, ...]] = (STRUCTURE_FILE, TENSOR_FILE)

    def __init__(self, structure: Structure, tensors: Tensors) -> None:
        """Keep both; nothing is copied."""
        self.structure = structure
        self.tensors = tensors
        self._positions = {key: (at, there) for at, (key, there) in enumerate(structure.relations)}

    def predict(self, nodes: IndexArray) -> FloatArray:
        """See `NodePredictor`; an unseen node (-1) has the frequencies of the classes, or the mean."""
        answers = self.tensors["answers"]
        found: FloatArray = answers[np.maximum(nodes, 0)] if len(answers) else np.repeat(self._prior(), len(nodes), 0)
        found[~self.known(nodes)] = self._prior()[0]
        return found

    def known(self, nodes: IndexArray) -> BoolArray:
        """See `NodePredictor`: seen is what has a label, a feature or a neighbour."""
        seen = self.tensors["seen"]
        if not len(seen):
            return np.zeros(len(nodes), np.bool_)
        found: BoolArray = seen[np.maximum(nodes, 0)] & (nodes >= 0)
        return found

    def counts(self) -> Mapping[str, int]:
        """See `Predictor`."""
        return self.structure.counts

    def embeddings(self, label: str) -> FloatArray | None:
        """See `Predictor`: the last hidden layer of the first member; None of a type that it does not look at."""
        return self.tensors.get(f"embeddings.{label}")

    def predict_new(self, nodes: Sequence[NewNode]) -> FloatArray:
        """See `InductiveNodes`. Neighbours with index -1, or of an edge type that training did not have, do not count.

        Raises `ValueError` for features of the wrong length or a neighbour that there is not.
        """
        if not nodes:
            return self.tensors["answers"][:0]
        tensors, given = self.tensors, self._neighbours(nodes)
        degrees = _degrees(given, len(nodes))
        hidden = self._hidden(nodes, given, degrees)
        said = np.matmul(hidden, tensors["out"]) + tensors["out_shift"][:, None]
        said = self._propagated(said, given, degrees, lambda there: tensors[f"said.{there}"])
        found = self.structure.scale.answers(said.astype(np.float32))
        if self.structure.label_share:
            found = self._with_labels(found, given)
        found[_undescribed(nodes, degrees)] = self._prior()[0]
        return found

    def embed_new(self, label: str, nodes: Sequence[NewNode]) -> FloatArray | None:
        """See `InductiveVectors`. Raises as `predict_new`."""
        names = list(self.structure.counts)
        if label != names[self.structure.target]:
            return None
        given = self._neighbours(nodes)
        degrees = _degrees(given, len(nodes))
        first = self._hidden(nodes, given, degrees)[:1]
        every = self._propagated(first, given, degrees, lambda there: self.tensors[f"embeddings.{names[there]}"][None])
        found: FloatArray = every[0].astype(np.float32)
        found[_undescribed(nodes, degrees)] = 0
        return found

    def _hidden(self, nodes: Sequence[NewNode], given: Sequence[Ends], degrees: RowArray) -> FloatArray:
        """The last hidden layer, [M, m, d]."""
        structure, tensors = self.structure, self.tensors
        value = np.matmul(self._x(nodes, degrees), tensors["project"]) + tensors["shift"][:, None]
        hidden = np.maximum(value, 0)
        for layer in range(structure.layers):
            loop = tensors.get(f"layer.{layer}.self")
            value = tensors[f"layer.{layer}.shift"][:, None] + (0 if loop is None else np.matmul(hidden, loop))
            value = np.broadcast_to(value, hidden.shape).copy()
            for at, (owner, neighbour) in enumerate(given):
                there = structure.relations[at][1]
                total = _sums(tensors[f"state.{layer}.{there}"], owner, neighbour, len(nodes))
                mean = total / np.maximum(degrees[:, at], 1)[:, None]
                value += np.matmul(mean, tensors[f"layer.{layer}.relations"][:, at])
            hidden = np.maximum(value, 0)
        return np.asarray(hidden)

    def _propagated(
        self, own: FloatArray, given: Sequence[Ends], degrees: RowArray, around_of: Callable[[int], npt.NDArray[Any]]
    ) -> FloatArray:
        """What the propagation makes of `own` [M, m, any], given what it made of the nodes of each type,
        [M, n, any]."""
        if not self.structure.steps:
            return own
        keep = self.structure.teleport
        around = np.zeros_like(own)
        for at, (owner, neighbour) in enumerate(given):
            around += _sums(around_of(self.structure.relations[at][1]), owner, neighbour, own.shape[1])
        share = (1 - keep) / (1 + degrees.sum(1))[:, None]
        return np.asarray((around * share + own * keep) / (1 - share))

    def _with_labels(self, answers: FloatArray, given: Sequence[Ends]) -> FloatArray:
        """`answers` mixed with what the labels around the new nodes say, where any reached their neighbours."""
        structure = self.structure
        there = [end for _, end in structure.relations]
        told = {end: self.tensors[f"told.{end}"] for end in there}
        around = labels_around(
            told, [(end, owner, near) for end, (owner, near) in zip(there, given, strict=True)], len(answers)
        )
        values = label_answers(around, np.zeros((1, around.shape[1] - 1))).astype(np.float32)
        by_labels = structure.scale.answers(values[None]) if structure.scale.kind == "number" else values
        found = mixed(answers, by_labels, structure.label_share)
        bare = around[:, -1] <= LEAST_REACHED
        found[bare] = answers[bare]
        return found

    def save(self, folder: Path) -> None:
        """Write `nodes.json` and `nodes.safetensors`."""
        (folder / STRUCTURE_FILE).write_text(self.structure.model_dump_json(indent=1) + "\n", "utf-8")
        save_file({name: np.ascontiguousarray(t) for name, t in self.tensors.items()}, folder / TENSOR_FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises `BadData` CORRUPT_ARTIFACT."""
        name = STRUCTURE_FILE
        try:
            structure = Structure.model_validate_json((folder / STRUCTURE_FILE).read_bytes())
            name = TENSOR_FILE
            tensors = load_file(folder / TENSOR_FILE)
            check_tensors(structure, tensors)
        except (OSError, SafetensorError, ValueError) as error:
            raise BadData("CORRUPT_ARTIFACT", f"{name}: {str(error)[:200]}") from error
        return cls(structure, tensors)

    def _prior(self) -> FloatArray:
        found: FloatArray = self.tensors["prior"]
        return found

    def _x(self, nodes: Sequence[NewNode], degrees: RowArray) -> FloatArray:
        """The columns of new nodes, [m, f]; what is not known of one is as in the mean."""
        centre, factor = self.tensors["centre"], self.tensors["factor"]
        own = self.structure.features
        raw = np.repeat(centre[None], len(nodes), 0)
        for row, node in enumerate(nodes):
            if node.features is not None:
                if len(node.features) != own:
                    raise ValueError(f"a new node has {len(node.features)} columns of features, not {own}")
                raw[row, :own] = node.features
        raw[:, own : own + degrees.shape[1]] = np.log1p(degrees)
        found: FloatArray = (raw - centre) * factor
        return found

    def _neighbours(self, nodes: Sequence[NewNode]) -> list[Ends]:
        """Per relation; see `Ends`."""
        counts = list(self.structure.counts.values())
        found: list[tuple[list[int], list[int]]] = [([], []) for _ in self.structure.relations]
        for row, node in enumerate(nodes):
            for edge in node.neighbours:
                at, there = self._positions.get((edge.edge_type, edge.outgoing), (-1, -1))
                if at < 0 or edge.node < 0:
                    continue
                if edge.node >= counts[there]:
                    raise ValueError(f"a neighbour has index {edge.node} of {counts[there]}")
                found[at][0].append(row)
                found[at][1].append(edge.node)
        return [(np.array(owner, np.int64), np.array(neighbour, np.int64)) for owner, neighbour in found]


def _degrees(given: Sequence[Ends], count: int) -> RowArray:
    """Neighbours of each of `count` new nodes, int64 [m, relations]."""
    found = np.zeros((count, len(given)), np.int64)
    for at, (owner, _) in enumerate(given):
        found[:, at] = np.bincount(owner, minlength=count)
    return found


def _undescribed(nodes: Sequence[NewNode], degrees: RowArray) -> BoolArray:
    """Nodes that come with neither features nor neighbours, bool [m]."""
    bare = np.array([node.features is None or not len(node.features) for node in nodes], np.bool_)
    return np.asarray(bare & ~degrees.any(1))


def _sums(states: npt.NDArray[Any], owner: RowArray, neighbour: RowArray, count: int) -> FloatArray:
    """Sum of the neighbours' states [M, n, d] per owner: float32 [M, count, d]."""
    found = np.zeros((states.shape[0], count, states.shape[2]), np.float32)
    for total, state in zip(found, states, strict=True):
        np.add.at(total, owner, state[neighbour].astype(np.float32))
    return found
