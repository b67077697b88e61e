"""The supervisor's parts, each on its own: names and files, the digest of the code, saved state, the doctor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ekiden_local import daemon, deploy, doctor, ministack, ports, processes, state, supervisor
from ekiden_local.doctor import Status
from ekiden_local.jobs.process import Child
from ekiden_local.state import Cloud, CloudError, Home
from tests.local.supervisor_support import start_sleeper, still_runs


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return state.home_of("test", tmp_path)


def a_cloud(**changes: object) -> Cloud:
    known: dict[str, object] = {
        "name": "test",
        "home": "/somewhere/test",
        "endpoint_url": "http://127.0.0.1:1",
        "sagemaker_url": "http://127.0.0.1:2",
        "region": "us-east-1",
        "account": "000000000000",
        "access_key": "test",
        "secret_key": "test",
        "stack": "ekiden",
        "api_id": "abc",
        "api_url": "http://127.0.0.1:1/_aws/execute-api/abc/$default",
        "data_bucket": "bucket",
        "ledger_table": "table",
        "event_bus": "ekiden",
        "score_queue_url": "http://localhost:1/000000000000/scores",
        "auth": True,
        "build": "0" * 64,
    }
    return Cloud(**{**known, **changes})  # type: ignore[arg-type]


# ── Names and files ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["", "../x", "a/b", "Local", "-x", "a" * 33, ".", "a b"])
def test_a_name_that_is_no_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="cannot be the name"):
        state.home_of(name, tmp_path)


def test_the_home_is_the_argument_then_the_environment_then_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EKIDEN_HOME", str(tmp_path / "environment"))
    assert state.home_of("x", tmp_path / "argument").path == tmp_path / "argument" / "x"
    assert state.home_of("x").path == tmp_path / "environment" / "x"
    monkeypatch.delenv("EKIDEN_HOME")
    assert state.home_of("x").path == state.project_root() / ".ekiden" / "x"


def test_what_is_written_about_a_cloud_is_read_again(home: Home) -> None:
    cloud = a_cloud(pids={"ministack": 1, "jobs": 2}, ports={"ministack": 3, "jobs": 4})
    state.write_cloud(home, cloud)
    assert state.read_cloud(home) == cloud
    assert home.cloud_json.stat().st_mode & 0o077 == 0, "it holds keys: for its owner's eyes"
    assert [f.name for f in home.path.iterdir()] == ["cloud.json"], "no temporary file stays behind"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "test"}'])
def test_a_damaged_cloud_json_is_no_cloud(home: Home, content: str) -> None:
    state.write_text(home.cloud_json, content)
    assert state.read_cloud(home) is None
    assert supervisor.load("test", home=home.root) is None


def test_a_session_reaches_this_cloud_and_nothing_else() -> None:
    env = a_cloud().session_env()
    assert env["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert env["AWS_ENDPOINT_URL_SAGEMAKER"] == env["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"] == "http://127.0.0.1:2"
    assert env["AWS_EC2_METADATA_DISABLED"] == "true"
    assert "127.0.0.1" in env["NO_PROXY"]


# ── Saved state ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_saved_stream_positions_are_forgotten_and_nothing_else(home: Home) -> None:
    # GIVEN state as MiniStack saves it
    saved = home.ministack / "state" / "lambda.json"
    payload = {"esms": {"a": 1}, "dynamodb_stream_positions": {"a": 17}, "kinesis_positions": {}}
    state.write_text(saved, json.dumps({"__ministack_format__": 2, "payload": payload}))
    # WHEN it is repaired, twice
    ministack.forget_stream_positions(home)
    ministack.forget_stream_positions(home)
    # THEN
    expected = {"__ministack_format__": 2, "payload": {"esms": {"a": 1}, "kinesis_positions": {}}}
    assert json.loads(saved.read_text()) == expected


def test_no_saved_state_needs_no_repair(home: Home) -> None:
    ministack.forget_stream_positions(home)
    assert not (home.ministack / "state").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_unreadable_saved_state_is_an_error_that_says_how_to_begin_anew(home: Home, content: str) -> None:
    state.write_text(home.ministack / "state" / "lambda.json", content)
    with pytest.raises(CloudError, match="cannot be read") as caught:
        ministack.forget_stream_positions(home)
    assert "--purge" in caught.value.remedy


# ── Builds ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("functions/a/handler.py", "layers/shared/ekiden/__init__.py", "template.yaml", "samconfig.toml"):
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "project"


@pytest.mark.parametrize("changed", ["functions/a/handler.py", "layers/shared/ekiden/new.py", "template.yaml"])
def test_the_digest_changes_with_every_input(project: Path, changed: str) -> None:
    before = deploy.digest_of(project)
    (project / changed).write_text("changed")
    assert deploy.digest_of(project) != before


def test_the_digest_ignores_bytecode_and_what_is_not_deployed(project: Path) -> None:
    before = deploy.digest_of(project)
    for ignored in ("functions/a/__pycache__/handler.cpython-311.pyc", "README.md", "engine/model.py"):
        (project / ignored).parent.mkdir(parents=True, exist_ok=True)
        (project / ignored).write_text("changed")
    assert deploy.digest_of(project) == before


def test_moving_text_between_files_changes_the_digest(project: Path) -> None:
    (project / "functions/a/b.py").write_text("xy")
    (project / "functions/a/c.py").write_text("z")
    before = deploy.digest_of(project)
    (project / "functions/a/b.py").write_text("x")
    (project / "functions/a/c.py").write_text("yz")
    assert deploy.digest_of(project) != before


def test_missing_tools_are_named_with_the_command_that_installs_them(project: Path) -> None:
    for find in (deploy.sam, ministack.interpreter):
        with pytest.raises(CloudError, match="not installed") as caught:
            find(project)
        assert "make setup" in caught.value.remedy


# ── Doctor ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_doctor_finds_this_machine_fit_and_the_cloud_not_started(home: Home) -> None:
    found = {check.name: check for check in supervisor.doctor("test", home=home.root)}
    for name in ("python", "MiniStack", "SAM CLI"):
        assert found[name].status is Status.OK, found[name]
    for name in ("ministack", "jobs"):
        assert found[name].status is Status.WARN
        assert "ekiden up --name test" in found[name].remedy
    assert "stack" not in found


def test_the_doctor_names_wrong_and_missing_tools(home: Home, project: Path) -> None:
    # GIVEN a project whose SAM is too old and that has no MiniStack
    site = project / ".tools/sam/lib/python3.11/site-packages/aws_sam_cli-1.0.0.dist-info"
    site.mkdir(parents=True)
    (site / "METADATA").write_text("Metadata-Version: 2.1\nName: aws-sam-cli\nVersion: 1.0.0\n")
    # WHEN
    found = {check.name: check for check in doctor.examine(home, project)}
    # THEN
    assert found["SAM CLI"].status is Status.FAIL
    assert "aws-sam-cli 1.0.0 instead of 1.170.0" in found["SAM CLI"].detail
    assert "ministack missing" in found["MiniStack"].detail
    assert "make setup" in found["MiniStack"].remedy


def test_the_doctor_warns_of_a_proxy_in_the_way(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    found = {check.name: check for check in supervisor.doctor("test", home=home.root)}
    assert found["proxy"].status is Status.WARN
    assert "NO_PROXY" in found["proxy"].remedy


def test_every_check_that_is_not_ok_says_what_to_do(home: Home) -> None:
    for check in supervisor.doctor("test", home=home.root):
        assert (check.status is Status.OK) or check.remedy.endswith("."), check


def test_the_doctor_finds_a_process_that_does_not_answer(home: Home) -> None:
    # GIVEN a job service that runs and is silent
    free = ports.choose(None, 20000)
    state.write_text(home.path / "settings.json", json.dumps({"port": free, "jobs_port": free + 1, "auth": True}))
    start_sleeper(home)
    home.pid_file("sleeper").rename(home.pid_file(processes.JOBS))
    # WHEN
    found = {check.name: check for check in supervisor.doctor("test", home=home.root)}
    # THEN
    assert found["jobs"].status is Status.FAIL
    assert "does not answer" in found["jobs"].detail
    assert processes.stop(home) is True


# ── Down ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_job_whose_service_was_killed_is_ended_with_the_cloud(home: Home) -> None:
    # GIVEN a job that runs on, and no job service any more
    control = home.jobs / "training-jobs" / "x" / "control"
    job = Child.spawn(
        control,
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env={"PATH": os.environ["PATH"]},
        cwd=home.root,
        log=home.root / "job.log",
    )
    assert daemon.wait_until((control / "process.json").exists, 10)
    # WHEN the cloud is stopped
    assert processes.stop(home) is False
    # THEN the job has ended.
    assert job.wait(10) is not None
    assert not still_runs(json.loads((control / "process.json").read_text())["pid"])


def test_taking_down_what_never_was_up_is_no_error(tmp_path: Path) -> None:
    assert supervisor.down("test", home=tmp_path) is False
    assert list(tmp_path.iterdir()) == []


def test_purging_leaves_nothing_of_the_cloud_and_all_of_the_others(tmp_path: Path) -> None:
    for name in ("test", "other"):
        state.write_cloud(state.home_of(name, tmp_path), a_cloud(name=name))
    supervisor.down("test", purge=True, home=tmp_path)
    assert not (tmp_path / "test").exists()
    assert state.read_cloud(state.home_of("other", tmp_path)) is not None


def test_a_lock_is_let_go_of_when_its_holder_is_killed(tmp_path: Path) -> None:
    # GIVEN a process that holds the lock
    script = (
        "import sys, time; from pathlib import Path; from ekiden_local.state import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    lock = tmp_path / "x.lock"
    holder = subprocess.Popen([sys.executable, "-c", script, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    # WHEN it is killed
    holder.kill()
    holder.wait(10)
    holder.stdout.close()
    # THEN the lock can be had at once.
    with state.locked(lock):
        assert lock.exists()
