"""What is known about an embedded cloud: its folder, its `cloud.json`, and where the project's tools are."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

REGION = "us-east-1"
ACCOUNT = "000000000000"
# MiniStack's account root. Any other key it knows is checked, and the policies behind it are enforced.
ACCESS_KEY = "test"
SECRET_KEY = "test"  # noqa: S105 - public, valid on the loopback interface of this machine only
STACK = "ekiden"

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class CloudError(Exception):
    """Something about the embedded cloud that a person can put right.

    `remedy` says how, in one or two sentences.
    """

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Cloud:
    """A deployed embedded cloud, as `cloud.json` holds it.

    `pids` and `ports` have the keys `ministack` and `jobs`. `build` is the digest of the deployed code.
    """

    name: str
    home: str
    endpoint_url: str
    sagemaker_url: str
    region: str
    account: str
    access_key: str
    secret_key: str
    stack: str
    api_id: str
    api_url: str
    data_bucket: str
    ledger_table: str
    event_bus: str
    score_queue_url: str
    auth: bool
    build: str
    pids: Mapping[str, int] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)

    def session_env(self) -> dict[str, str]:
        """Environment under which boto3, the AWS CLI and SAM talk to this cloud and to nothing else."""
        return session_env(self.endpoint_url, self.sagemaker_url)


def session_env(endpoint_url: str, sagemaker_url: str) -> dict[str, str]:
    """As `Cloud.session_env`, for a cloud that is still being deployed."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_ENDPOINT_URL_SAGEMAKER": sagemaker_url,
        "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": sagemaker_url,
        "AWS_EC2_METADATA_DISABLED": "true",
        # A proxy configured for the outside world has nothing to say about this machine.
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one embedded cloud, `<EKIDEN_HOME>/<name>/`."""

    root: Path
    name: str

    @property
    def path(self) -> Path:
        """Everything that belongs to this cloud."""
        return self.root / self.name

    @property
    def lock(self) -> Path:
        """Held by whoever starts or stops this cloud; beside its folder, because a purge removes that."""
        return self.root / ".locks" / self.name

    @property
    def cloud_json(self) -> Path:
        """Written last, when the stack is deployed."""
        return self.path / "cloud.json"

    @property
    def ministack(self) -> Path:
        """MiniStack's saved state and S3 objects."""
        return self.path / "ministack"

    @property
    def jobs(self) -> Path:
        """The job service's records and job trees."""
        return self.path / "jobs"

    @property
    def logs(self) -> Path:
        """One log file per process and per step."""
        return self.path / "logs"

    def pid_file(self, service: str) -> Path:
        """Where the daemon `service` is recorded."""
        return self.path / f"{service}.pid"


def home_of(name: str, home: str | Path | None = None) -> Home:
    """The folder of the cloud `name` under `home`, `EKIDEN_HOME` or `.ekiden` in the project, in that order.

    Raises CloudError for a name that cannot be a folder's.
    """
    if not _NAME.fullmatch(name):
        raise CloudError(
            f"{name[:40]!r} cannot be the name of a cloud.",
            "Use up to 32 lower-case letters, digits and hyphens, beginning with a letter or digit.",
        )
    if name == "aws":
        raise CloudError("'aws' cannot be the name of an embedded cloud: `--cloud aws` is AWS.", "Choose another name.")
    chosen = home or os.environ.get("EKIDEN_HOME") or project_root() / ".ekiden"
    return Home(Path(chosen).expanduser().resolve(), name)


def project_root() -> Path:
    """The checkout with template.yaml: the one this package was installed from, or the current folder's."""
    for folder in (Path(__file__).resolve().parents[2], Path.cwd(), *Path.cwd().parents):
        if (folder / "template.yaml").is_file():
            return folder
    raise CloudError(
        "There is no template.yaml where ekiden was installed from, nor above the current folder.",
        "Change into a checkout of Ekiden and install it with `make setup`.",
    )


def read_cloud(home: Home) -> Cloud | None:
    """The cloud recorded in `home`, or None where none is, or where the file cannot be read."""
    try:
        raw: Any = json.loads(home.cloud_json.read_text(encoding="utf-8"))
        return Cloud(**{f.name: raw[f.name] for f in fields(Cloud)})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def write_cloud(home: Home, cloud: Cloud) -> None:
    """Record `cloud`; a reader sees the old file or the new one, never half of one."""
    write_text(home.cloud_json, json.dumps(asdict(cloud), indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a small file atomically; readable by its owner only, because it may hold keys."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; others wait. The system lets go of it when this process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
