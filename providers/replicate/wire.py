"""Replicate's JSON, private to the adapter: strict about identity, tolerant of everything else.

Create replies hold half of the fields, list items no logs, and statuses may be words this release does not know.
Source: OpenAPI 1.0.0-a1 and recorded answers, checked 2026-11-20.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, JsonValue

from pipeline.models import RunHandle, RunStatus, TrainingRun
from providers.figures import figure_of
from providers.replicate.logs import read_progress
from providers.wire import Flag, JsonObject, Moment, Text, Whole, Wire

PROVIDER = "replicate"
ABORTED = "aborted"
"""Their word for a run that ended before it ever ran."""
STATUSES: dict[str, RunStatus] = {
    "starting": RunStatus.QUEUED,
    "processing": RunStatus.RUNNING,
    "succeeded": RunStatus.COMPLETED,
    "failed": RunStatus.FAILED,
    "canceled": RunStatus.CANCELLED,
    ABORTED: RunStatus.CANCELLED,
}
"""Their word to ours."""


def _as_text(value: Any) -> Any:
    return value if value is None or isinstance(value, str) else json.dumps(value)


ErrorText = Annotated[str | None, BeforeValidator(_as_text)]


class TrainingWire(Wire):
    """A training as create, get, cancel and lists show it."""

    id: str = Field(min_length=1)
    status: Text = None
    model: Text = None
    version: Text = None
    input: JsonObject = Field(default_factory=dict)
    output: JsonValue = None
    logs: Text = None
    error: ErrorText = None
    metrics: JsonObject = Field(default_factory=dict)
    created_at: Moment = None
    started_at: Moment = None
    completed_at: Moment = None
    data_removed: Flag = None

    @property
    def run_status(self) -> RunStatus:
        """Our word; one that is not known is not an end."""
        return STATUSES.get(self.status or "", RunStatus.UNKNOWN)

    @property
    def output_version(self) -> str | None:
        """The version that was made, as owner/name:64 hex digits."""
        return self._output("version")

    @property
    def weights(self) -> str | None:
        """Address of the weights; some trainers return nothing else."""
        made = self._made
        if isinstance(made, str) and made.startswith(("https://", "http://")):
            return made
        return self._output("weights")

    @property
    def _made(self) -> JsonValue:
        """The output, out of the list that some answers put around it."""
        output = self.output
        return output[0] if isinstance(output, list) and len(output) == 1 else output

    def _output(self, name: str) -> str | None:
        made = self._made
        value = made.get(name) if isinstance(made, dict) else None
        return value if isinstance(value, str) and value else None

    def to_value(self, handle: RunHandle | None = None, *, gpu: str | None = None) -> TrainingRun:
        """Convert; times that run backwards, which happen, are straightened so that no duration is below zero."""
        bar = read_progress(self.logs)
        # A run without a version is told by its own id, so that its weights can be asked for all the same.
        model_id = self.output_version or (self.id if self.weights or self.data_removed else None)
        started_at = _no_earlier(self.started_at, self.created_at)
        return TrainingRun(
            handle=handle or RunHandle(provider=PROVIDER, run_id=self.id, name=self.id, dataset=""),
            status=self.run_status,
            provider_status=self.status or "",
            progress=None if bar is None else bar.percent,
            eta_s=None if bar is None or self.run_status.is_terminal else bar.eta_s,
            gpu=gpu,
            metrics=self.metrics,
            model_id=model_id if self.run_status is RunStatus.COMPLETED else None,
            error_message=self.error,
            logs=self.logs,
            created_at=self.created_at,
            started_at=started_at,
            completed_at=_no_earlier(self.completed_at, started_at or self.created_at),
        )


def _no_earlier(moment: Moment, than: Moment) -> Moment:
    return moment if moment is None or than is None else max(moment, than)


class FileWire(Wire):
    """An uploaded file."""

    id: str = Field(min_length=1)
    size: Whole = None
    checksums: JsonObject = Field(default_factory=dict)
    metadata: JsonObject = Field(default_factory=dict)
    created_at: Moment = None
    expires_at: Moment = None
    urls: JsonObject = Field(default_factory=dict)

    @property
    def url(self) -> str | None:
        """The address a training takes as its input, to be sent as it stands."""
        value = self.urls.get("get")
        return value if isinstance(value, str) and value else None

    @property
    def sha256(self) -> str | None:
        """What the server says of the content, lowercase hex."""
        value = self.checksums.get("sha256")
        return value.lower() if isinstance(value, str) and value else None


class ModelWire(Wire):
    """A model, which versions are pushed to."""

    owner: Text = None
    name: Text = None
    visibility: Text = None


class VersionWire(Wire):
    """A version of a model; a trainer is one as well."""

    id: str = Field(min_length=1)
    openapi_schema: JsonObject = Field(default_factory=dict)


class AccountWire(Wire):
    """The token's account."""

    username: str = Field(min_length=1)
    type: Text = None
    name: Text = None


class HardwareWire(Wire):
    """One kind of hardware; the API names no price for it."""

    sku: str
    name: Text = None


class SecretWire(Wire):
    """The account's signing secret for webhooks."""

    key: str = Field(repr=False)


class PredictionWire(Wire):
    """A prediction."""

    id: str = Field(min_length=1)
    status: Text = None
    output: JsonValue = None
    error: ErrorText = None
    metrics: JsonObject = Field(default_factory=dict)

    @property
    def run_status(self) -> RunStatus:
        """Our word; one that is not known is not an end."""
        return STATUSES.get(self.status or "", RunStatus.UNKNOWN)

    @property
    def predict_time_s(self) -> float | None:
        """Seconds the model ran, where the answer says so."""
        return figure_of(self.metrics.get("predict_time"))
