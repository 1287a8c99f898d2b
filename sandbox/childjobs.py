"""Real trainings kept as documents: one child process at a time, followed through the files it writes."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from sqlalchemy import Connection

from sandbox import attempts, documents, lifecycle
from sandbox.accounts import Account, find_account
from sandbox.core import Sandbox
from sandbox.environment import child_environment
from sandbox.jobfolder import JobFolder
from sandbox.lifecycle import Outcome
from sandbox.store import Row

logger = logging.getLogger(__name__)

LOG, PROGRESS, RESULT = "log.txt", "progress.json", "result.json"
_MAX_STARTS = 3
_PREPARED_AT_ONCE_S = 0.2


class JobError(RuntimeError):
    """A training cannot be started: the message is what its owner reads."""


@dataclass(frozen=True)
class Job:
    """A real training as its dialect sees it: whose it is and the folder its child works in."""

    sandbox: Sandbox
    account: Account
    row: Row
    folder: Path

    def log(self) -> str:
        """Return what the child printed so far."""
        path = self.folder / LOG
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def progress(self) -> dict[str, Any]:
        """Return what the child last wrote to progress.json; nothing while there is none."""
        return read_json(self.folder / PROGRESS) or {}


class ChildJob(Protocol):
    """What a dialect does for one kind of real training."""

    @property
    def on_restart(self) -> Literal["again", "strand"]:
        """Whether a training whose child died with its server is run again, or stays as it is for ever."""
        ...

    def prepare(self, job: Job) -> None:
        """Write the child's input into the folder, which is there and empty.

        Raises:
            JobError: The training fails with this message.
        """
        ...

    def argv(self, job: Job) -> Sequence[str]:
        """Return the child's command line."""
        ...

    def watch(self, tx: Connection, job: Job) -> None:
        """Record what the files of the running child say; called several times a second."""
        ...

    def collect(self, tx: Connection, job: Job, result: Mapping[str, Any]) -> Outcome:
        """Keep what the child left, whatever its result's status, and say how the training ended.

        A result that the sandbox made itself, of a training it gave up, is `failed` with `error` and `seconds`.
        """
        ...


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    kind: ChildJob

    def kill(self) -> None:
        """End the process and its children at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class _Preparation(threading.Thread):
    """Writes a child's input beside everything else: what it needs may come from a slow server."""

    def __init__(self, kind: ChildJob, job: Job) -> None:
        super().__init__(name="sandbox-preparation", daemon=True)
        self._kind, self._job = kind, job
        self._error: Exception | None = None

    def run(self) -> None:
        """Prepare the folder."""
        try:
            self._kind.prepare(self._job)
        except Exception as error:  # told where the training is started
            self._error = error

    def check(self) -> None:
        """Raise what the preparation raised."""
        if self._error is not None:
            raise self._error


@dataclass
class ChildJobs:
    """Keeps one child going; all it must not forget is in the store and the job folders."""

    sandbox: Sandbox
    kinds: Mapping[str, ChildJob]
    is_slot_taken: Callable[[], bool] = lambda: False
    _children: dict[int, _Child] = field(default_factory=dict)
    _preparing: dict[int, _Preparation] = field(default_factory=dict)
    _starts: dict[int, int] = field(default_factory=dict)
    """How often this server started each: the end of a server is no child's failure."""

    @property
    def is_busy(self) -> bool:
        """Whether a child is training, or about to."""
        return bool(self._children or self._preparing)

    def has_work(self) -> bool:
        """Whether a training waits for a child or has one; those that were stranded have none."""
        with self.sandbox.store.read() as tx:
            return any(not row["data"].get("stranded") for row in self._open(tx))

    def tick(self) -> None:
        """Follow the child, collect what ended, start what waits; what is wrong with one stays with that one."""
        with self.sandbox.store.read() as tx:
            rows = self._open(tx)
        alive = {row["seq"] for row in rows}
        for seq in [seq for seq in self._children if seq not in alive]:
            self._children.pop(seq).kill()
        self._preparing = {seq: thread for seq, thread in self._preparing.items() if seq in alive}
        self._starts = {seq: count for seq, count in self._starts.items() if seq in alive}
        for row in sorted(rows, key=lambda row: row["seq"] not in self._children | self._preparing):
            try:
                self._move(row)
            except Exception as error:  # whatever it is: the trainings behind this one must go on
                logger.exception("%s %s cannot be trained", row["kind"], row["id"])
                with suppress(Exception):  # then it is tried again, behind the others
                    self._fail(row, f"the sandbox could not train this: {type(error).__name__}: {error}")

    def stop(self) -> None:
        """End every child, and wait for preparations, which give up once the sandbox is stopping."""
        for thread in self._preparing.values():
            thread.join()
        self._preparing.clear()
        for seq in list(self._children):
            self._children.pop(seq).kill()

    def _open(self, tx: Connection) -> list[Row]:
        return [row for row in documents.open_real(tx) if row["kind"] in self.kinds]

    def _job(self, tx: Connection, row: Row) -> Job:
        account = find_account(tx, row["account_id"])
        if account is None:
            raise LookupError(f"{row['kind']} {row['id']!r} belongs to no account: reset this sandbox home")
        return Job(self.sandbox, account, documents.reload(tx, row), self.sandbox.jobs / documents.job_name(row))

    def _move(self, row: Row) -> None:
        if row["seq"] in self._children:
            self._follow(row)
        elif row["seq"] in self._preparing:
            self._go_on(row)
        elif not self.is_busy and not self.is_slot_taken() and not row["data"].get("stranded"):
            self._start(row)

    def _start(self, row: Row) -> None:
        kind = self.kinds[row["kind"]]
        with self.sandbox.store.read() as tx:
            job = self._job(tx, row)
        if JobFolder(job.folder).is_taken or self._was_interrupted(job, kind):
            return
        JobFolder(job.folder).remove()
        job.folder.mkdir(parents=True)
        thread = self._preparing[row["seq"]] = _Preparation(kind, job)
        thread.start()
        thread.join(_PREPARED_AT_ONCE_S)
        self._go_on(row)

    def _go_on(self, row: Row) -> None:
        """Start the child once its folder is prepared."""
        seq, kind = row["seq"], self.kinds[row["kind"]]
        if self._preparing[seq].is_alive() or self.sandbox.stopping.is_set():
            return
        try:
            self._preparing.pop(seq).check()
        except JobError as error:
            self._fail(row, str(error))
            return
        with self.sandbox.store.write() as tx:
            documents.change(tx, row, data={"starts": 1})  # says that it has begun
            attempts.begin(tx, row, at_s=self.sandbox.clock.now_s())
            job = self._job(tx, row)
        self._starts[seq] = self._starts.get(seq, 0) + 1
        self._children[seq] = _Child(_spawn(job.folder, kind.argv(job)), kind)

    def _was_interrupted(self, job: Job, kind: ChildJob) -> bool:
        """Collect, strand or give up a training that had begun before, and return whether that was all."""
        starts = self._starts.get(job.row["seq"], 0)
        if not job.row["data"].get("starts"):
            return False
        result = read_json(job.folder / RESULT)
        if result is not None:
            self._collect(job, kind, result)
        elif kind.on_restart == "strand":
            with self.sandbox.store.write() as tx:
                documents.change(tx, job.row, data={"stranded": True})
            JobFolder(job.folder).remove()
        elif starts >= _MAX_STARTS:
            self._fail(
                job.row, f"the training ended without a result {starts} times" + JobFolder(job.folder).log_tail()
            )
        else:
            return False
        return True

    def _follow(self, row: Row) -> None:
        child = self._children[row["seq"]]
        ended = child.process.poll() is not None
        with self.sandbox.store.write() as tx:
            job = self._job(tx, row)
            if job.row["completed_at"] is not None:
                return  # it was cancelled a moment ago: the next tick ends the child
            lifecycle.begin(tx, job.row, at_s=self.sandbox.clock.now_s())
            child.kind.watch(tx, job)
        if ended:
            del self._children[row["seq"]]
            result = read_json(job.folder / RESULT)
            if result is not None:
                self._collect(job, child.kind, result)
                return
            with self.sandbox.store.write() as tx:  # it was killed from outside: the next tick starts it again
                attempts.end(tx, row, at_s=self.sandbox.clock.now_s())

    def _collect(self, job: Job, kind: ChildJob, result: Mapping[str, Any]) -> None:
        """End a training with what its child left; of one that was cancelled meanwhile nothing is kept."""
        at_s = self.sandbox.clock.now_s()
        with self.sandbox.store.write() as tx:
            lifecycle.begin(tx, job.row, at_s=at_s)
            fresh = self._job(tx, job.row)
            if fresh.row["completed_at"] is None:
                lifecycle.end(tx, fresh.account, fresh.row, kind.collect(tx, fresh, result), at_s=at_s)
        JobFolder(job.folder).remove()

    def _fail(self, row: Row, message: str) -> None:
        """Fail a training: its child is ended and its folder removed, whether or not there is one."""
        self._preparing.pop(row["seq"], None)
        child = self._children.pop(row["seq"], None)
        if child is not None:
            child.kill()
        at_s = self.sandbox.clock.now_s()
        with self.sandbox.store.write() as tx:
            job = self._job(tx, row)
            result = {"status": "failed", "error": message, "seconds": attempts.ran_s(job.row, at_s)}
            if job.row["completed_at"] is None:
                lifecycle.end(tx, job.account, job.row, self.kinds[row["kind"]].collect(tx, job, result), at_s=at_s)
        JobFolder(self.sandbox.jobs / documents.job_name(row)).remove()


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object a child wrote; None while there is none, or half of one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _spawn(folder: Path, argv: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a command under a guard that ends it with this process, at lower priority and with one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = child_environment(**threads, OMP_WAIT_POLICY="PASSIVE", PYTHONUNBUFFERED="1")
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module, with a dialect's own command
            [sys.executable, "-m", "sandbox.childguard", str(os.getpid()), str(folder), *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C at the server must not reach the child, and a kill reaches all of it
        )
