"""The adapter's own values: what it is set up with, and what a create sends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import httpx
from pydantic import AwareDatetime, JsonValue, SecretStr

from pipeline.models import ModelTask
from pipeline.value import Value
from providers.replicate.secrecy import UnshownInputs
from providers.retry import Clock

SKEW = timedelta(minutes=5)
"""How far the provider's clock may be from ours."""
WEBHOOK_EVENTS = ("start", "completed")
"""What is called back about; without a list the provider's own choice has changed before."""


@dataclass(frozen=True)
class ReplicateSetup:
    """What the adapter must be told besides key and address."""

    hardware: str | None = None
    """The trainer's hardware, which decides what a second costs; without it no bill can be made."""
    task: ModelTask | None = None
    """What the model does; without it no model can be described."""
    webhook: str | None = None
    """HTTPS address that is called when a run starts and ends; none sends no webhooks."""
    rates: Mapping[str, float] | None = None
    """Rates in millionths of a US dollar a second that replace or add to the table's."""
    secret_inputs: Mapping[str, SecretStr] = field(default_factory=dict)
    """Inputs that are added when a create is sent, and stored nowhere."""
    storage_transport: httpx.BaseTransport | None = None
    """Replaces the network of downloads in tests."""


class TrainingOrder(Value):
    """What a create sends, and from when on its run can be in the list."""

    trainer: str
    """The trainer's version, as owner/name:id; the address, not the body."""
    destination: str
    """The model that gets the new version."""
    input: dict[str, JsonValue]
    """The trainer's inputs, the data's address among them."""
    webhook: str | None = None
    """Who is called back."""
    webhook_events_filter: tuple[str, ...] | None = None
    """About what."""
    since: AwareDatetime
    """No run of this order is older."""

    def as_data(self) -> dict[str, JsonValue]:
        """Return it as it is written down."""
        return self.model_dump(mode="json", exclude_none=True)

    def body(self, secret_inputs: Mapping[str, SecretStr]) -> dict[str, JsonValue]:
        """Return the create's body; what the order names itself wins over a secret of that name."""
        body = self.model_dump(mode="json", exclude_none=True, exclude={"trainer", "since"})
        secrets = {name: value.get_secret_value() for name, value in secret_inputs.items()}
        return {**body, "input": UnshownInputs({**secrets, **body["input"]})}


def moment_of(clock: Clock) -> datetime:
    """Return the time now, in UTC."""
    return datetime.fromtimestamp(clock.time(), UTC)
