"""The HTTP server of a model: SageMaker's hosting contract, limits, concurrency and a graceful end."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ekiden_engine.cli import run_command
from ekiden_engine.errors import BadData, Temporary
from ekiden_engine.manifest import write_manifest
from ekiden_engine.mlroot import MlRoot
from ekiden_engine.model_folder import load_model
from ekiden_engine.serve import MAX_BODY, ModelServer, _port
from ekiden_engine.serving_model import ServedModel
from ekiden_engine.serving_routing import HEADER
from tests.engine import serving_factories
from tests.engine.model_factories import make_train_job
from tests.engine.test_serve_formats import make_model

PAIR = serving_factories.body([{"headNodeId": "u1", "tailNodeId": "m2"}], edgeType="rated", property="rating")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with ModelServer(make_model(), "127.0.0.1", 0) as server:
        yield server.port


def call(
    port: int, method: str, path: str, body: bytes | None = None, media: str = "text/csv", **headers: str
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": media, **headers})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def error(answer: tuple[int, bytes]) -> tuple[int, str]:
    document = json.loads(answer[1])
    assert set(document) == {"code", "message"}
    return answer[0], document["code"]


def test_it_answers_pings_and_invocations(port: int) -> None:
    assert call(port, "GET", "/ping") == (200, b"{}")
    assert call(port, "POST", "/invocations", b"u1,m2\n") == (200, b"1.12,scored\n")
    status, body = call(port, "POST", "/invocations", PAIR, "application/json")
    assert (status, json.loads(body)["output"]["edges"][0]["mlResults"][0]["status"]) == (200, "scored")


def test_wrong_requests_get_a_code_and_a_message(port: int) -> None:
    assert error(call(port, "GET", "/invocations")) == (404, "NOT_FOUND")
    assert error(call(port, "POST", "/ping", b"x")) == (404, "NOT_FOUND")
    assert error(call(port, "POST", "/invocations", b"<p>", "text/html")) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert error(call(port, "POST", "/invocations", b"{", "application/json")) == (400, "MALFORMED_JSON")


def test_a_body_at_the_limit_is_scored_and_one_byte_more_is_413(port: int) -> None:
    line = b"u1,m2\n"
    full = (line * (MAX_BODY // len(line) + 1))[:MAX_BODY]
    status, body = call(port, "POST", "/invocations", full)
    assert status == 200
    assert body.count(b"\n") == full.count(b"\n") + (not full.endswith(b"\n"))
    assert error(call(port, "POST", "/invocations", full + b"\n")) == (413, "PAYLOAD_TOO_LARGE")


def test_a_connection_serves_many_calls_also_after_a_refused_one(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.connect()
    first = connection.sock
    for body, status in ((b"u1,m2\n", 200), (b"{", 400), (b"u0,m0\n", 200)):
        media = "application/json" if body == b"{" else "text/csv"
        connection.request("POST", "/invocations", body, {"Content-Type": media})
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (status, True)
    assert connection.sock is first
    connection.close()


def test_a_request_without_length_is_refused_and_half_a_request_disturbs_nobody(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert raw.recv(4096).startswith(b"HTTP/1.1 411 ")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nu1,m2")
    assert call(port, "GET", "/ping")[0] == 200


def test_calls_at_the_same_time_get_their_own_answers(port: int) -> None:
    found: dict[int, tuple[int, bytes]] = {}

    def client(number: int) -> None:
        found[number] = call(port, "POST", "/invocations", f"u{number % 3},m{number % 3}\n".encode() * 2000)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 24
    for number, answer in found.items():
        assert answer == (200, f"{1 + 0.11 * (number % 3):.6g},scored\n".encode() * 2000)


def test_a_single_pair_takes_less_than_five_milliseconds(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    seconds = []
    for _ in range(100):
        started = time.perf_counter()
        connection.request("POST", "/invocations", PAIR, {"Content-Type": "application/json"})
        connection.getresponse().read()
        seconds.append(time.perf_counter() - started)
    connection.close()
    assert statistics.median(seconds) < 0.005


def test_leaving_waits_for_a_call_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a call that is being worked on
    model = make_model()
    begun, go_on, original = threading.Event(), threading.Event(), model.index

    def slow(label: str) -> object:
        begun.set()
        assert go_on.wait(10)
        return original(label)

    monkeypatch.setattr(model, "index", slow)
    answers: list[tuple[int, bytes]] = []
    with ModelServer(model, "127.0.0.1", 0) as server:
        port = server.port
        thread = threading.Thread(target=lambda: answers.append(call(port, "POST", "/invocations", b"u1,m2\n")))
        thread.start()
        assert begun.wait(10)
        # WHEN the server is left while it lasts
        threading.Timer(0.3, go_on.set).start()

    # THEN the call was answered, and the port is closed
    thread.join(10)
    assert answers == [(200, b"1.12,scored\n")]
    with pytest.raises(ConnectionRefusedError):
        call(port, "GET", "/ping")


def test_a_fault_of_the_model_is_a_500_without_details_and_the_server_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    monkeypatch.setattr(model, "index", lambda label: 1 / 0)
    with ModelServer(model, "127.0.0.1", 0) as server:
        answer = call(server.port, "POST", "/invocations", b"u1,m2\n")
        assert error(answer) == (500, "INTERNAL_ERROR")
        assert b"division" not in answer[1]
        assert call(server.port, "GET", "/ping")[0] == 200


@pytest.mark.parametrize(
    ("media", "attributes", "body", "says"),
    [
        ("text/csv", "target=movie.topic", b"heat\n", b"war,0.8,scored\n"),
        ("text/csv", "target=user-likes-movie", b"ada,alien\n", b"2,scored\n"),
        ("application/json", "target=4", b'{"vertices": ["cem"]}', b'"inferredValue": 20.0'),
        ("application/json", "", b'{"vertices": ["heat"], "property": "topic"}', b'"inferredValue": "war"'),
        ("text/csv", "target=9", b"heat\n", b"UNKNOWN_TARGET"),
    ],
)
def test_the_header_for_custom_attributes_chooses_the_target(
    media: str, attributes: str, body: bytes, says: bytes
) -> None:
    with ModelServer(serving_factories.make_served(), "127.0.0.1", 0) as server:
        status, found = call(server.port, "POST", "/invocations", body, media, **{HEADER: attributes})
        assert (status, says in found) == (400 if says.isupper() else 200, True)


def test_the_command_serves_a_model_until_sigterm(tmp_path: Path) -> None:
    # GIVEN a model of every task, and a free port
    serving_factories.make_folder(tmp_path / "model", serving_factories.every_target())
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "ekiden_engine", "serve"],
        env={**os.environ, "EKIDEN_ML_ROOT": str(tmp_path), "SAGEMAKER_BIND_TO_PORT": str(port)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        # WHEN it says that it is ready
        assert process.stdout is not None
        ready = process.stdout.readline()
        assert ready.startswith("serving user-rated-movie.rating (edge_regression), user-rated-movie.mood")
        assert f"by custom on port {port}, ready after" in ready

        # THEN it scores, without torch in the process, and ends on SIGTERM
        assert call(port, "GET", "/ping")[0] == 200
        assert call(port, "POST", "/invocations", b"ada,heat\nada,nobody\n")[1].count(b",fallback_target") == 1
        assert "torch" not in Path(f"/proc/{process.pid}/maps").read_text()
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "finishing calls in flight" in rest


def test_what_a_training_job_leaves_is_served(tmp_path: Path) -> None:
    root = make_train_job(tmp_path)
    assert run_command("train", root) == 0
    with ModelServer(ServedModel(load_model(root.model)), "127.0.0.1", 0) as server:
        status, lines = call(server.port, "POST", "/invocations", b"u1,m1\nu1,nobody\n")
        assert (status, [line.split(b",")[1] for line in lines.split()]) == (200, [b"scored", b"fallback_target"])
        new = {"neighbours": [{"edgeType": "rated", "nodeId": "m1", "value": 5}]}
        request = serving_factories.body([{"headNode": new, "tailNodeId": "m2"}], property="rating")
        status, body = call(server.port, "POST", "/invocations", request, "application/json")
        (entry,) = json.loads(body)["output"]["edges"]
        assert (status, entry["mlResults"][0]["status"]) == (200, "inductive")
        assert 1 <= entry["mlResults"][0]["inferredValue"] <= 5


def test_a_tampered_model_is_not_served(tmp_path: Path) -> None:
    root = MlRoot(tmp_path)
    root.model.mkdir()
    (root.model / "config.json").write_text("{}")
    write_manifest(root.model)
    (root.model / "config.json").write_text('{"model": "other"}')
    assert run_command("serve", root) == 65
    assert root.failure.read_text().startswith("CORRUPT_ARTIFACT: config.json has 18 bytes, manifest.json says 2")


def test_a_port_that_is_taken_or_none_is_said_so(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    with pytest.raises(Temporary, match=f"cannot listen on port {port}"):
        ModelServer(make_model(), "127.0.0.1", port)
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", "http")
    with pytest.raises(BadData, match="SAGEMAKER_BIND_TO_PORT"):
        _port()
