"""The clock that everything that waits is given: the ``time`` module, or a fake."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """The two functions of the ``time`` module that waiting needs."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""

    def sleep(self, seconds: float, /) -> None:
        """Let the given seconds pass."""
