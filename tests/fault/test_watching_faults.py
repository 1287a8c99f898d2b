"""While the paid run is watched: a failed look never ends it, and every end is named for what happened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flows.commandline import EXIT_CODES
from tests.fault.conftest import SCRIPT
from tests.fault.workbench import GARBAGE, RESET, STALL, Fault, Workbench, hurry, status

FOR_EVER: dict[str, Any] = {**SCRIPT, "steps": [{"status": "queued"}, {"status": "running", "epochs": 5}]}
"""A training that never ends."""
SLOW: dict[str, Any] = {
    **SCRIPT,
    "steps": [{"status": "running", "epochs": 5, "for_looks": 5}, {"status": "completed"}],
}
"""A training that takes more looks than a short deadline allows."""


def ending(word: str, **extra: str) -> dict[str, Any]:
    """Return a training that ends with this word."""
    return {**SCRIPT, "steps": [{"status": "running", "epochs": 5}, {"status": word, **extra}]}


@pytest.mark.parametrize(
    ("fault", "failed_looks"),
    [
        (status(503, times=8), 2),
        (RESET.but(times=8), 2),
        (STALL.but(times=4), 1),
        (GARBAGE.but(times=3), 3),
        (status(429, retry_after="600", times=2), 2),
        (status(404, times=3), 3),
        (status(401, times=2), 2),
        (status(403, times=2), 2),
        (status(418, times=2), 2),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else str(value),
)
def test_failed_looks_say_nothing_about_the_run(bench: Workbench, fault: Fault, failed_looks: int) -> None:
    """Looks that fail as a whole are counted and borne; the run they say nothing about is collected."""
    bench.break_stage("look", [fault], skip=1)
    ended = bench.run()
    assert (ended.state, bench.started()) == ("Completed", 1), ended.message
    assert ended.report.watched is not None
    assert ended.report.watched.failed_looks == failed_looks


def test_a_delay_the_server_asks_for_is_kept_between_looks(bench: Workbench) -> None:
    """Ten minutes are too long to sit on a request, but not between two looks."""
    bench.break_stage("look", [status(429, retry_after="600")], skip=1)
    assert (bench.run().state, bench.started()) == ("Completed", 1)
    assert 600.0 in bench.clock.sleeps


def test_unknown_words_are_no_end(make_bench: Callable[..., Workbench]) -> None:
    """A status nobody has heard of is waited through."""
    words = [{"status": word} for word in ("warming_up", "Provisioning GPU", "finalizing", "completed")]
    bench = make_bench(script={**SCRIPT, "steps": words})
    ended = bench.run()
    assert (ended.state, bench.started()) == ("Completed", 1), ended.message
    assert len(bench.sent("look")) == len(words)


def test_a_failed_run_says_why(make_bench: Callable[..., Workbench]) -> None:
    """The provider's own sentence is the message; nothing is charged, nothing is downloaded."""
    bench = make_bench(script=ending("failed", error_message="loss is NaN at epoch 3"))
    ended = bench.run()
    assert (ended.state, EXIT_CODES[ended.report.outcome]) == ("Failed", 1)
    assert "loss is NaN at epoch 3" in ended.message
    bill = bench.account.bill()
    assert (bill["started_runs"], bill["active_runs"], bill["charged"]) == (1, 0, 0)
    assert bench.sent("model") == []


def test_a_run_cancelled_at_the_provider_is_a_cancelled_flow(make_bench: Callable[..., Workbench]) -> None:
    """Cancelled by somebody else: the flow's state says Cancelled, and no model is looked for."""
    bench = make_bench(script=ending("cancelled"))
    ended = bench.run()
    assert (ended.state, EXIT_CODES[ended.report.outcome]) == ("Cancelled", 6)
    assert (bench.started(), bench.active(), bench.sent("model")) == (1, 0, [])


def test_a_run_the_provider_forgot_is_lost(make_bench: Callable[..., Workbench]) -> None:
    """Not found for longer than the grace allows ends the watching as failed, and says what that was."""
    bench = make_bench(script=FOR_EVER)
    bench.break_stage("look", [status(404)], times=None)
    ended = bench.run()
    assert (ended.state, bench.started()) == ("Failed", 1)
    assert "does not know the job any more" in ended.message
    assert sum(bench.clock.sleeps) > 60


def test_the_deadline_keeps_the_run_and_a_rerun_collects_it(make_bench: Callable[..., Workbench]) -> None:
    """Keep: the run is alive on the bill after the flow gave up; the same operation comes back for its model."""
    bench = make_bench(script=SLOW)
    first = bench.run(operation="night-1", deadline_s=15, poll_interval_s=10)
    assert (first.state, EXIT_CODES[first.report.outcome]) == ("TimedOut", 5)
    assert (bench.started(), bench.active()) == (1, 1)
    assert "goes on at the provider" in first.message
    second = bench.run(operation="night-1")
    assert (second.state, bench.started()) == ("Completed", 1), second.message


@pytest.mark.parametrize("fault", [None, RESET.lost(), status(503, times=2)], ids=["plain", "lost", "refused"])
def test_the_deadline_can_cancel(make_bench: Callable[..., Workbench], fault: Fault | None) -> None:
    """Cancel: the provider's books show the run as cancelled, even when the answer to it was lost."""
    bench = make_bench(script=FOR_EVER)
    bench.break_stage("cancel", [fault] if fault else [])
    ended = bench.run(deadline_s=15, poll_interval_s=10, on_deadline="cancel")
    assert (ended.state, EXIT_CODES[ended.report.outcome]) == ("Cancelled", 6)
    assert (bench.started(), bench.active(), bench.account.bill()["net"]) == (1, 0, 0)


def test_a_cancel_that_does_not_work_is_said_loudly(make_bench: Callable[..., Workbench]) -> None:
    """The deadline wanted a cancel, the provider refuses it: timed out, and told that the run goes on and is billed."""
    bench = make_bench(script=FOR_EVER)
    bench.break_stage("cancel", [status(503)], times=None)
    ended = bench.run(deadline_s=15, poll_interval_s=10, on_deadline="cancel")
    assert (ended.state, EXIT_CODES[ended.report.outcome]) == ("TimedOut", 5)
    assert (bench.started(), bench.active()) == (1, 1)
    assert "could not be cancelled" in ended.message
    assert "goes on" in ended.message


@pytest.mark.parametrize("skip", [0, 1], ids=["never-seen", "seen-once"])
def test_blindness_is_not_a_deadline(
    make_bench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch, skip: int
) -> None:
    """Not one look in a long time ends the watching, never the run."""
    monkeypatch.setenv("PICTOGRAPH_MAX_RETRIES", "0")
    hurry("run", monkeypatch, max_blind_s=40.0)
    bench = make_bench(script=SLOW)
    bench.break_stage("look", [status(503)], times=None, skip=skip)
    first = bench.run(operation="night-1")
    assert (first.state, EXIT_CODES[first.report.outcome]) == ("TimedOut", 5), first.message
    assert (bench.started(), bench.active(), bench.sent("cancel")) == (1, 1, [])
    assert "--operation night-1" in first.message
    bench.account.clear_faults()
    second = bench.run(operation="night-1")
    assert (second.state, bench.started()) == ("Completed", 1), second.message


def test_a_deadline_that_cancels_is_kept_by_a_watch_that_sees_nothing(
    make_bench: Callable[..., Workbench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blind from the first look to the deadline, the run is cancelled all the same: that is what was asked."""
    monkeypatch.setenv("PICTOGRAPH_MAX_RETRIES", "0")
    hurry("run", monkeypatch, max_blind_s=40.0)
    bench = make_bench(script=SLOW)
    bench.break_stage("look", [status(503)], times=None)
    ended = bench.run(operation="night-1", on_deadline="cancel", deadline_s=300.0)
    assert (ended.state, bench.started(), bench.active()) == ("Cancelled", 1, 0), ended.message


def test_a_key_that_is_revoked_in_mid_run_needs_a_person(make_bench: Callable[..., Workbench]) -> None:
    """Refused for minutes: told about the key and the way back, the run left alone, and collected by a rerun."""
    bench = make_bench(script=SLOW)
    bench.break_stage("look", [status(401)], times=None, skip=1)
    first = bench.run(operation="night-1")
    assert (first.state, bench.started(), bench.active()) == ("TimedOut", 1, 1)
    assert "API key" in first.message
    assert "--operation night-1" in first.message
    bench.account.clear_faults()
    second = bench.run(operation="night-1")
    assert (second.state, bench.started()) == ("Completed", 1), second.message
