"""The demo: one command from nothing to predictions, with what each step took."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from ekiden_cli.api import ApiClient, View
from ekiden_cli.errors import CliError
from ekiden_cli.gremlin import GraphFolder
from ekiden_cli.storage import download, list_objects, split_uri

USERS, CANDIDATES, SHOWN = 3, 100, 4
UNKNOWN_USER = "user-unknown"
_FILES = {"report": "report.html", "evaluation": "evaluation.json", "predictions": "predictions.parquet"}


@dataclass(slots=True)
class Clock:
    """Names and seconds of the steps, in order; ``say`` announces each."""

    say: Callable[[str], None]
    steps: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step; it is recorded even if it fails."""
        self.say(name)
        began = time.monotonic()
        try:
            yield
        finally:
            self.steps[name] = time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Prediction:
    """One line of the demo's table."""

    user: str
    movie: str
    title: str
    predicted: float | None
    status: str


def make_graph(data: Path | None, folder: Path) -> GraphFolder:
    """Generate the demo's graph, or import ``data`` (random 80/10/10 split), into ``folder``."""
    if data is None:
        from ekiden_cli.generate import generate

        return generate(folder)
    from ekiden_cli.delimited import BadInput
    from ekiden_cli.movielens import convert

    try:
        return convert(data, folder)
    except BadInput as error:
        from ekiden_cli.errors import usage

        raise usage(str(error)) from None


def choose_pairs(folder: Path) -> list[tuple[str, str]]:
    """Choose a busy, a typical and a quiet user, with the best known movies they have not rated.

    The last pair has a user the model never saw. At most ``USERS * CANDIDATES + 1`` pairs, so they go inline.
    """
    edges = _read(folder / "edges-rated.csv", ["~from", "~to"])
    by_user = edges.column("~from").value_counts().sort(order="descending", by="counts").field("values")
    # Largest first; ties keep the order of the file, so that the choice is the same each time.
    popular = edges.column("~to").value_counts().sort(order="descending", by="counts").field("values")
    places = [0.05, 0.5, 0.95][:USERS]
    users = [by_user[int(place * (len(by_user) - 1))].as_py() for place in places]
    pairs: list[tuple[str, str]] = []
    for user in users:
        rated = edges.filter(pc.equal(edges.column("~from"), user)).column("~to")
        unseen = popular.filter(pc.invert(pc.is_in(popular, value_set=rated.combine_chunks())))
        pairs += [(user, movie) for movie in unseen[:CANDIDATES].to_pylist()]
    pairs.append((UNKNOWN_USER, popular[0].as_py()))
    return pairs


def read_titles(folder: Path) -> dict[str, str]:
    """Return movie id to title; the id itself where a movie has none."""
    path = folder / "vertices-movie.csv"
    with path.open(encoding="utf-8") as text:
        named = "title:String" in text.readline()
    if not named:
        return {}
    table = _read(path, ["~id", "title:String"])
    pairs = zip(table.column("~id").to_pylist(), table.column("title:String").to_pylist(), strict=True)
    return {key: title for key, title in pairs if title}


def request_scores(client: ApiClient, endpoint: str, pairs: Sequence[tuple[str, str]]) -> View:
    """Enqueue the pairs and wait for the workers; return the request as it ended."""
    from ekiden_cli.commands.scores import wait

    request_id = f"demo-{uuid.uuid4().hex[:12]}"
    client.submit_scores(endpoint, pairs=pairs, request_id=request_id)
    view = wait(client, request_id, again=f"ekiden scores {request_id}")
    if view["status"] != "COMPLETED":
        error = view.get("error") or {}
        raise CliError(f"scoring failed: {error.get('code')}: {error.get('message')}", code="SCORES_FAILED")
    return view


def read_results(client: ApiClient, results: str, titles: Mapping[str, str]) -> list[Prediction]:
    """Read the result parts of a small request."""
    bucket, prefix = split_uri(results)
    s3 = client.target.client("s3")
    found: list[Prediction] = []
    for key, _ in list_objects(s3, bucket, prefix):
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        names = {name: pa.string() for name in ("source", "target", "score", "status")}
        table = pacsv.read_csv(pa.BufferReader(body), convert_options=pacsv.ConvertOptions(column_types=names))
        for row in table.to_pylist():
            movie = str(row["target"])
            value = float(row["score"]) if row["score"] else None
            found.append(Prediction(str(row["source"]), movie, titles.get(movie, movie), value, str(row["status"])))
    return found


def best(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Return the ``SHOWN`` highest predictions of each user, in the order of the users."""
    shown: list[Prediction] = []
    for user in dict.fromkeys(p.user for p in predictions):
        own = [p for p in predictions if p.user == user]
        own.sort(key=lambda p: -np.inf if p.predicted is None else p.predicted, reverse=True)
        shown += own[:SHOWN]
    return shown


def fetch_files(client: ApiClient, run: View, folder: Path) -> dict[str, Path]:
    """Download report, evaluation and predictions of a run to ``folder``; return name to path."""
    artifacts = run.get("artifacts") or {}
    fetched: dict[str, Path] = {}
    for name, file in _FILES.items():
        if uri := artifacts.get(name):
            fetched[name] = download(client.target, str(uri), folder / file)
    return fetched


def summary(run: View, predictions: Sequence[Prediction], files: Mapping[str, Path], clock: Clock) -> dict[str, Any]:
    """Return the demo's outcome as one JSON document."""
    return {
        "run_id": run["run_id"],
        "endpoint": run.get("endpoint"),
        "evaluation": run.get("evaluation"),
        "predictions": [
            {"user": p.user, "movie": p.movie, "title": p.title, "predicted": p.predicted, "status": p.status}
            for p in predictions
        ],
        "files": {name: str(path) for name, path in files.items()},
        "artifacts": run.get("artifacts"),
        "seconds": {name: round(seconds, 2) for name, seconds in clock.steps.items()},
    }


def evaluation_of(run: View, files: Mapping[str, Path]) -> View | None:
    """Return the run's evaluation: from the API, else from the downloaded file."""
    if run.get("evaluation"):
        return dict(run["evaluation"])
    if path := files.get("evaluation"):
        found: View = json.loads(path.read_text(encoding="utf-8"))
        return found
    return None


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    convert = pacsv.ConvertOptions(include_columns=list(columns), column_types={c: pa.string() for c in columns})
    return pacsv.read_csv(path, convert_options=convert)
