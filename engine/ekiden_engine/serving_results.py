"""Entries of an answer: `mlResults` with a value, its score and how it came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ekiden_engine.evaluation_held_out import SCORED
from ekiden_engine.graph import Target
from ekiden_engine.metrics import THRESHOLD
from ekiden_engine.models.base import FloatArray
from ekiden_engine.serving_errors import BadRequest
from ekiden_engine.serving_new_nodes import COLD, Basis
from ekiden_engine.serving_payload import PARAMETERS, Parameters

MAX_RESULTS: Final = 50_000
"""Results of one answer: some 4 MB of JSON, of the 6 MiB that SageMaker passes."""
DIGITS: Final = 7
INDUCTIVE, FALLBACK = "inductive", "fallback"


def status_of(*basis: Basis) -> str:
    """`scored`; `inductive`: from the request's description of a node; `fallback`: a node counts as never seen."""
    if any(one in COLD for one in basis):
        return FALLBACK
    return INDUCTIVE if Basis.DESCRIBED in basis else SCORED


def check_results(entries: int, each: int) -> None:
    """Raises `BadRequest` TOO_MANY_RESULTS."""
    if entries * each > MAX_RESULTS:
        raise BadRequest(
            "TOO_MANY_RESULTS",
            f"{PARAMETERS}.topk: {entries:,} x {each:,} are over the {MAX_RESULTS:,} results of one answer: split it",
        )


def item(results: list[dict[str, Any]], basis: Mapping[str, Basis], ignored: int = 0) -> dict[str, Any]:
    """One entry: its results, the nodes (`node`, `head`, `tail`) that count as never seen with the reason, and how many
    neighbours of a new node did not count."""
    found: dict[str, Any] = {"mlResults": results}
    cold = {name: COLD[one] for name, one in basis.items() if one in COLD}
    if cold:
        found["cold"] = cold
    if ignored:
        found["ignoredNeighbours"] = ignored
    return found


def ranked(values: Sequence[str], scores: Sequence[float], status: str) -> list[dict[str, Any]]:
    """Results with a score each; there may be more scores than values."""
    return [
        {"inferredValue": value, "score": rounded(score), "status": status}
        for value, score in zip(values, scores, strict=False)
    ]


def value_results(
    target: Target, answers: FloatArray, statuses: Sequence[str], parameters: Parameters
) -> list[list[dict[str, Any]]]:
    """Results of a property per row of `answers`: numbers float32 [m], or class probabilities float32 [m, k].

    Classes: the `topk` (1) most probable, of those not below `threshold`; where a row may have several classes and no
    `topk` is given, all from the threshold on (0.5).
    """
    if answers.ndim == 1:
        return [
            [{"inferredValue": rounded(value), "status": status}]
            for value, status in zip(answers.tolist(), statuses, strict=True)
        ]
    topk, threshold = parameters.topk, parameters.threshold
    if target.multi_label and topk is None:
        topk, threshold = len(target.classes), THRESHOLD if threshold is None else threshold
    topk = min(topk or 1, len(target.classes))
    least = -1.0 if threshold is None else threshold
    found, left = [], MAX_RESULTS
    for row, status in zip(answers, statuses, strict=True):
        order = np.argsort(-row, kind="stable")[:topk]
        chosen = order[row[order] >= np.float32(least)]
        left -= len(chosen)
        if left < 0:
            raise BadRequest(
                "TOO_MANY_RESULTS", f"more than the {MAX_RESULTS:,} results of one answer: split the request"
            )
        names = [target.classes[c] for c in chosen.tolist()]
        found.append(ranked(names, row[chosen].tolist(), status))
    return found


def rounded(value: float) -> float:
    """To `DIGITS` significant digits: a float32 has no more to say."""
    return float(f"{value:.{DIGITS}g}")
