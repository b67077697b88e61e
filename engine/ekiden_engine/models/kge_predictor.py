"""A fitted knowledge-graph embedding: a vector per node, one per relation and direction, and numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EdgeType
from ekiden_engine.models.base import BoolArray, Direction, FloatArray, IndexArray
from ekiden_engine.models.kge_scores import Kge, question_vectors
from ekiden_engine.models.links_data import relation_of

STRUCTURE_FILE = "kge.json"
TENSOR_FILE = "kge.safetensors"


class KgePredictor:
    """See `kge_scores` for the formulas.

    Tensors: `vectors.<i>` float32 [n, d] and `seen.<i>` bool [n] per node type, in the order of `labels`; `relations`
    float32 [2 * edge types, d], destinations asked for at 2e, sources at 2e + 1.
    """

    kind: ClassVar[str] = "kge"
    files: ClassVar[tuple[str, ...]] = (STRUCTURE_FILE, TENSOR_FILE)

    def __init__(
        self,
        model: Kge,
        edge_types: Sequence[EdgeType],
        vectors: Mapping[str, FloatArray],
        seen: Mapping[str, BoolArray],
        relations: FloatArray,
    ) -> None:
        """Keep the arrays; nothing is copied. An unseen node stands at the mean of its type's seen ones."""
        self.model = model
        self.vectors = vectors
        self.seen = seen
        self.relations = relations
        self._edge_types = tuple(edge_types)
        self._mean = {label: _mean(vectors[label], seen[label]) for label in vectors}

    @property
    def edge_types(self) -> tuple[EdgeType, ...]:
        """See `LinkPredictor`."""
        return self._edge_types

    def queries(self, edge_type: int, direction: Direction, nodes: IndexArray) -> FloatArray:
        """See `LinkPredictor`."""
        source, _, dest = self._edge_types[edge_type]
        label = source if direction == "tail" else dest
        given = _rows(self.vectors[label], self._mean[label], nodes)
        relation = np.broadcast_to(self.relations[relation_of(edge_type, direction)], given.shape)
        found: FloatArray = question_vectors(self.model, given, relation, lambda parts: np.concatenate(parts, axis=1))
        if self.model.is_distance:
            found = np.concatenate((found, np.ones((len(found), 1), np.float32)), axis=1)
        return np.ascontiguousarray(found, np.float32)

    def items(self, edge_type: int, direction: Direction) -> FloatArray:
        """See `LinkPredictor`. Candidates that training never saw stand at the mean."""
        source, _, dest = self._edge_types[edge_type]
        label = dest if direction == "tail" else source
        vectors = self.vectors[label]
        if not self.seen[label].all():
            vectors = np.where(self.seen[label][:, None], vectors, self._mean[label])
        if self.model.is_distance:
            square = np.vecdot(vectors, vectors)[:, None]
            vectors = np.concatenate((vectors, -square), axis=1)
        return np.ascontiguousarray(vectors, np.float32)

    def known(self, label: str, nodes: IndexArray) -> BoolArray:
        """See `LinkPredictor`: known is what has a training link."""
        return known_nodes(self.seen[label], nodes)

    def counts(self) -> Mapping[str, int]:
        """See `Predictor`."""
        return {label: len(vectors) for label, vectors in self.vectors.items()}

    def embeddings(self, label: str) -> FloatArray | None:
        """See `Predictor`."""
        return self.vectors.get(label)

    def save(self, folder: Path) -> None:
        """Write `kge.json` and `kge.safetensors`."""
        labels = list(self.vectors)
        document = {"model": self.model.value, "labels": labels, "edge_types": [list(e) for e in self._edge_types]}
        (folder / STRUCTURE_FILE).write_text(json.dumps(document, ensure_ascii=False) + "\n", "utf-8")
        tensors: dict[str, Any] = {"relations": np.ascontiguousarray(self.relations)}
        for index, label in enumerate(labels):
            tensors[f"vectors.{index}"] = np.ascontiguousarray(self.vectors[label])
            tensors[f"seen.{index}"] = self.seen[label]
        save_file(tensors, folder / TENSOR_FILE, metadata={"kind": self.kind})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises `BadData` CORRUPT_ARTIFACT."""
        try:
            document = json.loads((folder / STRUCTURE_FILE).read_text("utf-8"))
            tensors = load_file(folder / TENSOR_FILE)
            model, labels = Kge(document["model"]), [str(label) for label in document["labels"]]
            edge_types = [(str(s), str(r), str(d)) for s, r, d in document["edge_types"]]
            vectors = {label: tensors[f"vectors.{i}"] for i, label in enumerate(labels)}
            seen = {label: tensors[f"seen.{i}"] for i, label in enumerate(labels)}
            relations = tensors["relations"]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise BadData("CORRUPT_ARTIFACT", f"{cls.kind} predictor: {str(error)[:200]}") from error
        width = relations.shape[-1]
        shapes = relations.shape == (2 * len(edge_types), width) and relations.dtype == np.float32
        for label in labels:
            shapes = shapes and vectors[label].shape == (*seen[label].shape, width) and seen[label].ndim == 1
            shapes = shapes and vectors[label].dtype == np.float32 and seen[label].dtype == np.bool_
        ends = {label for source, _, dest in edge_types for label in (source, dest)}
        if not shapes or not ends <= set(labels):
            raise BadData("CORRUPT_ARTIFACT", f"{TENSOR_FILE}: arrays do not fit {STRUCTURE_FILE}")
        return cls(model, edge_types, vectors, seen, relations)


def known_nodes(seen: BoolArray, nodes: IndexArray) -> BoolArray:
    """`seen` of each node, False for -1."""
    if not len(seen):
        return np.zeros(len(nodes), np.bool_)
    found: BoolArray = seen[np.maximum(nodes, 0)] & (nodes >= 0)
    return found


def _rows(vectors: FloatArray, mean: FloatArray, nodes: IndexArray) -> FloatArray:
    found = vectors[np.maximum(nodes, 0)] if len(vectors) else np.zeros((len(nodes), len(mean)), np.float32)
    found[nodes < 0] = mean
    return found


def _mean(vectors: FloatArray, seen: BoolArray) -> FloatArray:
    if not seen.any():
        return np.zeros(vectors.shape[1], np.float32)
    return np.asarray(vectors[seen].mean(0), np.float32)
