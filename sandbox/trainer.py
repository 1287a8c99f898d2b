"""The real engine: gives training runs to child processes, one after the other, and follows them."""

import json
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, update

from sandbox import runs
from sandbox.accounts import Account, find_account
from sandbox.catalog import export_path
from sandbox.core import Sandbox
from sandbox.datasets import DataError
from sandbox.exportzip import read_export
from sandbox.modelstore import Trained
from sandbox.prices import used_minutes
from sandbox.store import Row, every, exports, first
from sandbox.store import runs as run_table
from sandbox.training import jobs

_SEED = 0
_MAX_STARTS = 3
_LOG_TAIL_CHARS = 400


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    folder: Path
    lines_seen: int = 0


@dataclass
class Trainer:
    """Keeps at most so many trainings going; all it must not forget is in the store and the job folders."""

    sandbox: Sandbox
    slots: int = 1
    threads: int = field(default_factory=lambda: max(1, (os.cpu_count() or 2) // 2))
    _children: dict[str, _Child] = field(default_factory=dict)
    _starts: dict[str, int] = field(default_factory=dict)

    @property
    def is_busy(self) -> bool:
        """Whether a child is training."""
        return bool(self._children)

    def tick(self) -> None:
        """Follow the children, collect the ended ones, start what waits."""
        with self.sandbox.store.read() as tx:
            open_runs = every(tx, _open_real_runs())
        alive = {run["id"] for run in open_runs}
        for run_id in [run_id for run_id in self._children if run_id not in alive]:
            child = self._children.pop(run_id)
            self._stop(child)
            shutil.rmtree(child.folder, ignore_errors=True)
        for run in open_runs:
            if run["id"] in self._children:
                self._follow(run)
        for run in open_runs:
            if run["id"] not in self._children:
                self._admit(run)

    def stop(self) -> None:
        """End every child; their runs go on from the last checkpoint when a server serves this home again."""
        for run_id in list(self._children):
            self._stop(self._children.pop(run_id))

    def _admit(self, run: Row) -> None:
        if len(self._children) < self.slots:
            self._start(run)
        elif run["status"] == "pending":
            self._observe(run, status="queued")

    def _start(self, run: Row) -> None:
        folder = self.sandbox.home / "jobs" / run["id"]
        _end_stray(run["pid"], folder)
        with self.sandbox.store.read() as tx:
            export = first(tx, select(exports).where(exports.c.id == run["export_id"]))
        path = None if export is None else export_path(self.sandbox, export)
        refusal = self._refusal(run, path)
        if refusal is not None or path is None:
            self._fail(run, refusal or "the export was deleted before the training started")
            return
        self._starts[run["id"]] = self._starts.get(run["id"], 0) + 1
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in ("cancel", "result.json"):
            (folder / leftover).unlink(missing_ok=True)
        order = {"pipeline_type": run["pipeline_type"], "seed": _SEED, "threads": self.threads}
        order |= {"export": str(path), "config": run["config"]}
        (folder / "job.json").write_text(json.dumps(order), encoding="utf-8")
        self._children[run["id"]] = _Child(jobs.start(folder), folder)
        self._observe(run, status="queued", pid=self._children[run["id"]].process.pid)

    def _refusal(self, run: Row, path: Path | None) -> str | None:
        if self._starts.get(run["id"], 0) >= _MAX_STARTS:
            return "the training process ended without a result again and again" + _log_tail(self.sandbox, run)
        if path is None or not path.is_file():
            return "the export was deleted before the training started"
        try:
            images = read_export(path)
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
        if not ended:
            return
        del self._children[run["id"]]
        result = _read_json(child.folder / "result.json")
        if result is None:
            return  # it died without a word: the next tick starts it again from its checkpoint
        if result["status"] == "completed":
            self._complete(run, child.folder, result)
        elif result["status"] == "failed":
            self._fail(run, result.get("error_message") or "training failed")
        shutil.rmtree(child.folder, ignore_errors=True)

    def _show_progress(self, run: Row, child: _Child) -> None:
        path = child.folder / "progress.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if len(lines) == child.lines_seen or not lines:
            return
        child.lines_seen = len(lines)
        last = _last_record(lines)
        if last is None:
            return
        epoch, total = int(last["epoch"]), int(last["total_epochs"])
        metrics = {"loss": last["loss"], "learning_rate": last["learning_rate"], **(last.get("metrics") or {})}
        with self.sandbox.store.write() as tx:
            account = self._account(tx, run)
            runs.begin(self.sandbox, tx, account, run, at_s=self.sandbox.clock.now_s())
            runs.observe(
                tx,
                run,
                status="running",
                progress=min(100, 100 * epoch // total),
                current_epoch=epoch,
                total_epochs=total,
                eta_seconds=round(_epoch_s(lines) * (total - epoch)),
                metrics=metrics,
            )

    def _complete(self, run: Row, folder: Path, result: dict[str, Any]) -> None:
        trained = Trained(
            weights=(folder / "model.onnx").read_bytes(),
            architecture=result["architecture"],
            classes=tuple(result["classes"]),
            metrics={**result["metrics"], "history": result["history"]},
            config=_read_json(folder / "config.json") or {},
            gpu_minutes=used_minutes(result["train_seconds"]),
        )
        at_s = self.sandbox.clock.now_s()
        with self.sandbox.store.write() as tx:
            account = self._account(tx, run)
            tx.execute(update(run_table).where(run_table.c.id == run["id"]).values(warnings=_warnings(result)))
            runs.complete(self.sandbox, tx, account, run, trained, at_s)

    def _fail(self, run: Row, message: str) -> None:
        with self.sandbox.store.write() as tx:
            account = self._account(tx, run)
            runs.fail(self.sandbox, tx, account, run, message, at_s=self.sandbox.clock.now_s())

    def _observe(self, run: Row, **values: Any) -> None:
        with self.sandbox.store.write() as tx:
            runs.observe(tx, run, **values)

    @staticmethod
    def _account(tx: Connection, run: Row) -> Account:
        account = find_account(tx, run["account_id"])
        if account is None:
            raise LookupError(f"run {run['id']!r} belongs to no account: reset this sandbox home")
        return account

    @staticmethod
    def _stop(child: _Child) -> None:
        jobs.cancel(child.folder)
        child.process.terminate()
        try:
            child.process.wait(timeout=0.7)
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()


def _open_real_runs() -> Any:
    waiting = select(run_table).where(run_table.c.completed_at.is_(None), run_table.c.engine == "real")
    return waiting.order_by(run_table.c.seq)


def _warnings(result: dict[str, Any]) -> list[dict[str, Any]] | None:
    return result.get("warnings") or None


def _epoch_s(lines: list[str]) -> float:
    recent = [record["seconds"] for record in map(_parsed, lines[-5:]) if record is not None]
    return sum(recent) / len(recent) if recent else 0.0


def _last_record(lines: list[str]) -> dict[str, Any] | None:
    return next((record for record in map(_parsed, reversed(lines)) if record is not None), None)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None  # the last line may be half written
    return record if isinstance(record, dict) else None


def _read_json(path: Path) -> dict[str, Any] | None:
    return _parsed(path.read_text(encoding="utf-8")) if path.is_file() else None


def _log_tail(sandbox: Sandbox, run: Row) -> str:
    path = sandbox.home / "jobs" / run["id"] / "log.txt"
    return f": {path.read_text(encoding='utf-8')[-_LOG_TAIL_CHARS:].strip()}" if path.is_file() else ""


def _end_stray(pid: int | None, folder: Path) -> None:
    """End a child of an earlier server that is still about; only when it is certain that the process is that child."""
    if pid is None or not _runs_in(pid, folder):
        return
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _runs_in(pid: int, folder: Path) -> bool:
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return str(folder) in shown
