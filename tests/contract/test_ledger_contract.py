"""What every ``ports.Ledger`` keeps, in memory and on DynamoDB alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol

import pytest
from moto import mock_aws

from ekiden.adapters.dynamodb_client import Table, decode
from ekiden.adapters.dynamodb_ledger import DynamoDBLedger
from ekiden.domain.model import Failure, JobKind, JobRef, Run, RunStatus, Stage, StageStatus
from ekiden.domain.operations import cancel, retry
from ekiden.domain.transitions import (
    DeadlinePassed,
    JobReported,
    JobStarted,
    JobStatus,
    Plan,
    Transition,
    decide,
    submit,
)
from ekiden.errors import Conflict, LostRace
from ekiden.ports import Ledger, LiveAttempt
from tests.fakes import NOW, InMemoryLedger
from tests.fakes.aws import Aws
from tests.fakes.dynamodb import InMemoryDynamoDB

PLAN = Plan("ekiden-data", "movielens", timedelta(hours=1))


class Peek(Protocol):
    """Looks at the outbox."""

    def __call__(self, run_id: str) -> list[tuple[str, dict[str, Any]]]:
        """Type and detail of the run's events."""


@pytest.fixture(scope="module", params=["fake", "DynamoDB in memory", "moto", "ministack"])
def backend(request: pytest.FixtureRequest) -> str:
    """One more than elsewhere: the client that the upgrade's tests work on is held to the same contract."""
    return str(request.param)


@pytest.fixture(scope="module")
def tables(backend: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], Table] | None]:
    """Makes tables; ``None`` where there are none."""
    if backend == "fake":
        yield None
    elif backend == "DynamoDB in memory":
        yield lambda: Table(InMemoryDynamoDB(), "ledger")  # type: ignore[arg-type]
    elif backend == "moto":
        with mock_aws():
            yield Aws(None).ledger_table
    else:
        yield request.getfixturevalue("ministack").ledger_table


@pytest.fixture
def ledger(tables: Callable[[], Table] | None) -> Ledger:
    return InMemoryLedger() if tables is None else DynamoDBLedger(tables())


@pytest.fixture
def outbox(ledger: Ledger) -> Peek:
    def peek(run_id: str) -> list[tuple[str, dict[str, Any]]]:
        if isinstance(ledger, InMemoryLedger):
            items = [(item.detail_type, json.loads(item.detail)) for item in ledger.outbox]
            return [(kind, detail) for kind, detail in items if detail["meta"]["run_id"] == run_id]
        assert isinstance(ledger, DynamoDBLedger)
        return [(i["detail_type"], json.loads(i["detail"])) for i in ledger._table.partition(f"RUN#{run_id}", "OUTBOX")]

    return peek


def submitted(run_id: str = "movielens-20261120-120000-aaaaaa", **changes: Any) -> Transition:
    transition = submit(run_id, "movielens", '{"name": "movielens"}', PLAN, changes.pop("now", NOW))
    return replace(transition, after=replace(transition.after, **changes))


def create(ledger: Ledger, transition: Transition, request_id: str | None = None, payload: str = "hash") -> str:
    return ledger.create(
        transition, request_id=request_id or transition.after.run_id, payload_hash=payload, actor="test"
    )


def moved(run: Run, event: Any, *, minutes: float = 1) -> Transition:
    decision = decide(run, event, plan=PLAN, now=run.updated_at + timedelta(minutes=minutes), jitter=0.5)
    assert isinstance(decision, Transition)
    return decision


def live(ledger: Ledger, limit: int = 10) -> list[tuple[str, Stage, int]]:
    return [(entry.run_id, entry.attempt.stage, entry.attempt.number) for entry in ledger.live(limit)]


def stored(ledger: Ledger, run_id: str) -> Run:
    run = ledger.load(run_id)
    assert run is not None
    return replace(run, attempts=tuple(sorted(run.attempts, key=lambda a: (a.stage, a.number))))


def test_a_created_run_is_loaded_as_it_was_written(ledger: Ledger, outbox: Peek) -> None:
    transition = submitted()

    run_id = create(ledger, transition)

    assert ledger.load(run_id) == transition.after
    assert [entry.what for entry in ledger.history(run_id)] == ["submitted"]
    told = outbox(run_id)
    assert [kind for kind, _ in told] == ["RunSubmitted", "StageReady"]
    assert told[1][1]["data"] == {"stage": "export", "attempt": 1, "job": transition.after.attempts[0].job}
    assert told[1][1]["meta"]["run_id"] == run_id


def test_an_unknown_run_is_none(ledger: Ledger) -> None:
    assert ledger.load("nobody") is None
    assert ledger.history("nobody") == []


def test_the_same_request_gives_the_same_run(ledger: Ledger) -> None:
    first = create(ledger, submitted("movielens-20261120-120000-aaaaaa"), request_id="r1")

    second = create(ledger, submitted("movielens-20261120-120001-bbbbbb"), request_id="r1")

    assert second == first
    assert ledger.load("movielens-20261120-120001-bbbbbb") is None


def test_the_same_request_with_another_payload_is_a_conflict(ledger: Ledger) -> None:
    create(ledger, submitted("movielens-20261120-120000-aaaaaa"), request_id="r1", payload="one")

    with pytest.raises(Conflict, match="r1"):
        create(ledger, submitted("movielens-20261120-120001-bbbbbb"), request_id="r1", payload="two")


def test_a_run_id_that_is_taken_is_a_lost_race(ledger: Ledger) -> None:
    create(ledger, submitted(), request_id="r1")

    with pytest.raises(LostRace):
        create(ledger, submitted(), request_id="r2")


def test_a_transition_writes_state_history_and_events_together(ledger: Ledger, outbox: Peek) -> None:
    run_id = create(ledger, submitted())
    ledger.commit(moved(stored(ledger, run_id), JobStarted(Stage.EXPORT, 1)), actor="a")
    done = moved(stored(ledger, run_id), JobReported(Stage.EXPORT, 1, JobStatus.SUCCEEDED, started_at=NOW))

    ledger.commit(done, actor="the event")

    run = stored(ledger, run_id)
    assert run == replace(done.after, attempts=tuple(sorted(done.after.attempts, key=lambda a: (a.stage, a.number))))
    assert run.version == 2
    assert run.stage(Stage.PROCESS).status is StageStatus.STARTING
    assert [(e.sequence, e.actor, e.what) for e in ledger.history(run_id)][-1] == (2, "the event", "export succeeded")
    assert [kind for kind, _ in outbox(run_id)] == ["RunSubmitted", "StageReady", "StageSucceeded", "StageReady"]


def test_of_two_who_decided_on_the_same_state_one_loses(ledger: Ledger, outbox: Peek) -> None:
    run_id = create(ledger, submitted())
    seen = stored(ledger, run_id)
    ledger.commit(moved(seen, JobReported(Stage.EXPORT, 1, JobStatus.SUCCEEDED)), actor="winner")

    with pytest.raises(LostRace):
        ledger.commit(moved(seen, JobReported(Stage.EXPORT, 1, JobStatus.FAILED), minutes=2), actor="loser")

    assert stored(ledger, run_id).status is RunStatus.RUNNING
    assert [e.actor for e in ledger.history(run_id)] == ["test", "winner"]
    assert "RunFailed" not in [kind for kind, _ in outbox(run_id)]


def test_a_write_whose_answer_was_lost_may_be_sent_again(ledger: Ledger, outbox: Peek) -> None:
    run_id = create(ledger, submitted())
    failure = Failure("NOT_A_NUMBER", 'edges.csv:7 "good" is no number')
    report = JobReported(Stage.EXPORT, 1, JobStatus.FAILED, failure, log_tail=("one", "two"))
    transition = moved(stored(ledger, run_id), report)
    ledger.commit(transition, actor="a")

    ledger.commit(transition, actor="a")

    run = stored(ledger, run_id)
    assert (run.failure, run.log_tail, run.version) == (failure, ("one", "two"), 1)
    assert len(ledger.history(run_id)) == 2
    assert [kind for kind, _ in outbox(run_id)].count("RunFailed") == 1


def test_a_run_that_does_not_exist_cannot_be_moved(ledger: Ledger) -> None:
    with pytest.raises(LostRace):
        ledger.commit(moved(submitted().after, JobStarted(Stage.EXPORT, 1)), actor="a")


def test_only_live_attempts_are_found_by_their_job(ledger: Ledger) -> None:
    run_id = create(ledger, submitted())
    export = stored(ledger, run_id).attempts[0]
    assert ledger.find_attempts(export.ref) == [(run_id, Stage.EXPORT, 1)]

    ledger.commit(moved(stored(ledger, run_id), JobReported(Stage.EXPORT, 1, JobStatus.SUCCEEDED)), actor="a")

    assert ledger.find_attempts(export.ref) == []
    process = stored(ledger, run_id).attempt(Stage.PROCESS)
    assert process is not None
    assert ledger.find_attempts(process.ref) == [(run_id, Stage.PROCESS, 1)]
    assert ledger.find_attempts(JobRef(JobKind.TRAINING, process.job)) == []


def test_several_runs_may_wait_for_one_endpoint(ledger: Ledger) -> None:
    runs = [create(ledger, submitted(f"movielens-20261120-12000{n}-aaaaaa")) for n in range(2)]
    for run_id in runs:
        for stage in (Stage.EXPORT, Stage.PROCESS, Stage.TRAIN):
            ledger.commit(moved(stored(ledger, run_id), JobReported(stage, 1, JobStatus.SUCCEEDED)), actor="a")

    found = ledger.find_attempts(JobRef(JobKind.ENDPOINT, "movielens"))

    assert sorted(found) == [(run_id, Stage.DEPLOY, 1) for run_id in runs]


def test_live_attempts_come_in_the_order_in_which_they_are_due_and_leave_with_their_run(ledger: Ledger) -> None:
    late = create(ledger, submitted("late", now=NOW))
    later = create(ledger, submitted("later", now=NOW + timedelta(seconds=10)))
    future = create(ledger, submitted("future", now=NOW + timedelta(hours=1)))

    assert live(ledger) == [(late, Stage.EXPORT, 1), (later, Stage.EXPORT, 1), (future, Stage.EXPORT, 1)]
    assert live(ledger, 1) == [(late, Stage.EXPORT, 1)]
    assert ledger.live(1) == [LiveAttempt(late, stored(ledger, late).attempts[0])]

    ledger.commit(moved(stored(ledger, late), JobReported(Stage.EXPORT, 1, JobStatus.FAILED)), actor="a")
    assert live(ledger) == [(later, Stage.EXPORT, 1), (future, Stage.EXPORT, 1)]


def test_who_is_postponed_goes_to_the_end_of_the_line_and_nothing_else_changes(ledger: Ledger) -> None:
    first = create(ledger, submitted("first", now=NOW))
    second = create(ledger, submitted("second", now=NOW + timedelta(seconds=1)))
    moment = NOW + timedelta(minutes=2)
    before = stored(ledger, first)

    ledger.postpone(first, before.attempts[0], moment)

    assert live(ledger) == [(second, Stage.EXPORT, 1), (first, Stage.EXPORT, 1)]
    after = stored(ledger, first)
    assert after.version == before.version
    assert after.attempts == (replace(before.attempts[0], next_check_at=moment),)
    ledger.commit(moved(before, JobStarted(Stage.EXPORT, 1)), actor="a")


def test_who_looked_before_a_cancel_does_not_postpone_the_look_that_it_asked_for(ledger: Ledger) -> None:
    # GIVEN a sweep that stands still after it has read an attempt, and a cancel meanwhile
    run_id = create(ledger, submitted())
    seen = ledger.live(1)[0].attempt
    asked_at = NOW + timedelta(seconds=7)
    asked = cancel(stored(ledger, run_id), reason="", now=asked_at)
    assert isinstance(asked, Transition)
    ledger.commit(asked, actor="a")
    # WHEN the sweep goes on THEN the attempt is still looked at as soon as the cancel wants it to be
    ledger.postpone(run_id, seen, NOW + timedelta(hours=1))
    assert stored(ledger, run_id).attempts[0].next_check_at == asked_at


def test_an_attempt_that_is_over_is_not_brought_back_by_postponing_it(ledger: Ledger) -> None:
    run_id = create(ledger, submitted())
    seen = stored(ledger, run_id).attempts[0]
    ledger.commit(moved(stored(ledger, run_id), JobReported(Stage.EXPORT, 1, JobStatus.FAILED)), actor="a")

    ledger.postpone(run_id, seen, NOW)
    ledger.postpone("nobody", seen, NOW)

    assert live(ledger) == []


def test_the_first_of_many_live_attempts_are_the_first_of_all(ledger: Ledger) -> None:
    """They lie in several partitions of the index."""
    order = [7, 2, 11, 0, 5, 9, 3, 10, 1, 8, 4, 6]
    for number in order:
        create(ledger, submitted(f"run-{number:02d}", now=NOW + timedelta(seconds=number)))
    assert [run_id for run_id, _, _ in live(ledger, 5)] == [f"run-{number:02d}" for number in range(5)]
    assert [run_id for run_id, _, _ in live(ledger, 100)] == [f"run-{number:02d}" for number in range(12)]


def test_an_attempt_whose_job_is_being_stopped_stays_live_when_its_run_is_over(ledger: Ledger) -> None:
    # GIVEN a run whose deadline has passed
    run_id = create(ledger, submitted())
    export = stored(ledger, run_id).attempts[0]
    ledger.commit(moved(stored(ledger, run_id), DeadlinePassed(Stage.EXPORT, 1), minutes=90), actor="a")
    run = stored(ledger, run_id)
    assert (run.status, run.attempts[0].stopping_since) == (RunStatus.FAILED, run.updated_at)
    # THEN its attempt is found by the sweep and by the job's name, and can be put off
    assert live(ledger) == ledger.find_attempts(export.ref) == [(run_id, Stage.EXPORT, 1)]
    ledger.postpone(run_id, run.attempts[0], NOW + timedelta(hours=5))
    assert stored(ledger, run_id).attempts[0].next_check_at == NOW + timedelta(hours=5)
    # AND not any more once its job was seen to be over
    stopped = JobReported(Stage.EXPORT, 1, JobStatus.STOPPED)
    ledger.commit(moved(stored(ledger, run_id), stopped, minutes=91), actor="a")
    assert live(ledger) == ledger.find_attempts(export.ref) == []
    assert stored(ledger, run_id).attempts[0].stopping_since is None


def test_a_cancel_and_a_retry_are_kept_to_the_letter(ledger: Ledger) -> None:
    run_id = create(ledger, submitted())
    left = JobReported(Stage.EXPORT, 1, JobStatus.SUCCEEDED, output_hash="0a1b")
    ledger.commit(moved(stored(ledger, run_id), left), actor="a")
    later = NOW + timedelta(minutes=5)
    asked = cancel(stored(ledger, run_id), reason="wrong data", now=later)
    assert isinstance(asked, Transition)
    ledger.commit(asked, actor="ada")
    assert same(stored(ledger, run_id), asked.after)
    assert [run.run_id for run in ledger.recent(RunStatus.CANCELLING, 9)] == [run_id]

    stopped = moved(stored(ledger, run_id), JobReported(Stage.PROCESS, 1, JobStatus.STOPPED))
    ledger.commit(stopped, actor="reconciler")
    again = retry(stored(ledger, run_id), None, plan=PLAN, reason="right data", now=later + timedelta(minutes=5))
    assert isinstance(again, Transition)
    ledger.commit(again, actor="ada")

    run = stored(ledger, run_id)
    assert same(run, again.after)
    assert [(a.number, a.tries_left, a.output_hash) for a in run.attempts] == [
        (1, 2, "0a1b"),
        (1, 2, None),
        (2, 2, None),
    ]
    assert live(ledger) == [(run_id, Stage.PROCESS, 2)]
    assert [(e.actor, e.what) for e in ledger.history(run_id)][-3:] == [
        ("ada", "cancel asked for: wrong data"),
        ("reconciler", "cancelled, process has stopped"),
        ("ada", "retry from process asked for: right data"),
    ]


def same(found: Run, written: Run) -> bool:
    attempts = tuple(sorted(written.attempts, key=lambda a: (a.stage, a.number)))
    return found == replace(written, attempts=attempts)


def test_a_note_stands_behind_what_it_follows_and_moves_nothing(ledger: Ledger) -> None:
    run_id = create(ledger, submitted())
    ledger.commit(moved(stored(ledger, run_id), JobStarted(Stage.EXPORT, 1)), actor="a")
    before = stored(ledger, run_id)

    for _ in range(2):
        ledger.note(run_id, key="m-1", actor="ada", what="message sent again", at=NOW + timedelta(hours=1))
    ledger.note("nobody", key="m-1", actor="ada", what="message sent again", at=NOW)
    ledger.commit(moved(before, JobReported(Stage.EXPORT, 1, JobStatus.FAILED)), actor="b")
    ledger.note(run_id, key="m-1", actor="ada", what="once is enough", at=NOW + timedelta(hours=2))

    assert [(e.sequence, e.actor) for e in ledger.history(run_id)] == [(0, "test"), (1, "a"), (1, "ada"), (2, "b")]
    assert ledger.history("nobody") == []


def test_what_the_first_version_wrote_is_read_with_defaults_and_goes_on(
    tables: Callable[[], Table] | None, backend: str
) -> None:
    # GIVEN a run as the first version wrote it: without what the second added
    if tables is None:
        assert backend == "fake", "which has no items"
        return
    table = tables()
    ledger = DynamoDBLedger(table)
    run_id = create(ledger, submitted())
    failed = JobReported(Stage.EXPORT, 1, JobStatus.FAILED, transient=True)
    ledger.commit(moved(stored(ledger, run_id), failed), actor="a")
    for item in table.partition(f"RUN#{run_id}"):
        young = {"tries_left", "stopping_since", "output_hash"}
        table.transact([table.put({name: v for name, v in item.items() if name not in young} | {"schema": 1})])
    # WHEN it is read THEN what is missing has its default
    run = stored(ledger, run_id)
    assert [(a.number, a.tries_left, a.stopping_since, a.output_hash) for a in run.attempts] == [
        (1, 2, None, None),
        (2, 1, None, None),
    ]
    assert ledger.live(9) == [LiveAttempt(run_id, run.attempts[1])]
    # AND it goes on from there: one more try, then it is over
    ledger.commit(moved(run, replace(failed, attempt=2)), actor="a")
    ledger.commit(moved(stored(ledger, run_id), replace(failed, attempt=3)), actor="a")
    run = stored(ledger, run_id)
    assert (run.status, [a.tries_left for a in run.attempts]) == (RunStatus.FAILED, [2, 1, 0])


def test_a_search_by_a_tuning_job_is_kept_with_the_training_job_it_chose(ledger: Ledger) -> None:
    # GIVEN a plan by which the train stage is a tuning job
    plan = replace(PLAN, stage_kinds={Stage.TRAIN: JobKind.TUNING})
    run_id = create(ledger, submitted())
    for stage in (Stage.EXPORT, Stage.PROCESS, Stage.TRAIN):
        run = stored(ledger, run_id)
        best = f"{run.attempt(stage, 1).job}-007-0123abcd" if stage is Stage.TRAIN else None  # type: ignore[union-attr]
        if stage is Stage.TRAIN:
            (waiting,) = ledger.live(9)
            ref = waiting.attempt.ref
            assert ref.kind is JobKind.TUNING
            assert ledger.find_attempts(ref) == [(run_id, stage, 1)]
            assert ledger.find_attempts(JobRef(JobKind.TRAINING, ref.name)) == []
        told = JobReported(stage, 1, JobStatus.SUCCEEDED, best_job=best)
        decision = decide(run, told, plan=plan, now=NOW, jitter=0.5)
        assert isinstance(decision, Transition)
        ledger.commit(decision, actor="a")
    # THEN it is read back
    kept = [(a.stage, a.best_job) for a in stored(ledger, run_id).attempts if a.best_job]
    assert kept == [(Stage.TRAIN, best)]


def test_recent_runs_come_newest_first_and_by_status(ledger: Ledger) -> None:
    for minute in range(4):
        create(ledger, submitted(f"run-{minute}", now=NOW + timedelta(minutes=minute)))
    ledger.commit(moved(stored(ledger, "run-1"), JobReported(Stage.EXPORT, 1, JobStatus.FAILED)), actor="a")

    assert [run.run_id for run in ledger.recent(None, 3)] == ["run-3", "run-2", "run-1"]
    failed = ledger.recent(RunStatus.FAILED, 10)
    assert [(run.run_id, run.name, run.status, run.stage) for run in failed] == [
        ("run-1", "movielens", RunStatus.FAILED, None)
    ]
    newest = ledger.recent(RunStatus.RUNNING, 1)[0]
    assert (newest.stage, newest.created_at) == (Stage.EXPORT, NOW + timedelta(minutes=3))
    assert failed[0].updated_at == NOW + timedelta(minutes=2)


def test_events_leave_through_the_stream_with_the_state_they_tell_of(ministack: Aws) -> None:
    """Not of the port: the outbox is only worth its name if the stream carries its items."""
    aws = ministack
    table = aws.ledger_table()
    create(DynamoDBLedger(table), submitted())
    streams = aws.client("dynamodbstreams")
    arn = aws.client("dynamodb").describe_table(TableName=table.name)["Table"]["LatestStreamArn"]
    images = []
    for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        start = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")[
            "ShardIterator"
        ]
        images += [record["dynamodb"]["NewImage"] for record in streams.get_records(ShardIterator=start)["Records"]]

    told = [decode(image) for image in images if image["sk"]["S"].startswith("OUTBOX#")]

    assert [item["detail_type"] for item in told] == ["RunSubmitted", "StageReady"]
    assert any(image["sk"]["S"] == "RUN" for image in images)
