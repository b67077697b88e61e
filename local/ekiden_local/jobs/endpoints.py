"""Endpoints: create, update blue/green, delete, and take up again after a restart."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .config import Settings
from .errors import JobFailure, validation
from .logs import LogShipper
from .records import EndpointRecord, EndpointStatus
from .s3 import Store
from .serving import Server
from .table import Table

_log = logging.getLogger(__name__)
_IN_PROGRESS = frozenset({EndpointStatus.CREATING, EndpointStatus.UPDATING, EndpointStatus.DELETING})


class EndpointManager:
    """Keeps the processes of all endpoints in step with their records."""

    def __init__(self, settings: Settings, table: Table[EndpointRecord], store: Store, logs: LogShipper) -> None:
        self._settings = settings
        self._table = table
        self._store = store
        self._logs = logs
        self._lock = threading.Lock()
        self._serving: dict[str, Server] = {}
        self._coming: dict[str, Server] = {}
        self._closing = False

    def server(self, name: str) -> Server | None:
        """What answers for an endpoint now."""
        return self._serving.get(name)

    def create(self, name: str, request: dict[str, Any], deployment: dict[str, Any], tags: dict[str, str]) -> str:
        """CreateEndpoint; returns the ARN. Raises ApiError where the name is taken."""
        now = time.time()
        arn = self._settings.arn("endpoint", name)
        record = EndpointRecord(
            name=name,
            arn=arn,
            request=request,
            created_at=now,
            modified_at=now,
            tags=tags,
            target=1,
            deployments={"1": {**deployment, "at": now, "stream": _stream(deployment)}},
        )
        if not self._table.create(record):
            raise validation(f'Cannot create already existing endpoint "{arn}".')
        self._in_background(self._deploy, name)
        return arn

    def update(self, name: str, request: dict[str, Any], deployment: dict[str, Any]) -> str:
        """UpdateEndpoint: the new deployment comes up beside the old one. Returns the ARN. Raises ApiError."""

        def begin(record: EndpointRecord) -> EndpointRecord:
            _refuse_in_progress(record)
            if record.status == EndpointStatus.FAILED:
                raise validation(
                    f'Cannot update endpoint "{record.arn}" in status Failed: delete it and create it again.'
                )
            target = max(int(number) for number in record.deployments) + 1
            now = time.time()
            return replace(
                record,
                request={**record.request, **request},
                status=EndpointStatus.UPDATING,
                failure_reason=None,
                target=target,
                deployments={
                    str(record.generation): record.deployments[str(record.generation)],
                    str(target): {**deployment, "at": now, "stream": _stream(deployment)},
                },
            )

        record = self._change(name, begin)
        self._in_background(self._deploy, name)
        return record.arn

    def delete(self, name: str) -> None:
        """DeleteEndpoint. Raises ApiError."""

        def begin(record: EndpointRecord) -> EndpointRecord:
            _refuse_in_progress(record)
            return replace(record, status=EndpointStatus.DELETING)

        self._change(name, begin)
        self._in_background(self._remove, name)

    def recover(self) -> None:
        """Take up every endpoint that an earlier service left."""
        for record in self._table.all():
            if record.status == EndpointStatus.DELETING:
                self._in_background(self._remove, record.name)
            elif record.status != EndpointStatus.FAILED:
                self._in_background(self._resume, record.name)

    def close(self, *, stop_children: bool) -> None:
        """Change nothing more; with `stop_children` end the serving processes. The next start brings them up again."""
        with self._lock:
            self._closing = True
            servers = [*self._serving.values(), *self._coming.values()]
        if stop_children:
            threads = [threading.Thread(target=server.stop, args=(5.0,), daemon=True) for server in servers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10.0)

    def _change(self, name: str, change: Callable[[EndpointRecord], EndpointRecord]) -> EndpointRecord:
        try:
            return self._table.update(name, change)
        except KeyError:
            raise validation(f'Could not find endpoint "{self._settings.arn("endpoint", name)}".') from None

    def _in_background(self, work: Callable[[str], None], name: str) -> None:
        def guarded() -> None:
            try:
                work(name)
            except Exception:  # noqa: BLE001 - the end of a thread; the record says what is still to be done
                _log.exception("endpoint %s", name)

        threading.Thread(target=guarded, name=f"endpoint {name}", daemon=True).start()

    def _new_server(self, record: EndpointRecord, generation: int) -> Server:
        return Server(
            self._table.folder(record.name) / f"g{generation}",
            record.name,
            record.deployments[str(generation)],
            self._settings,
            self._logs,
            lambda server, reason: self._died(record.name, server, reason),
        )

    def _deploy(self, name: str) -> None:
        """Bring the target up; then, and only then, send the traffic there and end what served before."""
        record = self._table.get(name)
        if record is None or not record.target:
            return
        server = self._new_server(record, record.target)
        with self._lock:
            if self._closing:
                return
            self._coming[name] = server
        try:
            server.fetch(self._store)
            server.start()
        except Exception as error:  # noqa: BLE001 - any fault ends this deployment, and only this one
            self._failed(record, server, error)
            return
        with self._lock:
            self._coming.pop(name, None)
            before = self._serving.get(name)
            self._serving[name] = server
        self._table.update(
            name,
            lambda old: replace(
                old,
                status=EndpointStatus.IN_SERVICE,
                generation=old.target,
                target=0,
                failure_reason=None,
                deployments={str(old.target): old.deployments[str(old.target)]},
            ),
        )
        if before is not None:
            before.drain(self._settings.invocation_timeout)
            before.stop(self._settings.endpoint_stop_grace)
            before.discard()

    def _failed(self, record: EndpointRecord, server: Server, error: Exception) -> None:
        with self._lock:
            self._coming.pop(record.name, None)
            if self._closing:
                return  # the next service tries again
        if not isinstance(error, JobFailure):
            _log.exception("endpoint %s", record.name, exc_info=error)
        reason = error.reason if isinstance(error, JobFailure) else f"InternalServerError: {type(error).__name__}"
        server.stop(0.0)

        with self._lock:
            before = self._serving.get(record.name)
        nothing_serves = before is None or before.given_up

        def end(old: EndpointRecord) -> EndpointRecord:
            if nothing_serves:
                return replace(
                    old,
                    status=EndpointStatus.FAILED,
                    failure_reason=reason,
                    target=0 if old.generation else 1,
                )
            # The old deployment has been serving all the while.
            return replace(
                old,
                status=EndpointStatus.IN_SERVICE,
                target=0,
                failure_reason=reason,
                deployments={str(old.generation): old.deployments[str(old.generation)]},
            )

        after = self._table.update(record.name, end)
        if after.generation:
            server.discard()

    def _resume(self, name: str) -> None:
        record = self._table.get(name)
        if record is None:
            return
        keep = {record.generation, record.target}
        for folder in self._table.folder(name).glob("g*"):
            # A deployment that was replaced, or given up, just before the service went down.
            if int(folder.name[1:]) not in keep:
                old = Server(folder, name, record.shown, self._settings, self._logs, lambda *_: None)
                old.stop(0.0)
                old.discard()
        if record.generation:
            server = self._new_server(record, record.generation)
            with self._lock:
                self._serving[name] = server
            try:
                server.start(adopt=True)
            except JobFailure as failure:
                self._died(name, server, failure.reason)
        if record.target:
            self._deploy(name)

    def _remove(self, name: str) -> None:
        record = self._table.get(name)
        with self._lock:
            server = self._serving.pop(name, None)
        if server is None and record is not None:
            server = self._new_server(record, record.generation or record.target)
        if server is not None:
            server.stop(self._settings.endpoint_stop_grace)
        self._table.delete(name)

    def _died(self, name: str, server: Server, reason: str) -> None:
        """The serving process ended and cannot be brought back."""
        with self._lock:
            if self._closing or self._serving.get(name) is not server:
                return
        self._table.update(
            name,
            lambda old: (
                replace(old, status=EndpointStatus.FAILED, failure_reason=reason)
                if old.status == EndpointStatus.IN_SERVICE
                else old
            ),
        )


def _refuse_in_progress(record: EndpointRecord) -> None:
    if record.status in _IN_PROGRESS:
        raise validation(f'Cannot update in-progress endpoint "{record.arn}".')


def _stream(deployment: dict[str, Any]) -> str:
    return f"{deployment['variant']['VariantName']}/i-{secrets.token_hex(8)}"
