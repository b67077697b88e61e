"""A small HTTP server that speaks the API's contract: it checks signatures and bodies, and answers by the models."""

from __future__ import annotations

import csv
import hmac
import io
import json
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from pydantic import ValidationError

from ekiden.contracts import api as models
from ekiden.contracts.spec import SpecError, parse_spec

BEGAN = datetime(2026, 11, 20, 10, 0, 0, tzinfo=UTC)
STAGES = ("export", "process", "train", "deploy")
BASE = "/_aws/execute-api/abc123/$default"
EVALUATION_V1 = {
    "evaluated_on": "test", "rmse": 0.9012, "mae": 0.7101, "r2": 0.41, "counts": {"train": 8, "valid": 1, "test": 1},
    "baselines": {
        "global_mean": {"rmse": 1.1499, "mae": 0.95, "r2": 0.0},
        "user_item_bias": {"rmse": 0.9891, "mae": 0.78, "r2": 0.26},
    },
}  # fmt: skip
"""What runs of the first version left."""
EVALUATION = {
    "version": "ekiden.evaluation.v2",
    "targets": [
        {
            "target": {"name": "user-rated-movie.rating", "task": "edge_regression"},
            "evaluated_on": "test",
            "metric": {"name": "rmse", "value": 0.9012, "higher_is_better": False},
            "metrics": {"rmse": 0.9012, "mae": 0.7101, "r2": 0.41, "count": 1},
            "baselines": EVALUATION_V1["baselines"],
        }
    ],
}


class FakeApi:
    """The server and what it knows: ``runs`` (views by id), ``lines`` (log), ``requests`` (as received)."""

    def __init__(self, s3: Any, bucket: str, access_key: str, secret_key: str) -> None:
        self.s3, self.bucket = s3, bucket
        self.access_key, self.secret_key = access_key, secret_key
        self.runs: dict[str, list[dict[str, Any]]] = {}
        self.lines: dict[str, list[dict[str, Any]]] = {}
        self.scores: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.fail_with: list[int] = []
        self.page = 2
        self.rows_per_part = 3
        self.submitted: list[dict[str, Any]] = []
        self.on_submit: Callable[[str], list[dict[str, Any]]] = success
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.acts: list[tuple[str, dict[str, Any]]] = []
        self.on_retry: tuple[int, dict[str, Any]] | None = None
        self.redrives: list[dict[str, list[int]]] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                api.handle(self, b"")

            def do_POST(self) -> None:
                api.handle(self, self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{BASE}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handle(self, call: BaseHTTPRequestHandler, body: bytes) -> None:
        self.requests.append((call.command, call.path))
        if self.fail_with:
            status, answer = self.fail_with.pop(0), error("BUSY", "come back later")
        elif not self.is_signed(call, body):
            status, answer = 403, {"message": "Forbidden"}
        else:
            url = urlsplit(call.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            status, answer = self.route(call.command, unquote(url.path).removeprefix(BASE), query, body)
        text = json.dumps(answer).encode()
        call.send_response(status)
        call.send_header("Content-Type", "application/json")
        call.send_header("Content-Length", str(len(text)))
        call.end_headers()
        call.wfile.write(text)

    def is_signed(self, call: BaseHTTPRequestHandler, body: bytes) -> bool:
        """Compute the signature anew, as AWS does, from the headers that the client says it signed."""
        claim = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/us-east-1/execute-api/aws4_request, "
            r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})",
            call.headers.get("Authorization", ""),
        )
        if claim is None or claim[1] != self.access_key:
            return False
        signed = {name: call.headers[name] for name in claim[3].split(";")}
        if "host" not in signed or "x-amz-date" not in signed:
            return False
        request = AWSRequest(
            method=call.command, url=f"http://{call.headers['Host']}{call.path}", data=body, headers=signed
        )
        request.context["timestamp"] = signed["x-amz-date"]
        auth = SigV4Auth(Credentials(self.access_key, self.secret_key), "execute-api", "us-east-1")
        canonical = auth.canonical_request(request)
        return hmac.compare_digest(auth.signature(auth.string_to_sign(request, canonical), request), claim[4])

    # What the handlers of the real API do.

    def route(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        steps = path.strip("/").split("/")
        if method == "POST" and path == "/runs":
            return self.submit(json.loads(body))
        if method == "POST" and path == "/scores":
            return self.request_scores(json.loads(body))
        if path == "/runs":
            return 200, self.list_runs(query)
        if path == "/redrive":
            return self.act(path, steps, json.loads(body))
        if steps[0] == "runs" and steps[1] not in self.runs:
            return 404, error("UNKNOWN_RUN", f"there is no run {steps[1]}")
        if method == "POST":
            return self.act(path, steps, json.loads(body))
        if path.endswith("/history"):
            lines = self.history.get(steps[1], [])
            return 200, checked(models.RunHistory, {"run_id": steps[1], "history": lines})
        if steps[0] == "runs":
            return 200, self.logs(steps[1], query) if len(steps) == 3 else self.view(steps[1])
        if steps[0] == "scores" and steps[1] in self.scores:
            return 200, self.progress(steps[1])
        return 404, error("UNKNOWN_REQUEST", "there is no such request")

    def submit(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            models.SubmitRun.model_validate(body)
            parse_spec(body["spec"])
        except SpecError as wrong:
            return 400, error("INVALID_SPEC", "the spec has faults") | faults(wrong)
        self.submitted.append(body)
        run_id = f"{body['spec']['name']}-20261120-100000-abcdef"
        self.runs[run_id] = self.on_submit(run_id)
        return 202, models.RunAccepted(run_id=run_id, status="RUNNING").model_dump(mode="json")

    def act(self, path: str, steps: list[str], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """What operators do; ``acts`` remembers it."""
        self.acts.append((path, body))
        if path == "/redrive":
            wanted = models.RedriveMessages.model_validate(body)
            if wanted.queue == "Nope":
                return 404, error("UNKNOWN_QUEUE", "there is no queue 'Nope'; one of Scores, TrainWork")
            names = ("redriven", "kept", "later", "remaining")
            queues = [
                {"queue": name, **dict(zip(names, counts, strict=True)), "reasons": ["m: foreign"] * bool(counts[1])}
                for name, counts in (self.redrives.pop(0) if self.redrives else {}).items()
            ]
            return 200, checked(models.RedriveReport, {"before": wanted.before or at(0), "queues": queues})
        run_id, what = steps[1], steps[2]
        if what == "cancel":
            models.CancelRun.model_validate(body)
            status = self.runs[run_id][0]["status"]
            if status == "RUNNING":
                status = "CANCELLING"
                self.runs[run_id] = cancelled(run_id)
            return 202, checked(models.RunChanged, {"run_id": run_id, "status": status})
        request = models.RetryRun.model_validate(body)
        if self.on_retry:
            return self.on_retry
        self.runs[run_id] = success(run_id)
        stage = request.stage or "process"
        return 202, checked(models.RunChanged, {"run_id": run_id, "status": "RUNNING", "stage": stage})

    def view(self, run_id: str) -> dict[str, Any]:
        """Answer with the next view; the last one stays."""
        views = self.runs[run_id]
        return checked(models.RunView, views.pop(0) if len(views) > 1 else views[0])

    def list_runs(self, query: dict[str, str]) -> dict[str, Any]:
        known = [views[-1] for views in self.runs.values()]
        chosen = [v for v in known if query.get("status") in (None, v["status"])][: int(query.get("limit", 20))]
        names = ("run_id", "name", "status", "created_at", "updated_at")
        return checked(models.RunList, {"runs": [{n: v[n] for n in names} | {"stage": "deploy"} for v in chosen]})

    def logs(self, run_id: str, query: dict[str, str]) -> dict[str, Any]:
        lines = [x for x in self.lines.get(run_id, []) if query.get("stage") in (None, x["stage"])]
        if "tail" in query:
            return checked(models.LogPage, {"lines": lines[-int(query["tail"]) :], "next_token": None})
        start = int(query.get("next_token", 0))
        more = start + self.page if start + self.page < len(lines) else None
        page = {"lines": lines[start : start + self.page], "next_token": None if more is None else str(more)}
        return checked(models.LogPage, page)

    def request_scores(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            wanted = models.RequestScores.model_validate(body)
        except ValidationError as wrong:
            return 400, error("INVALID_REQUEST", str(wrong)[:200])
        if wanted.endpoint == "absent":
            return 404, error("UNKNOWN_ENDPOINT", "there is no endpoint absent")
        request_id = str(wanted.request_id)
        if wanted.pairs_uri:
            key = wanted.pairs_uri.removeprefix(f"s3://{self.bucket}/")
            text = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode()
            rows = list(csv.reader(io.StringIO(text)))
            assert rows.pop(0) == ["source", "target"]
        else:
            rows = [list(pair) for pair in wanted.pairs or ()]
        self.scores[request_id] = {"endpoint": wanted.endpoint, "rows": rows, "looks": 0}
        accepted = models.ScoresAccepted(request_id=request_id, status="ACCEPTED")
        return 202, accepted.model_dump(mode="json")

    def progress(self, request_id: str) -> dict[str, Any]:
        """First look: running; second: the results are in S3, and the request is complete."""
        known = self.scores[request_id]
        known["looks"] += 1
        rows, prefix = known["rows"], f"scores/{request_id}/results/"
        parts = [rows[k : k + self.rows_per_part] for k in range(0, len(rows), self.rows_per_part)]
        done = known["looks"] > 1
        results = [[*row, *score(*row)] for row in rows]
        if done:
            for number in range(len(parts)):
                some = results[number * self.rows_per_part : (number + 1) * self.rows_per_part]
                text = io.StringIO()
                csv.writer(text, lineterminator="\n").writerows([["source", "target", "score", "status"], *some])
                key = f"{prefix}part-{number:06}.csv"
                self.s3.put_object(Bucket=self.bucket, Key=key, Body=text.getvalue().encode())
        kinds = [row[3].partition("_")[0] for row in results]
        pairs = {kind: kinds.count(kind) if done else 0 for kind in ("scored", "fallback", "invalid")}
        view = {
            "request_id": request_id, "status": "COMPLETED" if done else "RUNNING", "endpoint": known["endpoint"],
            "messages": {"total": len(parts), "done": len(parts) if done else 1},
            "pairs": {"total": len(rows), **pairs}, "results": f"s3://{self.bucket}/{prefix}",
            "created_at": at(0), "updated_at": at(1), "error": None,
        }  # fmt: skip
        return checked(models.ScoresView, view)


def score(source: str, target: str) -> tuple[str, str]:
    if not source or not target:
        return "", "invalid"
    return ("3.5", "fallback_source") if source == "user-unknown" else (f"{len(source) + 0.25:g}", "scored")


def checked(model: Any, answer: dict[str, Any]) -> dict[str, Any]:
    """Return the answer as the real API would: through its model."""
    found: dict[str, Any] = model.model_validate(answer).model_dump(mode="json")
    return found


def error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def faults(wrong: SpecError) -> dict[str, Any]:
    found = [{"path": f.path, "message": f.message} for f in wrong.faults]
    return {"error": {"code": "INVALID_SPEC", "message": "the spec has faults", "faults": found}}


def at(seconds: float) -> str:
    return (BEGAN + timedelta(seconds=seconds)).isoformat()


def run_view(run_id: str, *statuses: str, status: str = "RUNNING", **changes: Any) -> dict[str, Any]:
    """Return a run whose stages have ``statuses`` in order; those not given are PENDING."""
    stages = []
    for number, name in enumerate(STAGES):
        now = statuses[number] if number < len(statuses) else "PENDING"
        over = now not in ("PENDING", "STARTING", "RUNNING")
        attempt = {
            "number": 1, "job": f"0123456789abcdef-{name}-1", "status": now, "started_at": at(number * 5),
            "ended_at": at(number * 5 + 4) if over else None, "output": f"s3://b/runs/{run_id}/{name}/1/",
            "error": None,
        }  # fmt: skip
        stages.append({"name": name, "status": now, "attempts": [] if now == "PENDING" else [attempt]})
    over = status not in ("RUNNING", "CANCELLING")
    view = {
        "run_id": run_id, "name": run_id.rsplit("-", 3)[0], "status": status, "created_at": at(0),
        "updated_at": at(20), "ended_at": at(20) if over else None, "spec": {"name": "x"}, "stages": stages,
        "endpoint": None, "evaluation": None, "artifacts": {}, "error": None,
    }  # fmt: skip
    return view | changes


def success(run_id: str) -> list[dict[str, Any]]:
    """Return the views of a run that goes through all stages."""
    done = ["SUCCEEDED"] * 4
    going = [run_view(run_id, *done[:n], "RUNNING") for n in range(4)]
    files = {"report": f"s3://b/runs/{run_id}/report.html", "model": f"s3://b/runs/{run_id}/model/"}
    end = run_view(run_id, *done, status="SUCCEEDED", endpoint="movielens", evaluation=EVALUATION, artifacts=files)
    return [*going, end]


def failure(run_id: str) -> list[dict[str, Any]]:
    """Return the views of a run that fails in its second stage."""
    wrong = {
        "stage": "process", "code": "NOT_A_NUMBER", "message": "edges-rated.csv, row 7: rating is 'five'",
        "log_tail": ["reading edges-rated.csv", "row 7 is bad"],
    }  # fmt: skip
    going = run_view(run_id, "SUCCEEDED", "RUNNING")
    return [going, run_view(run_id, "SUCCEEDED", "FAILED", status="FAILED", error=wrong)]


def cancelled(run_id: str) -> list[dict[str, Any]]:
    """Return the views of a run that is cancelled while it trains."""
    done = ["SUCCEEDED"] * 2
    going = run_view(run_id, *done, "RUNNING", status="CANCELLING")
    return [going, going, run_view(run_id, *done, "CANCELLED", status="CANCELLED")]
