"""What the journal holds about one attempt at an operation, and the words it is told in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import JsonValue

from pipeline.models import CostEstimate, Money, RunHandle
from pipeline.provider_requests import AnyTrainRequest
from pipeline.value import Value

LOST_S = 86_400.0
"""Seconds for which the provider must have denied an attempt's run before the attempt is given up."""


class OperationState(StrEnum):
    """How far an attempt got; a create may have been sent from ``intent`` on."""

    INTENT = "intent"
    """Written down before the create is sent; whether it arrived is not known yet."""
    UNKNOWN = "unknown"
    """The answer to the create was lost, and looking the run up did not help."""
    CREATED = "created"
    """The run's handle is known; it has not been seen to end."""
    TERMINAL = "terminal"
    """The run completed; its model has not been judged yet."""
    COLLECTED = "collected"
    """The model was judged: closed."""
    CLOSED = "closed"
    """Nothing is left to collect: refused, failed, cancelled or lost."""

    @property
    def is_open(self) -> bool:
        """True while something may be running, billed, or waiting to be collected."""
        return self in OPEN_STATES


OPEN_STATES = frozenset(
    {OperationState.INTENT, OperationState.UNKNOWN, OperationState.CREATED, OperationState.TERMINAL}
)
"""States of attempts that somebody must still look after."""


class OperationOutcome(StrEnum):
    """How a closed attempt ended."""

    ACCEPTED = "accepted"
    UNTRIED = "untried"
    REJECTED = "rejected"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


RETRIABLE_OUTCOMES = frozenset(
    {OperationOutcome.REFUSED, OperationOutcome.FAILED, OperationOutcome.CANCELLED, OperationOutcome.LOST}
)
"""Ends after which asking for the same operation again means a new attempt: there is no model to come back to."""


class Owner(Value):
    """The process that carries an operation out."""

    host: str
    """Name of its machine."""
    pid: int
    """Its process id there."""
    born: str
    """What tells it apart from a later process of the same id."""
    flow_run_id: str
    """The flow run it carries out."""


class ExportContent(Value):
    """What was trained on, for comparing with what would be trained on now."""

    images: int | None
    """Images in the export."""
    objects: dict[str, int]
    """Labels by class."""


class OperationRecord(Value):
    """One attempt at an operation as the journal holds it; times are seconds since the epoch."""

    key: str
    """The attempt's identity on the wire."""
    operation_id: str
    """What ``--operation`` takes."""
    attempt: int
    """1 for the first one."""
    provider: str
    """Which adapter understands the handle."""
    account: str
    """Hash that tells accounts apart."""
    sandbox: bool
    """True for a rehearsal."""
    fingerprint: str
    """SHA-256 of what was asked to be trained."""
    job: str
    """What is trained again and again: provider, data set, pipeline."""
    content_fingerprint: str | None = None
    """SHA-256 of what the model is made of."""
    run_name: str
    """Name of the run at the provider."""
    request: AnyTrainRequest
    """The request, to carry it on from any process."""
    body: dict[str, JsonValue] | None = None
    """What the create sends, frozen at the first sending."""
    state: OperationState
    """How far it got."""
    outcome: OperationOutcome | None = None
    """How it ended, once closed."""
    reason: str | None = None
    """The outcome in words, or why the state is unknown."""
    handle: RunHandle | None = None
    """The run, once known."""
    run_id: str | None = None
    """Its id, for look-ups."""
    flow_run_id: str | None = None
    """The flow run that carried it out last."""
    owner: Owner | None = None
    """The process that carries it out now."""
    owner_until_s: float | None = None
    """When its word runs out unless renewed."""
    estimate: CostEstimate | None = None
    """What it was expected to cost."""
    billed: int | None = None
    """What it did cost, in the estimate's unit."""
    content: ExportContent | None = None
    """What was trained on."""
    deadline_at_s: float | None = None
    """When watching it was to end."""
    cancel_asked_at_s: float | None = None
    """When somebody wanted it cancelled."""
    cancel_confirmed_at_s: float | None = None
    """When the provider was seen to have ended it."""
    missing_since_s: float | None = None
    """When the provider was first seen to deny its run; none since a look that showed it."""
    created_at_s: float
    """When the intent was written."""
    updated_at_s: float
    """When anything last changed."""
    ended_at_s: float | None = None
    """When it was closed."""

    @property
    def can_try_again(self) -> bool:
        """True when the same operation asked for again means a new attempt."""
        return self.state is OperationState.CLOSED and self.outcome in RETRIABLE_OUTCOMES

    @property
    def price(self) -> Money | None:
        """The expected charge."""
        return self.estimate.total if self.estimate is not None else None


@dataclass(frozen=True)
class Unread:
    """A row of the journal that this release cannot read."""

    key: str
    """The attempt's identity on the wire."""
    run_id: str | None
    """Its run, once known."""
    reason: str
    """Which operation it is of, and why it cannot be read."""
