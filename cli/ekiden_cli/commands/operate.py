"""``cancel``, ``retry``, ``redrive``: what operators do. The API puts down who did it, and the reason they give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ekiden_cli.commands.runs import STAGES, follow_to_end, named
from ekiden_cli.console import command, err, note, out, print_json
from ekiden_cli.errors import CliError, Exit, usage
from ekiden_cli.options import Cloud, Json, Reason, RunId, Stack

if TYPE_CHECKING:
    from ekiden_cli.api import ApiClient, View

Queue = Annotated[
    str | None,
    typer.Argument(metavar="QUEUE", help="Scores, JobEvents, ExportWork, …, LedgerPublish; default: all of them."),
]


@command
def cancel(
    run_id: RunId,
    reason: Reason = "",
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until its job was seen to have stopped.")] = False,
    cloud: Cloud = None,
    stack: Stack = None,
    json_output: Json = False,
) -> None:
    """Cancel a run: nothing more is started for it, and its job is stopped.

    The run is CANCELLING until the job was seen to have stopped, then CANCELLED. Asking again changes nothing.
    Exit code 1 if the run is over already. `ekiden retry` lets it go on later.

    Examples:

        ekiden cancel latest --reason "wrong graph" --wait

        ekiden cancel movielens-20261120-101500-abcdef --json
    """
    from ekiden_cli.connect import connect

    client = connect(cloud, stack, announce=True)
    run_id = named(client, run_id)
    answer = client.cancel_run(run_id, reason=reason)
    status = str(answer["status"])
    if status not in ("CANCELLING", "CANCELLED"):
        raise CliError(f"run {run_id} is {status} already: there is nothing to cancel", code="ALREADY_OVER")
    if status == "CANCELLING" and not json_output:
        for line in _being_stopped(client.get_run(run_id)):
            note(line)
    if wait:
        from ekiden_cli.watch import follow

        answer = follow(client, run_id)
    if json_output:
        print_json(answer)
        return
    out().print(f"{run_id} {answer['status']}", markup=False, soft_wrap=True)
    if answer["status"] == "CANCELLING":
        note(f"next  ekiden watch {run_id}{client.target.flags}")
    else:
        note(f"next  ekiden retry {run_id}{client.target.flags}")


@command
def retry(
    run_id: RunId,
    stage: Annotated[
        str | None, typer.Option("--from", metavar="STAGE", help="Begin at export, process, train or deploy.")
    ] = None,
    reason: Reason = "",
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow the run to its end.")] = False,
    cloud: Cloud = None,
    stack: Stack = None,
    json_output: Json = False,
) -> None:
    """Let a failed or cancelled run go on at the stage where it ended; what succeeded before is used again.

    What earlier stages left is checked first: if somebody has changed it, the retry is refused and says from which
    stage to begin. With --from, a run that succeeded can be repeated from a stage too.

    Examples:

        ekiden retry latest --watch

        ekiden retry latest --from train --reason "more memory"
    """
    if stage is not None and stage not in STAGES:
        raise usage(f"there is no stage {stage[:40]!r}", f"use one of {', '.join(STAGES)}")
    from ekiden_cli.connect import connect

    client = connect(cloud, stack, announce=True)
    run_id = named(client, run_id)
    answer = client.retry_run(run_id, stage=stage, reason=reason)
    if watch:
        note(f"{run_id} goes on at {answer.get('stage')}")
        follow_to_end(client, run_id, json_output)
    elif json_output:
        print_json(answer)
    else:
        out().print(f"{run_id} goes on at {answer.get('stage')}", markup=False, soft_wrap=True)
        note(f"next  ekiden watch {run_id}{client.target.flags}")


@command
def redrive(
    queue: Queue = None,
    reason: Reason = "",
    cloud: Cloud = None,
    stack: Stack = None,
    json_output: Json = False,
) -> None:
    """Send parked messages to their queues again, from one dead-letter queue or from all.

    Mend what made them fail first. Repeating it is safe: whoever handles a message knows what was done before. What
    is no message of Ekiden stays; what fails again is parked again, and left for the next time.

    Examples:

        ekiden redrive

        ekiden redrive Scores --reason "endpoint is back"
    """
    from ekiden_cli.connect import connect

    client = connect(cloud, stack, announce=True)
    with err().status("redriving …") as status:
        report: dict[str, Any] = {}
        for report in _redriven(client, queue, reason):
            done, left = (sum(q[name] for q in report["queues"]) for name in ("redriven", "remaining"))
            status.update(f"redriving  {done:,} sent" + (f", about {left:,} left" if left else ""))
    is_stuck = any(q["remaining"] for q in report["queues"])
    if json_output:
        print_json(report)
        raise typer.Exit(int(Exit.FAILED if is_stuck else Exit.DONE))
    _show(report)
    if is_stuck:
        raise CliError(
            "a whole call sent nothing again, and the queue still has messages",
            hint="they are no messages of Ekiden: look at them, then delete them",
            code="NOTHING_MOVES",
        )


def _being_stopped(run: View) -> Iterator[str]:
    """Yield what is being stopped, in words."""
    for stage in run.get("stages", ()):
        if stage["status"] in ("STARTING", "RUNNING") and stage.get("attempts"):
            yield f"stopping {stage['name']}: {stage['attempts'][-1]['job']}"
        if stage["status"] == "STARTING":
            # Whoever was about to create it when the cancel came may still do so, and then it is stopped too.
            yield "its job may not exist yet: in four minutes at most nobody can create it any more"


def _redriven(client: ApiClient, queue: str | None, reason: str) -> Iterator[dict[str, Any]]:
    """Yield the report of all calls so far, after each, until nothing is left or a call gets nowhere."""
    total: dict[str, dict[str, Any]] = {}
    before: str | None = None
    while True:
        answer = client.redrive(queue, reason=reason, before=before)
        before = str(answer["before"])
        moved = 0
        for found in answer["queues"]:
            moved += found["redriven"]
            so_far = total.setdefault(found["queue"], dict(found) | {"redriven": 0})
            so_far["redriven"] += found["redriven"]
            so_far["remaining"] = found["remaining"]
            # A later call meets messages again that an earlier one left where they are.
            for name in ("kept", "later"):
                so_far[name] = max(so_far[name], found[name])
            so_far["reasons"] = so_far["reasons"] or found["reasons"]
        yield {"queues": list(total.values()), "before": before}
        if not moved or not any(found["remaining"] for found in answer["queues"]):
            return


def _show(report: View) -> None:
    from ekiden_cli.render import redriven_table

    concerned = [q for q in report["queues"] if q["redriven"] or q["kept"] or q["later"] or q["remaining"]]
    if not concerned:
        note("no parked messages")
        return
    out().print(redriven_table(concerned))
    for queue in concerned:
        for why in queue["reasons"]:
            note(f"kept in {queue['queue']}: {why}")
        if queue["later"]:
            note(f"parked again in {queue['queue']}: the log of the queue's function says why")
