"""What a person sees while a run goes on, written to Prefect as best effort.

Prefect's client blocks for over a minute when its server is away and then raises; a run that is being paid for must
notice neither. Every write therefore happens on a thread of its own, and what cannot be written in time is dropped
with one line in the log.
"""

from __future__ import annotations

import contextvars
import logging
import queue
import re
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast
from uuid import UUID

from prefect import get_client, runtime
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.events import emit_event
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from pipeline.requests import TrainRequest

FLUSH_S = 10.0
"""Seconds a stage waits at its end for its artifacts to be written."""
BREAK_S = 30.0
"""Seconds without further tries after a write failed."""


def say(message: str, *, percent: float | None = None, warning: bool = False, asks: bool = False) -> None:
    """Log one line for people: on the run's page and, marked as ours, for the command line's display.

    A line that asks is shown without a moving one below it, until the next one.
    """
    level = logging.WARNING if warning else logging.INFO
    _logger().log(level, message, extra={"train_pipeline": True, "percent": percent, "asks": asks})


def announce(event: str, subject: str, name: str, payload: dict[str, Any], *, rehearsal: bool) -> None:
    """Emit ``train-pipeline.<event>`` for automations; neither blocks nor raises.

    In the sandbox it is ``train-pipeline.rehearsal.<event>``, so that no automation takes it for the real thing.
    """
    resource = {"prefect.resource.id": f"train-pipeline.{subject}", "prefect.resource.name": name}
    family = "train-pipeline.rehearsal" if rehearsal else "train-pipeline"
    emit_event(f"{family}.{event}", resource=resource, payload=payload)


def artifact_key(kind: str, request: TrainRequest) -> str:
    """Return the key under which a kind of artifact of one job is kept: lowercase letters, digits, single dashes."""
    parts = (*(("rehearsal",) if request.sandbox else ()), kind, request.data_name, request.kind)
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


class Display:
    """Writes artifacts from a background thread; used as a context manager, one for each stage."""

    def __init__(self, flush_s: float = FLUSH_S) -> None:
        self._flush_s = flush_s
        self._jobs: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._broken_until = 0.0
        self._progress_id: UUID | None = None
        self._progress: tuple[float, str] | None = None
        self._complained = False

    def __enter__(self) -> Self:
        """Start empty."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait a little for what is not written yet, then let go."""
        if self._thread is None:
            return
        self._jobs.put(None)
        self._thread.join(self._flush_s)
        if self._thread.is_alive():
            self._complain("Prefect did not answer in time")

    def progress(self, percent: float, description: str, key: str) -> None:
        """Create the stage's progress artifact once, then update it in place; only the newest value counts."""
        pending = self._progress is not None
        self._progress = (percent, description)
        if not pending:
            self._submit(lambda: self._write_progress(key))

    def markdown(self, text: str, key: str, description: str) -> None:
        """Create a Markdown artifact."""
        self._submit(lambda: create_markdown_artifact(markdown=text, key=key, description=description))

    def table(self, rows: list[dict[str, Any]], key: str, description: str) -> None:
        """Create a table artifact."""
        self._submit(lambda: create_table_artifact(table=rows, key=key, description=description))

    def link(self, address: str, text: str, key: str) -> None:
        """Create a link artifact."""
        self._submit(lambda: create_link_artifact(link=address, link_text=text, key=key))

    def _submit(self, job: Callable[[], object]) -> None:
        # Artifacts find their flow and task run through context variables, which threads do not inherit.
        context = contextvars.copy_context()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="display", daemon=True)
            self._thread.start()
        self._jobs.put(lambda: context.run(job))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if time.monotonic() < self._broken_until:
                self._progress = None
                continue
            try:
                job()
            except Exception as error:
                self._broken_until = time.monotonic() + BREAK_S
                self._complain(f"Prefect could not be written to ({type(error).__name__})")

    def _write_progress(self, key: str) -> None:
        newest, self._progress = self._progress, None
        if newest is None:
            return
        percent, description = newest
        if self._progress_id is None:
            self._progress_id = _earlier_progress(key)
        if self._progress_id is None:
            made = create_progress_artifact(progress=percent, key=key, description=description)
            self._progress_id = cast("UUID", made)  # a coroutine only inside an event loop, which this thread has not
        else:
            update_progress_artifact(self._progress_id, progress=percent, description=description)

    def _complain(self, reason: str) -> None:
        if not self._complained:
            self._complained = True
            say(f"{reason}; the run goes on, parts of its display are missing", warning=True)


def _earlier_progress(key: str) -> UUID | None:
    """Return the progress artifact a flow run made before it was carried out again: it goes on with that one."""
    if (runtime.flow_run.run_count or 1) < 2:
        return None
    ours = ArtifactFilterFlowRunId(any_=[UUID(str(runtime.flow_run.id))])
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]), flow_run_id=ours)
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=wanted, limit=1)
    return found[0].id if found else None


def _logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("train_pipeline")
