"""The real engine: gives training runs to child processes, one after the other, and follows them."""

import logging
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Select, select

from sandbox import runs
from sandbox.accounts import Account, find_account
from sandbox.catalog import export_path
from sandbox.core import Sandbox
from sandbox.datasets import DataError
from sandbox.documents import job_name, open_real
from sandbox.exportzip import read_export
from sandbox.fitting import memory_failure
from sandbox.jobfolder import JobFolder
from sandbox.modelstore import Trained
from sandbox.prices import gpu_seconds, used_minutes
from sandbox.settings import AccountSettings
from sandbox.store import Row, every, exports, first
from sandbox.store import runs as run_table
from sandbox.training import jobs

logger = logging.getLogger(__name__)

SERVICE_CAP_S = 7200.0  # of time on the GPU: the vendor's service ends a run there
_THREADS = 1
_SEED = 0
_MAX_STARTS = 3
_STOP_S = 0.7


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    folder: JobFolder
    epochs: list[dict[str, Any]] = field(default_factory=list)
    seen_at_s: float = field(default_factory=time.monotonic)
    _seen: tuple[int, int] = (0, 0)

    def has_news(self) -> bool:
        """Read the epochs again, if there is something to read, and return whether there are others than before."""
        now = self.folder.progress_mark()
        if now == self._seen:
            return False
        self._seen, known = now, len(self.epochs)
        self.epochs, self.seen_at_s = self.folder.epochs(), time.monotonic()
        return len(self.epochs) != known

    def trained_s(self) -> float:
        """Return the training time so far, the epoch that goes on included."""
        return _trained_s(self.epochs) + time.monotonic() - self.seen_at_s

    def stop(self) -> None:
        """End the process, in order if it can."""
        if self.folder.path.is_dir():
            jobs.cancel(self.folder.path)
        self.process.terminate()
        try:
            self.process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class Trainer:
    """Keeps one training going; all it must not forget is in the store and the job folders."""

    sandbox: Sandbox
    is_slot_taken: Callable[[], bool] = lambda: False
    """Whether another vendor's training has a child: there is one at a time."""
    _children: dict[str, _Child] = field(default_factory=dict)
    _starts: dict[str, int] = field(default_factory=dict)
    _out_of_memory: dict[str, str] = field(default_factory=dict)

    @property
    def is_busy(self) -> bool:
        """Whether a child is training."""
        return bool(self._children)

    def tick(self) -> None:
        """Follow the child, collect what ended, start what waits; what is wrong with one run stays with that run."""
        with self.sandbox.store.read() as tx:
            open_runs = every(tx, _open_real_runs())
            others = {job_name(row) for row in open_real(tx)}
        self._forget_all_but({run["id"] for run in open_runs} | others)
        for run in sorted(open_runs, key=lambda run: run["id"] not in self._children):
            try:
                self._move(run)
            except Exception as error:  # whatever it is: the runs behind this one must go on
                logger.exception("run %s cannot be trained", run["id"])
                with suppress(Exception):  # then it is tried again, behind the others
                    self._give_up(run, f"the sandbox could not train this run: {type(error).__name__}: {error}")

    def stop(self) -> None:
        """End every child; their runs go on from the last checkpoint when a server serves this home again."""
        for run_id in list(self._children):
            self._children.pop(run_id).stop()

    def _forget_all_but(self, alive: set[str]) -> None:
        """End the children of runs that ended or are gone, and remove the folders such runs left behind."""
        for run_id in [run_id for run_id in self._children if run_id not in alive]:
            self._children.pop(run_id).stop()
        if self.sandbox.jobs.is_dir():
            for path in self.sandbox.jobs.iterdir():
                if path.name not in alive:
                    JobFolder(path).remove()
        self._starts = {run_id: count for run_id, count in self._starts.items() if run_id in alive}
        self._out_of_memory = {run_id: text for run_id, text in self._out_of_memory.items() if run_id in alive}

    def _move(self, run: Row) -> None:
        if run["id"] in self._children:
            self._follow(run)
        elif run["id"] in self._out_of_memory:
            self._give_up(run, self._out_of_memory.pop(run["id"]))
        elif not self._children and not self.is_slot_taken():
            self._start(run)
        elif run["status"] == "pending":
            self._observe(run, status="queued")

    def _folder(self, run: Row) -> JobFolder:
        return JobFolder(self.sandbox.jobs / run["id"])

    def _start(self, run: Row) -> None:
        folder = self._folder(run)
        if folder.is_taken:
            return
        result = folder.result()
        if result is not None:  # the child ended after its server did, or just before
            self._collect(run, folder, result)
            return
        with self.sandbox.store.read() as tx:
            export = first(tx, select(exports).where(exports.c.id == run["export_id"]))
        refusal = self._refusal(run, folder, export)
        if refusal is not None:
            self._give_up(run, refusal)
            return
        settings = self._settings(run)
        shortage = memory_failure(settings, run)
        if shortage is not None:
            self._begin_to_fail(run, shortage)
            return
        self._starts[run["id"]] = self._starts.get(run["id"], 0) + 1
        job = {"pipeline_type": run["pipeline_type"], "seed": _SEED, "threads": _THREADS, "config": run["config"]}
        names = {"name": run["name"], "export_name": export["name"] if export else ""}
        folder.order({**job, **names, "device": settings.device})
        self._children[run["id"]] = _Child(jobs.start(folder.path), folder)
        if run["started_at"] is None:
            self._observe(run, status="queued")

    def _begin_to_fail(self, run: Row, message: str) -> None:
        """Let a run begin that the next tick fails, as its worker would; no child has to train for that."""
        self._out_of_memory[run["id"]] = message
        with self.sandbox.store.write() as tx:
            runs.begin(tx, self._account(tx, run), run, at_s=self.sandbox.clock.now_s())
            runs.observe(tx, run, status="running")

    def _refusal(self, run: Row, folder: JobFolder, export: Row | None) -> str | None:
        if self._starts.get(run["id"], 0) >= _MAX_STARTS:
            return "the training process ended without a result again and again" + folder.log_tail()
        source = folder.export if export is None else export_path(self.sandbox, export)
        if not folder.keep_export(source):
            return "the export was deleted before the training started"
        try:
            images = read_export(folder.export)
        except DataError as error:
            return str(error)
        if not images:
            return "num_samples=0: the export holds no image"
        if not any(image.content for image in images):
            return "the export has no image_ids: create it with include_images"
        return jobs.check_job(run["pipeline_type"], images, run["config"])

    def _follow(self, run: Row) -> None:
        child = self._children[run["id"]]
        ended = child.process.poll() is not None
        self._show_progress(run, child)
        if ended:
            del self._children[run["id"]]
            result = child.folder.result()
            if result is not None:  # otherwise it died without a word: the next tick starts it from its checkpoint
                self._collect(run, child.folder, result)
        elif gpu_seconds(self._settings(run), run["gpu_type"], child.trained_s()) >= SERVICE_CAP_S:
            self._give_up(run, f"the training took longer than the {SERVICE_CAP_S:.0f} s a run may take: ask for less")

    def _show_progress(self, run: Row, child: _Child) -> None:
        if not child.has_news() and (run["started_at"] is not None or not child.folder.has_begun):
            return
        values = _view(child.epochs) if child.epochs else {}
        with self.sandbox.store.write() as tx:
            runs.begin(tx, self._account(tx, run), run, at_s=self.sandbox.clock.now_s())
            runs.observe(tx, run, status="running", **values)

    def _collect(self, run: Row, folder: JobFolder, result: dict[str, Any]) -> None:
        if result["status"] == "completed":
            self._complete(run, folder, result)
            folder.remove()
        else:
            self._give_up(run, result.get("error_message") or "training failed")

    def _complete(self, run: Row, folder: JobFolder, result: dict[str, Any]) -> None:
        on_gpu_s = gpu_seconds(self._settings(run), run["gpu_type"], result["train_seconds"])
        trained = Trained(
            weights=folder.weights(),
            architecture=result["architecture"],
            classes=tuple(result["classes"]),
            metrics={**result["metrics"], "history": result["history"]},
            config=folder.config(),
            gpu_minutes=used_minutes(on_gpu_s),
        )
        at_s, warnings = self.sandbox.clock.now_s(), result.get("warnings") or None
        with self.sandbox.store.write() as tx:
            account = self._account(tx, run)
            runs.observe(tx, run, warnings=warnings)
            runs.complete(self.sandbox, tx, account, run, trained, at_s)

    def _give_up(self, run: Row, message: str) -> None:
        """Fail a run: its child is ended and its folder removed, whether or not there is one."""
        child = self._children.pop(run["id"], None)
        if child is not None:
            child.stop()
        with self.sandbox.store.write() as tx:
            runs.fail(tx, self._account(tx, run), run, message, at_s=self.sandbox.clock.now_s())
        self._folder(run).remove()

    def _observe(self, run: Row, **values: Any) -> None:
        with self.sandbox.store.write() as tx:
            runs.observe(tx, run, **values)

    def _settings(self, run: Row) -> AccountSettings:
        with self.sandbox.store.read() as tx:
            return self._account(tx, run).settings

    @staticmethod
    def _account(tx: Connection, run: Row) -> Account:
        account = find_account(tx, run["account_id"])
        if account is None:
            raise LookupError(f"run {run['id']!r} belongs to no account: reset this sandbox home")
        return account


def _open_real_runs() -> Select[Any]:
    waiting = select(run_table).where(run_table.c.completed_at.is_(None), run_table.c.engine == "real")
    return waiting.order_by(run_table.c.seq)


def _view(epochs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the columns of a run that trains."""
    last = epochs[-1]
    epoch, total = int(last["epoch"]), int(last["total_epochs"])
    return {
        "progress": min(100, 100 * epoch // total),
        "current_epoch": epoch,
        "total_epochs": total,
        "eta_seconds": round(_trained_s(epochs[-5:]) / len(epochs[-5:]) * (total - epoch)),
        "metrics": {"loss": last["loss"], "learning_rate": last["learning_rate"], **(last.get("metrics") or {})},
    }


def _trained_s(epochs: list[dict[str, Any]]) -> float:
    return sum(float(epoch["seconds"]) for epoch in epochs)
