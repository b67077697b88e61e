"""The errors a use case can end with, by what the caller should do about them."""

from __future__ import annotations


class PipelineError(Exception):
    """Something the pipeline says no to. ``code`` is stable, ``message`` is for people."""

    code = "PIPELINE_ERROR"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class Permanent(PipelineError):
    """Trying again cannot help: park the message with its reason, or answer 4xx."""

    code = "PERMANENT"


class ContractViolation(Permanent):
    """The document, message or event does not keep its contract. ``faults`` are (path, message) pairs."""

    code = "CONTRACT_VIOLATION"

    def __init__(self, message: str, *, code: str | None = None, faults: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message, code=code)
        self.faults = faults


class NotFound(Permanent):
    """What was asked for does not exist."""

    code = "NOT_FOUND"


class Conflict(Permanent):
    """It exists already, and differs from what was asked for."""

    code = "CONFLICT"


class StageRejected(Permanent):
    """The platform refuses the job: the stage fails, the run ends."""

    code = "STAGE_REJECTED"


class Transient(PipelineError):
    """Try again later: the queue redelivers with its own delay."""

    code = "TRANSIENT"


class DependencyUnavailable(Transient):
    """A service throttled, timed out or failed."""

    code = "DEPENDENCY_UNAVAILABLE"


class NotReadyYet(Transient):
    """The world has not caught up: another update is in progress, or an object is not visible yet."""

    code = "NOT_READY_YET"


class LostRace(Transient):
    """Another worker moved the run first; the decision must be made again on fresh state."""

    code = "LOST_RACE"


class AlreadyDone(PipelineError):
    """A duplicate: acknowledged and counted, nothing to do."""

    code = "ALREADY_DONE"
