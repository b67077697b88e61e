"""Status groups, and what a run says of itself."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

import pytest

from ekiden.domain import model, scores
from ekiden.domain.model import AttemptStatus, JobKind, RunStatus, Stage, StageStatus
from ekiden.domain.scores import PairsFile, ScoreRequest, ScoreStatus
from ekiden.domain.transitions import Plan, submit
from tests.fakes import NOW

GROUPS: list[tuple[type[StrEnum], list[frozenset[StrEnum]]]] = [
    (StageStatus, [frozenset(g) for g in (model.WAITING_STAGE, model.ACTIVE_STAGE, model.TERMINAL_STAGE)]),
    (RunStatus, [frozenset(g) for g in (model.WORKING_RUN, model.STOPPING_RUN, model.TERMINAL_RUN)]),
    (RunStatus, [model.RETRYABLE_RUN, frozenset({RunStatus.SUCCEEDED}), model.WORKING_RUN, model.STOPPING_RUN]),
    (AttemptStatus, [frozenset(model.ACTIVE_ATTEMPT), frozenset(AttemptStatus) - model.ACTIVE_ATTEMPT]),
    (ScoreStatus, [frozenset(scores.TERMINAL_SCORE), frozenset({ScoreStatus.ACCEPTED, ScoreStatus.RUNNING})]),
]


@pytest.mark.parametrize(("statuses", "groups"), GROUPS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_status_groups_partition_their_enumeration(
    statuses: type[StrEnum], groups: list[frozenset[StrEnum]]
) -> None:
    assert frozenset().union(*groups) == frozenset(statuses)
    assert sum(map(len, groups)) == len(statuses)
    assert all(groups)


def test_the_stages_follow_one_another_to_the_end() -> None:
    assert [stage.next for stage in Stage] == [Stage.PROCESS, Stage.TRAIN, Stage.DEPLOY, None]
    assert set(model.KIND_OF_STAGE) == set(Stage)
    assert set(model.KIND_OF_STAGE.values()) | {JobKind.TUNING} == set(JobKind)


def test_an_attempt_ends_in_a_status_that_its_stage_has_too() -> None:
    assert {status.value for status in AttemptStatus} == {status.value for status in StageStatus} - {"PENDING"}


def test_a_run_knows_its_attempts_and_refuses_outputs_it_does_not_have() -> None:
    run = submit("run-1", "run", "{}", Plan("bucket", "endpoint", timedelta(hours=1)), NOW).after
    assert run.current_stage is Stage.EXPORT
    assert run.attempt(Stage.TRAIN) is None
    assert run.attempt(Stage.EXPORT, 2) is None
    with pytest.raises(LookupError, match="export"):
        run.output_of(Stage.EXPORT)


def test_a_score_request_is_complete_when_all_is_split_and_done() -> None:
    plain = {
        "request_id": "r",
        "endpoint": "e",
        "pairs": PairsFile("b", "k", "e", 1),
        "status": ScoreStatus.RUNNING,
        "created_at": NOW,
        "updated_at": NOW,
        "results": "",
        "payload_hash": "",
    }
    cases = [((False, 2, 2), False), ((True, 2, 1), False), ((True, 2, 2), True)]
    for (complete, parts, done), expected in cases:
        request = ScoreRequest(**plain, split_complete=complete, parts=parts, parts_done=done)  # type: ignore[arg-type]
        assert request.is_complete is expected
