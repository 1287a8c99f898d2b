"""What a person sees while a flow runs in this process: our own lines, and Prefect's when asked for."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.status import Status

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import State

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


def carry_out(flow: Flow[..., State[Any]], request: object, console: Console, *, verbose: bool) -> State[Any] | None:
    """Run a flow and show what it says; none where Prefect failed, which is said instead.

    What the flow itself raises is in the state it ends in: what comes out of the call is Prefect's own.
    """
    try:
        with shown(console, verbose=verbose):
            state: State[Any] = flow(request, return_state=True)
    except Exception as error:  # whatever its engine raises
        console.print(f"error: {explain_prefect(error)}", highlight=False, markup=False)
        return None
    return state


def explain_prefect(error: Exception) -> str:
    """Say why Prefect could not carry out a flow, and what to do about it."""
    from prefect.settings import PREFECT_API_URL

    url, cause = PREFECT_API_URL.value(), error.__cause__ or error
    kind, status = type(cause), getattr(getattr(cause, "response", None), "status_code", None)
    if status is not None:
        trouble, first = f"answers {status}", "correct the address or what is given with it"
    elif kind.__module__ == "httpx":  # whose errors quote the address, with the password in it
        trouble, first = f"does not answer ({kind.__name__})", "start it"
    else:
        first_line = str(cause).partition("\n")[0]
        trouble, first = f"cannot be used ({kind.__name__}: {first_line})", "correct the address"
    if url is None:
        return f"Prefect's temporary server {trouble}"
    left = "unset PREFECT_API_URL (`prefect config unset PREFECT_API_URL` where a profile has it)"
    return f"Prefect's API at {_without_password(url)} {trouble}: {first}, or {left}"


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


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
