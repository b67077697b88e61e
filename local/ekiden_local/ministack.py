"""MiniStack as a daemon: how it is configured here, and what has to be put right around it.

Its known gaps, and what we do about each, are in docs/adr/0009-ministack-and-its-gaps.md.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from . import daemon
from .state import ACCESS_KEY, ACCOUNT, REGION, SECRET_KEY, CloudError, Home, session_env

VERSION = "1.5.33"
SAM_TRANSLATOR_VERSION = "1.115.0"
_START_LIMIT = 30.0  # seconds; half a second is usual
STOP_LIMIT = 20.0  # saving its state takes about two

# What a daemon may know of the caller's environment. Lambda workers inherit MiniStack's, and jobs the job
# service's: nobody's cloud credentials, tokens or proxies belong there.
_KEPT = ("HOME", "LANG", "LC_ALL", "TZ", "USER", "OMP_NUM_THREADS")


def interpreter(project: Path) -> Path:
    """The Python of MiniStack's own environment. Raises CloudError where it is missing."""
    found = project / ".tools" / "ministack" / "bin" / "python"
    if not found.exists():
        raise CloudError("MiniStack is not installed.", "Run `make setup`: it creates .tools/ministack.")
    return found


def base_environment(path_first: Path | None = None) -> dict[str, str]:
    """A small environment for daemons; `path_first` goes in front of PATH."""
    env = {key: os.environ[key] for key in _KEPT if key in os.environ}
    path = os.environ.get("PATH", os.defpath)
    env["PATH"] = f"{path_first}{os.pathsep}{path}" if path_first else path
    return env


def environment(home: Home, port: int, jobs_port: int, *, auth: bool) -> dict[str, str]:
    """Environment of the MiniStack process, which its Lambda workers inherit."""
    temporary = home.ministack / "tmp"
    env = base_environment()
    # The same variables as for any client: the functions find the SageMaker API by them, without an `if local`.
    env.update(session_env(url(port), url(jobs_port)))
    env.update(
        GATEWAY_PORT=str(port),
        BIND_HOST="127.0.0.1",
        MINISTACK_REGION=REGION,
        MINISTACK_ACCOUNT_ID=ACCOUNT,
        AUTH="true" if auth else "false",
        # Everything survives `ekiden down`: MiniStack saves its state when it is asked to end.
        PERSIST_STATE="1",
        STATE_DIR=str(home.ministack / "state"),
        S3_PERSIST="1",
        S3_DATA_DIR=str(home.ministack / "s3"),
        TMPDIR=str(temporary),
        # Listeners on fixed ports would keep a second cloud from starting.
        IOT_MTLS_ENABLED="0",
        SFTP_ENABLED="0",
        # At INFO it logs each function's output once more, on top of CloudWatch Logs.
        LOG_LEVEL="WARNING",
        # Workers unpack their code into a new folder at each cold start: nobody reads bytecode written there.
        PYTHONDONTWRITEBYTECODE="1",
    )
    env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"] = ACCESS_KEY, SECRET_KEY
    return env


def url(port: int) -> str:
    """Where a service of this machine listens; by address, because the data bucket's policy trusts loopback."""
    return f"http://127.0.0.1:{port}"


def start(home: Home, project: Path, port: int, jobs_port: int, *, auth: bool) -> int:
    """Start MiniStack and wait until it answers; returns its pid. Raises CloudError with the log's end."""
    # What workers of an earlier process left behind.
    shutil.rmtree(home.ministack / "tmp", ignore_errors=True)
    (home.ministack / "tmp").mkdir(parents=True)
    forget_stream_positions(home)
    log = home.logs / "ministack.log"
    pid = daemon.spawn(
        [str(interpreter(project)), "-m", "ministack"],
        env=environment(home, port, jobs_port, auth=auth),
        cwd=home.ministack,
        log=log,
        pid_file=home.pid_file("ministack"),
    )
    daemon.await_healthy("MiniStack", pid, f"{url(port)}/_ministack/health", log, limit=_START_LIMIT)
    return pid


def forget_stream_positions(home: Home) -> None:
    """Let stream readers begin anew after a restart.

    MiniStack saves how far each event source mapping has read a table's stream, but not the stream: after a
    restart the stream is empty and a reader would wait at a position that is reached again only after as many
    writes as before, with every event in between lost. Without a saved position it begins at the new start.
    """
    saved = home.ministack / "state" / "lambda.json"
    try:
        state = json.loads(saved.read_text(encoding="utf-8"))
        if state["payload"].pop("dynamodb_stream_positions", None) is None:
            return
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CloudError(
            f"The saved state of the cloud cannot be read: {saved}.",
            f"Remove all that this cloud holds with `ekiden down --purge --name {home.name}` and start again.",
        ) from error
    saved.write_text(json.dumps(state), encoding="utf-8")
