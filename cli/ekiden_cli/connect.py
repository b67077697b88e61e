"""From ``--cloud`` and ``--stack`` to a client of the API."""

from __future__ import annotations

from ekiden_cli.api import ApiClient
from ekiden_cli.target import resolve


def connect(cloud: str | None, stack: str | None) -> ApiClient:
    """Find the cloud and return a client of its API. Raises ``CliError`` if there is none."""
    return ApiClient(resolve(cloud, stack))
