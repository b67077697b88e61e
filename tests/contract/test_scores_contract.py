"""What every ``ports.ScoreLedger`` keeps, in memory and on DynamoDB alike."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Protocol

import pytest

from ekiden.adapters.dynamodb_scores import DynamoDBScoreLedger
from ekiden.domain.model import Failure
from ekiden.domain.scores import PairsFile, PartCounts, ScoreRequest, ScoreStatus
from ekiden.errors import Conflict, LostRace, NotFound
from ekiden.ports import ScoreLedger
from tests.fakes import NOW, FakeClock, InMemoryScoreLedger
from tests.fakes.aws import Aws


class Peek(Protocol):
    """Looks at the outbox."""

    def __call__(self, request_id: str) -> list[tuple[str, dict[str, Any]]]:
        """Type and data of the request's events."""


@pytest.fixture
def ledger(aws: Aws | None) -> ScoreLedger:
    clock = FakeClock()
    return InMemoryScoreLedger(clock) if aws is None else DynamoDBScoreLedger(aws.ledger_table(), clock)


@pytest.fixture
def told(ledger: ScoreLedger) -> Peek:
    def peek(request_id: str) -> list[tuple[str, dict[str, Any]]]:
        if isinstance(ledger, InMemoryScoreLedger):
            return [(item.detail_type, json.loads(item.detail)["data"]) for item in ledger.outbox]
        assert isinstance(ledger, DynamoDBScoreLedger)
        items = ledger._table.partition(f"SCORE#{request_id}", "OUTBOX")
        return [(item["detail_type"], json.loads(item["detail"])["data"]) for item in items]

    return peek


def request(request_id: str = "scores-1", *, payload_hash: str = "hash") -> ScoreRequest:
    return ScoreRequest(
        request_id=request_id,
        endpoint="movielens",
        pairs=PairsFile("ekiden-data", "uploads/a.csv", '"etag"', 1234),
        status=ScoreStatus.ACCEPTED,
        created_at=NOW,
        updated_at=NOW,
        results="s3://ekiden-data/scores/scores-1/results/",
        payload_hash=payload_hash,
    )


def stored(ledger: ScoreLedger, request_id: str = "scores-1") -> ScoreRequest:
    found = ledger.load(request_id)
    assert found is not None
    return found


def test_an_accepted_request_is_loaded_as_it_was_written_and_told(ledger: ScoreLedger, told: Peek) -> None:
    assert ledger.accept(request()) == request()
    assert ledger.load("scores-1") == request()
    assert told("scores-1") == [("ScoresRequested", {"request_id": "scores-1"})]
    assert ledger.load("nobody") is None


def test_accepting_again_gives_the_stored_request_and_tells_nothing(ledger: ScoreLedger, told: Peek) -> None:
    ledger.accept(request())
    ledger.record_split(request(), offset=100, parts=1, rows=9, complete=False)

    again = ledger.accept(replace(request(), created_at=NOW.replace(hour=13)))

    assert (again.created_at, again.parts) == (NOW, 1)
    assert len(told("scores-1")) == 1


def test_accepting_other_pairs_under_the_same_id_is_a_conflict(ledger: ScoreLedger) -> None:
    ledger.accept(request())
    with pytest.raises(Conflict):
        ledger.accept(request(payload_hash="other"))


def test_splitting_moves_on_from_where_it_was_seen(ledger: ScoreLedger) -> None:
    ledger.accept(request())
    ledger.record_split(stored(ledger), offset=600, parts=2, rows=20, complete=False)
    ledger.record_split(stored(ledger), offset=1234, parts=3, rows=25, complete=True)

    found = stored(ledger)
    assert (found.split_offset, found.parts, found.rows, found.split_complete) == (1234, 3, 25, True)
    assert found.status is ScoreStatus.RUNNING


def test_of_two_who_split_the_same_piece_one_loses(ledger: ScoreLedger) -> None:
    ledger.accept(request())
    seen = stored(ledger)
    ledger.record_split(seen, offset=600, parts=2, rows=20, complete=False)

    with pytest.raises(LostRace):
        ledger.record_split(seen, offset=600, parts=2, rows=20, complete=False)
    with pytest.raises(LostRace):
        ledger.record_split(request("nobody"), offset=600, parts=2, rows=20, complete=False)


def test_a_finished_request_is_not_split_on(ledger: ScoreLedger) -> None:
    ledger.accept(request())
    ledger.finish("scores-1", Failure("NO_PAIRS", "no pairs"))

    with pytest.raises(LostRace):
        ledger.record_split(stored(ledger), offset=600, parts=2, rows=20, complete=False)
    assert stored(ledger).status is ScoreStatus.FAILED


def test_each_part_counts_once_however_often_and_in_whatever_company_it_comes(ledger: ScoreLedger) -> None:
    ledger.accept(request())
    ledger.record_split(stored(ledger), offset=1234, parts=4, rows=40, complete=True)
    counts = {n: PartCounts(scored=7, fallback=2, invalid=1) for n in range(4)}

    ledger.record_parts("scores-1", {0: counts[0], 1: counts[1]})
    ledger.record_parts("scores-1", {0: counts[0], 1: counts[1]})
    overlapping = ledger.record_parts("scores-1", {1: counts[1], 2: counts[2]})
    assert (overlapping.parts_done, overlapping.is_complete) == (3, False)
    last = ledger.record_parts("scores-1", {3: counts[3], 0: counts[0]})

    assert (last.parts_done, last.scored, last.fallback, last.invalid) == (4, 28, 8, 4)
    assert last.is_complete
    assert stored(ledger) == last


def test_more_parts_than_one_transaction_takes_are_all_counted(ledger: ScoreLedger) -> None:
    ledger.accept(request())
    ledger.record_split(stored(ledger), offset=1234, parts=105, rows=105, complete=True)
    ledger.record_parts("scores-1", {5: PartCounts(scored=1), 104: PartCounts(scored=1)})

    found = ledger.record_parts("scores-1", {n: PartCounts(scored=1) for n in range(105)})

    assert (found.parts_done, found.scored, found.is_complete) == (105, 105, True)


def test_parts_of_an_unknown_request_are_refused(ledger: ScoreLedger) -> None:
    with pytest.raises(NotFound) as error:
        ledger.record_parts("nobody", {0: PartCounts(scored=1)})
    assert error.value.code == "UNKNOWN_REQUEST"
    assert ledger.load("nobody") is None


def test_a_request_is_finished_once(ledger: ScoreLedger, told: Peek) -> None:
    ledger.accept(request())

    ledger.finish("scores-1")
    ledger.finish("scores-1")
    ledger.finish("scores-1", Failure("LATE", "too late to fail"))

    found = stored(ledger)
    assert (found.status, found.failure) == (ScoreStatus.COMPLETED, None)
    assert told("scores-1")[1:] == [("ScoresCompleted", {"request_id": "scores-1"})]


def test_a_failed_request_says_why_and_stays_failed(ledger: ScoreLedger, told: Peek) -> None:
    ledger.accept(request())

    ledger.finish("scores-1", Failure("UNKNOWN_ENDPOINT", "there is none"))
    ledger.finish("scores-1")

    found = stored(ledger)
    assert (found.status, found.failure) == (ScoreStatus.FAILED, Failure("UNKNOWN_ENDPOINT", "there is none"))
    expected = {"request_id": "scores-1", "code": "UNKNOWN_ENDPOINT", "message": "there is none"}
    assert told("scores-1")[1:] == [("ScoresFailed", expected)]


def test_finishing_an_unknown_request_makes_none(ledger: ScoreLedger) -> None:
    ledger.finish("nobody")
    assert ledger.load("nobody") is None
