"""The sweep's judgement: what has become of a training, by the provider, the journal and its flow run; and what to do.

No clock, no network, no disk: ``pipeline.sweep.surveying`` looks, ``pipeline.sweep.mending`` acts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pipeline.errors import ConfigurationError
from pipeline.journal.records import LOST_S, OperationRecord, Owner
from pipeline.models import RunStatus, TrainingRun
from pipeline.requests import SweepRequest
from pipeline.start.pricing import cap_of, cost_so_far
from pipeline.watch.deferring import LATE_S

IDLE_S = 900.0
"""Seconds a flow run may read as running without a process that owns its operation: it begins, or writes its report."""


class FlowKind(StrEnum):
    """What a flow run's state says about its coming back."""

    WAITING = "waiting"
    """Scheduled, deferred, paused or about to begin: it comes back by itself."""
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    """Cancelled, or being so, because somebody wants it."""
    ENDED = "ended"
    """Failed, crashed, or turned away by Prefect itself: gone, and nobody wished its training to end."""
    MISSING = "missing"
    """Not known where the sweep runs: deleted, or of another Prefect server."""


@dataclass(frozen=True)
class FlowState:
    """What is known of the flow run that carried an attempt out last."""

    kind: FlowKind
    """What its state says."""
    since_s: float = 0.0
    """When it took that state, in seconds since the epoch."""
    deployment_id: str | None = None
    """The deployment it is of."""
    due_s: float | None = None
    """When it was to come back, in seconds since the epoch; none when it waits without a time."""


NO_FLOW = FlowState(FlowKind.MISSING)
"""A flow run nobody knows."""


class SweepClass(StrEnum):
    """What a sweep makes of a training."""

    WATCHED = "watched"
    """Its flow run lives or comes back, or it was left to itself on purpose."""
    FLOW_GONE = "flow_gone"
    """It goes on, and its flow run does not."""
    UNKNOWN_TO_US = "unknown_to_us"
    """It goes on at the provider, and no open operation of the journal is about it."""
    PAST_DEADLINE = "past_deadline"
    """It goes on past its deadline, and nobody watches it."""
    OVER_BUDGET = "over_budget"
    """It has cost more than its request's cap."""
    UNCOLLECTED = "uncollected"
    """It completed, and nobody has judged its model."""
    CANCEL_UNCONFIRMED = "cancel_unconfirmed"
    """Somebody wanted it ended, and it is not seen to have ended."""
    ENDED = "ended"
    """It failed or was cancelled at the provider: the journal's row can be closed."""
    NO_RUN = "no_run"
    """It was to be created, and the provider does not show it."""
    LOST = "lost"
    """The provider has denied it for a day: the journal's row can be closed."""
    UNJUDGED = "unjudged"
    """Nobody can say yet what has become of it, or whether it is ours: a person looks."""


@dataclass(frozen=True)
class Found:
    """One training and what the sweep makes of it."""

    sort: SweepClass
    """The class."""
    reason: str
    """Why, in words."""
    run: TrainingRun | None
    """As the provider shows it; none when it does not."""
    record: OperationRecord | None = None
    """As the journal knows it; none when it does not."""
    flow: FlowState = NO_FLOW
    """The flow run that carried it out last."""


@dataclass(frozen=True)
class Watch:
    """What the judging needs besides the training itself."""

    now_s: float
    """The time, in seconds since the epoch."""
    is_gone: Callable[[Owner], bool]
    """Whether a process is known to have ended."""


class Action(StrEnum):
    """What a sweep does about a training."""

    NOTHING = "nothing"
    NOTIFY = "notify"
    """Say so, in the table and by an event."""
    ADOPT = "adopt"
    """Let a flow run go on with it."""
    CANCEL = "cancel"
    """End it at the provider."""
    CLOSE = "close"
    """Close the journal's row, and give back what was held for it."""


_FIXED = {
    SweepClass.WATCHED: Action.NOTHING,
    SweepClass.NO_RUN: Action.NOTHING,
    SweepClass.ENDED: Action.CLOSE,
    SweepClass.LOST: Action.CLOSE,
    SweepClass.UNJUDGED: Action.NOTIFY,
}


def decide(found: Found, request: SweepRequest) -> Action:
    """Return what to do about a training, by the request's policies.

    What is not proven to be ours is cancelled by ``unknown_runs=cancel`` alone, and a model is not collected against
    the wish of whoever cancelled its training.
    """
    if found.sort in _FIXED:
        return _FIXED[found.sort]
    if found.record is None:
        return Action(request.unknown_runs)
    if found.sort is SweepClass.UNCOLLECTED and _was_unwanted(found.record, found.flow):
        return Action.NOTIFY
    if found.sort is SweepClass.PAST_DEADLINE and found.record.request.on_deadline == "cancel":
        return Action.CANCEL
    return Action(getattr(request, found.sort.value))


def classify(record: OperationRecord, run: TrainingRun | None, flow: FlowState, watch: Watch) -> tuple[SweepClass, str]:
    """Return what an open attempt has come to, and why.

    ``run`` is the provider's view of it; none says that it was not looked for, or is not there.
    """
    alive = is_alive(record, flow, watch)
    if run is None:
        return _unseen(record, watch, alive=alive)
    if run.status.is_terminal:
        return _ended(record, run, flow, alive=alive)
    if flow.kind is FlowKind.CANCELLED:
        return SweepClass.CANCEL_UNCONFIRMED, f"its flow run was cancelled, and it reads {run.provider_status!r}"
    if record.cancel_asked_at_s is not None and not alive:
        since = f"{(watch.now_s - record.cancel_asked_at_s) / 60:.0f} min ago"
        return SweepClass.CANCEL_UNCONFIRMED, f"it was to be cancelled {since}, and reads {run.provider_status!r}"
    if dear := over_cap(record, run, watch):
        return SweepClass.OVER_BUDGET, dear
    return _going_on(record, flow, watch, alive=alive)


def is_alive(record: OperationRecord, flow: FlowState, watch: Watch) -> bool:
    """Tell whether somebody looks after an attempt: a process that gives signs of life, or a flow run to come back.

    A flow run whose process was killed may read as running for ever; a process that lives is believed whatever its
    flow run reads, for it may be one of another Prefect server.
    """
    owner = record.owner
    fresh = record.owner_until_s is not None and record.owner_until_s > watch.now_s
    if owner is not None and fresh and not watch.is_gone(owner):
        return flow.kind is not FlowKind.CANCELLED
    if flow.kind is FlowKind.RUNNING:
        return owner is None and watch.now_s - flow.since_s < IDLE_S
    return flow.kind is FlowKind.WAITING and not _is_late(flow, watch)


def _is_late(flow: FlowState, watch: Watch) -> bool:
    return flow.kind is FlowKind.WAITING and flow.due_s is not None and flow.due_s < watch.now_s - LATE_S


def _was_unwanted(record: OperationRecord, flow: FlowState) -> bool:
    return flow.kind is FlowKind.CANCELLED or record.cancel_asked_at_s is not None


def over_cap(record: OperationRecord, run: TrainingRun, watch: Watch) -> str | None:
    """Return by how much a run has passed its request's cap, in words; none when it has not, or has none."""
    cost = cost_so_far(record.estimate, run, datetime.fromtimestamp(watch.now_s, UTC))
    if cost is None:
        return None
    try:
        cap = cap_of(record.request, cost.unit)
    except ConfigurationError:  # a cap in the other unit stops a request before it is paid for
        return None
    if cap is None or cost.amount <= cap.amount:
        return None
    return f"it has cost about {cost}, above the cap of {cap}"


def _unseen(record: OperationRecord, watch: Watch, *, alive: bool) -> tuple[SweepClass, str]:
    if alive:
        return SweepClass.WATCHED, "its flow run looks after it"
    denied_s = 0.0 if record.missing_since_s is None else watch.now_s - record.missing_since_s
    what = "the provider does not know it any more" if record.handle else "the provider shows no run of its name"
    if denied_s < LOST_S:
        return SweepClass.NO_RUN, f"{what}; given up when that has been so for {LOST_S / 3600:.0f} h"
    return SweepClass.LOST, f"{what}, which has been so for {denied_s / 3600:.0f} h"


def _ended(record: OperationRecord, run: TrainingRun, flow: FlowState, *, alive: bool) -> tuple[SweepClass, str]:
    if alive:
        return SweepClass.WATCHED, "it has ended, and its flow run looks after it"
    if run.status is RunStatus.COMPLETED:
        unwanted = " before it could be cancelled" if _was_unwanted(record, flow) else ""
        return SweepClass.UNCOLLECTED, f"it completed{unwanted}, and its model was not judged"
    return SweepClass.ENDED, run.error_message or f"{run.provider_status} at the provider"


def _going_on(record: OperationRecord, flow: FlowState, watch: Watch, *, alive: bool) -> tuple[SweepClass, str]:
    if alive:
        return SweepClass.WATCHED, "its flow run looks after it"
    if record.deadline_at_s is not None and record.deadline_at_s < watch.now_s:
        late_min = (watch.now_s - record.deadline_at_s) / 60
        return SweepClass.PAST_DEADLINE, f"its deadline was {late_min:.0f} min ago, and nobody watches it"
    if flow.kind is FlowKind.COMPLETED and record.request.wait == "none":
        return SweepClass.WATCHED, "it was left to itself on purpose (wait=none)"
    return SweepClass.FLOW_GONE, f"its flow run {record.flow_run_id} {_plight(flow, watch)}"


def _plight(flow: FlowState, watch: Watch) -> str:
    if flow.kind is FlowKind.RUNNING:
        return "reads as running, but its process is gone"
    if flow.due_s is not None and _is_late(flow, watch):
        return f"was due {(watch.now_s - flow.due_s) / 60:.0f} min ago, and nobody brings it back"
    return f"is {flow.kind.value}"
