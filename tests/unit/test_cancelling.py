"""A run is cancelled at its deadline, and what is known of it afterwards is said."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import (
    NotFoundError,
    NotOfferedError,
    PipelineError,
    ProviderUnavailableError,
    TrainingTimedOutError,
)
from pipeline.models import RunStatus, TrainingRun, TrainPlan, WatchedRun
from pipeline.watch.cancelling import CANCEL_S, cancel_overdue
from pipeline.watch.polling import require_success
from pipeline.watch.watching import watch_run
from tests.unit.conftest import FakeClock, FakeProvider, Script, make_plan, make_run

RUNNING = make_run(RunStatus.RUNNING)
CANCELLED = make_run(RunStatus.CANCELLED)
DOWN = ProviderUnavailableError("503")


def _plan(**request: Any) -> TrainPlan:
    return make_plan(on_deadline="cancel", deadline_s=100.0, **request)


def _late(run: TrainingRun = RUNNING, watched_s: float = 100.0) -> WatchedRun:
    return WatchedRun(run=run, watched_s=watched_s, gave_up="no end after 100 s")


def _cancel(provider: FakeProvider, clock: FakeClock, watched: WatchedRun | None = None, **plan: Any) -> WatchedRun:
    return cancel_overdue(provider, _plan(**plan), watched or _late(), clock)  # type: ignore[arg-type]


def test_a_run_cancelled_at_once_is_not_waited_for(clock: FakeClock) -> None:
    """One request, and the provider's answer is the run's end."""
    provider = FakeProvider(cancel_run=Script(CANCELLED))
    assert _cancel(provider, clock).run == CANCELLED
    assert (provider.calls("cancel_run"), clock.slept) == (1, [])


def test_a_cancel_that_takes_its_time_is_looked_after(clock: FakeClock) -> None:
    """Accepted, still running, out of sight, then cancelled: seen, with one cancel sent."""
    provider = FakeProvider(cancel_run=Script(RUNNING), get_run=Script(RUNNING, DOWN, CANCELLED))
    assert _cancel(provider, clock).run == CANCELLED
    assert provider.calls("cancel_run") == 1
    assert clock.slept == [2, 4, 8]


def test_a_run_that_ended_on_its_own_meanwhile_is_collected(clock: FakeClock) -> None:
    """Completed before the cancel took effect: paid for, and had."""
    provider = FakeProvider(cancel_run=Script(RUNNING), get_run=Script(make_run(RunStatus.COMPLETED)))
    assert require_success(_cancel(provider, clock)).run.status is RunStatus.COMPLETED


def test_an_accepted_cancel_without_an_end_says_so(clock: FakeClock) -> None:
    """After a minute of looks: what the run still reads, and that it may be billed."""
    provider = FakeProvider(
        cancel_run=Script(RUNNING), get_run=Script(make_run(RunStatus.UNKNOWN, provider_status="stopping"))
    )
    left = _cancel(provider, clock)
    assert sum(clock.slept) == CANCEL_S
    with pytest.raises(TrainingTimedOutError, match="cancel was accepted, the run still reads 'stopping'") as caught:
        require_success(left)
    assert "billed" in str(caught.value)


def test_looks_that_fail_after_the_cancel_are_no_news(clock: FakeClock) -> None:
    """Accepted, then out of sight: the last thing known, and why there is nothing newer."""
    left = _cancel(FakeProvider(cancel_run=Script(RUNNING), get_run=Script(DOWN)), clock)
    assert "still reads 'running'" in (left.gave_up or "")
    assert "last look failed (503)" in (left.gave_up or "")


def test_a_cancel_that_is_refused_is_asked_for_again(clock: FakeClock) -> None:
    """A moment's outage does not decide about hours of billing."""
    provider = FakeProvider(cancel_run=Script(DOWN, DOWN, CANCELLED))
    assert _cancel(provider, clock).run == CANCELLED


@pytest.mark.parametrize("error", [DOWN, NotFoundError("404")], ids=repr)
def test_a_cancel_that_never_works_is_said_loudly(error: Exception, clock: FakeClock) -> None:
    """Asked for over a minute, refused every time: the run goes on and is billed."""
    provider = FakeProvider(cancel_run=Script(error))
    left = _cancel(provider, clock)
    assert left.run == RUNNING
    assert "could not be cancelled" in (left.gave_up or "")
    assert "billed" in (left.gave_up or "")
    assert 3 < provider.calls("cancel_run") < 10


def test_nothing_is_cancelled_without_being_asked_or_due(clock: FakeClock) -> None:
    """Kept on request, ended, or given up before the deadline: the provider is not even asked."""
    nobody = FakeProvider()
    kept = _late()
    plan = make_plan(on_deadline="keep", deadline_s=100.0)
    assert cancel_overdue(nobody, plan, kept, clock) is kept  # type: ignore[arg-type]
    for watched in (_late(CANCELLED), _late(watched_s=99.0)):
        assert _cancel(nobody, clock, watched) is watched


def test_a_run_nobody_ever_saw_is_cancelled_at_its_deadline(clock: FakeClock) -> None:
    """Not one look in all the time: the deadline holds, and the created run is what is cancelled."""
    created = make_run(RunStatus.PENDING)
    plan = make_plan(on_deadline="cancel", deadline_s=5000.0)
    watched = watch_run(created, Script(DOWN), plan.poll, clock, lambda look, log: None)
    provider = FakeProvider(cancel_run=Script(CANCELLED))
    assert cancel_overdue(provider, plan, watched, clock).run == CANCELLED  # type: ignore[arg-type]
    assert clock.now - 1000 >= 5000


def test_a_provider_that_cannot_cancel_says_so_at_once(clock: FakeClock) -> None:
    """No minute of trying what does not exist; the run is said to be billed."""
    provider = FakeProvider(cancel_run=Script(NotOfferedError("PhotoGPT cannot end a training")))
    left = _cancel(provider, clock)
    assert (provider.calls("cancel_run"), clock.slept) == (1, [])
    with pytest.raises(PipelineError, match=r"cannot end a training.*billed"):
        require_success(left.model_copy(update={"stopped": "cancelled"}))
