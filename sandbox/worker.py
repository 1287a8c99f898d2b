"""The background thread of a server: builds exports and moves real trainings on."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from sqlalchemy import func, select

from sandbox.catalog import advance_exports
from sandbox.childjobs import ChildJobs
from sandbox.core import Sandbox
from sandbox.store import exports, runs
from sandbox.trainer import Trainer
from sandbox.vendors import CHILD_JOBS, DIALECTS

logger = logging.getLogger(__name__)

_BUSY_S = 0.1
_IDLE_S = 1.0


class Worker(threading.Thread):
    """Works until it is told to stop; an error is logged and tried again, never fatal."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(name="sandbox-worker", daemon=True)
        self._sandbox = sandbox
        self._jobs = ChildJobs(sandbox, CHILD_JOBS)
        self._trainer = Trainer(sandbox, lambda: self._jobs.is_busy)
        self._jobs.is_slot_taken = lambda: self._trainer.is_busy
        self._stopping = threading.Event()
        self._last_use_s = time.monotonic()
        self._in_flight = 0  # requests; counted and read on the event loop's thread alone

    def touch(self) -> None:
        """Note that the sandbox is in use."""
        self._last_use_s = time.monotonic()

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Count a request from its begin to its end, however long it takes."""
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self.touch()

    def idle_s(self) -> float:
        """Return seconds since the last request, training or export ended; 0 while there is one."""
        if self._in_flight or self._is_training or self._open_work():
            self.touch()
        return time.monotonic() - self._last_use_s

    @property
    def _is_training(self) -> bool:
        return self._trainer.is_busy or self._jobs.is_busy

    def run(self) -> None:
        """Work until stop()."""
        while not self._stopping.is_set():
            self._sandbox.wake.clear()
            pause_s = self._work()
            self._sandbox.wake.wait(pause_s)
        self._trainer.stop()
        self._jobs.stop()

    def stop(self) -> None:
        """Stop working and wait for the end; children are ended."""
        self._stopping.set()
        self._sandbox.wake.set()
        self.join()

    def _work(self) -> float:
        """Do one round and return when the next one is due, in seconds; what one part raises stops no other."""
        parts: tuple[tuple[str, Callable[[], float | None]], ...] = (
            ("exports", lambda: advance_exports(self._sandbox)),
            ("trainings", self._trainer.tick),
            ("trainings of other vendors", self._jobs.tick),
            *((dialect.name, partial(dialect.tick, self._sandbox)) for dialect in DIALECTS),
        )
        due_s = [work_s for name, work in parts if (work_s := self._part(name, work)) is not None]
        return max(0.005, min([*due_s, _BUSY_S if self._is_training else _IDLE_S]))

    @staticmethod
    def _part(name: str, work: Callable[[], float | None]) -> float | None:
        try:
            return work()
        except Exception:
            logger.exception("the sandbox will try its %s again", name)
            return None

    def _open_work(self) -> bool:
        with self._sandbox.store.read() as tx:
            building = select(func.count()).where(exports.c.status.in_(("pending", "processing")))
            training = select(func.count()).where(runs.c.completed_at.is_(None), runs.c.engine == "real")
            if tx.execute(building).scalar_one() + tx.execute(training).scalar_one():
                return True
        return self._jobs.has_work()
