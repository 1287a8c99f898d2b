"""Figures that a server chooses: which of them can be counted with."""

from __future__ import annotations

MOST = 2**53
"""The largest figure that is believed: up to here a float is exact, and every database has room for it."""


def figure_of(value: object) -> float | None:
    """Return a number as a float; none for anything else, NaN, infinity, and what is larger than ``MOST``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= MOST else None  # NaN compares as false
