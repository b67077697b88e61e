"""``python -m ekiden_local.jobs --port P --home DIR``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from .config import Settings
from .images import ENGINE, ImageTable, from_file, from_option
from .service import HomeInUse, JobService

_USAGE = 2
_log = logging.getLogger("ekiden_local.jobs")


def main(arguments: list[str] | None = None) -> int:
    """Run the service until SIGTERM or SIGINT. Returns the exit code: 0, or 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)
    if options.lifeline:
        threading.Thread(target=_end_with_stdin, name="lifeline", daemon=True).start()
    if not options.endpoint_url:
        # Without it boto3 would talk to the real AWS, with whatever credentials this machine has.
        parser.error("give --endpoint-url or AWS_ENDPOINT_URL: where S3, EventBridge and CloudWatch Logs are")
    try:
        service = JobService(_settings(options))
    except (ValueError, HomeInUse, OSError) as error:
        sys.stderr.write(f"ekiden_local.jobs: {error}\n")
        return _USAGE
    # A descriptor, not an Event: a handler that runs while the main thread enters Event.wait() deadlocks on its lock.
    told, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    threading.Thread(target=service.serve, name="http", daemon=True).start()
    _log.info("listening on http://%s:%d, home %s", options.host, service.port, options.home)
    told.recv(1)
    service.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ekiden_local.jobs", description="SageMaker's API on this machine.")
    add = parser.add_argument
    add("--port", type=int, required=True, help="0 chooses a free one")
    add("--home", type=Path, required=True, help="folder for all state; one service at a time")
    add("--host", default="127.0.0.1")
    add(
        "--endpoint-url",
        default=os.environ.get("AWS_ENDPOINT_URL", ""),
        help="S3, events, logs [AWS_ENDPOINT_URL]",
    )
    add("--region", default=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"))
    add("--account", default="000000000000")
    add(
        "--image",
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="command for an image; repeatable",
    )
    add("--images", type=Path, metavar="FILE", help="TOML or JSON file with a table 'images'")
    add("--max-jobs", type=int, default=2, help="jobs at a time [2]")
    add("--stop-grace", type=float, default=120.0, help="s between SIGTERM and SIGKILL for jobs [120]")
    add("--endpoint-stop-grace", type=float, default=30.0, help="the same for endpoints [30]")
    add("--health-timeout", type=float, default=240.0, help="s for an endpoint to answer /ping [240]")
    add("--keep-roots", action="store_true", help="keep /opt/ml of jobs that completed")
    add("--stop-children-on-exit", action="store_true", help="end jobs and endpoints on SIGTERM")
    add("--lifeline", action="store_true", help="end at once, sparing programs, when standard input ends")
    add("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    return parser


def _end_with_stdin() -> None:
    """For a service that somebody keeps: end as by SIGKILL, which costs nothing, when that somebody is gone."""
    while os.read(0, 4096):
        continue
    os._exit(1)


def _settings(options: argparse.Namespace) -> Settings:
    if options.max_jobs < 1:
        raise ValueError("--max-jobs must be at least 1")
    images = [from_option(option) for option in options.image]
    if options.images is not None:
        images += from_file(options.images)
    return Settings(
        home=options.home.resolve(),
        images=ImageTable((*images, ENGINE)),
        endpoint_url=options.endpoint_url,
        host=options.host,
        port=options.port,
        region=options.region,
        account=options.account,
        max_jobs=options.max_jobs,
        stop_grace=options.stop_grace,
        endpoint_stop_grace=options.endpoint_stop_grace,
        health_timeout=options.health_timeout,
        keep_roots=options.keep_roots,
        stop_children_on_exit=options.stop_children_on_exit,
    )


if __name__ == "__main__":
    sys.exit(main())
