"""The figure that a search compares models by."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from ekiden.contracts.hpo_metric import EvalMetric
from ekiden.contracts.tasks import Task
from ekiden_engine.custom_predictors import CustomLinkPredictor, CustomNodePredictor
from ekiden_engine.errors import BadData
from ekiden_engine.graph import EncodedGraph, Split, Target
from ekiden_engine.hpo_objective import metric_for, objective_of
from ekiden_engine.models.base import Curve, CurvePoint, Fit, Predictor
from tests.engine.search_factories import RATED, OffBy, make_ratings

KIND = Target(task=Task.NODE_CLASSIFICATION, node="user", property="kind", classes=("a", "b"))
LINKS = Target(task=Task.LINK_PREDICTION, edge=RATED)


def fitted(predictor: Any, *curves: Curve) -> Fit:
    return Fit(cast(Predictor, predictor), curves, {}, False, 1)


def curve(value: float, metric: str = "rmse", *, higher: bool = False, kept: bool = True) -> Curve:
    return Curve(0, metric, higher, 1, kept, (CurvePoint(1, 0.0, value, 0.1),))


@pytest.mark.parametrize(("name", "value"), [("rmse", 0.5), ("mse", 0.25), ("mae", 0.5)])
def test_numbers_are_compared_by_their_error_on_validation_rows(name: str, value: float) -> None:
    graph = make_ratings()
    found = objective_of(fitted(OffBy(graph, 0.5)), graph, graph.targets[0], EvalMetric(name, 1, False))
    assert (found.name, found.higher_is_better) == (name, False)
    assert found.value == pytest.approx(value, rel=1e-4)


def scores(graph: EncodedGraph, wrong: int) -> CustomNodePredictor:
    """Sure and right about every user, but for `wrong` validation rows."""
    labels = graph.labels(KIND)
    assert labels.values is not None
    said = labels.values.copy()
    rows = labels.rows(Split.VALID)[:wrong]
    said[rows] = 1 - said[rows]
    return CustomNodePredictor({"scores": np.eye(2, dtype=np.float32)[said] * 0.8 + 0.1}, {"label": "user"})


@pytest.mark.parametrize(
    ("metric", "right", "worse"),
    [
        (EvalMetric("acc"), 1.0, True),
        (EvalMetric("F1"), 1.0, True),
        (EvalMetric("precision"), 1.0, True),
        (EvalMetric("recall"), 1.0, True),
        (EvalMetric("roc_auc"), 1.0, True),
        (EvalMetric("acc_topk", 2), 1.0, False),
    ],
)
def test_classes_are_compared_by_the_metric_of_the_configuration(metric: EvalMetric, right: float, worse: bool) -> None:
    graph = make_ratings(40, 8, 60, KIND)
    assert objective_of(fitted(scores(graph, 0)), graph, KIND, metric).value == pytest.approx(right)
    assert (objective_of(fitted(scores(graph, 1)), graph, KIND, metric).value < right) == worse


def test_links_are_compared_by_their_rank_where_no_curve_tells() -> None:
    # GIVEN vectors that rank every movie by its number, and a validation link each
    graph = make_ratings(12, 8, 60, LINKS)
    tables = {"node/user": np.ones((12, 1)), "node/movie": np.arange(8.0)[:, None], "relation": np.ones((1, 1))}
    predictor = CustomLinkPredictor(cast(Any, tables), {"edge_types": [list(RATED)]})
    edges, labels = graph.link_labels(LINKS)[0]
    wanted = float(np.mean(1 / (8 - edges.dest[labels.rows(Split.VALID)])))
    found = objective_of(fitted(predictor), graph, LINKS)
    assert (found.name, found.higher_is_better) == ("mrr", True)
    assert found.value == pytest.approx(wanted)
    # AND the curve, if there is one
    assert objective_of(fitted(predictor, curve(0.3, "mrr", higher=True)), graph, LINKS).value == 0.3


def test_without_validation_rows_the_kept_members_curves_decide() -> None:
    graph = make_ratings()
    labels = graph.labels(graph.targets[0])
    labels.split[labels.split == Split.VALID] = Split.TRAIN
    members = (curve(0.4), curve(0.6), curve(9.0, kept=False))
    found = objective_of(fitted(OffBy(graph, 1.0), *members), graph, graph.targets[0])
    assert (found.name, round(found.value, 6)) == ("mse", 0.25)
    with pytest.raises(BadData, match="validation rows") as caught:
        objective_of(fitted(OffBy(graph, 1.0)), graph, graph.targets[0])
    assert caught.value.code == "NO_OBJECTIVE"


def test_a_scripts_own_metric_is_what_it_printed_last_whatever_the_rows_say() -> None:
    graph = make_ratings()
    own = EvalMetric("validation:score", 1, True, (("validation:score", "score=(.*)"),))
    found = objective_of(
        fitted(OffBy(graph, 1.0), curve(7.0, "validation:score", higher=True)), graph, graph.targets[0], own
    )
    assert (found.name, found.value, found.higher_is_better) == ("validation:score", 7.0, True)


def test_a_metric_for_another_kind_of_target_gives_way_to_the_tasks_own() -> None:
    assert metric_for(EvalMetric("acc"), make_ratings().targets[0]).name == "mse"
    assert metric_for(EvalMetric("mse", 1, False), KIND) == EvalMetric("acc", 1, True)
    several = KIND.model_copy(update={"multi_label": True})
    assert metric_for(EvalMetric(), several).name == "roc_auc"
