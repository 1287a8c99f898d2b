"""Faults that pass by themselves, at every request of a run: none of them ends it or pays twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from tests.fault.workbench import (
    BEFORE_PAYING,
    BREAKS,
    GARBAGE,
    PASSING,
    REFUSALS,
    Fault,
    Workbench,
    hurry,
    leftovers,
    status,
)

AFTER_PAYING = ("look", "model", "mint")
RETRIES = str(len(PASSING) + 2)
"""Enough for every fault in a row, and for a pause of the machine that is taken for one."""
STORED = ("export-bytes", "bytes")
NAMES = [fault.name + fault.rule.get("retry_after", "") for fault in PASSING]


@pytest.mark.parametrize("stage", [stage for stage in (*BEFORE_PAYING, "create") if stage not in STORED])
def test_faults_that_pass_do_not_stop_a_run_before_it_is_paid_for(
    make_bench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Ten faults in a row at one request: every one is outlived, the server's delays are kept, one run is paid."""
    bench = make_bench()
    monkeypatch.setenv("PICTOGRAPH_MAX_RETRIES", RETRIES)
    bench.break_stage(stage, PASSING)
    ended = bench.run(wait="none")
    assert dict(zip(NAMES, bench.hits(), strict=True)) == dict.fromkeys(NAMES, 1)
    assert ended.state == "Submitted", ended.message
    # A create that ends in 503 may have been carried out: the look-ups that follow it take longer than its delay.
    assert ({5.0} if stage == "create" else {5.0, 7.0}) <= set(bench.clock.sleeps)
    assert sum(bench.clock.sleeps) >= 5.0 + 7.0
    assert bench.started() == 1


def test_faults_that_pass_do_not_stop_the_pricing_where_there_are_no_quotes(
    make_bench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older API prices by the minute: its estimate is asked for again just the same."""
    bench = make_bench(dialect="v1", billing="credits")
    monkeypatch.setenv("PICTOGRAPH_MAX_RETRIES", RETRIES)
    bench.break_stage("estimate", PASSING)
    ended = bench.run(wait="none")
    assert dict(zip(NAMES, bench.hits(), strict=True)) == dict.fromkeys(NAMES, 1)
    assert (ended.state, bench.started()) == ("Submitted", 1), ended.message
    assert ended.report.cost is not None
    assert ended.report.cost.source == "estimate"


@pytest.mark.parametrize("stage", AFTER_PAYING)
def test_faults_that_pass_do_not_stop_a_run_that_is_paid_for(
    make_bench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Ten faults in a row while watching or collecting: the model is accepted all the same, one run is paid."""
    bench = make_bench()
    monkeypatch.setenv("PICTOGRAPH_MAX_RETRIES", RETRIES)
    bench.break_stage(stage, PASSING)
    ended = bench.run()
    assert dict(zip(NAMES, bench.hits(), strict=True)) == dict.fromkeys(NAMES, 1)
    assert (ended.state, bench.started()) == ("Completed", 1), ended.message
    assert leftovers(bench.output_dir) == []


@pytest.mark.parametrize("faults", [REFUSALS[2:], BREAKS], ids=["refusals", "breaks"])
@pytest.mark.parametrize("stage", STORED)
def test_transfers_outlive_faults_that_pass(bench: Workbench, stage: str, faults: tuple[Fault, ...]) -> None:
    """Archive and weights come from a storage without our retries: the transfer itself is taken up again."""
    bench.break_stage(stage, faults)
    ended = bench.run(wait="hold" if stage == "bytes" else "none")
    assert bench.hits() == [1] * len(faults)
    assert ended.state == ("Completed" if stage == "bytes" else "Submitted"), ended.message
    assert bench.started() == 1
    assert leftovers(bench.output_dir) == []


def test_a_ledger_that_cannot_be_read_changes_nothing_about_the_model(bench: Workbench) -> None:
    """What the run cost is display: without it the model is still accepted, and the charge is said to be unknown."""
    bench.break_stage("ledger", [status(503)], times=None)
    ended = bench.run()
    assert (ended.state, bench.started()) == ("Completed", 1), ended.message
    assert ended.report.settlement is None


STAYING = [
    *(pytest.param(stage, status(503), id=f"{stage}-503") for stage in BEFORE_PAYING),
    *(pytest.param(stage, GARBAGE, id=f"{stage}-garbage") for stage in ("account", "export-create", "quote", "find")),
]
CALLS = {
    "account": "credits.balance",
    "find": "training.list",
    "export-bytes": "broke 5 times",
    "export-get": "pending",
}
"""What a message calls a stage, where it is not the stage's own name."""


@pytest.mark.parametrize(("stage", "fault"), STAYING)
def test_a_fault_that_stays_stops_the_run_before_anything_is_paid(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, stage: str, fault: Fault
) -> None:
    """An answer that never comes, or cannot be read, ends the run as failed, names the call, and costs nothing."""
    monkeypatch.setenv("PICTOGRAPH_MAX_RETRIES", "0")
    hurry("export", monkeypatch, deadline_s=10.0)
    bench.break_stage(stage, [fault], times=None)
    ended = bench.run()
    assert bench.hits()[0] > 0
    assert bench.started() == 0
    assert bench.sent("create") == []
    assert (ended.state, ended.report.outcome.value) == ("Failed", "failed")
    assert CALLS.get(stage, stage.split("-", maxsplit=1)[0]) in ended.message
    assert "\n" not in ended.message


def later(seconds: float) -> str:
    """Return an HTTP date so many seconds from now."""
    moment = datetime.fromtimestamp(datetime.now(UTC).timestamp() + seconds, UTC)
    return format_datetime(moment, usegmt=True)


@pytest.mark.parametrize(
    ("asked", "least_s", "most_s"),
    [
        ("11", 11, 11),
        (later(3600), None, None),
        ("0", 0.75, 1.25),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.75, 1.25),
        ("soon", 0.75, 1.25),
        ("121", None, None),
    ],
    ids=["seconds", "far-date", "zero", "past-date", "garbage", "too-long"],
)
def test_retry_after_in_every_form(bench: Workbench, asked: str, least_s: float | None, most_s: float) -> None:
    """A delay is kept to the second, one that says nothing becomes our own, one that is too long is not slept."""
    bench.break_stage("find", [status(429, retry_after=asked)])
    ended = bench.run(wait="none")
    assert (ended.state, bench.hits(), bench.started()) == ("Submitted", [1], 1), ended.message
    if least_s is None:  # left to Prefect, whose delays are off here
        assert max(bench.clock.sleeps, default=0) < 5
    else:
        assert any(least_s <= slept <= most_s for slept in bench.clock.sleeps), bench.clock.sleeps


def test_retry_after_as_a_date_is_waited_for(bench: Workbench) -> None:
    """A date is slept until: what is left of 110 s when the answer comes, of which the flow's start takes a few."""
    bench.break_stage("find", [status(429, retry_after=later(110))])
    ended = bench.run(wait="none")
    assert (ended.state, bench.hits(), bench.started()) == ("Submitted", [1], 1), ended.message
    assert [slept for slept in bench.clock.sleeps if 20 < slept <= 110], bench.clock.sleeps
