"""What the four stage functions share: each reacts to ``StageReady`` of its own stage."""

from __future__ import annotations

from collections.abc import Callable

from ekiden.contracts.events import Envelope, StageReady
from ekiden.domain.model import Stage
from ekiden.errors import ContractViolation, NotReadyYet
from ekiden.runtime.container import Container
from ekiden.runtime.observability import count, logger
from ekiden.runtime.queue import parse


def starter(stage: Stage, parts: Container) -> Callable[[Envelope], None]:
    """Handles ``StageReady`` events of ``stage``, and refuses any other: the function's role is for one stage."""

    def start(envelope: Envelope) -> None:
        ready = parse(StageReady, envelope.detail)
        if ready.data.stage is not stage or ready.meta.run_id is None:
            raise ContractViolation(
                f"StageReady({ready.data.stage}) came to the function for {stage}", code="MISROUTED"
            )
        try:
            parts.start_stage(ready.meta.run_id, stage, ready.data.attempt, actor=ready.meta.event_id)
        except NotReadyYet as wait:
            # The intent is in the ledger, so the reconciler comes back to it every minute. Redelivery would count
            # receives, and park a message that is in order while another deployment's update takes its time.
            logger.info("left to the reconciler", extra={"reason": wait.message})
            count("Postponed")

    return start
