"""How a training shows itself while it runs, and the learning curves that it leaves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from ekiden_engine.log import log
from ekiden_engine.models.base import Curve, CurvePoint, Step
from ekiden_engine.termination import StopRequest

USUAL_EPOCHS: Final[Mapping[str, int]] = {"rgcn": 16, "mf": 16}
"""Epochs until early stopping, on rating graphs: the first guess for the time left. Others usually run to the end."""
LOG_EVERY_S = 0.5
"""Seconds between progress lines; the first and the last epoch of each pass are always logged."""


class JobProgress:
    """Progress lines in the log, at most one per `LOG_EVERY_S`."""

    def __init__(self, stop: StopRequest, model: str) -> None:
        """`stop`: asked after every epoch."""
        self._stop = stop
        self._usual = USUAL_EPOCHS.get(model)
        self._started = self._last = time.perf_counter()
        self._step: Step | None = None
        self._lengths: list[int] = []

    def epoch(self, step: Step, epochs: int, metric: str, point: CurvePoint) -> None:
        """Log `member 2/6  epoch 12/60  valid rmse 0.912  3.2 s left`; the time assumes steps like those before."""
        now = time.perf_counter()
        if step is not self._step:
            self._step = step
            self._lengths.append(0)
        self._lengths[-1] = point.epoch
        finished = self._lengths[:-1]
        typical = sum(finished) / len(finished) if finished else min(epochs, self._usual or epochs)
        left = max(typical - point.epoch, 0) + typical * step.left
        pace = (now - self._started) / sum(self._lengths)
        if now - self._last >= LOG_EVERY_S or point.epoch in (1, epochs):
            self._last = now
            log(
                f"{step.words}  epoch {point.epoch}/{epochs}  "
                f"valid {metric} {point.valid:.4f}  {left * pace:.1f} s left"
            )

    def note(self, message: str) -> None:
        """Log one line."""
        log(message)

    def stop_requested(self) -> bool:
        """Whether SIGTERM came."""
        return self._stop.requested


def curve_document(curves: Sequence[tuple[str, Sequence[Curve]]]) -> dict[str, Any]:
    """`learning_curve.json`: per target, by name, the metric per epoch of every member, lost trials included."""
    return {
        "version": "ekiden.learning_curve.v2",
        "targets": [
            {
                "target": name,
                "members": [
                    {**asdict(curve), "best_valid": curve.best_valid, "points": [asdict(p) for p in curve.points]}
                    for curve in members
                ],
            }
            for name, members in curves
        ],
    }
