"""What flows of this process ended with, for a command that must tell it although Prefect cannot be told any more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pipeline.models import RunReport

_kept: ContextVar[list[RunReport] | None] = ContextVar("kept", default=None)


@contextmanager
def keeping() -> Iterator[list[RunReport]]:
    """Yield the list that gets the report of every flow that ends meanwhile."""
    reports: list[RunReport] = []
    token = _kept.set(reports)
    try:
        yield reports
    finally:
        _kept.reset(token)


def keep(report: RunReport) -> None:
    """Keep a report for whoever wants it."""
    reports = _kept.get()
    if reports is not None:
        reports.append(report)
