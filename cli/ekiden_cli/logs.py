"""Read the log of a run, page by page, and go on reading while it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from ekiden_cli.api import ApiClient, View
from ekiden_cli.console import note, print_json
from ekiden_cli.errors import CliError, Exit
from ekiden_cli.render import RUN_TERMINAL, when
from ekiden_cli.watch import interval


class Tail:
    """Position in a growing log: ``next_page`` returns the lines that were not there before.

    The last page has no token, so it is read again from its beginning, and the lines already seen are left
    out.
    """

    def __init__(self, client: ApiClient, run_id: str, stage: str | None) -> None:
        self._client, self._run_id, self._stage = client, run_id, stage
        self._token: str | None = None
        self._seen = 0
        self.at_end = False

    def next_page(self) -> list[View]:
        """Return new lines; ``at_end`` tells whether there are no more for now."""
        page = self._client.get_logs(self._run_id, stage=self._stage, next_token=self._token)
        lines = list(page.get("lines") or ())
        fresh = lines[self._seen :]
        token = page.get("next_token")
        if token and token != self._token:
            self._token, self._seen, self.at_end = str(token), 0, False
        else:
            self._seen, self.at_end = len(lines), True
        return fresh


def read(
    client: ApiClient,
    run_id: str,
    *,
    stage: str | None,
    follow: bool,
    as_json: bool,
    write: Callable[[str], object],
    pause: float | None = None,
) -> None:
    """Write the log of a run, oldest line first; with ``follow`` until the run has ended."""
    tail = Tail(client, run_id, stage)
    pause = interval(client) if pause is None else pause
    kept: list[View] = []
    count = 0
    ended = not follow
    try:
        while True:
            lines = tail.next_page()
            count += len(lines)
            if as_json and not follow:
                kept += lines
            else:
                for line in lines:
                    write((json.dumps(line, ensure_ascii=False) if as_json else plain(line)) + "\n")
            if not tail.at_end:
                continue
            if ended:
                break
            # Looked at before the last read: whatever was written before the end is on a later page.
            ended = client.get_run(run_id)["status"] in RUN_TERMINAL
            if not ended:
                time.sleep(pause)
    except KeyboardInterrupt:
        note(f"\nthe run goes on; read on with `ekiden logs {run_id} --follow{client.target.flags}`")
        raise CliError("stopped reading", exit_code=Exit.INTERRUPTED, code="INTERRUPTED") from None
    if as_json and not follow:
        print_json({"lines": kept, "next_token": None})
    elif not count and not as_json:
        is_over = client.get_run(run_id)["status"] in RUN_TERMINAL
        note("no log lines" + (f" of stage {stage}" if stage else "") + ("" if is_over else " yet"))


def plain(line: View) -> str:
    """Return ``12:00:01 train   epoch 1/60 …``; the attempt is named from the second on."""
    moment = when(line.get("timestamp"))
    stage = str(line.get("stage", ""))
    attempt = int(line.get("attempt") or 1)
    name = stage if attempt == 1 else f"{stage}/{attempt}"
    return (
        f"{moment:%H:%M:%S} {name:<8} {line.get('message', '')}" if moment else f"{name:<8} {line.get('message', '')}"
    )
