"""What a custom model's transform script leaves in SM_OUTPUT_DIR, checked and made into a predictor. No pickle.

- `predictions/result.npz`, array `infer_scores`: for a node property, a row per node of the target's type in the order
  of `mappings/`: float [n] (numbers) or [n, k] (a column per class in the order of graph.json). Class scores are
  probabilities if they all lie in [0, 1] and, but where a row may have several classes, rows sum to 1; else they are
  taken for logits.
- `embeddings/entity.npz`: an array float [n, d] per node type, named as the type; or `embeddings/entity.npy`: float
  [all nodes, d], the types one after another as in graph.json. Needed for edge properties and links, else for nearest
  neighbours.
- `embeddings/relation.npy`: float [d] or [k, d], a row per class (edge classification) or per edge type in the order
  of graph.json (links); ones if it is absent.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ekiden_engine.custom_predictors import (
    CustomEdgePredictor,
    CustomLinkPredictor,
    CustomNodePredictor,
    probabilities,
)
from ekiden_engine.errors import BadData, quoted
from ekiden_engine.graph import EncodedGraph, Target
from ekiden_engine.models.base import FloatArray, Predictor

SCORES_FILE = "predictions/result.npz"
SCORES = "infer_scores"
VECTORS_FILES = ("embeddings/entity.npz", "embeddings/entity.npy")
RELATION_FILE = "embeddings/relation.npy"
_SUM_TOLERANCE = 1e-3


def read_results(folder: Path, graph: EncodedGraph, target: Target, script: Path | None = None) -> Predictor:
    """The predictor that the files in `folder` amount to. Raises `BadData` BAD_CUSTOM_OUTPUT: file, array, shape
    found and shape wanted."""
    vectors = _vectors(folder, graph)
    if target.node is not None:
        return _node(folder, graph, target, vectors, script)
    if not vectors:
        raise _bad(VECTORS_FILES[0], f"is missing: {target.task} needs a vector per node; docs/custom-models.md")
    if target.is_classification or target.is_regression:
        return _edge(folder, target, vectors, script)
    types = [edges.edge_type for edges, _ in graph.link_labels(target)]
    ends = {end for s, _, d in types for end in (s, d)}
    wanted = {label: _needed(vectors, label) for label in sorted(ends)}
    width = _one_width(wanted)
    relation = _relation(folder, len(graph.edges), width)
    if relation is None:
        chosen = np.ones((len(types), width), np.float32)
    else:
        order = [edges.edge_type for edges in graph.edges]
        chosen = relation[[order.index(edge_type) for edge_type in types]]
    about = {"edge_types": [list(edge_type) for edge_type in types]}
    return cast(Predictor, CustomLinkPredictor(_named(wanted) | {"relation": chosen}, about, script))


def _node(
    folder: Path, graph: EncodedGraph, target: Target, vectors: dict[str, FloatArray], script: Path | None
) -> Predictor:
    label = str(target.node)
    count, classes = len(graph.node(label)), len(target.classes)
    found = _read(folder / SCORES_FILE, SCORES_FILE)
    scores = found.get(SCORES)
    if scores is None:
        raise _bad(SCORES_FILE, f"has no array {SCORES} (it has {', '.join(map(quoted, found)) or 'none'})")
    if target.is_regression and scores.shape == (count, 1):
        scores = scores[:, 0]
    wanted = (count, classes) if target.is_classification else (count,)
    if scores.shape != wanted:
        what = f"{count} nodes of type {label[:100]}" + (f" by {classes} classes" if len(wanted) > 1 else "")
        raise _bad(SCORES_FILE, f"{SCORES} has shape {scores.shape}, wanted is {wanted}: {what}")
    if target.is_classification:
        within = bool(((scores >= 0) & (scores <= 1)).all())
        sums = target.multi_label or bool((np.abs(scores.sum(1) - 1) <= _SUM_TOLERANCE).all())
        scores = scores if within and sums else probabilities(scores, several=target.multi_label)
    return cast(Predictor, CustomNodePredictor(_named(vectors) | {"scores": scores}, {"label": label}, script))


def _edge(folder: Path, target: Target, vectors: dict[str, FloatArray], script: Path | None) -> Predictor:
    source, _, dest = cast(tuple[str, str, str], target.edge)
    wanted = {label: _needed(vectors, label) for label in dict.fromkeys((source, dest))}
    width, rows = _one_width(wanted), len(target.classes) if target.is_classification else 1
    relation = _relation(folder, rows, width)
    if relation is None and rows > 1:
        raise _bad(RELATION_FILE, f"is missing: {rows} classes need a row each, float [{rows}, {width}]")
    chosen = np.ones((1, width), np.float32) if relation is None else relation
    about = {
        "ends": [source, dest],
        "classes": len(target.classes) if target.is_classification else 0,
        "multi_label": target.multi_label,
        "low": target.label_min,
        "high": target.label_max,
    }
    return cast(Predictor, CustomEdgePredictor(_named(wanted) | {"relation": chosen}, about, script))


def _vectors(folder: Path, graph: EncodedGraph) -> dict[str, FloatArray]:
    for name in VECTORS_FILES:
        path = folder / name
        if not path.is_file():
            continue
        if name.endswith(".npz"):
            found = _read(path, name)
            labels = {nodes.label for nodes in graph.nodes}
            if strange := sorted(found.keys() - labels):
                raise _bad(name, f"{quoted(strange[0])} is no node type; the graph has {', '.join(sorted(labels))}")
        else:
            (whole,) = _read(path, name).values()
            counts = [len(nodes) for nodes in graph.nodes]
            if whole.ndim != 2 or len(whole) != sum(counts):
                raise _bad(name, f"has shape {whole.shape}, wanted is ({sum(counts)}, d): a row per node")
            parts = np.split(whole, np.cumsum(counts)[:-1])
            found = {nodes.label: part for nodes, part in zip(graph.nodes, parts, strict=True)}
        for label, table in found.items():
            count = len(graph.node(label))
            if table.ndim != 2 or len(table) != count or not table.shape[1]:
                raise _bad(name, f"{label[:100]} has shape {table.shape}, wanted is ({count}, d)")
        return found
    return {}


def _needed(vectors: dict[str, FloatArray], label: str) -> FloatArray:
    if label not in vectors:
        raise _bad(VECTORS_FILES[0], f"has no array {quoted(label)}: the target needs vectors of that node type")
    return vectors[label]


def _one_width(vectors: dict[str, FloatArray]) -> int:
    widths = {table.shape[1] for table in vectors.values()}
    if len(widths) > 1:
        found = ", ".join(f"{label[:60]} {table.shape[1]}" for label, table in vectors.items())
        raise _bad("embeddings", f"vectors of both ends must have one width; found {found}")
    return int(widths.pop())


def _relation(folder: Path, rows: int, width: int) -> FloatArray | None:
    path = folder / RELATION_FILE
    if not path.is_file():
        return None
    (found,) = _read(path, RELATION_FILE).values()
    found = found[None, :] if found.ndim == 1 else found
    if found.shape == (1, width) and rows > 1:
        raise _bad(RELATION_FILE, f"has one row, wanted are {rows}: float [{rows}, {width}]")
    if found.shape != (rows, width):
        raise _bad(RELATION_FILE, f"has shape {found.shape}, wanted is ({rows}, {width})")
    return found


def _named(vectors: dict[str, FloatArray]) -> dict[str, FloatArray]:
    return {f"node/{label}": table for label, table in vectors.items()}


def _read(path: Path, name: str) -> dict[str, FloatArray]:
    """The numeric arrays of an npy or npz file as float32; pickled ones are refused."""
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays: dict[str, npt.NDArray[Any]] = {"": loaded}
        else:
            with loaded as archive:
                arrays = {key: archive[key] for key in archive.files}
    except FileNotFoundError:
        raise _bad(name, "is missing in SM_OUTPUT_DIR after the transform script; docs/custom-models.md") from None
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise _bad(name, f"is no array file without pickle: {str(error)[:150]}") from error
    found = {}
    for key, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise _bad(name, f"{quoted(key)} holds {array.dtype}, wanted are numbers")
        found[key] = array.astype(np.float32)
        if not np.isfinite(found[key]).all():
            raise _bad(name, f"{quoted(key)} holds values that are not finite")
    return found


def _bad(name: str, message: str) -> BadData:
    return BadData("BAD_CUSTOM_OUTPUT", f"{name} {message}")
