"""A fitted model as two tables of vectors: predicting is one dot product per pair, in numpy, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ekiden_engine.errors import BadData
from ekiden_engine.models.base import FloatArray, IndexArray

FILE = "model.safetensors"
ENDS_FILE = "ends.json"
CHUNK = 4096
"""Pairs scored at a time: the gathered vectors then stay in the cache (one chunk of a million pairs is ten
times slower)."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One end point of the edge type: `vectors` float32 [n+1, d], `bias` float32 [n+1], `seen` bool [n].

    Row n stands for every node that the model never saw; so do the rows of nodes that are not `seen`: nodes
    of the graph without training edge, feature or neighbour.
    """

    vectors: FloatArray
    bias: FloatArray
    seen: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of nodes, the stand-in not counted."""
        return len(self.seen)


class DotPredictor:
    """`bias_s + bias_t + <vector_s, vector_t>`, clamped to the label range; the global mean if both ends are
    unseen.

    An ensemble is one wide dot product: the members' vectors side by side, scaled by 1/sqrt(members).
    """

    kind: ClassVar[str] = "dot"
    files: ClassVar[tuple[str, ...]] = (FILE, ENDS_FILE)

    def __init__(self, ends: tuple[str, str], source: Side, dest: Side, mean: float, low: float, high: float) -> None:
        """`ends` are the node types of source and destination; `mean`, `low` and `high` are those of the training
        labels; `source.bias` includes the mean."""
        self.ends = ends
        self.source = source
        self.dest = dest
        self.mean = mean
        self.low = low
        self.high = high

    def predict(self, source: IndexArray, dest: IndexArray) -> FloatArray:
        """See `EdgePredictor`."""
        scores = np.empty(len(source), np.float32)
        for start in range(0, len(source), CHUNK):
            part = slice(start, start + CHUNK)
            s = _rows(source[part], len(self.source))
            t = _rows(dest[part], len(self.dest))
            out = np.vecdot(self.source.vectors[s], self.dest.vectors[t])
            out += self.source.bias[s]
            out += self.dest.bias[t]
            known_s, known_t = self.known(source[part], dest[part])
            out[~(known_s | known_t)] = self.mean
            scores[part] = out
        return np.clip(scores, np.float32(self.low), np.float32(self.high), out=scores)

    def known(self, source: IndexArray, dest: IndexArray) -> tuple[npt.NDArray[np.bool_], ...]:
        """See `EdgePredictor`."""
        return _known(self.source, source), _known(self.dest, dest)

    def counts(self) -> Mapping[str, int]:
        """See `Predictor`."""
        return {self.ends[0]: len(self.source), self.ends[1]: len(self.dest)}

    def embeddings(self, label: str) -> FloatArray | None:
        """See `Predictor`; of an edge type from a node type to itself, those of the sources."""
        for end, side in zip(self.ends, (self.source, self.dest), strict=True):
            if end == label:
                return side.vectors[:-1]
        return None

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` and `ends.json`."""
        (folder / ENDS_FILE).write_text(json.dumps({"source": self.ends[0], "dest": self.ends[1]}) + "\n", "utf-8")
        save_file(
            {
                "source.vectors": self.source.vectors,
                "source.bias": self.source.bias,
                "source.seen": self.source.seen,
                "dest.vectors": self.dest.vectors,
                "dest.bias": self.dest.bias,
                "dest.seen": self.dest.seen,
                "label": np.array([self.mean, self.low, self.high], np.float64),
            },
            folder / FILE,
            metadata={"kind": self.kind},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `model.safetensors` and `ends.json`. Raises `BadData` CORRUPT_ARTIFACT."""
        try:
            named = json.loads((folder / ENDS_FILE).read_bytes())
            ends = (str(named["source"]), str(named["dest"]))
            tensors = load_file(folder / FILE)
            source, dest = (
                Side(tensors[f"{end}.vectors"], tensors[f"{end}.bias"], tensors[f"{end}.seen"])
                for end in ("source", "dest")
            )
            mean, low, high = (float(x) for x in tensors["label"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise BadData("CORRUPT_ARTIFACT", f"{FILE}: {str(error)[:200]}") from error
        for end in (source, dest):
            rows = len(end) + 1
            if end.vectors.ndim != 2 or end.vectors.shape[0] != rows or end.bias.shape != (rows,):
                raise BadData("CORRUPT_ARTIFACT", f"{FILE}: the shapes of its tensors do not match")
        if source.vectors.shape[1] != dest.vectors.shape[1]:
            raise BadData("CORRUPT_ARTIFACT", f"{FILE}: source and dest vectors differ in width")
        return cls(ends, source, dest, mean, low, high)


def _rows(index: IndexArray, unseen: int) -> IndexArray:
    return np.where(index < 0, np.int32(unseen), index)


def _known(side: Side, index: IndexArray) -> npt.NDArray[np.bool_]:
    if not len(side):
        return np.zeros(len(index), np.bool_)
    return side.seen[np.maximum(index, 0)] & (index >= 0)
