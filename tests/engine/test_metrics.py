"""Figures of merit, held against examples worked by hand and against brute force over all pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ekiden_engine import metrics


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def brute_auc(positive: np.ndarray, score: np.ndarray) -> float:
    """Over every pair of a positive and a negative."""
    above = score[positive][:, None] - score[~positive][None, :]
    return float(np.mean((above > 0) + 0.5 * (above == 0)))


def brute_average_precision(positive: np.ndarray, score: np.ndarray) -> float:
    """The definition: at every distinct score, recall gained times precision."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(score.tolist()), reverse=True):
        said = score >= threshold
        recall = (positive & said).sum() / positive.sum()
        total += (recall - before) * (positive & said).sum() / said.sum()
        before = recall
    return total


def test_regression_figures_are_those_of_the_text_books() -> None:
    found = metrics.regression(f32(1, 2, 3, 4), f32(1, 2, 3, 2))
    assert found == {"rmse": 1.0, "mae": 0.5, "r2": pytest.approx(1 - 4 / 5), "count": 4}


def test_regression_figures_that_are_undefined_are_none_and_not_nan() -> None:
    none = np.empty(0, np.float32)
    assert metrics.regression(none, none) == {"rmse": None, "mae": None, "r2": None, "count": 0}
    alike = metrics.regression(f32(3, 3), f32(2, 3))
    assert alike["r2"] is None
    assert alike["mae"] == pytest.approx(0.5)
    many = np.full(60, 3.7, np.float32)  # their float32 mean is not quite 3.7
    assert metrics.regression(many, many)["r2"] is None


def test_classification_figures_of_a_worked_example() -> None:
    # GIVEN five rows of classes a, a, a, b, c, of which one a is taken for b and c is taken for a
    actual = np.array([0, 0, 0, 1, 2], np.int32)
    probability = np.array(
        [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1], [0.5, 0.3, 0.2]], np.float32
    )

    # WHEN
    found = metrics.classification(actual, probability)

    # THEN: precision a 2/3, b 1/2, c 0; recall a 2/3, b 1, c 0; F1 a 2/3, b 2/3, c 0
    assert found["accuracy"] == found["f1_micro"] == pytest.approx(3 / 5)
    assert found["precision_macro"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert found["recall_macro"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found["f1_macro"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert found["log_loss"] == pytest.approx(-sum(math.log(p) for p in (0.8, 0.6, 0.2, 0.6, 0.2)) / 5, rel=1e-5)
    # a: {0.8, 0.6, 0.2} against {0.3, 0.5}: 4 of 6 pairs; b: 0.6 against {0.1, 0.3, 0.7, 0.3}: 3 of 4; c: 4 of 4
    assert found["roc_auc"] == pytest.approx((4 / 6 + 3 / 4 + 1) / 3)
    # a: ranks 1, 2, 5 of 5; b: rank 2; c: rank 1
    assert found["average_precision"] == pytest.approx(((1 + 1 + 3 / 5) / 3 + 1 / 2 + 1) / 3)
    assert found["count"] == 5


def test_a_class_that_neither_occurs_nor_is_predicted_is_not_in_the_macro_means() -> None:
    found = metrics.classification(np.array([0, 1], np.int32), np.eye(3, dtype=np.float32)[[0, 1]])
    assert (found["f1_macro"], found["recall_macro"], found["roc_auc"]) == (1.0, 1.0, 1.0)
    assert found["log_loss"] == pytest.approx(0.0)


def test_figures_of_no_rows_and_of_one_class_are_none() -> None:
    nothing = metrics.classification(np.empty(0, np.int32), np.empty((0, 3), np.float32))
    assert nothing.pop("count") == 0
    assert set(nothing.values()) == {None}
    one = metrics.classification(np.zeros(4, np.int32), np.full((4, 2), 0.5, np.float32))
    assert one["roc_auc"] is None
    assert one["accuracy"] == 1.0
    many = metrics.multi_label(np.empty((0, 2), np.uint8), np.empty((0, 2), np.float32))
    assert many.keys() == one.keys()


def test_multi_label_figures_of_a_worked_example() -> None:
    # GIVEN
    actual = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], np.uint8)
    probability = np.array([[0.9, 0.6], [0.8, 0.7], [0.4, 0.2], [0.1, 0.1]], np.float32)

    # WHEN
    found = metrics.multi_label(actual, probability)

    # THEN: said {0, 1}, {0, 1}, {}, {}: 3 hits of 4 said, 4 wanted
    assert found["accuracy"] == 0.5
    assert (found["precision_micro"], found["recall_micro"], found["f1_micro"]) == (0.75, 0.75, 0.75)
    assert found["f1_macro"] == pytest.approx((1 + 0.5) / 2)
    assert found["roc_auc"] == pytest.approx((1 + 3 / 4) / 2)
    wrong = [0.9, 1 - 0.6, 0.8, 0.7, 1 - 0.4, 0.2, 1 - 0.1, 1 - 0.1]
    assert found["log_loss"] == pytest.approx(-sum(map(math.log, wrong)) / 8, rel=1e-5)


@pytest.mark.parametrize("levels", [3, 10, 10_000])
def test_areas_agree_with_brute_force_ties_included(levels: int) -> None:
    rng = np.random.default_rng(levels)
    positive = rng.random(300) < 0.3
    score = (np.floor((rng.normal(size=300) + 0.3 * positive) * levels) / levels).astype(np.float32)
    score[:5] *= -0.0
    assert metrics.roc_auc(positive, score) == pytest.approx(brute_auc(positive, score))
    assert metrics.average_precision(positive, score) == pytest.approx(brute_average_precision(positive, score))


def test_scores_that_are_all_alike_say_nothing() -> None:
    positive = np.array([True, False, False, False])
    assert metrics.roc_auc(positive, np.ones(4, np.float32)) == 0.5
    assert metrics.average_precision(positive, np.ones(4, np.float32)) == 0.25
    assert metrics.roc_auc(positive | True, np.ones(4, np.float32)) is None
    assert metrics.average_precision(positive & False, np.ones(4, np.float32)) is None


def test_the_precision_recall_curve_goes_from_strict_to_lax_and_stays_short() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(50_000) < 0.2
    score = (rng.random(50_000) + 0.5 * positive).astype(np.float32)
    curve = metrics.precision_recall_curve(positive, score)
    recall, precision = zip(*curve, strict=True)
    assert len(curve) <= 101
    assert list(recall) == sorted(recall)
    assert recall[-1] == 1.0
    assert precision[-1] == pytest.approx(positive.mean(), abs=0.01)
    assert metrics.precision_recall_curve(positive & False, score) == []


def test_the_reliability_bins_of_a_worked_example() -> None:
    rows, error = metrics.reliability(f32(0.05, 0.95, 0.95, 1.0), np.array([False, True, True, False]))
    assert [(row["low"], row["count"]) for row in rows] == [(0.0, 1), (0.9, 3)]
    assert rows[1]["predicted"] == pytest.approx((0.95 + 0.95 + 1) / 3)
    assert rows[1]["actual"] == pytest.approx(2 / 3)
    assert error == pytest.approx(0.25 * 0.05 + 0.75 * (2.9 / 3 - 2 / 3))
    assert metrics.reliability(np.empty(0, np.float32), np.empty(0, bool)) == ([], None)


def test_deciles_hold_a_tenth_each_and_never_part_equal_predictions() -> None:
    predicted = np.arange(100, dtype=np.float32)
    found = metrics.deciles(predicted * 2, predicted)
    assert [row["count"] for row in found] == [10] * 10
    assert found[0] == {"count": 10, "predicted": 4.5, "actual": 9.0}
    constant = metrics.deciles(predicted, np.full(100, 3, np.float32))
    assert constant == [{"count": 100, "predicted": 3.0, "actual": 49.5}]
    assert [row["count"] for row in metrics.deciles(f32(1, 2, 3), f32(1, 2, 3))] == [1, 1, 1]
    assert metrics.deciles(f32(), f32()) == []


def test_degrees_fall_into_buckets_that_double() -> None:
    degree = np.array([0, 1, 2, 3, 4, 7, 8, 127, 128, 1023, 1024])
    names = [metrics.bucket_name(int(b)) for b in metrics.degree_bucket(degree)]
    assert names == ["0", "1", "2-3", "2-3", "4-7", "4-7", "8-15", "64-127", "128-255", "512-1023", "1k-2k"]


def test_the_confusion_matrix_has_actual_rows_and_predicted_columns() -> None:
    found = metrics.confusion(np.array([0, 0, 1], np.int32), np.array([0, 1, 1]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
