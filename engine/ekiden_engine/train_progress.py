"""How a training shows itself while it runs, and the learning curves that it leaves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from ekiden_engine.checkpoints import Checkpoints
from ekiden_engine.log import log
from ekiden_engine.models.base import Curve, CurvePoint, Step
from ekiden_engine.termination import StopRequest

USUAL_EPOCHS: Final[Mapping[str, int]] = {"rgcn": 16, "mf": 16}
"""Epochs until early stopping, on rating graphs: the first guess for the time left. Others usually run to the end."""
LOG_EVERY_S = 0.5
"""Seconds between progress lines; the first and the last epoch of each pass are always logged."""


class JobProgress:
    """Progress lines in the log, at most one per `LOG_EVERY_S`."""

    def __init__(self, stop: StopRequest, model: str, checkpoints: Checkpoints | None = None) -> None:
        """`stop`: asked after every epoch; `checkpoints`: where the model keeps what it needs to be resumed."""
        self.checkpoints = checkpoints or Checkpoints()
        self._stop = stop
        self._usual = USUAL_EPOCHS.get(model)
        self._started = self._last = time.perf_counter()
        self._step: Step | None = None
        self._lengths: list[int] = []
        self._resumed = 0

    def epoch(self, step: Step, epochs: int, metric: str, point: CurvePoint) -> None:
        """Log `member 2/6  epoch 12/60  valid rmse 0.912  3.2 s left`; the time assumes steps like those before."""
        now = time.perf_counter()
        if step is not self._step:
            self._step = step
            self._lengths.append(0)
            self._resumed += step.resumed
        self._lengths[-1] = point.epoch
        if point.epoch <= step.resumed:
            return
        finished = self._lengths[:-1]
        typical = sum(finished) / len(finished) if finished else min(epochs, self._usual or epochs)
        left = max(typical - point.epoch, 0) + typical * step.left
        pace = (now - self._started) / max(1, sum(self._lengths) - self._resumed)
        if now - self._last >= LOG_EVERY_S or point.epoch in (1, epochs, step.resumed + 1):
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
