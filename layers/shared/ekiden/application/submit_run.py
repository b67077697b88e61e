"""Accept a pipeline spec: from then on the run moves by itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ekiden.application.plans import Deployed, plan_for
from ekiden.contracts.spec import PipelineSpec, SpecError, parse_spec
from ekiden.domain import naming
from ekiden.domain.transitions import submit
from ekiden.errors import ContractViolation
from ekiden.ports import Clock, Ledger, Objects, Randomness

MAX_SPEC_BYTES = 256 * 1024
"""The run's item in the ledger holds it, and an item has at most 400 KB."""


@dataclass(frozen=True, slots=True)
class SubmitRun:
    """Validates a spec, stores it, and writes the run with its first stage's intent."""

    ledger: Ledger
    objects: Objects
    clock: Clock
    randomness: Randomness
    deployed: Deployed

    def __call__(self, document: Mapping[str, Any], *, request_id: str | None, actor: str) -> str:
        """The id of the run; the same ``request_id`` with the same spec gives the same run.

        Raises:
            ContractViolation: the spec's faults.
            Conflict: ``request_id`` was used for another spec.
        """
        spec = _parse(document)
        canonical = json.dumps(spec.model_dump(mode="json", exclude_none=True), sort_keys=True)
        if len(canonical) > MAX_SPEC_BYTES:
            raise ContractViolation(
                f"the spec has {len(canonical):,} bytes with its defaults, at most {MAX_SPEC_BYTES:,} are taken",
                code="SPEC_TOO_LARGE",
            )
        now = self.clock.now()
        run_id = naming.new_run_id(spec.name, now, self.randomness.entropy(4))
        # Before the run: its jobs read it. A run that is never stored leaves only this small file.
        self.objects.put(self.deployed.bucket, naming.spec_key(run_id), canonical.encode(), "application/json")
        return self.ledger.create(
            submit(run_id, spec.name, canonical, plan_for(spec, self.deployed), now),
            request_id=request_id or run_id,
            payload_hash=hashlib.sha256(canonical.encode()).hexdigest(),
            actor=actor,
        )


def _parse(document: Mapping[str, Any]) -> PipelineSpec:
    try:
        return parse_spec(dict(document))
    except SpecError as error:
        raise ContractViolation(
            "the pipeline spec has faults",
            code="INVALID_SPEC",
            faults=tuple((fault.path, fault.message) for fault in error.faults),
        ) from None
