"""Cancels that are lost, refused or without effect, and runs that are ended before they cost more than they may."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flows.commandline import EXIT_CODES
from pipeline.journal.records import OperationOutcome, OperationState
from pipeline.models import CreationPolicy
from tests.fault.conftest import SCRIPT
from tests.fault.processes import Watcher
from tests.fault.workbench import RESET, STAGES, Ended, Workbench, status
from tests.waiting import eventually

HELD_S = 2.0
"""How long an answer is held back, while Prefect is asked to cancel."""
LOOKUPS, SENDINGS = CreationPolicy().lookups, CreationPolicy().sendings
LOST_FINDS = 1 + LOOKUPS
"""Look-ups before and after the first create, when its answer is lost; the next ones belong to the second."""
CAP = 260
"""Credits: the price of the training, and a minute more."""


def endless(**step: Any) -> dict[str, Any]:
    """Return a training that never ends, and gets a little further with every look."""
    running = {"status": "running", "epochs": 10, "for_looks": 100_000, **step}
    return {**SCRIPT, "steps": [{"status": "queued"}, running]}


@pytest.fixture
def stage(
    make_bench: Callable[..., Workbench], prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Workbench, Watcher]]:
    """Return a function that gives a bench with an endless, pre-charged training, and a view of its flow run."""
    monkeypatch.setattr("tasks.interruption.ASK_S", 0.1)

    def make(**step: Any) -> tuple[Workbench, Watcher]:
        bench = make_bench(dialect="v1", billing="credits", script=endless(**step))
        seen = Watcher(bench.account, prefect_api, tmp_path)
        bench.account.add_dataset(seen.dataset, count=8, size=64)
        now = bench.clock.time
        monkeypatch.setattr("tasks.polling.utc_now", lambda: datetime.fromtimestamp(now(), UTC))
        return bench, seen

    return make


@contextmanager
def cancelled_while(seen: Watcher, where: str, moment: str = "before", skip: int = 0) -> Iterator[None]:
    """Hold one answer back, and ask Prefect to cancel the flow run meanwhile."""
    method, path = STAGES[where]
    seen.account.fault("stall", method=method, path=path, stage=moment, seconds=HELD_S, skip=skip)

    def ask() -> None:
        eventually(lambda: seen.account.faults()[-1]["hits"], "the answer that is held back", pause_s=0.05)
        seen.cancel()

    thread = threading.Thread(target=copy_context().run, args=(ask,))
    thread.start()
    try:
        yield
    finally:
        thread.join(60)


def deaf(seen: Watcher) -> None:
    """Let the provider say yes to a cancel and do nothing; its answer shows a run that goes on."""
    run = '{"training_run": {"id": "%s", "name": "x", "status": "running", "dataset_name": "%s"}}'
    known = eventually(seen.account.bill, "the run")["runs"][0]["id"]
    seen.account.fault("status", status=200, body=run % (known, seen.dataset), path=STAGES["cancel"][1], times=None)


@pytest.mark.parametrize("how", ["refused", "deaf"])
def test_a_cancelled_flow_run_whose_training_goes_on_is_failed(
    stage: Callable[..., tuple[Workbench, Watcher]], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused for a minute, or accepted without effect: failed, not cancelled; billed, and still asked for."""
    bench, seen = stage()
    if how == "refused":
        bench.break_stage("cancel", [status(500)], times=None)
    else:
        monkeypatch.setattr("tasks.polling.note_cancel", lambda plan: (_note(plan), deaf(seen)))
    with cancelled_while(seen, "look"):
        ended = bench.run(dataset=seen.dataset, operation="night-1")
    assert (ended.state, EXIT_CODES[ended.report.outcome], bench.active()) == ("Failed", 1, 1), ended.message
    assert seen.state()[0] == "Failed"
    deaf_ones = "the cancel was accepted, the run still reads 'running' 60 s later"
    assert ("could not be cancelled" if how == "refused" else deaf_ones) in ended.message
    assert "billed" in ended.message
    assert "--operation night-1" in ended.message
    record = seen.record()
    assert record is not None
    assert (record.state, record.cancel_confirmed_at_s) == (OperationState.CREATED, None)
    assert record.cancel_asked_at_s is not None
    assert seen.held("credits") == 300


def _note(plan: Any) -> None:
    from tasks.journal import note_cancel

    note_cancel(plan)


def test_a_cancel_is_asked_for_until_it_is_seen(stage: Callable[..., tuple[Workbench, Watcher]]) -> None:
    """An outage of a moment, and then an answer that is lost: the run is cancelled, and told so."""
    bench, seen = stage()
    bench.break_stage("cancel", [status(503, times=2), status(502).lost()])
    with cancelled_while(seen, "look"):
        ended = bench.run(dataset=seen.dataset)
    assert (ended.state, bench.active(), seen.state()[0]) == ("Cancelled", 0, "Cancelled"), ended.message
    assert bench.hits()[:2] == [2, 1]
    check_closed(seen, ended)


def test_a_training_nobody_waits_for_is_cancelled_with_its_flow_run(
    stage: Callable[..., tuple[Workbench, Watcher]],
) -> None:
    """Cancelled while the create was under way: the run that came of it is not left behind, even with wait=none."""
    bench, seen = stage()
    with cancelled_while(seen, "create", "after"):
        ended = bench.run(dataset=seen.dataset, wait="none")
    assert (ended.state, bench.started(), bench.active()) == ("Cancelled", 1, 0), ended.message
    check_closed(seen, ended)


def test_a_create_whose_answer_was_lost_is_not_sent_again_for_a_cancelled_flow_run(
    stage: Callable[..., tuple[Workbench, Watcher]],
) -> None:
    """Never arrived, and cancelled before the next try: nothing is sent any more, and the journal keeps the wish."""
    bench, seen = stage()
    bench.break_stage("create", [RESET], times=None)
    with cancelled_while(seen, "find", skip=LOST_FINDS):
        ended = bench.run(dataset=seen.dataset, operation="night-1")
    assert (ended.state, bench.started(), ended.report.outcome_unknown) == ("Cancelled", 0, True), ended.message
    assert len(bench.sent("create")) == SENDINGS, "sent by the first try of the stage alone"
    assert "--operation night-1" in ended.message
    record = seen.record()
    assert record is not None
    assert record.state.is_open
    assert record.cancel_asked_at_s is not None


def check_closed(seen: Watcher, ended: Ended) -> None:
    """The journal says: asked, seen to have ended, closed, and what it cost; the bill says the same."""
    record, bill = seen.record(), seen.account.bill()
    assert record is not None
    assert (record.state, record.outcome) == (OperationState.CLOSED, OperationOutcome.CANCELLED)
    assert record.cancel_asked_at_s is not None
    assert record.cancel_confirmed_at_s is not None
    assert bill["refunded"] > 0
    assert record.billed == seen.held("credits") == bill["net"]
    assert ended.report.settlement is not None
    assert ended.report.settlement.refunded.amount == bill["refunded"]


@pytest.mark.parametrize(
    ("step", "least_s", "most_s", "reason"),
    [
        ({}, 24 * 60, 26 * 60, "would pass the cap of 260 credits before the next look"),
        ({"progress": 20, "eta_seconds": 7200}, 0, 5 * 60, "it is going to cost about 12"),
    ],
    ids=["outgrown", "forecast"],
)
def test_a_run_is_ended_before_it_passes_the_cap(
    stage: Callable[..., tuple[Workbench, Watcher]], step: dict[str, Any], least_s: int, most_s: int, reason: str
) -> None:
    """By the time it has taken, or by three forecasts in a row: cancelled, over budget, exit code 4, refund seen."""
    bench, seen = stage(**step)
    ended = bench.run(dataset=seen.dataset, budget_credits=CAP, gpu_minutes=25, deadline_s=7200)
    assert (ended.state, EXIT_CODES[ended.report.outcome], bench.active()) == ("OverBudget", 4, 0), ended.message
    assert reason in ended.message
    assert least_s < sum(bench.clock.sleeps) < most_s
    check_closed(seen, ended)


def test_a_run_over_budget_that_cannot_be_cancelled_is_said_loudly(
    stage: Callable[..., tuple[Workbench, Watcher]],
) -> None:
    """The cap is about to be passed and the provider refuses: failed, with the reason, the bill and the way back."""
    bench, seen = stage(progress=20, eta_seconds=7200)
    bench.break_stage("cancel", [status(500)], times=None)
    ended = bench.run(dataset=seen.dataset, budget_credits=CAP, gpu_minutes=25, operation="night-1")
    assert (ended.state, EXIT_CODES[ended.report.outcome], bench.active()) == ("Failed", 1, 1), ended.message
    for words in ("above the cap of 260 credits", "could not be cancelled", "billed", "--operation night-1"):
        assert words in ended.message


def test_a_deadline_that_cancels_is_written_down(stage: Callable[..., tuple[Workbench, Watcher]]) -> None:
    """Asked for and seen: the journal tells a cancel at the deadline like any other."""
    bench, seen = stage()
    ended = bench.run(dataset=seen.dataset, deadline_s=30, poll_interval_s=10, on_deadline="cancel")
    assert (ended.state, bench.active()) == ("Cancelled", 0), ended.message
    check_closed(seen, ended)
