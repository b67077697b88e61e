"""An evaluation in words: for the log, and for people."""

from __future__ import annotations

from ekiden.contracts.tasks import Task
from ekiden_engine.evaluation_held_out import TargetEvaluation
from ekiden_engine.graph import Target

FEW_EDGES = 100
"""With fewer labelled training rows than this, what a model says is little better than their mean."""

FIGURE_NAMES = {
    "rmse": "RMSE", "mae": "MAE", "r2": "R²", "accuracy": "accuracy",
    "precision_macro": "precision (macro)", "recall_macro": "recall (macro)", "f1_macro": "F1 (macro)",
    "precision_micro": "precision (micro)", "recall_micro": "recall (micro)", "f1_micro": "F1 (micro)",
    "f1": "F1",
    "roc_auc": "ROC AUC", "average_precision": "average precision", "log_loss": "log loss",
    "ece": "calibration error", "mrr": "MRR", "mean_rank": "mean rank",
    "recall@20": "recall@20", "ndcg@20": "NDCG@20",
}  # fmt: skip
"""Figures by their name in evaluation.json."""
BASELINE_NAMES = {
    "global_mean": "global mean", "user_item_bias": "user and item biases", "majority": "class frequencies",
    "end_priors": "class priors of both ends", "label_propagation": "label propagation",
    "logistic_regression": "logistic regression", "ridge_regression": "ridge regression",
    "popularity": "popularity", "ease": "EASE", "ials": "iALS",
}  # fmt: skip
_SHORT = {"user_item_bias": "biases", "global_mean": "mean", "end_priors": "end priors"}


def figure_name(name: str) -> str:
    """A figure for people."""
    return FIGURE_NAMES.get(name, name.replace("_", " "))


def baseline_name(name: str) -> str:
    """A baseline for people."""
    return BASELINE_NAMES.get(name, name.replace("_", " "))


def row_noun(target: Target, count: int) -> str:
    """What a row of the target is: node, edge or link; plural unless `count` is 1."""
    noun = "link" if target.task is Task.LINK_PREDICTION else "edge" if target.node is None else "node"
    return noun if count == 1 else f"{noun}s"


def evaluated_noun(target: Target, count: int) -> str:
    """What the figures are about: rows, or for links their ends, for each link is asked from both."""
    if target.task is Task.LINK_PREDICTION:
        return "link end" if count == 1 else "link ends"
    return row_noun(target, count)


def few_rows_warning(target: Target, count: int) -> str:
    """What to say of a training on `count` labelled rows, fewer than `FEW_EDGES`."""
    kind = "" if target.task is Task.LINK_PREDICTION else "labelled "
    instead = "the mean" if target.is_regression else "how frequent things are"
    return (
        f"only {count} {kind}{row_noun(target, count)} to train on, {FEW_EDGES} or more are advisable: "
        f"expect little more than {instead}"
    )


def headline(evaluation: TargetEvaluation) -> str:
    """One line for the log: `test rmse 0.9312 on 123 edges (biases 1.0012, mean 1.1523)`."""
    name, value = evaluation.metric.name, evaluation.metric.value
    count = int(evaluation.metrics["count"] or 0)
    rows = f"{count} {evaluated_noun(evaluation.target, count)}"
    if value is None:
        return f"{evaluation.held_out.split} {name} is not defined on {rows}"
    figures = {k: f for k, found in evaluation.baselines.items() if (f := found.get(name)) is not None}
    order = sorted(figures, key=lambda k: figures[k], reverse=evaluation.metric.higher_is_better)
    others = ", ".join(f"{_SHORT.get(k, baseline_name(k))} {figures[k]:.4f}" for k in order)
    return f"{evaluation.held_out.split} {name} {value:.4f} on {rows}" + (f" ({others})" if others else "")
