"""A fitted model of links as tables of vectors: blocks side by side, so that the sum of several models' scores is one
inner product.

A block has a vector per node and, where they differ by edge type, a factor per entry and edge type:

    score(s, e, t) = sum over blocks b of weight[e, direction, b] <vector_b(s) factor_b(e), vector_b(t)> + bias(e, t)

The bias belongs to the end that is asked for: how sought after a candidate is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EdgeType
from ekiden_engine.models.base import BoolArray, Direction, FloatArray, IndexArray
from ekiden_engine.models.kge_predictor import known_nodes

STRUCTURE_FILE = "links.json"
TENSOR_FILE = "links.safetensors"
DIRECTIONS: tuple[Direction, Direction] = ("tail", "head")


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """What one edge type has to itself, float32. `source` [n, d] and `dest` [m, d]: blocks of its own, side by side.

    `weight` [2, d] of their entries and `factor` [2, k] of the shared vectors' entries: row 0 where destinations are
    asked for, row 1 where sources are. `source_bias` [n], `dest_bias` [m].
    """

    source: FloatArray
    dest: FloatArray
    weight: FloatArray
    source_bias: FloatArray
    dest_bias: FloatArray
    factor: FloatArray


@dataclass(slots=True)
class _Latest:
    """The candidates that were asked for last: batches of questions ask for the same ones."""

    key: tuple[int, Direction] | None = None
    items: FloatArray = field(default_factory=lambda: np.empty((0, 0), np.float32))


class LinkVectors:
    """See the module. Tensors: `vectors.<i>` float32 [n, k] (shared by all edge types), `seen.<i>` bool [n] per node
    type; per edge type e the fields of `Ends`, as `<field>.<e>`."""

    kind: ClassVar[str] = "links"
    files: ClassVar[tuple[str, ...]] = (STRUCTURE_FILE, TENSOR_FILE)

    def __init__(
        self,
        edge_types: Sequence[EdgeType],
        vectors: Mapping[str, FloatArray],
        seen: Mapping[str, BoolArray],
        ends: Sequence[Ends],
    ) -> None:
        """Keep the arrays; nothing is copied. An unseen node stands at the mean of its type's seen ones."""
        self.vectors = vectors
        self.seen = seen
        self.ends = tuple(ends)
        self._edge_types = tuple(edge_types)
        self._latest = _Latest()

    @property
    def edge_types(self) -> tuple[EdgeType, ...]:
        """See `LinkPredictor`."""
        return self._edge_types

    def queries(self, edge_type: int, direction: Direction, nodes: IndexArray) -> FloatArray:
        """See `LinkPredictor`."""
        tail, ends = direction == "tail", self.ends[edge_type]
        label = self._edge_types[edge_type][0 if tail else 2]
        shared = self._rows(label, self.vectors[label], nodes) * ends.factor[0 if tail else 1]
        own = self._rows(label, ends.source if tail else ends.dest, nodes) * ends.weight[0 if tail else 1]
        return np.concatenate((shared, own, np.ones((len(nodes), 1), np.float32)), axis=1, dtype=np.float32)

    def items(self, edge_type: int, direction: Direction) -> FloatArray:
        """See `LinkPredictor`."""
        if self._latest.key != (edge_type, direction):
            tail, ends = direction == "tail", self.ends[edge_type]
            label = self._edge_types[edge_type][2 if tail else 0]
            own, bias = (ends.dest, ends.dest_bias) if tail else (ends.source, ends.source_bias)
            joined = np.concatenate((self.vectors[label], own, bias[:, None]), axis=1, dtype=np.float32)
            self._latest = _Latest((edge_type, direction), joined)
        return self._latest.items

    def known(self, label: str, nodes: IndexArray) -> BoolArray:
        """See `LinkPredictor`: known is what has a training link, a feature or another neighbour."""
        return known_nodes(self.seen[label], nodes)

    def counts(self) -> Mapping[str, int]:
        """See `Predictor`."""
        return {label: len(vectors) for label, vectors in self.vectors.items()}

    def embeddings(self, label: str) -> FloatArray | None:
        """See `Predictor`: the shared vectors, and those of the first edge type that the node type is an end of."""
        if label not in self.vectors:
            return None
        parts = [self.vectors[label]]
        for (source, _, dest), ends in zip(self._edge_types, self.ends, strict=True):
            if label in (source, dest):
                parts.append(ends.source if label == source else ends.dest)
                break
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write `links.json` and `links.safetensors`."""
        labels = list(self.vectors)
        document = {"labels": labels, "edge_types": [list(e) for e in self._edge_types]}
        (folder / STRUCTURE_FILE).write_text(json.dumps(document, ensure_ascii=False) + "\n", "utf-8")
        tensors: dict[str, Any] = {}
        for index, label in enumerate(labels):
            tensors[f"vectors.{index}"] = np.ascontiguousarray(self.vectors[label])
            tensors[f"seen.{index}"] = self.seen[label]
        for index, ends in enumerate(self.ends):
            tensors |= {f"{name}.{index}": np.ascontiguousarray(getattr(ends, name)) for name in Ends.__slots__}
        save_file(tensors, folder / TENSOR_FILE, metadata={"kind": self.kind})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises `BadData` CORRUPT_ARTIFACT."""
        try:
            document = json.loads((folder / STRUCTURE_FILE).read_text("utf-8"))
            tensors = load_file(folder / TENSOR_FILE)
            labels = [str(label) for label in document["labels"]]
            edge_types = [(str(s), str(r), str(d)) for s, r, d in document["edge_types"]]
            vectors = {label: tensors[f"vectors.{i}"] for i, label in enumerate(labels)}
            seen = {label: tensors[f"seen.{i}"] for i, label in enumerate(labels)}
            ends = [Ends(*(tensors[f"{name}.{i}"] for name in Ends.__slots__)) for i in range(len(edge_types))]
            fits = all(
                _fits(own, vectors[source], vectors[dest])
                for own, (source, _, dest) in zip(ends, edge_types, strict=True)
            ) and all(seen[label].shape == vectors[label].shape[:1] for label in labels)
        except (OSError, SafetensorError, KeyError, IndexError, TypeError, ValueError) as error:
            raise BadData("CORRUPT_ARTIFACT", f"{cls.kind} predictor: {str(error)[:200]}") from error
        if not fits:
            raise BadData("CORRUPT_ARTIFACT", f"{TENSOR_FILE}: arrays do not fit {STRUCTURE_FILE}")
        return cls(edge_types, vectors, seen, ends)

    def _rows(self, label: str, table: FloatArray, nodes: IndexArray) -> FloatArray:
        """Rows of `nodes`; the mean of the seen ones for those that are not."""
        seen = self.seen[label]
        known = known_nodes(seen, nodes)
        found = table[np.where(known, nodes, 0)] if len(table) else np.zeros((len(nodes), table.shape[1]), np.float32)
        if not known.all():
            found[~known] = table[seen].mean(0) if seen.any() else 0
        return found


def _fits(own: Ends, source: FloatArray, dest: FloatArray) -> bool:
    width = own.source.shape[1]
    return (
        own.source.shape == (len(source), width)
        and own.dest.shape == (len(dest), width)
        and own.weight.shape == (2, width)
        and own.source_bias.shape == source.shape[:1]
        and own.dest_bias.shape == dest.shape[:1]
        and own.factor.shape == (2, source.shape[1])
        and source.shape[1] == dest.shape[1]
    )
