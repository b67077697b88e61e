"""A fitted model of an edge property: tables of vectors and biases, for numbers as for classes, and what it takes to
answer for nodes that come later (`edges_inductive`). Numpy alone.

    raw_c(s, t) = prior_c + bias_sc + bias_tc + <vector_s * R_c, vector_t>

For a number there is one output, and no R. An ensemble is one wide product: the members' vectors side by side, scaled
by 1/sqrt(members). Index -1, and nodes of which training knew nothing, have the mean node's row, the last one; if
that holds for both ends, the answer is the mean, or the frequencies of the classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ekiden_engine.errors import BadData
from ekiden_engine.models.base import BoolArray, FloatArray, IndexArray, NewNode
from ekiden_engine.models.edges_inductive import NewEnd
from ekiden_engine.models.edges_structure import END_NAMES, EdgeStructure, check_tensors
from ekiden_engine.models.nodes_structure import Tensors

STRUCTURE_FILE: Final = "edges.json"
TENSOR_FILE: Final = "edges.safetensors"
CHUNK: Final = 4096
"""Pairs scored at a time: the gathered vectors then stay in the cache (one chunk of a million pairs is ten
times slower)."""


class EdgeTables:
    """See the module.

    Tensors, per end `source` and `dest` with n nodes: `vectors` [n+1, D], `bias` [n+1, k], `seen` bool [n]; `prior`
    [k], for classes also `relation` [k, D] and their `frequencies` [k]. For new nodes: `usual` [3, c],
    `project` [f, c], float16 `messages.<relation>` [count, c], the columns c those of `EdgeStructure.columns`.
    """

    kind: ClassVar[str] = "edges"
    files: ClassVar[tuple[str, ...]] = (STRUCTURE_FILE, TENSOR_FILE)

    def __init__(self, structure: EdgeStructure, tensors: Tensors) -> None:
        """Keep both; nothing is copied."""
        self.structure = structure
        self.tensors = tensors

    def predict(self, source: IndexArray, dest: IndexArray) -> FloatArray:
        """See `EdgePredictor`."""
        return self._answers(self.scores(source, dest), *self.known(source, dest))

    def scores(self, source: IndexArray, dest: IndexArray) -> FloatArray:
        """Raw outputs float32 [m, k], neither clamped nor made probabilities."""
        s, t = self._end_rows("source", source), self._end_rows("dest", dest)
        vectors_s, bias_s = self.tensors["source.vectors"], self.tensors["source.bias"]
        vectors_t, bias_t = self.tensors["dest.vectors"], self.tensors["dest.bias"]
        found = np.empty((len(s), self.structure.outputs), np.float32)
        for start in range(0, len(s), CHUNK):
            part = slice(start, start + CHUNK)
            i, j = s[part], t[part]
            found[part] = self._decode((vectors_s[i], bias_s[i]), (vectors_t[j], bias_t[j]))
        return found

    def known(self, source: IndexArray, dest: IndexArray) -> tuple[BoolArray, BoolArray]:
        """See `EdgePredictor`."""
        return self._seen("source", source), self._seen("dest", dest)

    def counts(self) -> Mapping[str, int]:
        """See `Predictor`."""
        labels = self.structure.ends
        return {label: len(self.tensors[f"{end}.seen"]) for label, end in zip(labels, END_NAMES, strict=True)}

    def embeddings(self, label: str) -> FloatArray | None:
        """See `Predictor`; of an edge type from a node type to itself, those of the sources."""
        if label not in self.structure.ends:
            return None
        table: FloatArray = self.tensors[f"{END_NAMES[self.structure.ends.index(label)]}.vectors"]
        return table[:-1]

    def embed_new(self, label: str, nodes: Sequence[NewNode]) -> FloatArray | None:
        """See `InductiveVectors`. Raises as `predict_new`."""
        if label not in self.structure.ends:
            return None
        (vectors, _), known = self._described(self.structure.ends.index(label), nodes)
        vectors[~known] = 0
        return vectors

    def predict_new(self, source: Sequence[int | NewNode], dest: Sequence[int | NewNode]) -> FloatArray:
        """See `InductiveEdges`. Neighbours of an edge type that training did not have, or with index -1, do not count;
        a label counts on an edge of the target's own type (classes: the class's index, several: an edge for each).

        Raises `BadData` BAD_NEW_NODE if a new node has another number of features than training had, or a neighbour or
        class that does not exist.
        """
        (s, known_s), (t, known_t) = self._described(0, source), self._described(1, dest)
        return self._answers(self._decode(s, t), known_s, known_t)

    def save(self, folder: Path) -> None:
        """Write `edges.json` and `edges.safetensors`."""
        (folder / STRUCTURE_FILE).write_text(self.structure.model_dump_json(indent=1) + "\n", "utf-8")
        save_file({name: np.ascontiguousarray(t) for name, t in self.tensors.items()}, folder / TENSOR_FILE)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises `BadData` CORRUPT_ARTIFACT."""
        name = STRUCTURE_FILE
        try:
            structure = EdgeStructure.model_validate_json((folder / STRUCTURE_FILE).read_bytes())
            name = TENSOR_FILE
            tensors = load_file(folder / TENSOR_FILE)
            check_tensors(structure, tensors)
        except (OSError, SafetensorError, ValueError) as error:
            raise BadData("CORRUPT_ARTIFACT", f"{name}: {str(error)[:200]}") from error
        return cls(structure, tensors)

    def _decode(self, source: tuple[FloatArray, FloatArray], dest: tuple[FloatArray, FloatArray]) -> FloatArray:
        (s, bias_s), (t, bias_t) = source, dest
        relation = self.tensors.get("relation")
        if relation is None:
            scores: FloatArray = np.vecdot(s, t)[:, None]
            scores += bias_s
            scores += bias_t
            return scores
        return np.asarray((s * t) @ relation.T + bias_s + bias_t + self.tensors["prior"], np.float32)

    def _answers(self, scores: FloatArray, known_s: BoolArray, known_t: BoolArray) -> FloatArray:
        found = self.structure.scale.answers(scores[None])
        nobody = ~(known_s | known_t)
        if nobody.any():
            number = self.structure.scale.kind == "number"
            found[nobody] = self.tensors["prior"][0] if number else self.tensors["frequencies"]
        return found

    def _seen(self, end: str, nodes: IndexArray) -> BoolArray:
        seen = self.tensors[f"{end}.seen"]
        if not len(seen):
            return np.zeros(len(nodes), np.bool_)
        return np.asarray(seen[np.maximum(nodes, 0)] & (nodes >= 0))

    def _end_rows(self, end: str, nodes: IndexArray) -> IndexArray:
        return np.where(nodes < 0, np.int32(len(self.tensors[f"{end}.seen"])), nodes)

    def _described(self, end: int, nodes: Sequence[int | NewNode]) -> tuple[tuple[FloatArray, FloatArray], BoolArray]:
        """Vectors [m, D] and biases [m, k] of one end's nodes, and whether anything is known of each."""
        name, tensors, structure = END_NAMES[end], self.tensors, self.structure
        index = np.array([-1 if isinstance(node, NewNode) else node for node in nodes], np.int32)
        rows = self._end_rows(name, index)
        vectors, bias = tensors[f"{name}.vectors"][rows], tensors[f"{name}.bias"][rows]
        known = self._seen(name, index)
        new, wide = NewEnd(structure, tensors, end), structure.kept * structure.width
        found: dict[int, FloatArray | None] = {}  # one new node may be asked about with many others
        for at, node in enumerate(nodes):
            if isinstance(node, NewNode):
                if id(node) not in found:
                    found[id(node)] = new.row(node)
                row = found[id(node)]
                if row is not None:
                    vectors[at], known[at] = 0, True
                    vectors[at, :wide], bias[at] = row[:wide], row[wide:]
        return (vectors, bias), known
