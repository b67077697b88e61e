"""A simulation as a time line that people can read."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulation.kernel import Kernel


@dataclass(slots=True)
class Story:
    """Who did what, and what was done to them. ``kernel`` is set once there is one."""

    lines: list[tuple[float, str, str]] = field(default_factory=list)
    kernel: Kernel | None = None

    def tell(self, who: str, what: str) -> None:
        """Add a line."""
        self.lines.append((self.kernel.now if self.kernel else 0.0, who, what))

    def text(self, *, calls: bool = False) -> str:
        """The time line; with ``calls`` every I/O boundary too."""
        shown = [line for line in self.lines if calls or not line[2].startswith(("before ", "after "))]
        return "\n".join(f"{_time(at)}  {who:<22} {what}" for at, who, what in shown)


def _time(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:d}:{minutes:02d}:{rest:06.3f}"
