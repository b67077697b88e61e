"""Accept a score request, and split its pairs into messages for the workers."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from itertools import islice

from ekiden.application.pairs_file import HEADER, Part, cut, header_length
from ekiden.application.races import until_decided
from ekiden.contracts.api import RequestScores
from ekiden.contracts.events import PairsRange, ScorePairs
from ekiden.contracts.s3uri import S3Uri
from ekiden.domain import naming
from ekiden.domain.model import Failure
from ekiden.domain.scores import TERMINAL_SCORE, PairsFile, ScoreRequest, ScoreStatus
from ekiden.errors import AlreadyDone, ContractViolation, NotFound, Permanent
from ekiden.ports import Clock, Jobs, Messages, Objects, Randomness, ScoreLedger

READABLE_PREFIXES = ("uploads/", "pairs/", "scores/")
"""Where pairs files may lie in the data bucket."""

PARTS_PER_CHECKPOINT = 50
"""Messages sent before the ledger is told; a crash in between sends at most these again, harmlessly."""


@dataclass(frozen=True, slots=True)
class AcceptScores:
    """Validates a score request and writes it to the ledger; splitting follows by event."""

    ledger: ScoreLedger
    objects: Objects
    jobs: Jobs
    clock: Clock
    randomness: Randomness
    bucket: str

    def __call__(self, request: RequestScores) -> ScoreRequest:
        """The accepted request; the same ``request_id`` with the same pairs gives the same one.

        Raises:
            NotFound: no such endpoint or pairs file.
            ContractViolation: the pairs file may not be read, or is empty.
            Conflict: ``request_id`` was used for something else.
        """
        request_id = request.request_id or f"scores-{self.randomness.entropy(10).hex()}"
        in_service = self.jobs.endpoint_in_service(request.endpoint)
        if in_service is None:
            raise NotFound(
                f"there is no endpoint {request.endpoint}; `ekiden runs` shows what was deployed",
                code="UNKNOWN_ENDPOINT",
            )
        if not in_service:
            raise NotFound(f"endpoint {request.endpoint} is not in service (yet)", code="ENDPOINT_NOT_IN_SERVICE")
        pairs, content = self._pairs(request, request_id)
        now = self.clock.now()
        return self.ledger.accept(
            ScoreRequest(
                request_id=request_id,
                endpoint=request.endpoint,
                pairs=pairs,
                status=ScoreStatus.ACCEPTED,
                created_at=now,
                updated_at=now,
                results=f"s3://{self.bucket}/{naming.score_prefix(request_id)}results/",
                payload_hash=hashlib.sha256(f"{request.endpoint}\n{content}".encode()).hexdigest(),
            )
        )

    def _pairs(self, request: RequestScores, request_id: str) -> tuple[PairsFile, str]:
        """The pairs as a file, and what identifies their content."""
        if request.pairs is not None:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerows([HEADER.decode().split(","), *request.pairs])
            body = text.getvalue().encode()
            # One key per content: a conflicting request under the same id must not replace the pairs of the first.
            digest = hashlib.sha256(body).hexdigest()
            key = f"{naming.score_prefix(request_id)}pairs-{digest[:16]}.csv"
            stored = self.objects.put(self.bucket, key, body, "text/csv")
            return PairsFile(stored.bucket, key, stored.etag, stored.size), digest
        uri = _parse(request.pairs_uri or "")
        if uri.bucket != self.bucket or not uri.key.startswith(READABLE_PREFIXES):
            raise ContractViolation(
                f"pairs_uri must lie in s3://{self.bucket}/ below one of {', '.join(READABLE_PREFIXES)}",
                code="INVALID_PAIRS_URI",
            )
        if not uri.key.endswith(".csv"):
            raise ContractViolation(
                "pairs_uri must name a .csv file; `ekiden score` converts Parquet", code="INVALID_PAIRS_URI"
            )
        found = self.objects.head(uri.bucket, uri.key)
        if found is None:
            raise NotFound(f"there is no object {uri}", code="UNKNOWN_PAIRS_FILE")
        return PairsFile(uri.bucket, uri.key, found.etag, found.size), str((str(uri), found.etag))


def _parse(uri: str) -> S3Uri:
    try:
        return S3Uri.parse(uri)
    except ValueError as error:
        raise ContractViolation(
            "pairs_uri is not usable", code="INVALID_PAIRS_URI", faults=(("pairs_uri", str(error)),)
        ) from None


@dataclass(frozen=True, slots=True)
class SplitScores:
    """Splits a request's file into messages; resumes where an earlier try stopped."""

    ledger: ScoreLedger
    objects: Objects
    messages: Messages

    def __call__(self, request_id: str) -> None:
        """Split the whole file.

        Raises:
            AlreadyDone: it was split before, or the request is over.
            NotFound: there is no such request.
            Transient: try again later.
        """
        # A duplicate that is split at the same time loses the race: it finds out at once, and costs no receive.
        until_decided(lambda: self._split_rest(request_id))

    def _split_rest(self, request_id: str) -> None:
        request = self.ledger.load(request_id)
        if request is None:
            raise NotFound(f"there is no score request {request_id}", code="UNKNOWN_REQUEST")
        if request.split_complete or request.status in TERMINAL_SCORE:
            if request.is_complete:  # an earlier try ended after the last part was done, and before it said so
                self.ledger.finish(request_id)
            raise AlreadyDone(f"score request {request_id} has been split")
        try:
            self._split(request)
        except Permanent as error:
            self.ledger.finish(request_id, Failure(error.code, error.message))

    def _split(self, request: ScoreRequest) -> None:
        file = request.pairs
        offset = request.split_offset or self._header(request)
        chunks = self.objects.chunks(file.bucket, file.key, file.etag, offset) if offset < file.size else ()
        parts = cut(chunks, offset)
        number, rows = request.parts, request.rows
        while batch := list(islice(parts, PARTS_PER_CHECKPOINT)):
            self.messages.send([_message(request, number + i, part) for i, part in enumerate(batch)])
            number += len(batch)
            rows += sum(part.rows for part in batch)
            end = batch[-1].end
            self.ledger.record_split(request, offset=end, parts=number, rows=rows, complete=end >= file.size)
            request = self.ledger.load(request.request_id) or request
        if not rows:
            raise ContractViolation("the pairs file holds no pairs; add lines below 'source,target'", code="NO_PAIRS")
        if request.is_complete:
            self.ledger.finish(request.request_id)

    def _header(self, request: ScoreRequest) -> int:
        file = request.pairs
        if not file.size:
            raise ContractViolation("the pairs file is empty", code="NO_PAIRS")
        return header_length(self.objects.read_range(file.bucket, file.key, file.etag, 0, 256))


def _message(request: ScoreRequest, number: int, part: Part) -> str:
    file = request.pairs
    return ScorePairs(
        request_id=request.request_id,
        endpoint=request.endpoint,
        part=number,
        rows=part.rows,
        pairs=PairsRange(bucket=file.bucket, key=file.key, etag=file.etag, start=part.start, end=part.end),
    ).model_dump_json()
