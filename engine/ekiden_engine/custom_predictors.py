"""A custom model as the engine serves it: what the user's transform script left, as tables of numbers.

- a node property: a row of scores per node;
- an edge property and links: a vector per node and one per class (or edge type), with the score of a pair
  `sum over d of source[d] * relation[d] * dest[d]` (DistMult, Yang et al. 2015; all relations 1: an inner product).

All three are numpy, so serving needs neither torch nor the user's code. Index -1, a node that training never saw, gets
the mean of its type's rows.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ekiden_engine.errors import BadData
from ekiden_engine.graph import EdgeType
from ekiden_engine.models.base import BoolArray, Direction, FloatArray, IndexArray

FILE = "custom.safetensors"
ABOUT_FILE = "custom.json"
SCRIPT_FILES = "script"
"""Folder of what the user's training script left in SM_MODEL_DIR: kept, never read."""


class _Tables:
    """Arrays and a few words about them, in two files, and the script's own files beside."""

    kind: ClassVar[str]
    files: ClassVar[tuple[str, ...]] = (FILE, ABOUT_FILE)

    def __init__(self, tables: Mapping[str, FloatArray], about: Mapping[str, Any], script: Path | None = None) -> None:
        """`tables`: `node/<label>` float32 [n, d] per node type, and what a kind needs besides."""
        self.tables = {name: np.ascontiguousarray(table, np.float32) for name, table in tables.items()}
        self.about = dict(about)
        self._script = script
        self._means = {name: table.mean(0) if len(table) else np.zeros(table.shape[1:], np.float32)
                       for name, table in self.tables.items()}  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write `custom.safetensors`, `custom.json`, and `script/`, the files that the training script left."""
        # safetensors names are free text, but sorted names keep the file the same for the same tables
        save_file({name: self.tables[name] for name in sorted(self.tables)}, folder / FILE, {"kind": self.kind})
        (folder / ABOUT_FILE).write_text(json.dumps(self.about, sort_keys=True) + "\n", "utf-8")
        if self._script is not None and any(self._script.iterdir()):
            shutil.copytree(self._script, folder / SCRIPT_FILES, dirs_exist_ok=True)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. Raises `BadData` CORRUPT_ARTIFACT."""
        try:
            about = json.loads((folder / ABOUT_FILE).read_bytes())
            script = folder / SCRIPT_FILES
            loaded = cls(load_file(folder / FILE), about, script if script.is_dir() else None)
            loaded._check()
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
            raise BadData("CORRUPT_ARTIFACT", f"{FILE}: {str(error)[:200]}") from error
        return loaded

    def _check(self) -> None:
        """Raise `KeyError` or `ValueError` if the tables do not fit together."""

    def embeddings(self, label: str) -> FloatArray | None:
        """See `Predictor`."""
        return self.tables.get(f"node/{label}")

    def counts(self) -> Mapping[str, int]:
        """See `Predictor`."""
        return {name.removeprefix("node/"): len(t) for name, t in self.tables.items() if name.startswith("node/")}

    def _rows(self, name: str, index: IndexArray) -> FloatArray:
        """Rows of a table, float32 [m, d]; the mean for index -1 or beyond the end."""
        table = self.tables[name]
        inside = (index >= 0) & (index < len(table))
        found = np.empty((len(index), *table.shape[1:]), np.float32)
        found[inside] = table[index[inside]]
        found[~inside] = self._means[name]
        return found

    def _known(self, name: str, index: IndexArray) -> BoolArray:
        return np.asarray((index >= 0) & (index < len(self.tables[name])), np.bool_)


class CustomNodePredictor(_Tables):
    """A node property: table `scores` float32 [n] or [n, k] of the nodes of `label`."""

    kind: ClassVar[str] = "custom-node"

    def predict(self, nodes: IndexArray) -> FloatArray:
        """See `NodePredictor`."""
        return self._rows("scores", nodes)

    def known(self, nodes: IndexArray) -> BoolArray:
        """See `NodePredictor`."""
        return self._known("scores", nodes)

    def counts(self) -> Mapping[str, int]:
        """See `Predictor`."""
        return {**super().counts(), str(self.about["label"]): len(self.tables["scores"])}

    def _check(self) -> None:
        label, scores = self.about["label"], self.tables["scores"]
        vectors = self.embeddings(label)
        if scores.ndim > 2 or (vectors is not None and len(vectors) != len(scores)):
            raise ValueError("scores and vectors are of different nodes")


class CustomEdgePredictor(_Tables):
    """An edge property: vectors of both `ends`, `relation` float32 [k, d]; `classes` is k, 0 for a number, which is
    held within `low` and `high`."""

    kind: ClassVar[str] = "custom-edge"

    def predict(self, source: IndexArray, dest: IndexArray) -> FloatArray:
        """See `EdgePredictor`."""
        ends = self.about["ends"]
        pairs = self._rows(f"node/{ends[0]}", source) * self._rows(f"node/{ends[1]}", dest)
        scores = np.asarray(pairs @ self.tables["relation"].T, np.float32)
        if not self.about["classes"]:
            low, high = self.about["low"], self.about["high"]
            return scores[:, 0] if low is None and high is None else np.clip(scores[:, 0], low, high)
        return probabilities(scores, several=bool(self.about["multi_label"]))

    def known(self, source: IndexArray, dest: IndexArray) -> tuple[BoolArray, BoolArray]:
        """See `EdgePredictor`."""
        ends = self.about["ends"]
        return self._known(f"node/{ends[0]}", source), self._known(f"node/{ends[1]}", dest)

    def _check(self) -> None:
        ends, relation = self.about["ends"], self.tables["relation"]
        widths = {self.tables[f"node/{end}"].shape[1] for end in ends}
        if relation.shape != (max(1, self.about["classes"]), *widths):
            raise ValueError(f"relation {relation.shape} does not fit vectors of width {sorted(widths)}")


class CustomLinkPredictor(_Tables):
    """Links: vectors of every node type at an end, `relation` float32 [t, d] with a row per edge type."""

    kind: ClassVar[str] = "custom-link"

    @property
    def edge_types(self) -> tuple[EdgeType, ...]:
        """See `LinkPredictor`."""
        return tuple((str(s), str(r), str(d)) for s, r, d in self.about["edge_types"])

    def queries(self, edge_type: int, direction: Direction, nodes: IndexArray) -> FloatArray:
        """See `LinkPredictor`."""
        source, _, dest = self.edge_types[edge_type]
        label = source if direction == "tail" else dest
        return np.asarray(self._rows(f"node/{label}", nodes) * self.tables["relation"][edge_type], np.float32)

    def items(self, edge_type: int, direction: Direction) -> FloatArray:
        """See `LinkPredictor`."""
        source, _, dest = self.edge_types[edge_type]
        return self.tables[f"node/{dest if direction == 'tail' else source}"]

    def known(self, label: str, nodes: IndexArray) -> BoolArray:
        """See `LinkPredictor`."""
        return self._known(f"node/{label}", nodes)

    def _check(self) -> None:
        relation = self.tables["relation"]
        widths = {self.tables[f"node/{end}"].shape[1] for s, _, d in self.edge_types for end in (s, d)}
        if relation.shape != (len(self.edge_types), *widths):
            raise ValueError(f"relation {relation.shape} does not fit vectors of width {sorted(widths)}")


def probabilities(scores: FloatArray, *, several: bool) -> FloatArray:
    """Scores [m, k] as probabilities: softmax, or a sigmoid each where a row may have several classes."""
    held = scores.astype(np.float64)
    if several:
        return np.asarray(1 / (1 + np.exp(-np.clip(held, -60, 60))), np.float32)
    grown = np.exp(held - held.max(1, keepdims=True))
    return np.asarray(grown / grown.sum(1, keepdims=True), np.float32)
