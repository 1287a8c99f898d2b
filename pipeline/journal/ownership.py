"""Who carries an operation out, and whether that process still lives."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.clock import Clock
from pipeline.errors import OperationBusyError, PipelineError
from pipeline.journal.records import OperationRecord, Owner
from pipeline.journal.store import Journal
from pipeline.requests import TrainRequest

LEASE_S = 90.0
"""Seconds after its last sign of life for which a process on another machine is taken to live."""
LET_GO_S = 20.0
"""Seconds that a sign of life on its way is waited for, which a journal that is down may hold up."""
RENEW_S = 20.0
"""Seconds between signs of life."""
_PAUSE_S = 5.0


def this_process(flow_run_id: str) -> Owner:
    """Return this process as the owner of what a flow run carries out."""
    return Owner(host=socket.gethostname(), pid=os.getpid(), born=_born(os.getpid()), flow_run_id=flow_run_id)


def is_gone(owner: Owner) -> bool:
    """Tell whether a process that can be seen from here has ended; of another machine's nothing is known."""
    if not _is_visible(owner):
        return False
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # somebody else's process has the number: told apart below where the system says when it began
    return _born(owner.pid) != owner.born


def _is_visible(owner: Owner) -> bool:
    """Tell whether a process id means the same here as to its owner: containers and clones may share a name."""
    return owner.host == socket.gethostname() and owner.born.rpartition("/")[0] == _numbering()


def _numbering() -> str:
    """Return which numbering of processes this one sees: of which start of which machine, and of which container.

    Empty where the system says neither. Another start of this machine is taken for another machine, as a clone of it
    cannot be told apart from that.
    """
    return "/".join(part for part in (_boot(), _namespace()) if part)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _born(pid: int) -> str:
    """Return when a process began, in the system's ticks and after the numbering its id belongs to.

    Without the ticks where the system does not say, or where it is dead.
    """
    return f"{_numbering()}/{_ticks(pid)}"


def _ticks(pid: int) -> str:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()  # the name before may contain anything
    return "" if fields[0] in {"Z", "X"} else fields[19]


def take_over(
    journal: Journal,
    record: OperationRecord,
    owner: Owner,
    clock: Clock,
    now: Callable[[], float] = time.time,
    *,
    request: TrainRequest | None = None,
) -> OperationRecord:
    """Become the one that carries an attempt out, by this request's limits where one is given.

    A process of this machine that has ended is known to have; one that cannot be seen from here is given the time in
    which it would give a sign of life.

    Raises:
        OperationBusyError: A process that lives carries it out, or it was closed in the meantime.
    """
    until = clock.monotonic() + LEASE_S + _PAUSE_S
    while True:
        held = journal.claim(record.key, owner, now() + LEASE_S, is_gone, request)
        other = held.owner
        if other is None:
            closed = f"operation {held.operation_id!r} was closed ({held.outcome}) by another flow run in the meantime"
            raise OperationBusyError(f"{closed}; nothing was started: run again to begin a new one")
        if other == owner:
            return held
        # A process of the same flow run that lives is about to end: it has handed the flow run back to Prefect.
        visible = _is_visible(other) and other.flow_run_id != owner.flow_run_id
        if visible or clock.monotonic() >= until:
            raise OperationBusyError(_busy(held, other))
        clock.sleep(_PAUSE_S)


def _busy(record: OperationRecord, other: Owner) -> str:
    where = f"flow run {other.flow_run_id} (process {other.pid} on {other.host})"
    return (
        f"operation {record.operation_id!r} is being carried out by {where}; nothing was started: let it finish, or "
        f"ask with on_open_run=new for a second training"
    )


class Lease:
    """Gives signs of life for an attempt from a thread of its own, and lets go of it at the end."""

    def __init__(self, open_journal: Callable[[], Journal], owner: Owner, renew_s: float = RENEW_S) -> None:
        self._open_journal = open_journal
        self._owner = owner
        self._renew_s = renew_s
        self._key: str | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def owner(self) -> Owner:
        """Who holds it."""
        return self._owner

    def hold(self, key: str) -> None:
        """Begin, or go on with another attempt: its row may not exist yet."""
        self._key = key
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="lease", daemon=True)
            self._thread.start()

    def __enter__(self) -> Self:
        """Hold nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go, as far as the journal can be reached: without that it lapses."""
        self._ended.set()
        if self._thread is not None and self._key is not None:
            self._thread.join(LET_GO_S)  # or a last sign of life would take it back
            key = self._key
            self._try(lambda journal: journal.release(key, self._owner))

    def _work(self) -> None:
        while not self._ended.wait(self._renew_s):
            key = self._key
            if key is not None:
                self._try(lambda journal, key=key: journal.renew(key, self._owner, time.time() + LEASE_S))  # type: ignore[misc]

    def _try(self, use: Callable[[Journal], object]) -> None:
        try:
            journal = self._open_journal()
        except PipelineError:  # also an address that cannot be used any more
            return
        try:
            use(journal)
        except PipelineError:
            pass  # an unreachable journal ends nothing: the next sign of life may get through
        finally:
            journal.close()
