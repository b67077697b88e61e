"""kill -9 at any time loses nothing; a restarted service finds its programs, their ends and the unsent events."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ekiden_local.jobs.process import Child, Exit
from tests.local.jobs_support import (
    BUCKET,
    EventLog,
    Service,
    free_port,
    ministack,
    name,
    processing_request,
    wait_for,
)


def pid_of(gate: Path) -> int:
    path = gate.with_name(f"{gate.name}.pid")
    return int(wait_for(lambda: path.read_text() if path.exists() else None, "the program's start"))


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and ") Z " not in status.read_text()


@dataclass(frozen=True, slots=True)
class Revived:
    """A service after kill -9 and a new start, with what was going on at the kill."""

    service: Service
    events: EventLog
    gate: Path
    running: str
    running_pid: int
    seen: dict[str, Any]
    ended: str
    stopping: str
    stopping_pid: int
    waiting: tuple[str, str]
    stays: str
    stays_pid: bytes
    dies: str
    dies_pid: bytes
    halfway: str


@pytest.fixture(scope="module")
def revived(job_cloud: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Revived]:
    """GIVEN jobs and endpoints in all states, WHEN the service is killed and started again."""
    folder = tmp_path_factory.mktemp("revived")
    service = Service(folder / "home", job_cloud, ("--max-jobs=3",)).start("--stop-grace=60")
    events = EventLog(job_cloud)
    running, ended, stopping, stays, dies, halfway = map(
        name, ("runs", "ended", "stopping", "stays", "dies", "halfway")
    )
    waiting = (name("waits"), name("waits-too"))
    for config in (stays, dies, halfway):
        service.configure(config, model_text="v1")
    for endpoint in (stays, dies):
        service.sm.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)
        service.settled(endpoint)
    pids = [service.invoke(endpoint, "pid") for endpoint in (stays, dies)]
    gates = [folder / job for job in (running, ended, stopping)]
    for job, gate in zip((running, ended, stopping), gates, strict=True):
        service.train(job, "wait:1", Environment={"GATE": str(gate), "STUBBORN": str(int(job == stopping))})
    job_pids = [pid_of(gate) for gate in gates]
    for job in waiting:
        service.train(job)
    service.sm.stop_training_job(TrainingJobName=stopping)
    service.sm.create_endpoint(EndpointName=halfway, EndpointConfigName=halfway)

    service.end(signal.SIGKILL)
    assert all(alive(pid) for pid in job_pids)
    gates[1].touch()
    os.kill(int(pids[1]), signal.SIGKILL)
    wait_for(lambda: not alive(job_pids[1]), "the end of a program while the service is down")

    service.start("--stop-grace=0.2")
    seen = service.sm.describe_training_job(TrainingJobName=running)
    yield Revived(
        service, events, gates[0], running, job_pids[0], seen, ended, stopping, job_pids[2], waiting,
        stays, pids[0], dies, pids[1], halfway,
    )  # fmt: skip
    service.discard()


def test_a_running_job_is_found_again_and_runs_only_once(revived: Revived) -> None:
    service, job = revived.service, revived.running
    assert (revived.seen["TrainingJobStatus"], revived.seen["SecondaryStatus"]) == ("InProgress", "Training")
    revived.gate.touch()
    service.trained(job)
    assert service.text(f"s3://{BUCKET}/trained/{job}/output/model/model.txt") == "done"
    assert pid_of(revived.gate) == revived.running_pid, "the program ran twice"


def test_a_job_that_ended_while_the_service_was_down_is_finished(revived: Revived) -> None:
    revived.service.trained(revived.ended)
    assert revived.service.keys(f"trained/{revived.ended}/output/model/") == ["model.txt"]
    events = revived.events
    told = events.expect(revived.ended, 3)
    assert [event["detail"]["TrainingJobStatus"] for event in told] == ["InProgress", "InProgress", "Completed"]


def test_a_stop_that_was_asked_for_before_the_kill_is_carried_out_after_it(revived: Revived) -> None:
    revived.service.trained(revived.stopping, "Stopped")
    wait_for(lambda: not alive(revived.stopping_pid), "the program's end")


def test_jobs_that_waited_for_a_place_get_one(revived: Revived) -> None:
    for job in revived.waiting:
        revived.service.trained(job)
        assert "model/model.txt" in revived.service.keys(f"trained/{job}/output/")


def test_an_endpoint_answers_again_from_the_same_process(revived: Revived) -> None:
    service, endpoint = revived.service, revived.stays
    assert wait_for(lambda: try_invoke(service, endpoint, "pid"), "an answer") == revived.stays_pid


def test_an_endpoint_whose_process_died_meanwhile_gets_a_new_one(revived: Revived) -> None:
    service, endpoint = revived.service, revived.dies
    assert wait_for(lambda: try_invoke(service, endpoint, "pid"), "an answer") != revived.dies_pid
    assert service.invoke(endpoint, "model") == b"v1"


def test_an_endpoint_that_was_being_created_is_created(revived: Revived) -> None:
    revived.service.settled(revived.halfway)
    assert revived.service.invoke(revived.halfway, "model") == b"v1"


def test_a_job_whose_watcher_was_killed_fails_and_leaves_no_program(jobs: Service, tmp_path: Path) -> None:
    job, gate = name("orphan"), tmp_path / "gate"
    jobs.train(job, "wait:1", Environment={"GATE": str(gate)})
    pid = pid_of(gate)
    wrapper = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(wrapper, signal.SIGKILL)
    reason = jobs.trained(job, "Failed")["FailureReason"]
    assert reason.startswith("InternalServerError: ")
    wait_for(lambda: not alive(pid), "the program's end")


def test_sigterm_leaves_programs_alone_unless_told_otherwise(own_jobs: Service, tmp_path: Path) -> None:
    service, job, gate = own_jobs.start(), name("left"), tmp_path / "gate"
    endpoint = service.configure(name("left"), model_text="v1")
    service.sm.create_endpoint(EndpointName=endpoint, EndpointConfigName=endpoint)
    service.train(job, "wait:1", Environment={"GATE": str(gate)})
    service.settled(endpoint)
    pids = [pid_of(gate), int(service.invoke(endpoint, "pid"))]
    assert service.end() == 0
    assert all(alive(pid) for pid in pids)
    # WHEN it is started with --stop-children-on-exit and ended, THEN the programs end too
    service.start("--stop-children-on-exit")
    assert service.end() == 0
    wait_for(lambda: not any(alive(pid) for pid in pids), "the programs' end")
    # AND the next start says why the job ended and brings the endpoint back
    service.start()
    reason = service.trained(job, "Failed")["FailureReason"]
    assert reason.startswith("InternalServerError: ")
    assert "shut down" in reason
    assert wait_for(lambda: try_invoke(service, endpoint, "model"), "an answer") == b"v1"


def test_events_wait_on_disk_until_the_bus_is_there(tmp_path: Path) -> None:
    # GIVEN a service beside a cloud that is down, and jobs that need no data
    port = free_port()
    service = Service(tmp_path / "home", f"http://127.0.0.1:{port}").start()
    done, failed = name("silent"), name("quiet")
    service.sm.create_processing_job(**processing_request(done))
    service.processed(done)
    service.sm.create_processing_job(**processing_request(failed, "fail:1"))
    assert "DANGLING_EDGE" in service.processed(failed, "Failed")["FailureReason"]
    # THEN no job fails because of it, and nothing is lost
    assert (service.home / "jobs/processing" / failed / "log").read_text() == "about to fail\n"
    assert service.health()["unsent_events"] == 6
    # WHEN the service is killed, between an event's file and its record's, and all is started again
    service.end(signal.SIGKILL)
    early = service.home / f"outbox/{2**62:020d}-processing-{done}.json"
    entry = {"kind": "jobs/processing", "name": done, "revision": 2**62, "last": False, "time": 1.0, "arn": "a"}
    early.write_text(json.dumps({**entry, "detail_type": "never", "detail": {"ProcessingJobName": done}}))
    with ministack(port) as url:
        events = EventLog(url)
        service.start()
        # THEN every event arrives, in order, none is left, and the one of the change that never was is dropped
        told = events.expect(done, 3)
        assert [event["detail"]["ProcessingJobStatus"] for event in told] == ["InProgress", "InProgress", "Completed"]
        wait_for(lambda: service.health()["unsent_events"] == 0, "an empty outbox")
        assert not list((service.home / "outbox").glob("*.json"))
        assert not [event for event in events.received if event["detail-type"] == "never"]
        assert service.end() == 0


def test_two_services_cannot_share_a_home(jobs: Service) -> None:
    second = Service(jobs.home, jobs.cloud_url)
    assert second.launch().wait(20) == 2
    assert "another job service works in" in jobs.log()


@pytest.mark.parametrize("moment", range(0, 40, 2))
def test_a_program_is_known_or_never_begins_whenever_its_watcher_is_killed(tmp_path: Path, moment: int) -> None:
    # GIVEN a program that says who it is, and lives on; WHEN its watcher is killed some milliseconds after its start
    script = f"echo $$ > {tmp_path}/pid; sleep 60"
    child = Child.spawn(
        tmp_path / "control", ["sh", "-c", script], env=dict(os.environ), cwd=tmp_path, log=tmp_path / "log"
    )
    time.sleep(moment / 1000)
    assert child._wrapper is not None
    child._wrapper.kill()
    # THEN the service learns of it, and nothing runs on that it does not know of
    ended = child.wait(10)
    assert ended is not None
    assert ended.lost
    said = tmp_path / "pid"
    text = said.read_text() if said.exists() else ""
    if text.strip():
        wait_for(lambda: not alive(int(text)), "the program's end")


def test_a_child_reports_its_exit_whatever_way_it_ended(tmp_path: Path) -> None:
    def run(stem: str, *argv: str) -> Exit | None:
        log = tmp_path / "log"
        return Child.spawn(tmp_path / stem, argv, env=dict(os.environ), cwd=tmp_path, log=log).wait(10)

    done, killed, missing = run("a", "sh", "-c", "exit 65"), run("b", "sh", "-c", "kill -9 $$"), run("c", "no-such")
    assert done is not None
    assert done.code == 65
    assert killed is not None
    assert killed.code == 137
    assert missing is not None
    assert missing.error == "No such file or directory: no-such"
    # AND a file that is no program is told of
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    refused = run("e", str(broken))
    assert refused is not None
    assert (refused.code, refused.error) == (127, f"Exec format error: {broken}")
    # AND what a program leaves behind dies with it, as in a container
    pid_file = tmp_path / "pid"
    run("d", "sh", "-c", f"sleep 60 & echo $! > {pid_file}")
    wait_for(lambda: not alive(int(pid_file.read_text())), "the end of the program's child")
    # AND an adopted child's exit is the same
    again = Child.adopt(tmp_path / "a")
    assert again is not None
    ended = again.wait(5)
    assert ended is not None
    assert ended.code == 65
    assert Child.adopt(tmp_path / "never") is None


def try_invoke(service: Service, endpoint: str, body: str) -> bytes | None:
    try:
        return service.invoke(endpoint, body)
    except service.runtime.exceptions.ServiceUnavailable:
        return None
    except OSError:
        return None
