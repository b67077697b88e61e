"""A job's own ``/opt/ml``: where things lie in it, and what the program is told about it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

from .errors import validation

OPT_ML = "/opt/ml"
HOST = "algo-1"
_TEXT_LIMIT = 1024  # of FailureReason and ExitMessage


def check_local_path(path: str, where: str, below: str = OPT_ML) -> None:
    """Refuse a LocalPath outside `below`, which has no place on this machine. Raises ApiError."""
    parts = PurePosixPath(path).parts
    if not (path == below or path.startswith(f"{below}/")) or ".." in parts:
        raise validation(f"Invalid LocalPath '{path[:200]}' at '{where}': LocalPath must be under {below}")


def locate(root: Path, path: str) -> Path:
    """``/opt/ml/…`` within the job's root."""
    return root.joinpath(*PurePosixPath(path).relative_to(OPT_ML).parts)


def relocate(root: Path, word: str) -> str:
    """An argument or a variable's value that is a path under ``/opt/ml``, as a path of this machine."""
    if word == OPT_ML or word.startswith(f"{OPT_ML}/"):
        return str(root) + word[len(OPT_ML) :]
    return word


def make_root(root: Path, *folders: str) -> None:
    """A fresh root with these folders in it."""
    shutil.rmtree(root, ignore_errors=True)
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)


def write_config(root: Path, name: str, value: Any) -> None:
    """One JSON file below the root."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))


def resource_config(instance_type: str) -> dict[str, Any]:
    """``resourceconfig.json``: one host."""
    return {
        "current_host": HOST,
        "current_instance_type": instance_type,
        "current_group_name": "homogeneousCluster",
        "hosts": [HOST],
        "instance_groups": [
            {"instance_group_name": "homogeneousCluster", "instance_type": instance_type, "hosts": [HOST]}
        ],
        "network_interface_name": "lo",
    }


def environment(
    root: Path, *, endpoint_url: str, region: str, own: dict[str, str], user: dict[str, str]
) -> dict[str, str]:
    """The program's environment: this service's, the cloud's address, SageMaker's variables, then the user's."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        **os.environ,
        "PYTHONUNBUFFERED": "1",  # or progress reaches the log only at the end
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        **own,
        **{name: relocate(root, value) for name, value in user.items()},
        "EKIDEN_ML_ROOT": str(root),
    }


def read_text(root: Path, name: str) -> str | None:
    """What the program left in a file such as ``output/failure``, shortened to what the API carries."""
    try:
        with open(root / name, "rb") as file:
            text = file.read(4 * _TEXT_LIMIT).decode(errors="replace")
    except OSError:
        return None
    return text.strip()[:_TEXT_LIMIT] or None


def algorithm_error(text: str, code: int) -> str:
    """FailureReason of a program that failed, in SageMaker's form; the exit code always survives the shortening."""
    suffix = f", exit code: {code}"
    return f"AlgorithmError: {text}"[: _TEXT_LIMIT - len(suffix)] + suffix


def last_line(log: Path) -> str:
    """The last line of a log that is not empty, for programs that leave no failure file."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    except OSError:
        return ""
    return next((line[:400] for line in reversed(lines) if line), "")
