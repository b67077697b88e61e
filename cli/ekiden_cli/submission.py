"""A spec on its way to the API: what it predicts in words, its local folders uploaded, the document submitted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ekiden_cli.console import err, note

if TYPE_CHECKING:
    from ekiden.contracts.spec import PipelineSpec
    from ekiden.contracts.spec_targets import Target
    from ekiden_cli.api import ApiClient, View
    from ekiden_cli.graphs import SpecFile


def predicts(target: Target) -> str:
    """Return what a target asks for: ``predict topic of paper (node classification)``."""
    from ekiden.contracts.tasks import Task

    if target.task is Task.LINK_PREDICTION:
        return f"predict links: {target.subject}"
    return f"predict {target.property} of {target.subject} ({target.task.replace('_', ' ')})"


def predictions(spec: PipelineSpec) -> str:
    """Return what a spec asks for and of which model, a line per target."""
    said = [predicts(target) for target in spec.predicts]
    return "\n       ".join(said) + f", with model {spec.model.name}"


def submit(client: ApiClient, found: SpecFile, request_id: str | None = None) -> View:
    """Upload the local graph and scripts of a spec, if it has any, and submit the spec; return the API's answer.

    The same ``request_id`` with the same spec, graph and scripts gives the same run.
    """
    note(f"target {predictions(found.spec)}")
    document = found.spec.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    if found.folder is not None:
        uri = upload(client, found.spec.name, found.files(), "graph")
        document["graph"] = {**document["graph"], "source": uri}
    if found.scripts is not None:
        uri = upload(client, found.spec.name, found.script_files(), "model")
        document["model"] = {**document["model"], "source": uri}
    return client.submit_run(document, request_id)


def upload(client: ApiClient, name: str, files: Sequence[tuple[str, Path]], what: Literal["graph", "model"]) -> str:
    """Upload files below a prefix named after their content, such as ``graphs/<name>-<hash>/``; return its address.

    What is there already is not sent again.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from ekiden_cli.storage import content_prefix, upload_folder

    prefix = content_prefix(name, files, kind=f"{what}s")
    began = time.monotonic()
    columns = (TextColumn(f"uploading the {what}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=err(), transient=True) as bar:
        task = bar.add_task("upload", total=None)
        done = upload_folder(
            client.target,
            files,
            prefix,
            progress=lambda sent, total: bar.update(task, completed=sent, total=total),
        )
    sent = f"{done.sent} of {len(files)} files" if done.sent else "nothing new"
    note(f"{what}  {done.uri}  ({sent}, {done.size / 1e6:.1f} MB, {time.monotonic() - began:.1f} s)")
    return done.uri
