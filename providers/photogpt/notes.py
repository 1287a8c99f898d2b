"""What is remembered of one PhotoGPT training before anything of it is paid for: ids, digests and counts."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError

from pipeline.errors import JournalError
from pipeline.provider import Notes
from providers.wire import Wire


class Progress(Wire):
    """How far a training is prepared."""

    known: tuple[str, ...] | None = None
    """The account's models before one was made; none when no answer to making one is owed."""
    asked_at_s: float = 0.0
    """When a model was asked for, in seconds since the epoch."""
    model_id: str | None = None
    """The model."""
    pictures: dict[str, str] = Field(default_factory=dict)
    """Ids of the pictures that are there, by the digest of the file."""
    sending: str | None = None
    """Digest of the picture whose upload was not answered."""
    triggers: int = 0
    """Triggers sent that may have started the training."""
    triggered_at_s: float = 0.0
    """When the last one was sent, in seconds since the epoch."""


class NoteBook:
    """Reads and writes an operation's notes as progress."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    @property
    def progress(self) -> Progress:
        """What was written last.

        Raises:
            JournalError: It cannot be read; it stands between us and paying twice.
        """
        try:
            return Progress.model_validate(self._notes.read())
        except ValidationError as error:
            fields = ", ".join(sorted({str(one["loc"][0]) for one in error.errors(include_input=False)}))
            message = f"the notes on a PhotoGPT training cannot be read ({fields}); use the release that wrote them"
            raise JournalError(message) from None

    def change(self, **changes: Any) -> Progress:
        """Write what has changed, for good, and return the whole."""
        progress = self.progress.model_copy(update=changes)
        self._notes.write(progress.model_dump(mode="json"))
        return progress
