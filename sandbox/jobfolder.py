"""The folder of one real training, as the server sees it: what goes in, what the child has written so far."""

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.training.results import LOCK, PROGRESS, RESULT, progress

EXPORT = "export.zip"
_LOG_TAIL_CHARS = 400


@dataclass(frozen=True)
class JobFolder:
    """One job's folder; it need not exist yet."""

    path: Path

    @property
    def export(self) -> Path:
        """The training's own copy of its export."""
        return self.path / EXPORT

    @property
    def has_begun(self) -> bool:
        """Whether a child got as far as the first epoch."""
        return (self.path / PROGRESS).is_file()

    @property
    def is_taken(self) -> bool:
        """Whether a child works here: one of a server that was killed leaves a moment after it."""
        path = self.path / LOCK
        if not path.is_file():
            return False
        with path.open("a", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def keep_export(self, source: Path) -> bool:
        """Make the export the job's own, so that it may be deleted meanwhile, and return whether there is one."""
        if self.export.is_file():
            return True
        if not source.is_file():
            return False
        self.path.mkdir(parents=True, exist_ok=True)
        part = self.path / f".{EXPORT}.part"
        part.unlink(missing_ok=True)
        try:
            os.link(source, part)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, part)
        part.replace(self.export)
        return True

    def order(self, job: Mapping[str, Any]) -> None:
        """Write what the child is to do, and take back what stopped an earlier one."""
        for leftover in ("cancel", RESULT):
            (self.path / leftover).unlink(missing_ok=True)
        text = json.dumps({**job, "export": str(self.export)})
        (self.path / "job.json").write_text(text, encoding="utf-8")

    def result(self) -> dict[str, Any] | None:
        """Return the end of the job; None while there is none, and where a child was only stopped to go on later."""
        path = self.path / RESULT
        found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        return None if found is None or found["status"] == "cancelled" else found

    def progress_mark(self) -> tuple[int, int]:
        """Return a mark that changes whenever the reported epochs do."""
        path = self.path / PROGRESS
        if not path.is_file():
            return 0, 0
        stat = path.stat()
        return stat.st_size, stat.st_mtime_ns

    def epochs(self) -> list[dict[str, Any]]:
        """Return the epochs reported so far."""
        return progress(self.path)

    def config(self) -> dict[str, Any]:
        """Return the config.json of the finished model."""
        document: dict[str, Any] = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
        return document

    def weights(self) -> bytes:
        """Return the finished model."""
        return (self.path / "model.onnx").read_bytes()

    def log_tail(self) -> str:
        """Return the end of what the child printed, after a colon, or nothing."""
        path = self.path / "log.txt"
        text = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
        return f": {text[-_LOG_TAIL_CHARS:]}" if text else ""

    def remove(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)
