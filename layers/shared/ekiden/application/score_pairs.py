"""Score parts: one endpoint call for a whole batch of messages, results written once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from ekiden.contracts.events import ScorePairs
from ekiden.domain import naming
from ekiden.domain.model import Failure
from ekiden.domain.scores import PartCounts
from ekiden.errors import ContractViolation, Permanent, PipelineError
from ekiden.ports import Endpoints, Objects, ScoreLedger

CSV = "text/csv"
MAX_BODY_BYTES = 6_291_456
"""SageMaker's limit for a request to an endpoint."""
RESULT_HEADER = b"source,target,score,status"
CLASS_RESULT_HEADER = b"source,target,value,score,status"
"""Of a model of classes: the most probable one, and its probability."""
MAX_RESULT_BYTES = 4 * 1024 * 1024
OUTCOMES = frozenset({b"scored", b"fallback_source", b"fallback_target", b"fallback_both", b"invalid"})
"""What an endpoint may say of a pair, in the last column of its answer."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    key: str
    message: ScorePairs
    lines: list[bytes]


@dataclass(frozen=True, slots=True)
class ScoreParts:
    """Scores messages by endpoint, as many as fit in one call."""

    ledger: ScoreLedger
    objects: Objects
    endpoints: Endpoints
    bucket: str

    def __call__(self, messages: Mapping[str, ScorePairs]) -> dict[str, PipelineError]:
        """Score ``messages`` (by message id); the errors of those that are to come again or be parked.

        A part that can never be scored fails its request; its message is done with.
        """
        errors: dict[str, PipelineError] = {}
        loaded: dict[str, list[_Loaded]] = defaultdict(list)
        for key, message in messages.items():
            try:
                loaded[message.endpoint].append(_Loaded(key, message, self._lines(message)))
            except PipelineError as error:
                errors |= self._give_up({key: message}, error)
        for endpoint, parts in loaded.items():
            for batch in _fitting(parts):
                errors |= self._score(endpoint, batch)
        return errors

    def _score(self, endpoint: str, batch: list[_Loaded]) -> dict[str, PipelineError]:
        try:
            answer = self.endpoints.invoke(endpoint, _body(batch), CSV, CSV)
            scores = _lines_of(answer.body)
            expected = sum(len(part.lines) for part in batch)
            if len(scores) != expected:
                raise ContractViolation(
                    f"endpoint {endpoint} answered {len(scores)} lines to {expected} pairs", code="BAD_ANSWER"
                )
            if not all(b"," in score and score.rpartition(b",")[2] in OUTCOMES for score in scores):
                raise ContractViolation(f"endpoint {endpoint} answered lines that are no scores", code="BAD_ANSWER")
            done: dict[str, dict[int, PartCounts]] = defaultdict(dict)
            start = 0
            for part in batch:
                end = start + len(part.lines)
                done[part.message.request_id][part.message.part] = self._write(part, scores[start:end])
                start = end
            for request_id, parts in done.items():
                if self.ledger.record_parts(request_id, parts).is_complete:
                    self.ledger.finish(request_id)
        except ContractViolation as error:
            if len(batch) > 1:  # one part may have spoiled the call: find out which
                return {key: e for part in batch for key, e in self._score(endpoint, [part]).items()}
            return self._give_up({batch[0].key: batch[0].message}, error)
        except PipelineError as error:
            return self._give_up({part.key: part.message for part in batch}, error)
        return {}

    def _lines(self, message: ScorePairs) -> list[bytes]:
        pairs = message.pairs
        lines = _lines_of(self.objects.read_range(pairs.bucket, pairs.key, pairs.etag, pairs.start, pairs.end))
        if len(lines) != message.rows:
            raise ContractViolation(
                f"s3://{pairs.bucket}/{pairs.key} has {len(lines)} lines in bytes {pairs.start}-{pairs.end}, "
                f"{message.rows} were announced: it was replaced after the request",
                code="PAIRS_CHANGED",
            )
        return lines

    def _write(self, part: _Loaded, scores: list[bytes]) -> PartCounts:
        rows = [line + b"," + score for line, score in zip(part.lines, scores, strict=True)]
        header = CLASS_RESULT_HEADER if scores[0].count(b",") > 1 else RESULT_HEADER
        body = b"\n".join([header, *rows, b""])
        # A repeat finds the object and leaves it: whoever reads results never sees them change. It counts what is
        # there, which another version of the model may have scored.
        key = naming.part_key(part.message.request_id, part.message.part)
        if not self.objects.create(self.bucket, key, body, CSV):
            body = self.objects.get(self.bucket, key, limit=MAX_RESULT_BYTES) or body
        scored = body.count(b",scored\n")
        invalid = body.count(b",invalid\n")
        return PartCounts(scored=scored, invalid=invalid, fallback=len(rows) - scored - invalid)

    def _give_up(self, messages: Mapping[str, ScorePairs], error: PipelineError) -> dict[str, PipelineError]:
        if not isinstance(error, Permanent) or error.code == "UNKNOWN_REQUEST":  # nobody could be told
            return dict.fromkeys(messages, error)
        for request_id in {message.request_id for message in messages.values()}:
            self.ledger.finish(request_id, Failure(error.code, error.message))
        return {}


def _fitting(parts: list[_Loaded]) -> list[list[_Loaded]]:
    """Batches that fit in one call."""
    batches: list[list[_Loaded]] = []
    size = MAX_BODY_BYTES
    for part in parts:
        length = part.message.pairs.end - part.message.pairs.start + 1
        if size + length > MAX_BODY_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(part)
        size += length
    return batches


def _lines_of(data: bytes) -> list[bytes]:
    """Lines by LF or CRLF. (``splitlines`` would also break at a lone CR inside an id.)"""
    return data.removesuffix(b"\n").removesuffix(b"\r").replace(b"\r\n", b"\n").split(b"\n")


def _body(batch: list[_Loaded]) -> bytes:
    return b"\n".join([line for part in batch for line in part.lines]) + b"\n"
