"""From ``--cloud`` and ``--stack`` to a client of the API."""

from __future__ import annotations

import os

from ekiden_cli.api import ApiClient
from ekiden_cli.console import note
from ekiden_cli.target import resolve


def connect(cloud: str | None, stack: str | None, *, announce: bool = False) -> ApiClient:
    """Find the cloud and return a client of its API. Raises ``CliError`` if there is none.

    ``announce`` is for commands that start or change something: they say where, on stderr. Where AWS is used because
    no embedded cloud is running, that is said in any case.
    """
    target = resolve(cloud, stack)
    where = f"stack {target.stack}, {target.region}" if not target.is_local else str(target.endpoint_url)
    if not target.is_local and not (cloud or os.environ.get("EKIDEN_CLOUD")):
        note(f"cloud  AWS ({where}), because no embedded cloud is running")
    elif announce:
        note(f"cloud  {target.name} ({where})")
    return ApiClient(target)
