"""The search within a training job: what it tries, keeps, breaks off, and leaves for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ekiden_engine.errors import BadData
from ekiden_engine.models.base import CurvePoint, Step
from ekiden_engine.search import search
from tests.engine.search_factories import make_param, make_ratings, make_space, maker


class Listener:
    """A `Progress` that asks for an end after so many epochs."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.steps: list[str] = []
        self.notes: list[str] = []
        self._stop_after = stop_after

    def epoch(self, step: Step, epochs: int, metric: str, point: CurvePoint) -> None:
        self.steps.append(step.words)

    def note(self, message: str) -> None:
        self.notes.append(message)

    def stop_requested(self) -> bool:
        return self._stop_after is not None and len(self.steps) >= self._stop_after


def bowl(given: Mapping[str, str]) -> float:
    """Best at lr 0.2; off by a tenth even there."""
    return 0.1 + abs(float(given["lr"]) - 0.2)


LR = make_param("lr", default=0.9)


def run(error: Any = bowl, *, jobs: int = 12, space: Any = None, progress: Any = None, **options: Any) -> Any:
    """Search on a small graph."""
    graph = make_ratings()
    chosen = space or make_space([LR], [], [], [{"param": "seed", "type": "int", "default": 3}])
    return search(
        options.pop("make", maker(error)), chosen, graph, graph.targets[0], progress or Listener(), jobs=jobs, **options
    )


def test_the_first_trial_has_the_defaults_and_the_best_of_all_is_kept() -> None:
    fit = run()
    first, *others = fit.trials
    assert first["hyperparameters"] == {"lr": "0.9"}
    assert first["value"] == pytest.approx(0.8, abs=1e-5)
    assert len(others) == 11
    finished = [t for t in fit.trials if t["state"] == "COMPLETE"]
    best = min(finished, key=lambda t: t["value"])
    assert [t["best"] for t in fit.trials].count(True) == 1
    assert best["best"]
    assert fit.hyperparameters["lr"] == best["hyperparameters"]["lr"]
    assert best["value"] < 0.3


def test_the_same_seed_tries_the_same_and_another_seed_something_else() -> None:
    def tried(**given: str) -> list[Any]:
        return [t["hyperparameters"] for t in run(given=given, jobs=6).trials]

    assert tried(seed="5") == tried(seed="5")
    assert tried(seed="5") != tried(seed="6")


def test_hopeless_trials_are_broken_off_at_an_epoch() -> None:
    fit = run(jobs=30, space=make_space([LR]))
    pruned = [t for t in fit.trials if t["state"] == "PRUNED"]
    assert pruned
    assert all(3 < t["epochs"] <= 10 and t["value"] is None for t in pruned)
    assert any(t["epochs"] < 10 for t in pruned)


def test_what_the_job_was_given_holds_where_the_space_does_not_vary_it() -> None:
    fitted: list[Mapping[str, str]] = []
    run(jobs=3, make=maker(bowl, fitted), given={"dropout": "0.4", "lr": "7"})
    assert {one["dropout"] for one in fitted} == {"0.4"}
    assert {one["seed"] for one in fitted} == {"3"}
    assert "7" not in {one["lr"] for one in fitted}


def test_trials_have_one_member_and_the_best_is_trained_again_as_an_ensemble() -> None:
    fitted: list[Mapping[str, str]] = []
    fit = run(jobs=4, make=maker(bowl, fitted), given={"seeds": "6"})
    assert [one["seeds"] for one in fitted] == ["1", "1", "1", "1", "6"]
    (best,) = [t for t in fit.trials if t["best"]]
    assert fitted[-1]["lr"] == best["hyperparameters"]["lr"]


def test_steps_and_powers_and_options_are_kept_to() -> None:
    space = make_space(
        [
            make_param("lr", range=[0.1, 0.9], inc_val=0.2, default=0.3),
            {"param": "num-hidden", "type": "int", "default": 32, "range": [16, 128], "inc_strategy": "power2"},
            {"param": "num-layer", "type": "int", "default": 1, "range": [1, 5], "inc_val": 2},
            {"param": "decoder", "type": "str", "default": "dot", "options": ["dot", "mlp"]},
            {"param": "layer-norm", "type": "bool", "default": False},
        ]
    )
    tried = [t["hyperparameters"] for t in run(jobs=15, space=space).trials]
    assert tried[0] == {"lr": "0.3", "num-hidden": "32", "num-layer": "1", "decoder": "dot", "layer-norm": "false"}
    assert {round(float(t["lr"]), 6) for t in tried} <= {0.1, 0.3, 0.5, 0.7, 0.9}
    assert {t["num-hidden"] for t in tried} <= {"16", "32", "64", "128"}
    assert {t["num-layer"] for t in tried} <= {"1", "3", "5"}
    assert {t["decoder"] for t in tried} == {"dot", "mlp"}
    assert {t["layer-norm"] for t in tried} == {"true", "false"}


def test_a_default_that_no_range_holds_is_tried_as_it_is() -> None:
    def error(given: Mapping[str, str]) -> float:
        return 0.05 if given["lr"] == "auto" else bowl(given)

    fit = run(error, jobs=5, space=make_space([make_param("lr", default="auto")]))
    assert fit.trials[0]["hyperparameters"] == {"lr": "auto"}
    assert fit.trials[0]["best"]
    assert all(t["hyperparameters"]["lr"] != "auto" for t in fit.trials[1:])


def test_a_trial_that_cannot_be_trained_is_listed_and_others_go_on() -> None:
    def error(given: Mapping[str, str]) -> float:
        if float(given["lr"]) < 0.5:
            raise BadData("TRAINING_DIVERGED", "no epoch gave a finite validation error")
        return bowl(given)

    fit = run(error, jobs=8)
    failed = [t for t in fit.trials if t["state"] == "FAILED"]
    assert failed
    assert failed[0]["error"].startswith("TRAINING_DIVERGED: ")
    assert float(fit.hyperparameters["lr"]) >= 0.5


def test_defaults_that_cannot_be_trained_end_the_job_with_their_own_reason() -> None:
    def error(given: Mapping[str, str]) -> float:
        raise BadData("BAD_HYPERPARAMETERS", "num-hiden: did you mean num-hidden?")

    with pytest.raises(BadData, match="did you mean") as caught:
        run(error)
    assert caught.value.code == "BAD_HYPERPARAMETERS"


def test_a_stop_of_the_platform_keeps_the_best_so_far() -> None:
    fit = run(jobs=50, progress=Listener(stop_after=25), given={"seeds": "4"})
    assert 2 <= len(fit.trials) < 5
    assert fit.trials[-1]["state"] == "STOPPED"
    assert sum(bool(t["best"]) for t in fit.trials) == 1


def test_no_trial_begins_after_the_minutes() -> None:
    fit = run(jobs=500, minutes=1e-9, space=make_space([LR]))
    assert len(fit.trials) == 1


def test_the_log_tells_the_trial_and_its_result() -> None:
    progress = Listener()
    run(jobs=2, progress=progress)
    assert progress.notes[0] == "search: 2 trials over lr; objective rmse"
    assert progress.notes[1].startswith("trial 1/2 complete rmse 0.8000 in ")
    assert progress.steps[0] == "trial 1/2  member 1/1"


def test_a_configuration_without_anything_to_vary_says_so() -> None:
    with pytest.raises(BadData, match="2 jobs search") as caught:
        run(jobs=2, space=make_space([], [LR]))
    assert caught.value.code == "NOTHING_TO_SEARCH"


def test_the_metric_of_the_configuration_decides() -> None:
    fit = run(jobs=2, space=make_space([LR], metric="mse"))
    assert fit.trials[0]["metric"] == "mse"
    assert fit.trials[0]["value"] == pytest.approx(0.64, abs=1e-4)
    # one that is for another kind of target falls back to the task's own
    assert run(jobs=2, space=make_space([LR], metric="acc")).trials[0]["metric"] == "mse"
