"""What the versions have in common: JSON with moments in it, and chance. Imports nothing of Ekiden."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any


def encoded(value: Any) -> Any:
    """A value JSON does not know."""
    if isinstance(value, datetime):
        return {"~time": value.isoformat()}
    raise TypeError(type(value).__name__)


def decoded(node: dict[str, Any]) -> Any:
    """The value that ``encoded`` took."""
    return datetime.fromisoformat(node["~time"]) if set(node) == {"~time"} else node


def chance(seed: int, count: int) -> bytes:
    """The same bytes for the same seed, in every version."""
    return hashlib.sha256(str(seed).encode()).digest()[:count]
