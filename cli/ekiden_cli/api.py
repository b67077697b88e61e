"""Client of Ekiden's HTTP API: signed (SigV4, ``execute-api``), retried, with errors that say what to do."""

from __future__ import annotations

import difflib
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.utils import get_environ_proxies

from ekiden_cli.errors import CliError, Exit
from ekiden_cli.target import Target

View = Mapping[str, Any]
"""A JSON object as the API returned it."""

_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})
_TRIES = 4


class ApiClient:
    """The API of one cloud. Methods raise ``CliError``."""

    def __init__(self, target: Target, *, first_pause: float = 0.3) -> None:
        self.target = target
        self._pause = first_pause
        self._pool = _pool(target)
        self._tries = 0

    # -- operations

    def submit_run(self, spec: View, request_id: str | None = None) -> View:
        """``POST /runs``; a ``request_id`` is made if none is given, so a repeated call starts one run."""
        return self._call("POST", "/runs", body={"spec": spec, "request_id": request_id or uuid.uuid4().hex})

    def list_runs(self, *, status: str | None = None, limit: int = 20) -> View:
        """``GET /runs``, newest first."""
        return self._call("GET", "/runs", query={"status": status, "limit": limit})

    def get_run(self, run_id: str) -> View:
        """``GET /runs/{run_id}``; an unknown id is answered with the nearest known ones."""
        return self._call("GET", f"/runs/{quote(run_id, safe='')}", run_id=run_id)

    def get_logs(
        self, run_id: str, *, stage: str | None = None, next_token: str | None = None, tail: int | None = None
    ) -> View:
        """``GET /runs/{run_id}/logs``: a page of lines and the token of the next."""
        query = {"stage": stage, "next_token": next_token, "tail": tail}
        return self._call("GET", f"/runs/{quote(run_id, safe='')}/logs", query=query, run_id=run_id)

    def get_history(self, run_id: str) -> View:
        """``GET /runs/{run_id}/history``: who moved the run, when and why, oldest first."""
        return self._call("GET", f"/runs/{quote(run_id, safe='')}/history", run_id=run_id)

    def cancel_run(self, run_id: str, *, reason: str = "") -> View:
        """``POST /runs/{run_id}/cancel``; asking again changes nothing."""
        return self._call("POST", f"/runs/{quote(run_id, safe='')}/cancel", body={"reason": reason}, run_id=run_id)

    def retry_run(self, run_id: str, *, stage: str | None = None, reason: str = "") -> View:
        """``POST /runs/{run_id}/retry``: from ``stage``, or from where the run ended."""
        body = {"reason": reason} | ({"from": stage} if stage else {})
        try:
            return self._call("POST", f"/runs/{quote(run_id, safe='')}/retry", body=body, run_id=run_id)
        except CliError as refusal:
            # Sent again after an answer that was lost, a retry that worked meets a run that goes on already.
            if refusal.code == "NOT_RETRYABLE" and self._tries > 1:
                run = self.get_run(run_id)
                busy = [s["name"] for s in run.get("stages", ()) if s["status"] in ("STARTING", "RUNNING")]
                if run["status"] == "RUNNING":
                    return {"run_id": run_id, "status": "RUNNING", "stage": busy[0] if busy else None}
            raise

    def redrive(self, queue: str | None, *, reason: str = "", before: str | None = None) -> View:
        """``POST /redrive``: one call's worth; with the answer's ``before`` the next call goes on with the rest."""
        given = {"queue": queue, "reason": reason, "before": before}
        return self._call("POST", "/redrive", body={k: v for k, v in given.items() if v is not None})

    def submit_scores(
        self,
        endpoint: str,
        *,
        pairs: Sequence[tuple[str, str]] | None = None,
        pairs_uri: str | None = None,
        request_id: str | None = None,
    ) -> View:
        """``POST /scores`` with pairs inline (at most 1,000) or as a CSV file in the data bucket."""
        body: dict[str, Any] = {"endpoint": endpoint, "request_id": request_id or uuid.uuid4().hex}
        if pairs_uri is not None:
            body["pairs_uri"] = pairs_uri
        else:
            body["pairs"] = [list(pair) for pair in pairs or ()]
        return self._call("POST", "/scores", body=body)

    def get_scores(self, request_id: str) -> View:
        """``GET /scores/{request_id}``."""
        return self._call("GET", f"/scores/{quote(request_id, safe='')}", score_id=request_id)

    # -- transport

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: View | None = None,
        run_id: str | None = None,
        score_id: str | None = None,
    ) -> View:
        url = self.target.api_url.rstrip("/") + path
        if given := {k: v for k, v in (query or {}).items() if v is not None}:
            url += "?" + urlencode(given, quote_via=quote)
        data = json.dumps(body, default=str).encode() if body is not None else b""
        status, text = self._send(method, url, data)
        try:
            answer = json.loads(text) if text else {}
        except ValueError:
            answer = None
        if status < 300 and isinstance(answer, dict):
            return answer
        raise self._failure(status, answer, text, run_id=run_id, score_id=score_id)

    def _send(self, method: str, url: str, data: bytes) -> tuple[int, bytes]:
        """Send a request that is safe to repeat; retry what may pass. ``_tries`` tells how often it was sent."""
        pause = self._pause
        for left in reversed(range(_TRIES)):
            self._tries = _TRIES - left
            try:
                response = self._pool.request(method, url, body=data or None, headers=self._signed(method, url, data))
            except urllib3.exceptions.HTTPError as error:
                if not left:
                    raise self._unreachable(error) from None
            else:
                if response.status not in _TRY_AGAIN or not left:
                    return response.status, response.data
            time.sleep(pause)
            pause *= 2
        raise AssertionError("unreachable: the last try returns or raises")

    def _signed(self, method: str, url: str, data: bytes) -> dict[str, str]:
        headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if data else {})
        request = AWSRequest(method=method, url=url, data=data, headers=headers)
        frozen = self.target.credentials()
        keys = Credentials(str(frozen.access_key), str(frozen.secret_key), frozen.token)
        SigV4Auth(keys, "execute-api", self.target.region).add_auth(request)
        return {name: str(value) for name, value in request.headers.items()}

    # -- errors

    def _unreachable(self, error: Exception) -> CliError:
        hint = (
            "run `ekiden doctor`, then `ekiden up`" if self.target.is_local else "check EKIDEN_API_URL and the network"
        )
        return CliError(
            f"the API of cloud {self.target.name!r} does not answer at {self.target.api_url} ({type(error).__name__})",
            hint=hint,
            code="NO_ANSWER",
        )

    def _failure(self, status: int, answer: Any, text: bytes, *, run_id: str | None, score_id: str | None) -> CliError:
        said = answer.get("error") if isinstance(answer, dict) else None
        said = said if isinstance(said, dict) else {}
        code = str(said.get("code") or f"HTTP_{status}")
        # API Gateway's own refusals carry `message` at the top; anything else is shown shortened.
        fallback = answer.get("message") if isinstance(answer, dict) else None
        message = str(said.get("message") or fallback or text[:200].decode("utf-8", "replace") or "no reason given")
        faults = [(str(f.get("path", "")), str(f.get("message", ""))) for f in said.get("faults") or ()]
        if status == 403:
            return CliError(f"the API refused the call (403): {message[:200]}", hint=self._hint_403(), code=code)
        if status == 404 and run_id is not None:
            return CliError(message, hint=self._hint_run(run_id), exit_code=Exit.USAGE, code=code)
        if status == 404 and score_id is not None:
            return CliError(
                message,
                hint="`ekiden score` printed the request's id when it started",
                exit_code=Exit.USAGE,
                code=code,
            )
        return CliError(
            f"{message} ({code})",
            hint=_HINTS.get(status, ""),
            exit_code=Exit.USAGE if 400 <= status < 500 and status != 429 else Exit.FAILED,
            code=code,
            faults=faults,
        )

    def _hint_403(self) -> str:
        if self.target.is_local:
            return "the keys in cloud.json are not this cloud's: `ekiden down`, then `ekiden up`"
        return "allow execute-api:Invoke for your role; check AWS_PROFILE, the region and the clock"

    def _hint_run(self, run_id: str) -> str:
        try:
            known = [str(run["run_id"]) for run in self.list_runs(limit=50).get("runs", ())]
        except CliError:
            known = []
        if not known:
            return f"there are no runs yet: start one with `ekiden run SPEC --watch{self.target.flags}`"
        near = difflib.get_close_matches(run_id, known, n=3, cutoff=0.6)
        near += [known_id for known_id in known if known_id.startswith(run_id) and known_id not in near]
        return f"did you mean {' or '.join(near[:3])}?" if near else f"recent runs: {', '.join(known[:5])}"


def _pool(target: Target) -> urllib3.PoolManager:
    """Return connections to the API, through the environment's proxy unless the cloud is on this machine."""
    timeout = urllib3.Timeout(connect=5, read=35)
    proxies = {} if target.is_local else get_environ_proxies(target.api_url)
    if proxy := proxies.get(urlsplit(target.api_url).scheme):
        return urllib3.ProxyManager(proxy, timeout=timeout, retries=False)
    return urllib3.PoolManager(timeout=timeout, retries=False)


_HINTS = {
    413: "shorten the spec, or send the pairs as a file",
    429: "the API is busy: try again in a moment",
    500: "look at the function's log: CloudWatch Logs group /aws/lambda/…",
    503: "the API is not ready: try again, or look at `ekiden doctor`",
}
