"""The background threads of a server: exports and real trainings on one, each vendor's errands on their own."""

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
from sandbox.dialects import Dialect
from sandbox.store import exports, runs
from sandbox.trainer import Trainer
from sandbox.vendors import CHILD_JOBS, DIALECTS

logger = logging.getLogger(__name__)

_BUSY_S = 0.1
_IDLE_S = 1.0


class _Errand(threading.Thread):
    """One part of the work that may wait for others: on a thread of its own, it holds up nothing else."""

    def __init__(self, name: str, work: Callable[[], float | None], stopping: threading.Event) -> None:
        super().__init__(name=f"sandbox-{name}", daemon=True)
        self.wake = threading.Event()
        self._label, self._work, self._stopping = name, work, stopping

    def run(self) -> None:
        """Work until the sandbox stops."""
        while not self._stopping.is_set():
            self.wake.clear()
            pause_s = _part(self._label, self._work)
            self.wake.wait(_IDLE_S if pause_s is None else pause_s)


class Worker(threading.Thread):
    """Works until it is told to stop; an error is logged and tried again, never fatal."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(name="sandbox-worker", daemon=True)
        self._sandbox = sandbox
        self._jobs = ChildJobs(sandbox, CHILD_JOBS)
        self._trainer = Trainer(sandbox, lambda: self._jobs.is_busy)
        self._jobs.is_slot_taken = lambda: self._trainer.is_busy
        self._stopping = sandbox.stopping
        self._errands = _errands(sandbox)
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
        for errand in self._errands:
            errand.start()
        while not self._stopping.is_set():
            self._sandbox.wake.clear()
            for errand in self._errands:
                errand.wake.set()
            pause_s = self._work()
            self._sandbox.wake.wait(pause_s)
        self._trainer.stop()
        self._jobs.stop()
        for errand in self._errands:
            errand.wake.set()
            errand.join()

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
        )
        due_s = [work_s for name, work in parts if (work_s := _part(name, work)) is not None]
        return max(0.005, min([*due_s, _BUSY_S if self._is_training else _IDLE_S]))

    def _open_work(self) -> bool:
        with self._sandbox.store.read() as tx:
            building = select(func.count()).where(exports.c.status.in_(("pending", "processing")))
            training = select(func.count()).where(runs.c.completed_at.is_(None), runs.c.engine == "real")
            if tx.execute(building).scalar_one() + tx.execute(training).scalar_one():
                return True
        return self._jobs.has_work()


def _errands(sandbox: Sandbox) -> list[_Errand]:
    """Return a thread for each errand of a vendor; most have none."""
    found = [(dialect.name, dialect.tick) for dialect in DIALECTS if type(dialect).tick is not Dialect.tick]
    found += [
        (f"{dialect.name} deliveries", dialect.deliver)
        for dialect in DIALECTS
        if type(dialect).deliver is not Dialect.deliver
    ]
    return [_Errand(name, partial(work, sandbox), sandbox.stopping) for name, work in found]


def _part(name: str, work: Callable[[], float | None]) -> float | None:
    try:
        return work()
    except Exception:
        logger.exception("the sandbox will try its %s again", name)
        return None
