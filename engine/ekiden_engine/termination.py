"""SIGTERM as a flag: SageMaker sends it to stop a job, and SIGKILL 120 seconds later (30 for an endpoint)."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class StopRequest:
    """While entered, SIGTERM sets `requested` instead of killing the process.

    In a thread other than the main one, where Python allows no handlers, nothing is installed.
    """

    def __init__(self) -> None:
        """No request yet."""
        self.requested = False
        self._before: Any = None
        self._installed = False

    def __enter__(self) -> Self:
        """Install the handler."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._on_signal)
            self._installed = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put back what was there."""
        if self._installed:
            signal.signal(signal.SIGTERM, self._before)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
