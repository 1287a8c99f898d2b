"""What time it is, as a thing that can be replaced in a test."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Source of the current time."""

    def now_s(self) -> float:
        """Return seconds since the epoch."""
        ...


class SystemClock:
    """The clock of this machine; it goes on while the server is down, which scripted runs rely on."""

    def now_s(self) -> float:
        """Return seconds since the epoch."""
        return time.time()


class ManualClock:
    """A clock that stands still until it is told to move."""

    def __init__(self, start_s: float = 1_800_000_000.0) -> None:
        self._now_s = start_s

    def now_s(self) -> float:
        """Return seconds since the epoch."""
        return self._now_s

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._now_s += seconds


def iso(at_s: float | None) -> str | None:
    """Write an instant the way the emulated APIs do: ISO 8601 with zone."""
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC).isoformat()
