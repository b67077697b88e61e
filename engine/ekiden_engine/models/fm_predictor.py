"""A fitted factorization machine: `DotPredictor`'s tables for nodes, and coefficients for nodes that come later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EdgeType
from ekiden_engine.models.base import BoolArray, FloatArray, IndexArray, NewNode
from ekiden_engine.models.dot import DotPredictor

FILE = "coefficients.safetensors"
GROUPS_FILE = "coefficients.json"
VERSION = "ekiden.fm_coefficients.v1"


@dataclass(frozen=True, slots=True)
class Group:
    """`count` columns of an end point's design (see `fm_design`) that share a prior.

    `edge_type` and `outgoing` say whose set they are; no edge type: the ones, or the features.
    """

    count: int
    edge_type: EdgeType | None = None
    outgoing: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Coefficients:
    """One end point: rows of `vectors` float32 [m, d] and `bias` float32 [m] by `groups`.

    `pseudo`: ratings without any bias that a node starts with.
    """

    groups: tuple[Group, ...]
    vectors: FloatArray
    bias: FloatArray
    pseudo: float


class FmPredictor:
    """See `DotPredictor`; new nodes get the vector that their features and neighbours say, and from their own labelled
    edges a bias, shrunk as biases were in training."""

    kind: ClassVar[str] = "fm"
    files: ClassVar[tuple[str, ...]] = (*DotPredictor.files, FILE, GROUPS_FILE)

    def __init__(self, dot: DotPredictor, source: Coefficients, dest: Coefficients) -> None:
        """`dot` answers for known nodes."""
        self.dot = dot
        self.coefficients = (source, dest)

    def predict(self, source: IndexArray, dest: IndexArray) -> FloatArray:
        """See `EdgePredictor`."""
        return self.dot.predict(source, dest)

    def known(self, source: IndexArray, dest: IndexArray) -> tuple[BoolArray, BoolArray]:
        """See `EdgePredictor`."""
        s, t = self.dot.known(source, dest)
        return s, t

    def counts(self) -> Mapping[str, int]:
        """See `Predictor`."""
        return self.dot.counts()

    def embeddings(self, label: str) -> FloatArray | None:
        """See `Predictor`."""
        return self.dot.embeddings(label)

    def predict_new(self, source: Sequence[int | NewNode], dest: Sequence[int | NewNode]) -> FloatArray:
        """See `InductiveEdges`. Raises `BadData` BAD_NEW_NODE if a new node has another number of features than
        training had, or a neighbour that does not exist."""
        dot = self.dot
        s, b_s, known_s = self._rows(0, source)
        t, b_t, known_t = self._rows(1, dest)
        scores = np.vecdot(s, t) + b_s + b_t
        scores[~(known_s | known_t)] = dot.mean
        found: FloatArray = np.clip(scores, dot.low, dot.high).astype(np.float32)
        return found

    def embed_new(self, label: str, nodes: Sequence[NewNode]) -> FloatArray | None:
        """See `InductiveVectors`. Raises as `predict_new`."""
        if label not in self.dot.ends:
            return None
        vectors, _, known = self._rows(self.dot.ends.index(label), nodes)
        vectors[~known] = 0
        return vectors

    def _rows(self, end: int, nodes: Sequence[int | NewNode]) -> tuple[FloatArray, FloatArray, BoolArray]:
        side = (self.dot.source, self.dot.dest)[end]
        index = np.array([node if isinstance(node, int | np.integer) else -1 for node in nodes], np.int32)
        rows = np.where(index < 0, len(side), index)
        vectors, bias = side.vectors[rows], side.bias[rows]
        seen = np.append(side.seen, False)[rows]
        for position, node in enumerate(nodes):
            if isinstance(node, NewNode):
                vectors[position], bias[position], seen[position] = self._new(end, node)
        return vectors, bias, seen

    def _new(self, end: int, node: NewNode) -> tuple[FloatArray, float, bool]:
        side, other = (self.dot.source, self.dot.dest)[end], (self.dot.dest, self.dot.source)[end]
        c = self.coefficients[end]
        vector, bias = side.vectors[-1].copy(), float(side.bias[-1])
        seen = False
        start = 0
        target = c.groups[2]
        for group in c.groups:
            if group.edge_type is None:
                if start and node.features is not None:
                    if len(node.features) != group.count:
                        raise BadData(
                            "BAD_NEW_NODE", f"a new node has {len(node.features)} features, training had {group.count}"
                        )
                    vector += node.features @ c.vectors[start : start + group.count]
                    bias += float(node.features @ c.bias[start : start + group.count])
                    seen |= bool(np.any(node.features))
            else:
                wanted = (group.edge_type, group.outgoing)
                found = [edge.node for edge in node.neighbours if (edge.edge_type, edge.outgoing) == wanted]
                if found and not 0 <= min(found) <= max(found) < group.count:
                    raise BadData("BAD_NEW_NODE", f"a neighbour is outside the {group.count} nodes of its type")
                if found:
                    rows = start + np.array(found)
                    vector += c.vectors[rows].sum(0) / np.sqrt(len(rows))
                    bias += float(c.bias[rows].sum() / np.sqrt(len(rows)))
                    seen = True
            start += group.count
        rated = [
            (edge.node, edge.label)
            for edge in node.neighbours
            if edge.label is not None and (edge.edge_type, edge.outgoing) == (target.edge_type, target.outgoing)
        ]
        if rated:
            rows = np.array([index for index, _ in rated])
            said = other.vectors[rows] @ vector + other.bias[rows] + bias
            bias += float((np.array([label for _, label in rated]) - said).sum() / (len(rated) + c.pseudo))
        return vector, bias, seen

    def save(self, folder: Path) -> None:
        """Write `DotPredictor`'s files, `coefficients.safetensors` and `coefficients.json`."""
        self.dot.save(folder)
        tensors: dict[str, FloatArray] = {}
        document: dict[str, Any] = {"version": VERSION}
        for name, c in zip(("source", "dest"), self.coefficients, strict=True):
            tensors |= {f"{name}.vectors": c.vectors, f"{name}.bias": c.bias}
            document[name] = {
                "pseudo_ratings": c.pseudo,
                "groups": [{"count": g.count, "edge_type": g.edge_type, "outgoing": g.outgoing} for g in c.groups],
            }
        save_file(tensors, folder / FILE, metadata={"kind": self.kind})
        (folder / GROUPS_FILE).write_text(json.dumps(document, indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises `BadData` CORRUPT_ARTIFACT."""
        dot = DotPredictor.load(folder)
        try:
            tensors = load_file(folder / FILE)
            document = json.loads((folder / GROUPS_FILE).read_bytes())
            ends = [
                Coefficients(
                    tuple(_group(entry) for entry in document[name]["groups"]),
                    tensors[f"{name}.vectors"],
                    tensors[f"{name}.bias"],
                    float(document[name]["pseudo_ratings"]),
                )
                for name in ("source", "dest")
            ]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise BadData("CORRUPT_ARTIFACT", f"{FILE}: {str(error)[:200]}") from error
        for c, side in zip(ends, (dot.source, dot.dest), strict=True):
            rows = sum(group.count for group in c.groups)
            if c.vectors.shape != (rows, side.vectors.shape[1]) or c.bias.shape != (rows,) or len(c.groups) < 3:
                raise BadData("CORRUPT_ARTIFACT", f"{FILE}: the shapes of its tensors do not match {GROUPS_FILE}")
        return cls(dot, ends[0], ends[1])


def _group(entry: Mapping[str, Any]) -> Group:
    edge_type = entry["edge_type"]
    if edge_type is None:
        return Group(int(entry["count"]))
    source, relation, dest = (str(part) for part in edge_type)
    return Group(int(entry["count"]), (source, relation, dest), bool(entry["outgoing"]))
