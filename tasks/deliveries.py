"""The provider's calls about a training, for the watch that sleeps: each new one is a reason to look now.

Where they come from is ``tasks/webhooks.py``. Nothing is believed: a call wakes the watch, the look decides.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from pipeline.models import TrainingRun, TrainPlan
from tasks.journal import opened_journal

logger = logging.getLogger(__name__)

LISTEN_S = 1.0
"""Seconds between two looks into the journal, where calls are written down."""


class Deliveries:
    """Wakes whoever sleeps when the provider has called about a run; asks for nothing where no provider calls."""

    def __init__(self, plan: TrainPlan, run: TrainingRun, wake: Callable[[], None]) -> None:
        self._provider = plan.profile.name
        self._run_id = run.handle.run_id
        self._wake = wake
        self._calls = plan.profile.sends_webhooks
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        """Begin to listen, if there can be something to hear."""
        if self._calls:
            context = contextvars.copy_context()
            threading.Thread(target=lambda: context.run(self._work), name="deliveries", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self._ended.set()

    def _work(self) -> None:
        heard = 0  # what was called in before costs one look more, and nothing falls between this and the first look
        while not self._ended.wait(LISTEN_S):
            count = self._count()
            if count is not None and count > heard:
                heard = count
                self._wake()

    def _count(self) -> int | None:
        try:
            with opened_journal() as journal:
                return journal.deliveries_about(self._provider, self._run_id)
        except Exception as error:  # whatever it is: the watch looks by itself, only later
            logger.debug("deliveries could not be counted: %s", type(error).__name__)
            return None
