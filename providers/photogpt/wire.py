"""PhotoGPT's JSON, private to the adapter: ids in both casings, everything the vendor may leave out left out.

Source: https://docs.photogptai.com, checked 2026-11-20.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field

from providers.wire import Moment, Objects, Text, Whole, Wire

NEW, TRAINING, READY = "new", "training", "ready"
DELETED = "deleted"
FAILED_MODEL = frozenset({DELETED, "failed", "error", "cancelled", "canceled"})
"""Words for a model that will not become ready; only ``deleted`` is documented."""
DONE_JOB = frozenset({"success", "completed"})
"""Words for a job that gave what it was begun for."""
FAILED_JOB = frozenset({"failed", "error", "cancelled", "canceled"})
"""Words for a job that will not."""


def _as_id(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Id = Annotated[str, BeforeValidator(_as_id), Field(min_length=1)]
_CREATED = AliasChoices("createdAt", "created_at")
_UPDATED = AliasChoices("updatedAt", "updated_at")
_MODEL = AliasChoices("modelId", "modelID", "model_id")
_JOB = AliasChoices("jobId", "jobID", "job_id", "id")


class _Told(Wire):
    """Something with a status word."""

    status: Text = None

    @property
    def word(self) -> str:
        """The status, comparable; empty when there is none."""
        return (self.status or "").strip().lower()


class ModelWire(_Told):
    """A model of a person; its name is shown by some answers at most."""

    id: Id = Field(validation_alias=AliasChoices("id", "modelID", "modelId"))
    name: Text = None
    created_at: Moment = Field(default=None, validation_alias=_CREATED)
    updated_at: Moment = Field(default=None, validation_alias=_UPDATED)

    @property
    def made_at(self) -> datetime | None:
        """When it was made: as it says, or as an id that begins with the time says."""
        return self.created_at or _time_of(self.id)


class ImageWire(Wire):
    """A picture; its address is a secret."""

    id: Id = Field(validation_alias=AliasChoices("id", "imageID", "imageId"))
    url: Text = Field(default=None, repr=False)
    type: Text = None


class JobItemWire(_Told):
    """A job as the list shows it: without its model."""

    id: Id = Field(validation_alias=_JOB)
    credits: Whole = None
    error: Text = Field(default=None, validation_alias=AliasChoices("errorMessage", "error"), repr=False)
    created_at: Moment = Field(default=None, validation_alias=_CREATED)


class JobWire(_Told):
    """A job looked at alone: without what it cost."""

    id: Id = Field(validation_alias=_JOB)
    model_id: Annotated[Text, BeforeValidator(_as_id)] = Field(default=None, validation_alias=_MODEL)
    images: Objects = Field(default=(), repr=False)
    error: Text = Field(default=None, validation_alias=AliasChoices("error", "errorMessage"), repr=False)
    created_at: Moment = Field(default=None, validation_alias=_CREATED)


def _time_of(identifier: str) -> datetime | None:
    """Return the time in a UUID of version 7."""
    try:
        read = uuid.UUID(identifier)
        return datetime.fromtimestamp((read.int >> 80) / 1000, UTC) if read.version == 7 else None
    except (ValueError, OverflowError, OSError):  # no UUID, or one of a year that the calendar does not have
        return None
