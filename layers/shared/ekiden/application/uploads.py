"""Files dropped into the data bucket: a spec below ``specs/`` starts a run, pairs below ``pairs/<endpoint>/`` are
scored. One upload is one request: its id is made of the object's version."""

from __future__ import annotations

import hashlib
from typing import Any

from pydantic import ValidationError

from ekiden.contracts.api import RequestScores
from ekiden.contracts.base import faults_of
from ekiden.contracts.events import ObjectCreated
from ekiden.contracts.spec import SpecError
from ekiden.contracts.yaml_text import MAX_BYTES, load_yaml
from ekiden.errors import AlreadyDone, ContractViolation, NotFound
from ekiden.ports import Objects

PAIRS_PREFIX = "pairs/"


def read_uploaded_spec(objects: Objects, upload: ObjectCreated) -> tuple[dict[str, Any], str]:
    """The uploaded spec as plain data, and the request's id.

    Raises:
        NotFound: the object is gone.
        AlreadyDone: another upload has taken its place.
        ContractViolation: it is too large, or no YAML mapping.
    """
    bucket, file = upload.bucket.name, upload.object
    if file.size > MAX_BYTES:
        raise ContractViolation(
            f"the uploaded spec has {file.size:,} bytes, at most {MAX_BYTES:,} are read", code="OBJECT_TOO_LARGE"
        )
    try:
        etag = f'"{file.etag.strip(chr(34))}"'
        text = objects.read_range(bucket, file.key, etag, 0, file.size) if file.size else b""
    except NotFound:
        raise NotFound(f"s3://{bucket}/{file.key[:200]} is gone", code="SPEC_GONE") from None
    except ContractViolation as error:
        # The newer upload is an event, and a run, of its own.
        raise AlreadyDone(error.message) from None
    try:
        document = load_yaml(text.decode("utf-8", errors="replace"))
    except SpecError as error:
        faults = tuple((fault.path, fault.message) for fault in error.faults)
        raise ContractViolation("the uploaded spec is not YAML", code="INVALID_SPEC", faults=faults) from None
    if not isinstance(document, dict):
        raise ContractViolation("the uploaded spec is no mapping", code="INVALID_SPEC")
    return document, _request_id("spec", upload)


def uploaded_pairs(upload: ObjectCreated) -> RequestScores:
    """The score request that an upload to ``pairs/<endpoint>/<name>.csv`` stands for.

    Raises:
        ContractViolation: the key names no endpoint.
    """
    endpoint, _, name = upload.object.key.removeprefix(PAIRS_PREFIX).partition("/")
    if not name:
        raise ContractViolation(
            f"upload pairs to {PAIRS_PREFIX}<endpoint>/<name>.csv, not to {upload.object.key[:80]}",
            code="INVALID_PAIRS_URI",
        )
    try:
        return RequestScores(
            endpoint=endpoint,
            pairs_uri=f"s3://{upload.bucket.name}/{upload.object.key}",
            request_id=_request_id("pairs", upload),
        )
    except ValidationError as error:
        faults = tuple((fault.path, fault.message) for fault in faults_of(error))
        raise ContractViolation("the upload is no score request", code="INVALID_PAIRS_URI", faults=faults) from None


def _request_id(kind: str, upload: ObjectCreated) -> str:
    version = upload.object.version_id or upload.object.etag
    digest = hashlib.sha256(f"{upload.bucket.name}/{upload.object.key}@{version}".encode()).hexdigest()
    return f"{kind}-{digest[:32]}"
