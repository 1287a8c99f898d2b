"""The sweep's judgement: every class by its facts, every policy by its class."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.journal.records import LOST_S, Owner
from pipeline.models import RunStatus, TrainingRun
from pipeline.requests import SweepRequest
from pipeline.sweep.sweeping import (
    IDLE_S,
    NO_FLOW,
    Action,
    FlowKind,
    FlowState,
    Found,
    SweepClass,
    Watch,
    classify,
    decide,
    is_alive,
)
from pipeline.watch.deferring import LATE_S
from tests.unit.conftest import make_request, make_run
from tests.unit.operations import NOW_S, OWNER, make_record

STARTED = datetime.fromtimestamp(NOW_S, UTC) - timedelta(minutes=30)
RUNNING = make_run(RunStatus.RUNNING, started_at=STARTED)
WAITING = FlowState(FlowKind.WAITING)
DUE = FlowState(FlowKind.WAITING, due_s=NOW_S - LATE_S + 1)
LONG_DUE = FlowState(FlowKind.WAITING, due_s=NOW_S - LATE_S - 1)
CRASHED = FlowState(FlowKind.ENDED)
CANCELLED = FlowState(FlowKind.CANCELLED)
COMPLETED = FlowState(FlowKind.COMPLETED)
LATE: dict[str, Any] = {"deadline_at_s": NOW_S - 60}
ASKED: dict[str, Any] = {"cancel_asked_at_s": NOW_S - 600}
CAPPED: dict[str, Any] = {"request": make_request(budget_credits=299)}
"""The run costs 10 credits a minute: 300 after half an hour."""
OLD: dict[str, Any] = {"created_at_s": NOW_S - LOST_S - 1}
DENIED: dict[str, Any] = {"missing_since_s": NOW_S - LOST_S}
SHORTLY: dict[str, Any] = {**OLD, "missing_since_s": NOW_S - LOST_S + 1}
INTENT: dict[str, Any] = {"handle": None, "run_id": None, "state": "intent"}
GONE = Watch(NOW_S, lambda _: True)
LIVES = Watch(NOW_S, lambda _: False)
SILENT: dict[str, Any] = {"owner": OWNER, "owner_until_s": NOW_S - 1}
HELD: dict[str, Any] = {"owner": OWNER, "owner_until_s": NOW_S + 60}


@pytest.mark.parametrize(
    ("facts", "run", "flow", "expected"),
    [
        ({}, RUNNING, WAITING, SweepClass.WATCHED),
        ({}, RUNNING, FlowState(FlowKind.RUNNING, NOW_S - 5), SweepClass.WATCHED),
        (LATE, RUNNING, WAITING, SweepClass.WATCHED),
        (ASKED, RUNNING, WAITING, SweepClass.WATCHED),
        ({}, make_run(RunStatus.COMPLETED), WAITING, SweepClass.WATCHED),
        ({}, make_run(RunStatus.FAILED), WAITING, SweepClass.WATCHED),
        ({}, None, WAITING, SweepClass.WATCHED),
        ({"request": make_request(wait="none")}, RUNNING, COMPLETED, SweepClass.WATCHED),
        ({}, RUNNING, DUE, SweepClass.WATCHED),
        ({}, RUNNING, LONG_DUE, SweepClass.FLOW_GONE),
        ({}, make_run(RunStatus.COMPLETED), LONG_DUE, SweepClass.UNCOLLECTED),
        ({}, RUNNING, CRASHED, SweepClass.FLOW_GONE),
        ({}, RUNNING, NO_FLOW, SweepClass.FLOW_GONE),
        ({}, RUNNING, COMPLETED, SweepClass.FLOW_GONE),
        ({}, make_run(RunStatus.UNKNOWN, provider_status="hibernating"), CRASHED, SweepClass.FLOW_GONE),
        ({}, RUNNING, FlowState(FlowKind.RUNNING, NOW_S - IDLE_S - 1), SweepClass.FLOW_GONE),
        (SILENT, RUNNING, FlowState(FlowKind.RUNNING, NOW_S), SweepClass.FLOW_GONE),
        (LATE, RUNNING, CRASHED, SweepClass.PAST_DEADLINE),
        ({**LATE, "request": make_request(wait="none")}, RUNNING, COMPLETED, SweepClass.PAST_DEADLINE),
        (CAPPED, RUNNING, CRASHED, SweepClass.OVER_BUDGET),
        (CAPPED, RUNNING, WAITING, SweepClass.OVER_BUDGET),
        ({"request": make_request(budget_credits=300)}, RUNNING, CRASHED, SweepClass.FLOW_GONE),
        ({"request": make_request(budget_usd=1)}, RUNNING, CRASHED, SweepClass.FLOW_GONE),
        ({}, make_run(RunStatus.COMPLETED), CRASHED, SweepClass.UNCOLLECTED),
        ({"request": make_request(wait="none")}, make_run(RunStatus.COMPLETED), COMPLETED, SweepClass.UNCOLLECTED),
        ({}, make_run(RunStatus.COMPLETED), CANCELLED, SweepClass.UNCOLLECTED),
        ({}, RUNNING, CANCELLED, SweepClass.CANCEL_UNCONFIRMED),
        (ASKED, RUNNING, CRASHED, SweepClass.CANCEL_UNCONFIRMED),
        ({**ASKED, **LATE, **CAPPED}, RUNNING, CRASHED, SweepClass.CANCEL_UNCONFIRMED),
        ({}, make_run(RunStatus.FAILED), CRASHED, SweepClass.ENDED),
        (ASKED, make_run(RunStatus.CANCELLED), CANCELLED, SweepClass.ENDED),
        (INTENT, None, CRASHED, SweepClass.NO_RUN),
        ({}, None, CRASHED, SweepClass.NO_RUN),
        ({**INTENT, **DENIED}, None, CRASHED, SweepClass.LOST),
        (DENIED, None, CRASHED, SweepClass.LOST),
        ({**INTENT, **DENIED}, None, WAITING, SweepClass.WATCHED),
        ({**INTENT, **OLD}, None, CRASHED, SweepClass.NO_RUN),
        (OLD, None, CRASHED, SweepClass.NO_RUN),
        (SHORTLY, None, CRASHED, SweepClass.NO_RUN),
    ],
)  # fmt: skip
def test_every_class(facts: dict[str, Any], run: TrainingRun | None, flow: FlowState, expected: SweepClass) -> None:
    """By what provider, journal and flow run say together, each with a reason in words."""
    sort, reason = classify(make_record(**facts), run, flow, GONE)
    assert sort is expected
    assert reason


@pytest.mark.parametrize("flow", [NO_FLOW, CRASHED, FlowState(FlowKind.RUNNING), WAITING])
def test_a_process_that_gives_signs_of_life_is_believed(flow: FlowState) -> None:
    """Its flow run may be one of another Prefect server; a cancelled flow run's process is on its way out."""
    assert is_alive(make_record(**HELD), flow, LIVES)
    assert not is_alive(make_record(**HELD), CANCELLED, LIVES)


@pytest.mark.parametrize("owner_until_s", [None, NOW_S - 1])
def test_a_word_that_has_run_out_is_not(owner_until_s: float | None) -> None:
    """A process on another machine that has been silent for long is taken for dead."""
    record = make_record(owner=OWNER, owner_until_s=owner_until_s)
    assert not is_alive(record, FlowState(FlowKind.RUNNING, NOW_S), LIVES)


def test_a_process_known_to_be_dead_is_not_waited_for() -> None:
    """Killed on this machine a second ago: its word has not run out, and counts for nothing."""

    def is_gone(owner: Owner) -> bool:
        return owner == OWNER

    assert not is_alive(make_record(**HELD), FlowState(FlowKind.RUNNING, NOW_S), Watch(NOW_S, is_gone))


DEFAULTS = {
    SweepClass.WATCHED: Action.NOTHING,
    SweepClass.FLOW_GONE: Action.ADOPT,
    SweepClass.UNKNOWN_TO_US: Action.NOTIFY,
    SweepClass.PAST_DEADLINE: Action.NOTIFY,
    SweepClass.OVER_BUDGET: Action.CANCEL,
    SweepClass.UNCOLLECTED: Action.ADOPT,
    SweepClass.CANCEL_UNCONFIRMED: Action.CANCEL,
    SweepClass.ENDED: Action.CLOSE,
    SweepClass.NO_RUN: Action.NOTHING,
    SweepClass.LOST: Action.CLOSE,
    SweepClass.UNJUDGED: Action.NOTIFY,
}


def found(sort: SweepClass, **facts: Any) -> Found:
    """Return a training of a class; one that is not known to us has no record."""
    return Found(sort, "why", RUNNING, None if sort is SweepClass.UNKNOWN_TO_US else make_record(**facts))


@pytest.mark.parametrize("sort", SweepClass)
def test_what_is_done_without_being_told(sort: SweepClass) -> None:
    """Every class has a default, and the money's: end what was to be ended, go on with what is paid for."""
    assert decide(found(sort), SweepRequest()) is DEFAULTS[sort]


@pytest.mark.parametrize(
    ("sort", "field"),
    [
        (SweepClass.FLOW_GONE, "flow_gone"),
        (SweepClass.UNCOLLECTED, "uncollected"),
        (SweepClass.PAST_DEADLINE, "past_deadline"),
        (SweepClass.OVER_BUDGET, "over_budget"),
        (SweepClass.CANCEL_UNCONFIRMED, "cancel_unconfirmed"),
        (SweepClass.UNKNOWN_TO_US, "unknown_runs"),
    ],
)
def test_every_policy_is_followed(sort: SweepClass, field: str) -> None:
    """Each class by its own field, with each word the field allows, and by no other field."""
    words = SweepRequest.model_json_schema()["properties"][field]["enum"]
    assert len(words) > 1
    for word in words:
        request = SweepRequest.model_validate({field: word})
        assert decide(found(sort), request) is Action(word)
        others = {other: decide(found(other), request) for other in SweepClass if other is not sort}
        assert others == {other: action for other, action in DEFAULTS.items() if other is not sort}


def test_a_request_that_wants_to_be_cancelled_at_its_deadline_is() -> None:
    """Its flow run is not there to do it, and the policy does not take the wish back."""
    late = found(SweepClass.PAST_DEADLINE, request=make_request(on_deadline="cancel"))
    assert decide(late, SweepRequest(past_deadline="notify")) is Action.CANCEL


def test_nothing_but_its_own_policy_cancels_a_stranger() -> None:
    """However much the others may cancel."""
    eager = SweepRequest(flow_gone="cancel", past_deadline="cancel", over_budget="cancel", cancel_unconfirmed="cancel")
    assert decide(found(SweepClass.UNKNOWN_TO_US), eager) is Action.NOTIFY


def test_a_flow_run_that_nobody_brings_back_is_told_with_its_delay() -> None:
    """Scheduled it stays for ever, so what it reads is not the reason."""
    _, reason = classify(make_record(), RUNNING, LONG_DUE, GONE)
    assert reason == "its flow run flow-1 was due 60 min ago, and nobody brings it back"


@pytest.mark.parametrize(("facts", "flow"), [({}, CANCELLED), (ASKED, CRASHED)], ids=["flow run", "journal"])
def test_a_model_is_not_collected_against_a_wish(facts: dict[str, Any], flow: FlowState) -> None:
    """It was faster than its cancel: whoever cancelled it is told, and nobody goes on with it unasked."""
    record, run = make_record(**facts), make_run(RunStatus.COMPLETED)
    sort, reason = classify(record, run, flow, GONE)
    assert (sort, "before it could be cancelled" in reason) == (SweepClass.UNCOLLECTED, True)
    assert decide(Found(sort, reason, run, record, flow), SweepRequest(uncollected="adopt")) is Action.NOTIFY
    wanted = Found(sort, reason, run, make_record(), CRASHED)
    assert decide(wanted, SweepRequest(uncollected="adopt")) is Action.ADOPT
