"""Trainings of edge models that are interrupted, and go on where they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ekiden_engine.graph import EncodedGraph
from tests.engine.checkpoint_factories import Interruption, fit_first, saved_bytes
from tests.engine.factories import make_encoded_graph
from tests.engine.test_models_edges import make_tastes

HYPERPARAMETERS = {"num-hidden": "4", "num-epochs": "3", "seeds": "3", "regularization-coef": "auto"}


def make_graph(kind: str) -> EncodedGraph:
    return make_encoded_graph() if kind == "number" else make_tastes(edges=600, several=kind == "labels")


@pytest.mark.parametrize("kind", ["number", "classes", "labels"])
@pytest.mark.parametrize("after", [2, 7])
@pytest.mark.parametrize("more", [{}, {"fanout": "4", "dropout": "0.2"}])
def test_an_interrupted_training_ends_with_the_model_of_one_that_was_not(
    tmp_path: Path, kind: str, after: int, more: dict[str, str]
) -> None:
    # GIVEN a training, and the same one that is stopped within the first or the third pass
    graph, given = make_graph(kind), {**HYPERPARAMETERS, **more}
    whole = fit_first(graph, "rgcn", given, Interruption(tmp_path / "other"))
    stopped = fit_first(graph, "rgcn", given, Interruption(tmp_path / "kept", after))
    assert stopped.stopped
    # WHEN it is started again
    again = Interruption(tmp_path / "kept")
    resumed = fit_first(graph, "rgcn", given, again)
    # THEN epochs that were done are told again, not trained again, and the model is the same to the last bit
    assert again.told_again == after
    assert again.resumed
    assert saved_bytes(resumed, tmp_path / "a") == saved_bytes(whole, tmp_path / "b")
    assert [curve.best_valid for curve in resumed.curves] == [curve.best_valid for curve in whole.curves]
    assert len(again.epochs) + again.told_again == sum(len(curve.points) for curve in whole.curves)


def test_a_pass_that_the_stop_cut_short_is_no_member_but_goes_on(tmp_path: Path) -> None:
    # GIVEN a training that is told to stop in the middle of its first pass
    graph = make_graph("classes")
    long = {**HYPERPARAMETERS, "num-epochs": "12", "enable-early-stop": "false", "regularization-coef": "1"}
    fit_first(graph, "rgcn", long, Interruption(tmp_path / "kept", 5))
    # THEN the next start goes on there, and all members are whole
    again = Interruption(tmp_path / "kept")
    resumed = fit_first(graph, "rgcn", long, again)
    assert again.told_again == 5
    assert [len(curve.points) for curve in resumed.curves] == [12, 12, 12]
    assert np.diff([curve.seed for curve in resumed.curves]).tolist() == [1, 1]
