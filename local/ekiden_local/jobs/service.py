"""Puts the parts together."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from typing import Any

from . import tuning_views, views
from .aws import connect
from .config import Settings
from .endpoints import EndpointManager
from .errors import ApiError, clip
from .events import Announcement, Outbox
from .hosting import HostingApi, Operation
from .jobs_api import JobApi, wording_of
from .kinds import JobKind
from .logs import LogShipper
from .processing import Processing
from .records import EndpointRecord, JobRecord, Kind, Record, TuningRecord
from .runner import JobRunner
from .s3 import Store
from .server import JobServer
from .shapes import check, operation, service_model
from .table import Announce, Table
from .tags import TagApi
from .training import Training
from .tuner import Tuner
from .tuning_api import TuningApi

_CLOSE_LIMIT = 10.0
_FLUSH_LIMIT = 3.0


class HomeInUse(Exception):
    """Another job service works on the same home folder."""


class JobService:
    """The whole service on one home folder."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        settings.home.mkdir(parents=True, exist_ok=True)
        self._lock = _lock_home(settings)
        clients = connect(settings.endpoint_url, settings.region)
        self._outbox = Outbox(settings.home / "outbox")
        kinds: dict[Kind, JobKind] = {Kind.TRAINING: Training(), Kind.PROCESSING: Processing()}
        announce: dict[Kind, Announce[JobRecord]] = {
            Kind.TRAINING: views.announce_training,
            Kind.PROCESSING: views.announce_processing,
        }
        jobs = {kind: self._table(kind, JobRecord, announce[kind]) for kind in kinds}
        tunings = self._table(Kind.TUNING, TuningRecord, tuning_views.announce)
        models = self._table(Kind.MODEL, Record, None)
        configs = self._table(Kind.CONFIG, Record, None)
        endpoints = self._table(Kind.ENDPOINT, EndpointRecord, views.announce_endpoint)
        tables: dict[Kind, Table[Any]] = {
            **jobs,
            Kind.TUNING: tunings,
            Kind.MODEL: models,
            Kind.CONFIG: configs,
            Kind.ENDPOINT: endpoints,
        }
        store = Store(clients.s3, settings.region)
        self._logs = LogShipper(clients.logs)
        self._runner = JobRunner(settings, jobs, kinds, store, self._logs)
        self._manager = EndpointManager(settings, endpoints, store, self._logs)
        hosting = HostingApi(settings, models, configs, endpoints, self._manager)
        self._operations: dict[str, Operation] = {
            **hosting.operations(),
            **TagApi(list(tables.values())).operations(),
        }
        apis = {
            kind: JobApi(settings, job_kind, jobs[kind], self._runner, wording_of(kind))
            for kind, job_kind in kinds.items()
        }
        for api in apis.values():
            self._operations.update(api.operations())
        self._tuner = Tuner(
            tunings,
            jobs[Kind.TRAINING],
            create=apis[Kind.TRAINING].create,
            stop=lambda name: self._runner.stop(Kind.TRAINING, name),
        )
        self._operations.update(TuningApi(settings, tunings, self._tuner).operations())
        service_model()  # read now, not within the first request
        self._started = time.time()
        try:
            self._http = JobServer((settings.host, settings.port), self.call, hosting.find_server, self.health)
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise OSError(f"cannot listen on {where} ({error.strerror}): choose another --port") from error
        self._outbox.recover(lambda kind, name: tables[kind].get(name))
        self._outbox.start(clients.events)
        self._runner.recover()
        self._tuner.recover()
        self._manager.recover()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._http.server_address[1])

    def serve(self) -> None:
        """Answer requests until `close`."""
        self._http.serve_forever(poll_interval=0.1)

    def call(self, name: str, request: dict[str, Any]) -> dict[str, Any] | None:
        """One API call. Raises ApiError."""
        run = self._operations.get(name)
        if run is None:
            known = "is not one of SageMaker's" if operation(name) is None else "is not provided locally"
            raise ApiError(
                "UnknownOperationException",
                f"The operation {clip(name, 64)} {known}. Provided: {', '.join(sorted(self._operations))}",
            )
        check(name, request)
        return run(request)

    def health(self) -> dict[str, Any]:
        """GET /health."""
        return {
            "status": "ok",
            "pid": os.getpid(),
            "started_at": self._started,
            "region": self.settings.region,
            "account": self.settings.account,
            "endpoint_url": self.settings.endpoint_url,
            "jobs": self._runner.counts(),
            "unsent_events": self._outbox.unsent(),
        }

    def close(self) -> None:
        """Stop in order. Programs go on and are found again by the next start, unless the settings say otherwise."""
        stop_children = self.settings.stop_children_on_exit
        self._http.shutdown()
        self._http.server_close()
        hosting = threading.Thread(target=self._manager.close, kwargs={"stop_children": stop_children}, daemon=True)
        hosting.start()
        self._tuner.close(_FLUSH_LIMIT)
        self._runner.close(stop_children=stop_children, timeout=_CLOSE_LIMIT)
        hosting.join(_CLOSE_LIMIT)
        self._logs.close(_FLUSH_LIMIT)
        self._outbox.close(_FLUSH_LIMIT)
        os.close(self._lock)

    def _table(self, kind: Kind, cls: Any, announce: Any) -> Table[Any]:
        return Table(self.settings.home, kind, cls, self._outbox, announce)


def _lock_home(settings: Settings) -> int:
    lock = os.open(settings.home / "service.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise HomeInUse(f"another job service works in {settings.home}: stop it, or choose another --home") from None
    return lock


__all__ = ["Announcement", "HomeInUse", "JobService"]
