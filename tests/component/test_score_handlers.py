"""The functions of scoring, and of reading: from the handlers inwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ekiden.application.accept_scores import PARTS_PER_CHECKPOINT
from ekiden.contracts.events import ScorePairs
from ekiden.domain.model import Failure, RunStatus, Stage
from ekiden.domain.scores import ScoreRequest, ScoreStatus
from ekiden.domain.transitions import JobStatus
from ekiden.errors import ContractViolation, DependencyUnavailable, NotFound
from ekiden.ports import JobLogLine
from tests.fakes import World
from tests.fakes.events import bus_event, failed, http_event, sqs_event
from tests.fakes.faults import Crash
from tests.fakes.io import rate_by_length
from tests.fakes.world import BUCKET

NOTHING = failed()
HEADER = b"source,target\n"


@pytest.fixture
def world() -> World:
    world = World()
    world.jobs.serve("movielens")
    world.endpoints.models["movielens"] = rate_by_length
    return world


def post(world: World, body: Any) -> tuple[int, dict[str, Any]]:
    reply = world.call("enqueue_scores", http_event("POST /scores", body))
    return reply["statusCode"], json.loads(reply["body"])


def requested(world: World, request_id: str) -> dict[str, Any]:
    """Deliver ``ScoresRequested``."""
    items = [item for item in world.scores.outbox if item.detail_type == "ScoresRequested"]
    item = next(item for item in items if json.loads(item.detail)["data"]["request_id"] == request_id)
    event = bus_event("ekiden.ledger", item.detail_type, json.loads(item.detail))
    return world.call("enqueue_scores", sqs_event(event))


def put(world: World, content: bytes, key: str = "uploads/pairs.csv") -> str:
    world.objects.put(BUCKET, key, content, "text/csv")
    return f"s3://{BUCKET}/{key}"


def work(world: World, *numbers: int) -> dict[str, Any]:
    """Deliver messages of the score queue, all by default, in one batch."""
    bodies = world.score_queue.bodies
    chosen = [bodies[n] for n in numbers] if numbers else bodies
    return world.call("score_pairs", sqs_event(*chosen))


def accepted(world: World, pairs: Any, request_id: str = "scores-1") -> str:
    body = {"endpoint": "movielens", "request_id": request_id}
    body |= {"pairs_uri": pairs} if isinstance(pairs, str) else {"pairs": pairs}
    status, answer = post(world, body)
    assert status == 202, answer
    assert requested(world, answer["request_id"]) == NOTHING
    return str(answer["request_id"])


def stored(world: World, request_id: str = "scores-1") -> ScoreRequest:
    found = world.scores.load(request_id)
    assert found is not None
    return found


def results(world: World, request_id: str = "scores-1") -> list[bytes]:
    bodies = [
        world.objects.get(BUCKET, key, limit=10**7) for key in world.objects.keys(f"scores/{request_id}/results/")
    ]
    return [line for body in bodies for line in (body or b"").splitlines()[1:]]


# enqueue_scores


def test_inline_pairs_are_scored_to_the_end(world: World) -> None:
    pairs = [["u1", "m1"], ["new1", "m2"], ['quoted "u",2', "m3"], ["u1", "new2"], ["new1", "new2"]]

    request_id = accepted(world, pairs)
    assert work(world) == NOTHING

    found = stored(world, request_id)
    assert found.status is ScoreStatus.COMPLETED
    assert (found.rows, found.scored, found.fallback, found.invalid) == (5, 2, 3, 0)
    assert results(world) == [
        b"u1,m1,5,scored",
        b"new1,m2,7,fallback_source",
        b'"quoted ""u"",2",m3,19,scored',
        b"u1,new2,7,fallback_target",
        b"new1,new2,9,fallback_both",
    ]
    assert [kind for kind, _ in world.told()] == ["ScoresRequested", "ScoresCompleted"]


def test_a_request_without_an_id_gets_one(world: World) -> None:
    ids = {post(world, {"endpoint": "movielens", "pairs": [["a", "b"]]})[1]["request_id"] for _ in range(3)}
    assert len(ids) == 3


def test_the_same_request_is_accepted_once_and_another_under_its_id_is_a_conflict(world: World) -> None:
    body = {"endpoint": "movielens", "pairs": [["a", "b"]], "request_id": "r1"}
    assert post(world, body) == post(world, body)
    assert len(world.scores) == 1
    status, answer = post(world, {**body, "pairs": [["a", "c"]]})
    assert (status, answer["error"]["code"]) == (409, "REQUEST_CONFLICT")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"endpoint": "nobody", "pairs": [["a", "b"]]}, 404, "UNKNOWN_ENDPOINT"),
        ({"endpoint": "movielens"}, 400, "MALFORMED"),
        ({"endpoint": "movielens", "pairs": []}, 400, "MALFORMED"),
        ({"endpoint": "movielens", "pairs": [["a"]]}, 400, "MALFORMED"),
        ({"endpoint": "movielens", "pairs": [["a", ""]]}, 400, "MALFORMED"),
        ({"endpoint": "movielens", "pairs": [["a\nb", "c"]]}, 400, "MALFORMED"),
        ({"endpoint": "movielens", "pairs": [["a", "b" * 513]]}, 400, "MALFORMED"),
        ({"endpoint": "movielens", "pairs": [["a", "b"]] * 1001}, 400, "MALFORMED"),
        ({"endpoint": "movielens", "pairs": [["a", "b"]], "pairs_uri": "s3://x/y.csv"}, 400, "MALFORMED"),
        ({"endpoint": "movi/elens", "pairs": [["a", "b"]]}, 400, "MALFORMED"),
        ({"endpoint": "movielens", "pairs_uri": f"s3://{BUCKET}/uploads/none.csv"}, 404, "UNKNOWN_PAIRS_FILE"),
        ({"endpoint": "movielens", "pairs_uri": f"s3://{BUCKET}/uploads/none.parquet"}, 400, "INVALID_PAIRS_URI"),
        ({"endpoint": "movielens", "pairs_uri": f"s3://{BUCKET}/runs/secret.csv"}, 400, "INVALID_PAIRS_URI"),
        ({"endpoint": "movielens", "pairs_uri": f"s3://{BUCKET}/uploads/../runs/x.csv"}, 400, "INVALID_PAIRS_URI"),
        ({"endpoint": "movielens", "pairs_uri": "s3://another-bucket/uploads/x.csv"}, 400, "INVALID_PAIRS_URI"),
        ({"endpoint": "movielens", "pairs_uri": "http://169.254.169.254/uploads/x.csv"}, 400, "INVALID_PAIRS_URI"),
    ],
)
def test_a_faulty_score_request_is_answered_precisely(
    world: World, body: dict[str, Any], status: int, code: str
) -> None:
    found, answer = post(world, body)
    assert (found, answer["error"]["code"]) == (status, code)
    assert len(json.dumps(answer)) < 2500
    assert len(world.scores) == 0


def test_an_endpoint_that_is_not_in_service_yet_is_told_apart(world: World) -> None:
    run_id = world.submit(name="fresh")
    world.reach(run_id, Stage.DEPLOY)
    status, answer = post(world, {"endpoint": "fresh", "pairs": [["a", "b"]]})
    assert (status, answer["error"]["code"]) == (404, "ENDPOINT_NOT_IN_SERVICE")


def test_a_large_file_is_split_into_messages_that_cover_it(world: World) -> None:
    content = HEADER + b"".join(b"u%d,m%d\n" % (n, n % 7) for n in range(25_000))
    request_id = accepted(world, put(world, content))

    messages = [ScorePairs.model_validate_json(body) for body in world.score_queue.bodies]
    assert [message.part for message in messages] == [0, 1, 2]
    assert sum(message.rows for message in messages) == 25_000
    assert messages[0].pairs.start == len(HEADER)
    assert messages[-1].pairs.end == len(content)
    assert work(world, 2) == work(world, 0) == NOTHING
    assert stored(world, request_id).status is ScoreStatus.RUNNING
    assert work(world, 1) == NOTHING
    assert stored(world, request_id).status is ScoreStatus.COMPLETED
    assert len(results(world)) == 25_000
    assert results(world)[24_999].startswith(b"u24999,m2,")


def test_crlf_a_byte_order_mark_and_a_missing_last_line_end_are_understood(world: World) -> None:
    accepted(world, put(world, b"\xef\xbb\xbfsource,target\r\nu1,m1\r\nu2,m2"))
    work(world)
    assert results(world) == [b"u1,m1,5,scored", b"u2,m2,5,scored"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "NO_PAIRS"),
        (HEADER, "NO_PAIRS"),
        (b"u1,m1\n", "INVALID_PAIRS"),
        (HEADER + b"x" * 300_000, "INVALID_PAIRS"),
    ],
)
def test_a_file_that_holds_no_pairs_fails_its_request(world: World, content: bytes, code: str) -> None:
    request_id = accepted(world, put(world, content))
    found = stored(world, request_id)
    assert found.status is ScoreStatus.FAILED
    assert found.failure is not None
    assert found.failure.code == code
    assert world.told()[-1][0] == "ScoresFailed"
    assert len(world.score_queue) == 0


def test_a_file_that_was_replaced_meanwhile_fails_its_request(world: World) -> None:
    uri = put(world, HEADER + b"u1,m1\n")
    _, answer = post(world, {"endpoint": "movielens", "pairs_uri": uri, "request_id": "r1"})
    put(world, HEADER + b"u9,m9\n")
    assert requested(world, answer["request_id"]) == NOTHING
    assert stored(world, "r1").failure == Failure(
        "OBJECT_CHANGED", f"s3://{BUCKET}/uploads/pairs.csv was replaced after the request"
    )


def test_splitting_goes_on_where_a_crash_ended_it_and_numbers_stay(world: World) -> None:
    content = HEADER + (b"u" * 1023 + b"\n") * (256 * (PARTS_PER_CHECKPOINT + 3))
    post(world, {"endpoint": "movielens", "pairs_uri": put(world, content), "request_id": "r1"})
    calls = {"count": 0}

    def die_at_the_second_send(call: str, moment: str) -> None:
        calls["count"] += (call, moment) == ("FakeMessages.send", "after")
        if calls["count"] == 2:
            raise Crash

    world.faults.hook = die_at_the_second_send
    with pytest.raises(Crash):
        requested(world, "r1")
    world.faults.hook = lambda call, moment: None
    assert requested(world, "r1") == NOTHING

    messages = [ScorePairs.model_validate_json(body) for body in world.score_queue.bodies]
    by_part = {message.part: message for message in messages}
    assert sorted(by_part) == list(range(PARTS_PER_CHECKPOINT + 3))
    assert len(messages) > len(by_part), "what was sent before the crash comes again, the same"
    assert all(by_part[message.part] == message for message in messages)
    assert stored(world, "r1").parts == len(by_part)
    assert sum(message.rows for message in by_part.values()) == 256 * (PARTS_PER_CHECKPOINT + 3)


def test_a_repeated_event_splits_nothing_again(world: World) -> None:
    accepted(world, [["a", "b"]])
    assert requested(world, "scores-1") == NOTHING
    assert len(world.score_queue) == 1


def test_workers_that_are_faster_than_the_splitter_leave_it_to_finish(world: World) -> None:
    post(world, {"endpoint": "movielens", "pairs": [["a", "b"]], "request_id": "r1"})

    def score_at_once(call: str, moment: str) -> None:
        if (call, moment) == ("FakeMessages.send", "after"):
            world.faults.hook = lambda call, moment: None
            work(world)

    world.faults.hook = score_at_once
    assert requested(world, "r1") == NOTHING
    assert stored(world, "r1").status is ScoreStatus.COMPLETED


def test_a_splitter_that_died_before_it_could_finish_finishes_when_it_comes_again(world: World) -> None:
    post(world, {"endpoint": "movielens", "pairs": [["a", "b"]], "request_id": "r1"})

    def die(call: str, moment: str) -> None:
        if (call, moment) == ("InMemoryScoreLedger.record_split", "after"):
            world.faults.hook = lambda call, moment: None
            raise Crash

    def score_at_once(call: str, moment: str) -> None:
        if (call, moment) == ("FakeMessages.send", "after"):
            world.faults.hook = lambda call, moment: None
            work(world)
            world.faults.hook = die

    world.faults.hook = score_at_once
    with pytest.raises(Crash):
        requested(world, "r1")
    assert stored(world, "r1").is_complete
    assert stored(world, "r1").status is ScoreStatus.RUNNING

    assert requested(world, "r1") == NOTHING
    assert stored(world, "r1").status is ScoreStatus.COMPLETED


def upload_event(key: str, etag: str = "abc") -> dict[str, Any]:
    detail = {"bucket": {"name": BUCKET}, "object": {"key": key, "size": 20, "etag": etag, "version-id": "v1"}}
    return bus_event("aws.s3", "Object Created", detail)


def test_pairs_dropped_below_an_endpoints_name_are_one_request(world: World) -> None:
    put(world, HEADER + b"u1,m1\n", "pairs/movielens/today.csv")
    event = upload_event("pairs/movielens/today.csv")

    assert world.call("enqueue_scores", sqs_event(event, event)) == NOTHING

    assert len(world.scores) == 1
    (request_id,) = world.scores._requests
    assert requested(world, request_id) == NOTHING
    assert work(world) == NOTHING
    assert stored(world, request_id).status is ScoreStatus.COMPLETED


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (upload_event("pairs/today.csv"), "INVALID_PAIRS_URI"),
        (upload_event("pairs/no such/today.csv"), "INVALID_PAIRS_URI"),
        (upload_event("pairs/movielens/today.txt"), "INVALID_PAIRS_URI"),
        (upload_event("pairs/movielens/../../runs/x.csv"), "INVALID_PAIRS_URI"),
        (upload_event("pairs/nobody/today.csv"), "UNKNOWN_ENDPOINT"),
        (upload_event("pairs/movielens/gone.csv"), "UNKNOWN_PAIRS_FILE"),
        (bus_event("ekiden.ledger", "StageReady", {}), "UNKNOWN_EVENT"),
        (bus_event("ekiden.ledger", "ScoresRequested", {"data": {}}), "MALFORMED"),
    ],
)
def test_an_event_that_is_no_score_request_is_parked(world: World, event: dict[str, Any], code: str) -> None:
    assert world.call("enqueue_scores", sqs_event(event)) == NOTHING
    assert json.loads(world.dead_letters.bodies[0])["error"]["code"] == code


# score_pairs


def test_a_batch_is_one_call_of_the_endpoint_whatever_requests_it_holds(world: World) -> None:
    accepted(world, [["a", "b"], ["c", "d"]], "r1")
    accepted(world, [["e", "f"]], "r2")
    assert work(world) == NOTHING
    assert world.endpoints.bodies == [b"a,b\nc,d\ne,f\n"]
    assert results(world, "r1") == [b"a,b,3,scored", b"c,d,3,scored"]
    assert stored(world, "r2").status is ScoreStatus.COMPLETED


def test_a_message_that_comes_again_counts_once_and_its_results_stay(world: World) -> None:
    accepted(world, [["a", "b"]])
    work(world)
    before = results(world)
    world.endpoints.models["movielens"] = lambda lines: [b"9,fallback_both" for _ in lines]

    assert work(world) == work(world, 0) == NOTHING

    assert results(world) == before
    found = stored(world)
    assert (found.parts_done, found.scored, found.fallback) == (1, 1, 0)


def test_after_a_crash_between_result_and_ledger_the_ledger_counts_the_result_that_is_there(world: World) -> None:
    accepted(world, [["a", "b"]])
    world.faults.before["InMemoryScoreLedger.record_parts"] = Crash()
    with pytest.raises(Crash):
        work(world)
    world.endpoints.models["movielens"] = lambda lines: [b"9,fallback_both" for _ in lines]

    assert work(world) == NOTHING

    assert results(world) == [b"a,b,3,scored"]
    assert (stored(world).scored, stored(world).fallback) == (1, 0)
    assert stored(world).status is ScoreStatus.COMPLETED


def test_a_crash_before_the_request_was_finished_is_made_good_by_the_redelivery(world: World) -> None:
    accepted(world, [["a", "b"]])
    world.faults.before["InMemoryScoreLedger.finish"] = Crash()
    with pytest.raises(Crash):
        work(world)
    assert work(world) == NOTHING
    assert stored(world).status is ScoreStatus.COMPLETED


def test_pairs_that_are_wrong_are_marked_and_lose_nothing_of_the_rest(world: World) -> None:
    accepted(world, put(world, HEADER + b"u1,m1\nnonsense\n\nu2,m2\n"))
    assert work(world) == NOTHING
    assert results(world) == [b"u1,m1,5,scored", b"nonsense,,invalid", b",,invalid", b"u2,m2,5,scored"]
    found = stored(world)
    assert (found.scored, found.invalid, found.status) == (2, 2, ScoreStatus.COMPLETED)


def test_an_endpoint_that_is_busy_gives_the_batch_back(world: World) -> None:
    accepted(world, [["a", "b"]], "r1")
    accepted(world, [["c", "d"]], "r2")
    world.faults.before["FakeEndpoints.invoke"] = DependencyUnavailable("the model answered 503")
    assert work(world) == failed(0, 1)
    assert work(world) == NOTHING
    assert stored(world, "r2").status is ScoreStatus.COMPLETED


def test_one_part_that_the_model_refuses_fails_its_own_request_only(world: World) -> None:
    accepted(world, [["poison", "b"]], "r1")
    accepted(world, [["c", "d"]], "r2")

    def refuse(lines: list[bytes]) -> list[bytes]:
        if any(b"poison" in line for line in lines):
            raise ContractViolation("no poison", code="MODEL_REFUSED")
        return rate_by_length(lines)

    world.endpoints.models["movielens"] = refuse
    assert work(world) == NOTHING
    assert stored(world, "r1").failure == Failure("MODEL_REFUSED", "no poison")
    assert stored(world, "r2").status is ScoreStatus.COMPLETED


@pytest.mark.parametrize(
    "answer",
    [[], [b"3,scored", b"4,scored"], [b""], [b"3"], [b"scored"], [b"3,good"], [b"<html>"], [b"3,scored,x"]],
)
def test_an_answer_that_is_no_scores_fails_the_request_and_writes_nothing(world: World, answer: list[bytes]) -> None:
    accepted(world, [["a", "b"]])
    world.endpoints.models["movielens"] = lambda lines: answer
    assert work(world) == NOTHING
    failure = stored(world).failure
    assert failure is not None
    assert failure.code == "BAD_ANSWER"
    assert results(world) == []


def test_classes_come_with_their_probability(world: World) -> None:
    accepted(world, [["a", "b"], ["c", "d"], ["e", "d"]])
    answer = [b"glad,0.75,scored", b'"so, so",0.5,fallback_both', b",,invalid"]
    world.endpoints.models["movielens"] = lambda lines: answer
    assert work(world) == NOTHING
    (key,) = world.objects.keys("scores/scores-1/results/")
    assert world.objects.get(BUCKET, key, limit=10**4) == (
        b'source,target,value,score,status\na,b,glad,0.75,scored\nc,d,"so, so",0.5,fallback_both\ne,d,,,invalid\n'
    )
    assert stored(world).status is ScoreStatus.COMPLETED


def test_an_endpoint_that_is_gone_fails_the_request(world: World) -> None:
    accepted(world, [["a", "b"]])
    del world.endpoints.models["movielens"]
    assert work(world) == NOTHING
    assert stored(world).failure == Failure("UNKNOWN_ENDPOINT", "Endpoint movielens not found")


def test_a_message_of_a_request_that_nobody_made_is_parked(world: World) -> None:
    accepted(world, [["a", "b"]])
    world.scores._requests.clear()
    assert work(world) == NOTHING
    assert json.loads(world.dead_letters.bodies[0])["error"]["code"] == "UNKNOWN_REQUEST"


def test_a_malformed_command_is_parked_and_the_rest_is_scored(world: World) -> None:
    accepted(world, [["a", "b"]])
    body = json.loads(world.score_queue.bodies[0])
    wrong: list[dict[str, Any] | str] = [
        {**body, "part": -1},
        {**body, "command": "Destroy"},
        "{",
        {**body, "request_id": "../x"},
    ]
    assert world.call("score_pairs", sqs_event(body, *wrong)) == NOTHING
    assert len(world.dead_letters) == 4
    assert stored(world).status is ScoreStatus.COMPLETED


def test_more_than_one_call_takes_is_split_over_calls(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekiden.application.score_pairs.MAX_BODY_BYTES", 12)
    for number in range(4):
        accepted(world, [["aa", f"b{number}"]], f"r{number}")
    assert work(world) == NOTHING
    assert world.endpoints.bodies == [b"aa,b0\n", b"aa,b1\n", b"aa,b2\n", b"aa,b3\n"]


# show_status


def show(world: World, route: str, **more: Any) -> tuple[int, dict[str, Any]]:
    reply = world.call("show_status", http_event(route, **more))
    return reply["statusCode"], json.loads(reply["body"])


def get_run(world: World, run_id: str) -> dict[str, Any]:
    status, answer = show(world, "GET /runs/{run_id}", path={"run_id": run_id})
    assert status == 200
    return answer


def test_a_run_is_shown_with_its_stages_evaluation_and_artefacts(world: World) -> None:
    run_id = world.submit(name="shown")
    for stage in Stage:
        world.succeed(run_id, stage)
    prefix = f"runs/{run_id}/train/1/{world.job(run_id, Stage.TRAIN)}/output/model/"
    world.objects.put(BUCKET, f"{prefix}evaluation.json", b'{"rmse": 0.9}', "application/json")

    shown = get_run(world, run_id)

    assert (shown["status"], shown["endpoint"], shown["evaluation"]) == ("SUCCEEDED", "shown", {"rmse": 0.9})
    assert [(stage["name"], stage["status"]) for stage in shown["stages"]] == [
        (stage.value, "SUCCEEDED") for stage in Stage
    ]
    assert shown["stages"][2]["attempts"][0]["job"] == world.job(run_id, Stage.TRAIN)
    assert shown["artifacts"]["report"] == f"s3://{BUCKET}/{prefix}report.html"
    assert shown["artifacts"]["export"] == f"s3://{BUCKET}/runs/{run_id}/export/1/"
    assert shown["error"] is None
    assert shown["spec"]["name"] == "shown"


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"7", b"x" * 300_000])
def test_a_run_is_shown_even_if_its_evaluation_cannot_be(world: World, body: bytes) -> None:
    run_id = world.submit()
    world.reach(run_id, Stage.DEPLOY)
    prefix = f"runs/{run_id}/train/1/{world.job(run_id, Stage.TRAIN)}/output/model/"
    world.objects.put(BUCKET, f"{prefix}evaluation.json", body, "application/json")
    assert get_run(world, run_id)["evaluation"] is None


def test_a_failed_run_shows_stage_code_message_and_what_came_before(world: World) -> None:
    run_id = world.submit()
    name = world.reach(run_id, Stage.PROCESS)
    world.logs.lines[name] = [JobLogLine(world.clock.now(), "reading edges.csv")]
    world.jobs.end(name, JobStatus.FAILED, Failure("NOT_A_NUMBER", "edges.csv:7: 'good'"))
    world.job_event(name, kind="Processing", status="Failed")

    shown = get_run(world, run_id)

    assert shown["error"] == {
        "stage": "process",
        "code": "NOT_A_NUMBER",
        "message": "edges.csv:7: 'good'",
        "log_tail": ["reading edges.csv"],
    }
    assert shown["endpoint"] is None
    assert "export" in shown["artifacts"]
    assert shown["stages"][1]["attempts"][0]["error"] == {"code": "NOT_A_NUMBER", "message": "edges.csv:7: 'good'"}


def test_runs_are_listed_newest_first(world: World) -> None:
    ids = []
    for _ in range(3):
        ids.append(world.submit())
        world.clock.advance(minutes=1)
    status, answer = show(world, "GET /runs", query={"limit": "2"})
    assert status == 200
    assert [run["run_id"] for run in answer["runs"]] == [ids[2], ids[1]]
    assert show(world, "GET /runs", query={"status": "FAILED"})[1] == {"runs": []}


def test_logs_come_page_by_page_over_all_stages_or_from_the_end(world: World) -> None:
    run_id = world.submit()
    world.reach(run_id, Stage.TRAIN)
    for stage in (Stage.EXPORT, Stage.TRAIN):
        lines = [JobLogLine(world.clock.now(), f"{stage} {n}") for n in range(1500)]
        world.logs.lines[world.job(run_id, stage)] = lines
    path = {"run_id": run_id}

    seen: list[str] = []
    token: str | None = None
    for _ in range(20):
        query = {"next_token": token} if token else None
        _, page = show(world, "GET /runs/{run_id}/logs", path=path, query=query)
        seen += [line["message"] for line in page["lines"]]
        token = page["next_token"]
        if token is None:
            break

    assert seen == [f"{stage} {n}" for stage in ("export", "train") for n in range(1500)]
    tail = show(world, "GET /runs/{run_id}/logs", path=path, query={"tail": "2"})[1]
    assert [line["message"] for line in tail["lines"]] == ["train 1498", "train 1499"]
    only = show(world, "GET /runs/{run_id}/logs", path=path, query={"tail": "1", "stage": "export"})[1]
    assert [(line["stage"], line["attempt"], line["message"]) for line in only["lines"]] == [
        ("export", 1, "export 1499")
    ]


def test_a_score_request_is_shown_with_its_progress(world: World) -> None:
    accepted(world, [["a", "b"], ["new", "c"]])
    path = {"request_id": "scores-1"}
    running = show(world, "GET /scores/{request_id}", path=path)[1]
    assert (running["status"], running["messages"]) == ("RUNNING", {"total": 1, "done": 0})
    work(world)
    status, done = show(world, "GET /scores/{request_id}", path=path)
    assert (status, done["status"]) == (200, "COMPLETED")
    assert done["pairs"] == {"total": 2, "scored": 1, "fallback": 1, "invalid": 0}
    assert done["results"] == f"s3://{BUCKET}/scores/scores-1/results/"


@pytest.mark.parametrize(
    ("route", "more", "status", "code"),
    [
        ("GET /runs/{run_id}", {"path": {"run_id": "nobody"}}, 404, "UNKNOWN_RUN"),
        ("GET /runs/{run_id}", {"path": {"run_id": "x" * 3000}}, 404, "UNKNOWN_RUN"),
        ("GET /runs/{run_id}/logs", {"path": {"run_id": "nobody"}}, 404, "UNKNOWN_RUN"),
        ("GET /scores/{request_id}", {"path": {"request_id": "nobody"}}, 404, "UNKNOWN_REQUEST"),
        ("GET /runs", {"query": {"limit": "0"}}, 400, "INVALID_QUERY"),
        ("GET /runs", {"query": {"status": "HAPPY"}}, 400, "INVALID_QUERY"),
        ("GET /runs/{run_id}/logs", {"path": {"run_id": "r"}, "query": {"stage": "sprint"}}, 400, "INVALID_QUERY"),
    ],
)
def test_what_cannot_be_shown_is_answered_precisely(
    world: World, route: str, more: dict[str, Any], status: int, code: str
) -> None:
    found, answer = show(world, route, **more)
    assert (found, answer["error"]["code"]) == (status, code)
    assert len(answer["error"]["message"]) < 250


@pytest.mark.parametrize(
    "token", ["{", "[]", "7", '["a", null]', "[0]", '{"a": 1}', "[1e400, null]", "[-1, null]", "[1, 2]", "[" * 9000]
)
def test_a_token_that_is_none_of_ours_is_refused(world: World, token: str) -> None:
    run_id = world.submit()
    status, answer = show(world, "GET /runs/{run_id}/logs", path={"run_id": run_id}, query={"next_token": token})
    assert (status, answer["error"]["code"]) == (400, "INVALID_TOKEN")


def test_showing_changes_nothing(world: World) -> None:
    run_id = world.submit()
    before = world.run(run_id)
    get_run(world, run_id)
    show(world, "GET /runs")
    assert world.run(run_id) == before
    assert before.status is RunStatus.RUNNING
    with pytest.raises(NotFound):
        world.parts.show_status.run("nobody")
