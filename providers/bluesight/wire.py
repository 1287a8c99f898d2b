"""Bluesight's JSON about files and jobs, private to the adapter; strict about ids alone.

Source: the vendor's published server, checked 2026-11-20.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, JsonValue

from pipeline.models import Finding, RunHandle, RunStatus, Severity, TrainingRun
from providers.wire import Moment, Text, Whole, Wire

PROVIDER = "bluesight"
STATUSES: dict[str, RunStatus] = {
    "initializing": RunStatus.PENDING,
    "downloading_files": RunStatus.PENDING,
    "validating_files": RunStatus.PENDING,
    "queued": RunStatus.QUEUED,
    "running": RunStatus.RUNNING,
    "succeeded": RunStatus.COMPLETED,
    "failed": RunStatus.FAILED,
    "cancelled": RunStatus.CANCELLED,
}
"""The vendor's words and ours; any of them may be missed between two looks."""
CANCEL_IS_ADVICE = Finding(
    severity=Severity.WARNING,
    code="cancel_is_advice",
    message="Bluesight takes a cancel as advice: compute may continue at the provider, and a model that appears later "
    "is not collected.",
)
_DAMAGED_COPY = "Unable to synchronously open file"
_LONGEST_ERROR = 2_000

_Id = Annotated[str, Field(min_length=1)]


class FileWire(Wire):
    """An uploaded file."""

    id: _Id
    bytes: Whole = None


class WelcomeWire(Wire):
    """What the server says of itself."""

    message: str


class LabelsWire(Wire):
    """What a model sees: a label, or a mask of labels, for each image."""

    labels: list[JsonValue]


class JobWire(Wire):
    """A training job; without an id it is none, everything else may be missing."""

    id: _Id
    status: Text = None
    task: Text = None
    error: Text = None
    trained_model: Text = None
    created_at: Moment = None
    finished_at: Moment = None

    def to_value(self, name: str, dataset: str) -> TrainingRun:
        """Convert; a status word that is not known is not an end."""
        status = STATUSES.get(self.status or "", RunStatus.UNKNOWN)
        return TrainingRun(
            handle=RunHandle(provider=PROVIDER, run_id=self.id, name=name, dataset=dataset),
            status=status,
            provider_status=self.status or "missing",
            pipeline=self.task,
            model_id=self.trained_model if status is RunStatus.COMPLETED else None,
            error_message=_explained(self.error) if status is RunStatus.FAILED else None,
            warnings=_remarks(status, self.status),
            created_at=self.created_at,
            completed_at=self.finished_at if status.is_terminal else None,
        )


def _remarks(status: RunStatus, word: str | None) -> tuple[Finding, ...]:
    if status is RunStatus.CANCELLED:
        return (CANCEL_IS_ADVICE,)
    if status is RunStatus.UNKNOWN:
        message = f"The job's status is {word!r}, a word this release does not know: it is watched until the deadline."
        return (Finding(severity=Severity.WARNING, code="unknown_status", message=message),)
    return ()


def _explained(error: str | None) -> str | None:
    """Return the server's reason, with what to do where the reason is a damaged copy of a good file."""
    if error is None or _DAMAGED_COPY not in error:
        return error if error is None else error[:_LONGEST_ERROR]
    return (
        f"{error[:_LONGEST_ERROR]}; where the file opens here, the server has kept a damaged copy of it, for this "
        f"upload for ever: run again, which uploads the file anew"
    )
