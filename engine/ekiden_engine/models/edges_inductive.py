"""A node that training never saw, as an end of an edge: its vector and biases from what a request says of it.

Told by features and neighbours as any node's are (see `encoder`): x W + sum_r D_r^-1/2 sum_j message^r_j. What only
training could have taught it starts from the mean over trained nodes. From its own labelled edges then follows a
correction of both, as training would make it, with all else held as it is:

    min over (p, b):  sum over labelled edges j of loss(raw_j + <p * R, q_j> + b, label_j) + v/2 |p|^2 + w/2 |b|^2

with q_j the vectors of the neighbours; squares for numbers (one ridge regression), cross-entropies for classes, which
are minimised by steps under a fixed bound of their curvature (Boehning 1992), so every step is downhill.

v and w were chosen on users hidden from training, of whom 5 and 20 ratings were told: by RMSE on MovieLens 100K and
MovieTweetings, by log loss on MovieLens 100K with ratings as classes. On other hidden users of MovieLens 100K the
answers were as good as those of a model that was trained with the told ratings, or better.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ekiden_engine.errors import BadData
from ekiden_engine.models.base import FloatArray, NewNode
from ekiden_engine.models.edges_structure import END_NAMES, EdgeStructure, NewRelation
from ekiden_engine.models.nodes_structure import Kind, Tensors

MOST_OUTPUTS: Final = 1024
"""Labelled edges times classes that a correction is made from; of more, the last ones that the request names."""
STEPS: Final = 30
"""Downhill steps for classes."""

DoubleArray = npt.NDArray[np.float64]
RowArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Labelled edges of a new node: `nodes` int64 [m] at their other ends, `wanted` float64 [m, k] (a number; 0/1)."""

    nodes: RowArray
    wanted: DoubleArray


class NewEnd:
    """Describes new nodes at one end of a model (0: as sources)."""

    def __init__(self, structure: EdgeStructure, tensors: Tensors, end: int) -> None:
        """Nothing is copied."""
        self._structure = structure
        self._tensors = tensors
        self._name, self._other = END_NAMES[end], END_NAMES[1 - end]
        self._relations = structure.relations[end]
        self._key = (structure.edge, end == 0)
        self._wide = structure.kept * structure.width

    def row(self, node: NewNode) -> FloatArray | None:
        """Vector and biases, float32 [columns], or None if nothing is said of the node. Raises `BadData`
        BAD_NEW_NODE."""
        usual: FloatArray = self._tensors[f"{self._name}.usual"]
        told = self._features(node)
        known = told is not None
        row = usual[2].copy() if told is None else told
        own = usual[1]
        for at, relation in enumerate(self._relations):
            nodes = self._neighbours(node, relation)
            if not len(nodes) or relation.labelled:
                continue
            known = True
            said = self._messages(at, nodes).sum(0) / np.float32(np.sqrt(len(nodes)))
            if relation.key == self._key:
                own = usual[0]
            row += said
        labelled = self._labelled(node)
        if not known and labelled is None:
            return None
        row += own
        return row if labelled is None else self._corrected(row, labelled)

    def _features(self, node: NewNode) -> FloatArray | None:
        """What the features say; None if there are none."""
        project = self._tensors.get(f"{self._name}.project")
        if node.features is None or project is None:
            return None
        if len(node.features) != len(project):
            raise _refused(f"a new node has {len(node.features)} features, training had {len(project)}")
        if not np.any(node.features):
            return None
        return np.asarray(node.features @ project, np.float32)

    def _neighbours(self, node: NewNode, relation: NewRelation) -> RowArray:
        found = [e.node for e in node.neighbours if (e.edge_type, e.outgoing) == relation.key and e.node >= 0]
        nodes = np.array(found, np.int64)
        if len(nodes) and nodes.max() >= relation.count:
            raise _refused(f"a neighbour has index {nodes.max()} of {relation.count}")
        several = self._structure.scale.kind == "labels" and relation.key == self._key
        return np.unique(nodes) if several else nodes  # several classes of one edge come as several edges

    def _messages(self, at: int, nodes: RowArray) -> FloatArray:
        found: FloatArray = self._tensors[f"{self._name}.messages.{at}"][nodes].astype(np.float32)
        return found

    def _labelled(self, node: NewNode) -> Labelled | None:
        structure = self._structure
        kind, outputs = structure.scale.kind, structure.outputs
        count = len(self._tensors[f"{self._other}.seen"])
        given = [
            (edge.node, edge.label)
            for edge in node.neighbours
            if edge.label is not None and edge.node >= 0 and (edge.edge_type, edge.outgoing) == self._key
        ][-(max(1, MOST_OUTPUTS // outputs)) :]
        if not given:
            return None
        nodes, labels = np.array([n for n, _ in given], np.int64), np.array([y for _, y in given], np.float64)
        if nodes.max() >= count:
            raise _refused(f"a neighbour has index {nodes.max()} of {count}")
        if kind == "number":
            if not np.isfinite(labels).all():
                raise _refused("the label of an edge is not a finite number")
            return Labelled(nodes, labels[:, None])
        if not np.isin(labels, np.arange(outputs)).all():
            raise _refused(f"the label of an edge is not the index of one of {outputs} classes")
        hot = np.eye(outputs)[labels.astype(np.int64)]
        if kind == "classes":
            return Labelled(nodes, hot)
        distinct, place = np.unique(nodes, return_inverse=True)
        wanted = np.zeros((len(distinct), outputs))
        np.maximum.at(wanted, place, hot)
        return Labelled(distinct, wanted)

    def _corrected(self, row: FloatArray, labelled: Labelled) -> FloatArray:
        """The row, moved towards what its labelled edges say."""
        structure, wide, nodes = self._structure, self._wide, labelled.nodes
        vectors = self._tensors[f"{self._other}.vectors"][nodes, :wide].astype(np.float64)
        bias = self._tensors[f"{self._other}.bias"][nodes].astype(np.float64)
        if structure.scale.kind == "number":
            row = row + self._residual(row, bias[:, 0], labelled)
            factors = vectors[:, None]
            raw = bias
        else:
            factors = vectors[:, None] * self._tensors["relation"][None, :, :wide]
            raw = bias + self._tensors["prior"]
        raw = raw + factors @ row[:wide] + row[wide:]
        correction = fit_own(
            structure.scale.kind, factors, raw, labelled.wanted, structure.shrink_vector, structure.shrink_bias
        )
        return np.asarray(row + correction, np.float32)

    def _residual(self, row: FloatArray, bias: DoubleArray, labelled: Labelled) -> FloatArray | float:
        """What neighbours say about what biases leave over of their edges' labels."""
        at = next((i for i, r in enumerate(self._relations) if r.labelled and r.key == self._key), None)
        if at is None:
            return 0.0
        rest = labelled.wanted[:, 0] - bias - row[-1]
        rest -= rest.sum() / (len(rest) + self._structure.shrink_bias)
        said = rest.astype(np.float32) @ self._messages(at, labelled.nodes)
        return np.asarray(said / np.sqrt(len(rest)), np.float32)


def fit_own(
    kind: Kind,
    factors: DoubleArray,
    raw: DoubleArray,
    wanted: DoubleArray,
    shrink_vector: float,
    shrink_bias: float,
) -> DoubleArray:
    """The correction (p, b) of the module, float64 [d + k].

    `factors` [m, k, d]: what p is multiplied by for each edge and output; `raw` [m, k]: outputs without correction;
    `wanted` [m, k]; `shrink_vector`, `shrink_bias`: v and w.
    """
    edges, outputs, width = factors.shape
    flat = factors.reshape(edges * outputs, width)
    back = None
    if len(flat) < width:  # p is a mixture of the factors: as many numbers as there are of them will do
        values, vectors = np.linalg.eigh(flat @ flat.T)
        root = np.sqrt(np.maximum(values, values[-1] * 1e-12 + 1e-300))
        flat, back = vectors * root, flat.T @ (vectors / root)
    size = flat.shape[1]
    jacobian = np.concatenate([flat, np.tile(np.eye(outputs), (edges, 1))], 1)
    penalty = np.concatenate([np.full(size, shrink_vector), np.full(outputs, shrink_bias)])
    bent = np.matmul(_curvature(kind, outputs), jacobian.reshape(edges, outputs, -1)).reshape(jacobian.shape)
    inverse = np.linalg.inv(jacobian.T @ bent + np.diag(penalty))
    found = np.zeros(size + outputs)
    for _ in range(1 if kind == "number" else STEPS):
        missed = _link(kind, raw + (jacobian @ found).reshape(raw.shape)) - wanted
        found -= inverse @ (jacobian.T @ missed.ravel() + penalty * found)
    vector = found[:size] if back is None else back @ found[:size]
    return np.concatenate([vector, found[size:]])


def _curvature(kind: Kind, outputs: int) -> DoubleArray:
    """An upper bound of the second derivative of the loss by the outputs, [k, k]."""
    one = np.eye(outputs)
    return one if kind == "number" else one / 4 if kind == "labels" else (one - 1 / outputs) / 2


def _link(kind: Kind, raw: DoubleArray) -> DoubleArray:
    if kind == "number":
        return raw
    if kind == "labels":
        return np.asarray(0.5 * (1 + np.tanh(0.5 * raw)))
    powers = np.exp(raw - raw.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def _refused(message: str) -> BadData:
    return BadData("BAD_NEW_NODE", message)
