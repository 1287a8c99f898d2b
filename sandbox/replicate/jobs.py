"""Real trainings of the emulated Replicate API: the trainer's own code, in a child process."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection

from sandbox import documents
from sandbox.childjobs import Job, JobError
from sandbox.lifecycle import Outcome
from sandbox.replicate.inputs import InputError, fetch
from sandbox.replicate.trainings import charge_of
from sandbox.replicate.weights import PackagingError, publish, unpacked

_MODULE = "trainers.replicate.local"
_DATA, _WEIGHTS = "train_data", "weights.tar"


@dataclass(frozen=True)
class RealTrainings:
    """How a child trains what was ordered."""

    on_restart: Literal["again", "strand"] = "again"

    def prepare(self, job: Job) -> None:
        """Write the input, with a copy of the data in the folder.

        Raises:
            JobError: The data cannot be fetched.
        """
        given = dict(job.row["data"]["input"])
        try:
            content = fetch(job.sandbox, job.account, given["train_data"])
        except (InputError, OSError) as error:
            raise JobError(f"Could not download train_data: {error}") from error
        path = job.folder / f"{_DATA}{'.zip' if content.startswith(b'PK') else ''}"
        path.write_bytes(content)
        (job.folder / "input.json").write_text(json.dumps({**given, "train_data": str(path)}), encoding="utf-8")

    def argv(self, job: Job) -> Sequence[str]:
        """Return the trainer's command line."""
        return [sys.executable, "-m", _MODULE, str(job.folder)]

    def watch(self, tx: Connection, job: Job) -> None:
        """Keep what the trainer printed."""
        logs = job.log()
        if logs != job.row["data"].get("logs"):
            documents.change(tx, job.row, data={"logs": logs})

    def collect(self, tx: Connection, job: Job, result: Mapping[str, Any]) -> Outcome:
        """Publish the weights, or say why there are none; the time it trained is billed either way."""
        seconds = float(result.get("seconds") or 0.0) * job.account.settings.gpu_seconds_per_second
        data: dict[str, Any] = {"logs": job.log(), "seconds": seconds}
        status = "failed" if result.get("status") == "failed" else "completed"
        if status == "failed":
            data["error"] = result.get("error") or "the training failed without a reason"
        else:
            try:
                made = unpacked((job.folder / _WEIGHTS).read_bytes())
                data |= publish(job.sandbox, tx, job.account, job.row, made, at_s=job.sandbox.clock.now_s())
            except (PackagingError, OSError, ValueError) as error:
                status, data["error"] = "failed", str(error)
        return Outcome(status, data, charge_of(job.account, job.row, seconds))
