"""Trainings on samples of neighbours that are broken off within an epoch, or go on in another way than they began."""

from __future__ import annotations

from pathlib import Path

import pytest

from ekiden_engine import checkpoints
from ekiden_engine.models import passes
from tests.engine.checkpoint_factories import Interruption, fit_first, saved_bytes
from tests.engine.test_models_edges_resume import make_graph

ONE = {
    "num-hidden": "4",
    "num-epochs": "8",
    "seeds": "1",
    "regularization-coef": "1",
    "enable-early-stop": "false",
    "fanout": "4",
    "dropout": "0.2",
}


@pytest.mark.parametrize("kind", ["number", "classes"])
def test_a_long_epoch_is_broken_off_by_a_stop_and_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # GIVEN a training that is told to stop in its fourth epoch, every epoch being long
    graph = make_graph(kind)
    whole = fit_first(graph, "rgcn", ONE, Interruption(tmp_path / "other"))
    monkeypatch.setattr(passes, "LONG_EPOCH", -1.0)
    monkeypatch.setattr(checkpoints, "LARGEST_SHARE", float("inf"))
    monkeypatch.setenv(checkpoints.SECONDS_VARIABLE, "0")

    class Late(Interruption):
        asked = 0

        def stop_requested(self) -> bool:
            self.asked += len(self.epochs) == 3
            return self.asked > 5  # twice at the end of the third epoch, then after each batch of the fourth

    progress = Late(tmp_path / "kept")
    stopped = fit_first(graph, "rgcn", ONE, progress)
    assert progress.epochs == [1, 2, 3]
    assert stopped.stopped
    # WHEN it is started again
    again = Interruption(tmp_path / "kept")
    resumed = fit_first(graph, "rgcn", ONE, again)
    # THEN it goes on after the third, and nothing of the broken epoch was kept
    assert (again.told_again, again.epochs) == (3, [4, 5, 6, 7, 8])
    assert saved_bytes(resumed, tmp_path / "a") == saved_bytes(whole, tmp_path / "b")


def test_a_stop_within_the_first_epoch_leaves_a_model_and_nothing_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # GIVEN a training whose first epoch is broken off
    graph = make_graph("classes")
    whole = fit_first(graph, "rgcn", ONE, Interruption(tmp_path / "other"))
    monkeypatch.setattr(passes, "LONG_EPOCH", -1.0)
    progress = Interruption(tmp_path / "kept", 0)
    stopped = fit_first(graph, "rgcn", ONE, progress)
    assert progress.epochs == [1]
    assert stopped.stopped
    assert saved_bytes(stopped, tmp_path / "a") != saved_bytes(whole, tmp_path / "b")
    # THEN the next start begins at the beginning
    again = Interruption(tmp_path / "kept")
    assert saved_bytes(fit_first(graph, "rgcn", ONE, again), tmp_path / "c") == saved_bytes(whole, tmp_path / "d")
    assert again.told_again == 0


def test_what_one_start_samples_and_the_next_does_not_is_begun_anew(tmp_path: Path) -> None:
    # GIVEN a training by samples that was interrupted
    graph = make_graph("classes")
    fit_first(graph, "rgcn", ONE, Interruption(tmp_path / "kept", 3))
    # WHEN memory allows for all neighbours the next time
    again = Interruption(tmp_path / "kept")
    resumed = fit_first(graph, "rgcn", {**ONE, "fanout": "0"}, again)
    # THEN the states are not mixed
    whole = fit_first(graph, "rgcn", {**ONE, "fanout": "0"}, Interruption(tmp_path / "other"))
    assert not again.resumed
    assert saved_bytes(resumed, tmp_path / "a") == saved_bytes(whole, tmp_path / "b")
