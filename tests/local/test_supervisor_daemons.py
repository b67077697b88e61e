"""The supervisor's processes: ports, pid files that cannot deceive, what a daemon inherits."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ekiden_local import daemon, deploy, keeper, ministack, ports, state
from ekiden_local.state import CloudError, Home
from tests.local.supervisor_support import start_sleeper, still_runs

LOOPBACK = "127.0.0.1"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return state.home_of("test", tmp_path)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        yield server.getsockname()[1]


# ── Ports ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_next_free_port_is_taken(taken_port: int) -> None:
    chosen = ports.choose(None, taken_port)
    assert chosen > taken_port
    assert ports.choose(None, taken_port, taken={chosen}) > chosen


def test_a_port_that_was_asked_for_and_is_in_use_is_an_error_with_a_remedy(taken_port: int) -> None:
    with pytest.raises(CloudError, match=f"Port {taken_port} is in use") as caught:
        ports.choose(taken_port, 4566)
    assert "another port" in caught.value.remedy


# ── Daemons ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_daemon_is_found_by_its_pid_file_until_it_is_stopped(home: Home) -> None:
    # GIVEN a daemon
    pid = start_sleeper(home)
    assert daemon.running(home.pid_file("sleeper")) == pid
    # WHEN it is stopped, THEN it is gone with its pid file, and stopping again finds nothing.
    assert daemon.stop(home.pid_file("sleeper"), grace=5) is True
    assert not daemon.alive(pid)
    assert not home.pid_file("sleeper").exists()
    assert daemon.stop(home.pid_file("sleeper"), grace=5) is False


def test_a_daemon_that_ignores_the_request_is_killed_with_its_children(home: Home) -> None:
    # GIVEN a daemon that ignores SIGTERM and has a child
    script = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    pid = start_sleeper(home, script)
    log = home.logs / "sleeper.log"
    assert daemon.wait_until(lambda: log.read_text().endswith("\n"), 10)
    child = int(log.read_text())
    # WHEN it is stopped
    daemon.stop(home.pid_file("sleeper"), grace=0.2)
    # THEN neither runs.
    assert not daemon.alive(pid)
    assert daemon.wait_until(lambda: not still_runs(child), 5)


def test_a_daemon_that_waits_for_a_stuck_child_ends_in_order_once_the_child_is_killed(home: Home) -> None:
    # GIVEN a daemon that, asked to end, waits for a child that never ends, and then saves
    script = (
        "import signal, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "def end(*_):\n"
        "    child.wait(); print('saved', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('up', flush=True)\n"
        "while True: signal.pause()\n"
    )
    start_sleeper(home, script)
    log = home.logs / "sleeper.log"
    assert daemon.wait_until(lambda: log.read_text() == "up\n", 10)
    # WHEN it is stopped, THEN it had the time to save.
    assert daemon.stop(home.pid_file("sleeper"), grace=20, patience=0.2) is True
    assert log.read_text() == "up\nsaved\n"


@pytest.mark.parametrize(
    "content", ["", "nonsense", '{"pid": 0, "started": "1"}', '{"pid": 4194304000, "started": "1"}']
)
def test_a_stale_or_damaged_pid_file_is_removed(home: Home, content: str) -> None:
    state.write_text(home.pid_file("sleeper"), content)
    assert daemon.running(home.pid_file("sleeper")) is None
    assert not home.pid_file("sleeper").exists()


def test_a_pid_that_belongs_to_another_process_by_now_is_not_ours(home: Home) -> None:
    # GIVEN a pid file whose pid was given to another process: this one, which started at another time
    state.write_text(home.pid_file("sleeper"), json.dumps({"pid": os.getpid(), "started": "1"}))
    # WHEN and THEN: it is neither found nor, what would end this test, stopped.
    assert daemon.stop(home.pid_file("sleeper"), grace=1) is False


def test_a_killed_daemon_is_noticed(home: Home) -> None:
    pid = start_sleeper(home)
    os.kill(pid, signal.SIGKILL)
    assert daemon.wait_until(lambda: daemon.running(home.pid_file("sleeper")) is None, 5)


def test_a_daemon_that_has_ended_and_that_nobody_collects_does_not_run() -> None:
    # GIVEN a process whose parent, not this one, does not collect it
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', ''])\n"
        "print(child.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    # WHEN it has ended, THEN it is not taken for alive, though the system still knows its pid.
    try:
        assert daemon.wait_until(lambda: not daemon.alive(pid), 5)
        os.kill(pid, 0)
    finally:
        parent.kill()
        parent.wait(10)
        parent.stdout.close()


def test_a_daemon_that_dies_at_once_is_reported_with_its_last_words(home: Home) -> None:
    pid = start_sleeper(home, "raise SystemExit('cannot bind: ' + 'x' * 500)")
    with pytest.raises(CloudError, match="ended at once") as caught:
        daemon.await_healthy("It", pid, "http://127.0.0.1:1/health", home.logs / "sleeper.log", limit=10)
    assert "cannot bind" in str(caught.value)
    assert max(map(len, str(caught.value).splitlines())) <= 200
    assert "sleeper.log" in caught.value.remedy


def test_health_is_asked_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    # GIVEN a proxy that nobody answers at, and a healthy service
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 503)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer((LOOPBACK, 0), Healthy)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        url = f"http://{LOOPBACK}:{server.server_port}"
        assert daemon.answers(f"{url}/health")
        assert not daemon.answers(f"{url}/other")
    finally:
        server.shutdown()
        server.server_close()


# ── The keeper ────────────────────────────────────────────────────────────────────────────────────────────────────

SERVICE = (
    "import os, signal, sys\n"
    "def end(*_):\n"
    "    print('asked', flush=True); sys.exit(7)\n"
    "signal.signal(signal.SIGTERM, end)\n"
    "print(os.getpid(), flush=True)\n"
    "sys.stdin.read()\n"
    "print('alone', flush=True)\n"
)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A keeper with a service; what the service says is in `log`."""
    with (tmp_path / "log").open("wb") as log:
        command = [sys.executable, "-I", "-S", keeper.__file__, sys.executable, "-c", SERVICE]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    yield process
    process.kill()
    process.wait(10)


def said(tmp_path: Path, count: int) -> list[str]:
    """The first lines that services wrote, once there are `count` of them."""

    def lines() -> list[str]:
        return [line for line in (tmp_path / "log").read_text().splitlines() if "keeper:" not in line]

    assert daemon.wait_until(lambda: len(lines()) >= count, 10)
    return lines()


def test_a_kept_service_that_is_killed_is_started_again_each_time(
    kept: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    for times in range(1, 4):
        os.kill(int(said(tmp_path, times)[-1]), signal.SIGKILL)
    assert len(set(said(tmp_path, 4))) == 4
    assert "keeper: the service ended with signal 9; starting it again in 0.1 s" in (tmp_path / "log").read_text()


def test_a_kept_service_is_asked_to_end_through_its_keeper(kept: subprocess.Popen[bytes], tmp_path: Path) -> None:
    said(tmp_path, 1)
    kept.send_signal(signal.SIGTERM)
    assert kept.wait(10) == 7
    assert said(tmp_path, 2)[1] == "asked"


def test_a_kept_service_knows_when_its_keeper_was_killed(kept: subprocess.Popen[bytes], tmp_path: Path) -> None:
    said(tmp_path, 1)
    kept.kill()
    assert said(tmp_path, 2)[1] == "alone"


def test_a_service_that_cannot_begin_is_not_tried_again() -> None:
    command = [sys.executable, "-I", "-S", keeper.__file__, sys.executable, "-c", "raise SystemExit(2)"]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, check=False, timeout=10).returncode == 2


# ── What daemons inherit ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_daemon_inherits_no_credentials_and_no_proxy(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "GITHUB_TOKEN", "HTTP_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a real key")
    env = ministack.environment(home, 4566, 4567, auth=True)
    assert "secret" not in env.values()
    assert env["AWS_ACCESS_KEY_ID"] == state.ACCESS_KEY
    assert env["AUTH"] == "true"
    assert env["AWS_ENDPOINT_URL_SAGEMAKER"] == "http://127.0.0.1:4567", "functions find the job service by it"


def test_tools_keep_the_index_and_proxy_but_not_the_aws_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://pypi.example/simple")
    monkeypatch.setenv("AWS_PROFILE", "production")
    env = deploy._tool_environment({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    assert env["PIP_INDEX_URL"] == "https://pypi.example/simple"
    assert "AWS_PROFILE" not in env
    assert env["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent), "sam build looks for python3.11"
