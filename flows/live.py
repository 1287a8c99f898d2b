"""What a person sees while a flow runs in this process: our own lines, and Prefect's when asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.status import Status

SERVER_START_S = 120
"""Seconds Prefect's temporary server may take to start."""
RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
"""Prefect's loggers for the lines of a run; what stages say goes through them to the run's page."""


class _LineHandler(logging.Handler):
    """Shows our own log lines: a live line on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, status: Status | None) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._status = status

    def emit(self, record: logging.LogRecord) -> None:
        """Show one line."""
        if not getattr(record, "train_pipeline", False):
            return
        line = record.getMessage()
        if self._status is not None:  # an answer is being typed where it would be drawn
            self._status.stop() if getattr(record, "asks", False) else self._status.start()
        if self._status is not None and getattr(record, "percent", None) is not None:
            self._status.update(line)
            return
        style = "yellow" if record.levelno >= logging.WARNING else None
        self._console.print(f"{self._time(record)} {line}", style=style, highlight=False, markup=False)

    @staticmethod
    def _time(record: logging.LogRecord) -> str:
        return logging.Formatter().formatTime(record, "%H:%M:%S")


def hush_server() -> None:
    """Keep the temporary server, which Prefect starts when none is configured, from writing between our lines."""
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    logging.getLogger("prefect").setLevel(logging.WARNING)
    for name in RUN_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)


@contextmanager
def shown(console: Console, *, verbose: bool) -> Iterator[None]:
    """Show what a flow says while it runs, with or without Prefect's own lines, and give its server time to start."""
    from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, temporary_settings

    # Prefect gives its temporary server 20 s; a busy machine with a new database needs more.
    patience_s = max(PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value(), SERVER_START_S)
    if not verbose:
        hush_server()
    with (
        live_lines(console, verbose=verbose),
        temporary_settings({PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: patience_s}),
    ):
        yield


@contextmanager
def live_lines(console: Console, *, verbose: bool) -> Iterator[None]:
    """Show our lines, and Prefect's own only when asked."""
    loggers = [logging.getLogger(name) for name in (*RUN_LOGGERS, "train_pipeline")]
    status = console.status("starting Prefect") if console.is_terminal else None
    handler = _LineHandler(console, status)
    quieted: list[tuple[Any, int]] = []
    if not verbose:
        for noisy in logging.getLogger().handlers:
            quieted.append((noisy, noisy.level))
            noisy.setLevel(logging.CRITICAL)
    for logger in loggers:
        logger.addHandler(handler)
    if status is not None:
        status.start()
    try:
        yield
    finally:
        if status is not None:
            status.stop()
        for logger in loggers:
            logger.removeHandler(handler)
        for noisy, level in quieted:
            noisy.setLevel(level)
