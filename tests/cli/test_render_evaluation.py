"""The evaluation as a table: every task, several targets, and what runs of earlier versions left."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from ekiden_cli.render import evaluation_table
from tests.cli.fake_api import EVALUATION, EVALUATION_V1


def cells(evaluation: Any) -> list[list[str]]:
    """The table's lines, parted where there is room between columns; without the empty ones."""
    text = StringIO()
    Console(width=160, file=text).print(evaluation_table(evaluation))
    lines = [line for line in text.getvalue().splitlines() if line.strip()]
    return [[part.strip() for part in line.split("  ") if part.strip()] for line in lines]


def entry(task: str, metric: str, metrics: dict[str, float | None], **baselines: dict[str, float]) -> dict[str, Any]:
    return {
        "target": {"name": f"a {task}", "task": task},
        "evaluated_on": "valid",
        "metric": {"name": metric, "value": metrics[metric], "higher_is_better": metric != "rmse"},
        "metrics": metrics,
        "baselines": baselines,
    }


def document(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"version": "ekiden.evaluation.v2", "targets": list(entries)}


def test_a_regression_is_shown_as_runs_of_earlier_versions_were() -> None:
    expected = [
        ["on the test edges", "RMSE", "MAE", "R²"],
        ["model", "0.9012", "0.7101", "0.4100"],
        ["global mean", "1.1499", "0.9500", "0.0000"],
        ["user and item biases", "0.9891", "0.7800", "0.2600"],
    ]
    assert cells(EVALUATION) == expected
    assert cells(EVALUATION_V1) == expected


def test_the_figure_that_stands_for_a_classifier_comes_first() -> None:
    found = cells(
        document(
            entry("node_classification", "f1_macro", {"accuracy": 0.8, "f1_macro": 0.7, "roc_auc": 0.9},
                  label_propagation={"accuracy": 0.6, "f1_macro": 0.5, "roc_auc": 0.4}),
        )
    )  # fmt: skip
    assert found == [
        ["on the valid nodes", "F1", "accuracy", "ROC AUC"],
        ["model", "0.7000", "0.8000", "0.9000"],
        ["label propagation", "0.5000", "0.6000", "0.4000"],
    ]


def test_several_targets_are_named() -> None:
    links = {"mrr": 0.3, "hits@10": 0.5, "recall@20": None, "ndcg@20": 0.2}
    found = cells(
        document(entry("link_prediction", "mrr", links, ease=dict.fromkeys(links, 0.1)), *EVALUATION["targets"])  # type: ignore[arg-type]
    )
    assert found[0] == ["a link_prediction, on the valid links", "MRR", "hits@10", "recall@20", "NDCG@20"]
    assert found[1] == ["model", "0.3000", "0.5000", "0.2000"]
    assert found[2][0] == "EASE"
    assert found[3][0] == "user-rated-movie.rating, on the test edges"


@pytest.mark.parametrize("damaged", [{}, {"targets": []}, {"targets": [None, 3]}, {"targets": [{}]}, {"baselines": 3}])
def test_what_cannot_be_understood_is_left_out_and_fails_nothing(damaged: dict[str, Any]) -> None:
    if damaged.get("baselines") == 3:
        damaged = {"targets": [{"baselines": {"x": 3}, "metrics": {"rmse": "many"}}]}
    assert all(len(line) >= 1 for line in cells(damaged))
