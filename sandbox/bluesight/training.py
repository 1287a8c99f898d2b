"""How Bluesight's jobs train: in a child process, or by a script, with a linear model of the same file at its end."""

import json
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection

from sandbox import documents, lifecycle
from sandbox.accounts import Account
from sandbox.bluesight.files import downloaded, linked_or_copied
from sandbox.bluesight.models import publish
from sandbox.childjobs import Job, JobError
from sandbox.core import Sandbox
from sandbox.lifecycle import Outcome, Scene, Scripted
from sandbox.store import Row
from sandbox.tiles import check_tiles, check_trainable, described, read_tiles
from sandbox.tiles_model import fit_linear
from sandbox.training.tiles import JOB, MODEL

_FILES = ("training_file", "validation_file")
_READING = threading.Lock()
"""One file at a time: each may take half a gigabyte."""


class RealJob:
    """A job that trains a small network in a child process."""

    on_restart: Literal["again", "strand"] = "strand"

    def prepare(self, job: Job) -> None:
        """Put the order and its files into the folder.

        Raises:
            JobError: A file is not there.
        """
        order: dict[str, Any] = {key: job.row["data"].get(key) for key in ("task", "hyperparameters")}
        try:
            for role, path in _files(job.sandbox, job.account, job.row).items():
                linked_or_copied(path, job.folder / role)
                order[role] = role
        except ValueError as error:
            raise JobError(described(error)) from error
        text = json.dumps({**dict.fromkeys(_FILES), **order})
        (job.folder / JOB).write_text(text, encoding="utf-8")

    def argv(self, job: Job) -> Sequence[str]:
        """Return the command line of the child."""
        return [sys.executable, "-m", "sandbox.training.tiles", str(job.folder)]

    def watch(self, tx: Connection, job: Job) -> None:
        """Note what the child does."""
        phase = job.progress().get("status", "downloading_files")
        if job.row["data"].get("phase") != phase:
            documents.change(tx, job.row, data={"phase": phase})

    def collect(self, tx: Connection, job: Job, result: Mapping[str, Any]) -> Outcome:
        """Keep the model the child left."""
        if result.get("status") != "completed":
            return Outcome("failed", {"error": str(result.get("error"))})
        content = (job.folder / MODEL).read_bytes()
        model = publish(job.sandbox, tx, job.account, job.row["data"]["task"], content)
        return Outcome("completed", {"trained_model": model})


@dataclass(frozen=True)
class Reading:
    """What a job's files gave: the model, once it is asked for, or the error they fail it with."""

    model: bytes = b""
    error: str | None = None


@dataclass(frozen=True)
class ScriptedJob:
    """A job that follows a script; its file is checked all the same, and its model labels tiles."""

    reading: Reading | None = None
    """Done before the transaction, for the job and the step that this one was made for."""
    endings: frozenset[str] = frozenset({"succeeded"})

    def prepared(self, sandbox: Sandbox, account: Account, row: Row, word: str) -> Scripted:
        """Read the files where the step needs them: nobody else could write to the store meanwhile."""
        if word not in {"running", "completed", *self.endings}:
            return self
        return ScriptedJob(_read(sandbox, account, row, is_ending=word != "running"))

    def end(self, scene: Scene) -> Outcome:
        """Keep the model of a job that succeeds."""
        step = scene.position.step
        if step.status == "cancelled":
            return Outcome("cancelled")
        if step.status == "failed":
            return Outcome("failed", {"error": step.error_message or f"RuntimeError: {scene.script.fail_message}"})
        reading = self._reading()
        if reading.error is not None:
            return Outcome("failed", {"error": reading.error})
        model = publish(scene.sandbox, scene.tx, scene.account, scene.row["data"]["task"], reading.model)
        return Outcome("completed", {"trained_model": model})

    def moved(self, scene: Scene) -> None:
        """Fail a job whose file cannot be used when its training begins, not when it ends."""
        if scene.row["completed_at"] is not None or scene.position.step.status != "running":
            return
        error = self._reading().error
        if error is not None:
            lifecycle.end(scene.tx, scene.account, scene.row, Outcome("failed", {"error": error}), at_s=scene.at_s)

    def _reading(self) -> Reading:
        if self.reading is None:
            raise RuntimeError("the job was moved to a step that it was not prepared for")
        return self.reading


def _read(sandbox: Sandbox, account: Account, row: Row, *, is_ending: bool) -> Reading:
    """Check a job's files and, at its end, make its model."""
    try:
        with _READING:
            paths = _files(sandbox, account, row)
            _check(paths)
            return Reading(_model(paths["training_file"], row["data"]) if is_ending else b"")
    except Exception as error:  # whatever is wrong with the file is the job's error, as with the vendor
        return Reading(error=described(error))


def _model(path: Path, order: Mapping[str, Any]) -> bytes:
    tiles = read_tiles(path)
    check_trainable(tiles, order["task"], order["hyperparameters"])
    return fit_linear(tiles, order["task"]).to_bytes()


def _files(sandbox: Sandbox, account: Account, row: Row) -> dict[str, Path]:
    """Return the copies of a job's files by their role.

    Raises:
        ValueError: A file is not there.
    """
    named = {role: row["data"].get(role) for role in _FILES}
    return {role: downloaded(sandbox, account, name) for role, name in named.items() if name is not None}


def _check(paths: Mapping[str, Path]) -> None:
    for path in paths.values():
        check_tiles(path)
