"""The burn guard ends a run before its cost passes the cap, and none for any other reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.errors import ProviderUnavailableError, WatchStoppedError
from pipeline.models import RunStatus, TrainingRun, Unit
from pipeline.watch.burning import CONFIRMED_BY, LEAST_PROGRESS, BurnGuard
from pipeline.watch.polling import Look
from tests.unit.conftest import make_estimate, make_request, make_run

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def _guard(cap: int | None = 100, **estimate: Any) -> BurnGuard:
    """Return a guard over a training of 10 credits a minute."""
    request = make_request(budget_credits=cap) if cap is not None else make_request()
    return BurnGuard(request, make_estimate(100, **estimate))


def _run(**changes: Any) -> TrainingRun:
    return make_run(**{"started_at": START, **changes})


def _check(guard: BurnGuard, after_s: float, run: TrainingRun, *, wait_s: float = 0.0, failed: bool = False) -> None:
    look = Look(None if failed else run, ProviderUnavailableError("503") if failed else None, after_s, wait_s)
    guard.check(look, run, START + timedelta(seconds=after_s))


def _stopped(guard: BurnGuard, after_s: float, run: TrainingRun, **look: Any) -> str | None:
    try:
        _check(guard, after_s, run, **look)
    except WatchStoppedError as error:
        return f"{error.context.code}: {error}"
    return None


def test_a_run_may_cost_its_cap_and_not_a_minute_more() -> None:
    """Ten minutes cost exactly the cap: borne; the eleventh, begun, is not."""
    assert _stopped(_guard(), 600, _run()) is None
    assert "over_budget: it has cost about 110 credits in 10.0 min" in str(_stopped(_guard(), 601, _run()))


@pytest.mark.parametrize(("wait_s", "stops"), [(60, False), (61, True)])
def test_the_next_look_must_not_come_too_late(wait_s: float, stops: bool) -> None:
    """What the run will have cost by the next look counts: it is ended before the cap, not found beyond it."""
    reason = _stopped(_guard(), 540, _run(), wait_s=wait_s)
    assert (reason is not None) is stops
    assert not stops or "would pass the cap of 100 credits before the next look" in str(reason)


def test_every_begun_minute_counts() -> None:
    """A cap between two minutes is passed when the minute that does not fit begins."""
    assert _stopped(_guard(95), 539, _run()) is None
    assert _stopped(_guard(95), 541, _run()) is not None


def test_a_forecast_is_believed_when_several_looks_agree() -> None:
    """Twice as long as the cap allows, in three looks in a row: ended early, with what it is going to cost."""
    guard, run = _guard(), _run(progress=20.0, eta_s=1200.0)
    said = [_stopped(guard, 60.0 + look, run) for look in range(CONFIRMED_BY)]
    assert said[:-1] == [None] * (CONFIRMED_BY - 1)
    assert "it is going to cost about 220 credits, above the cap of 100 credits" in str(said[-1])


def test_one_look_that_fits_takes_the_suspicion_back() -> None:
    """Forecasts jump: only as many in a row as are asked for end a run."""
    guard, long, short = _guard(), _run(progress=20.0, eta_s=1200.0), _run(progress=20.0, eta_s=60.0)
    looks = [*[long] * (CONFIRMED_BY - 1), short] * 3
    assert [_stopped(guard, 60.0, run) for run in looks] == [None] * len(looks)


def test_failed_looks_confirm_nothing() -> None:
    """What was seen once is not seen again by not looking; the time that passes counts all the same."""
    guard, run = _guard(), _run(progress=20.0, eta_s=1200.0)
    assert [_stopped(guard, 60.0, run, failed=look > 0) for look in range(9)] == [None] * 9
    assert _stopped(guard, 601.0, run, failed=True) is not None


@pytest.mark.parametrize(
    "run",
    [
        _run(progress=LEAST_PROGRESS - 0.1, eta_s=99_999.0),
        _run(eta_s=99_999.0),
        _run(status=RunStatus.QUEUED, progress=50.0, eta_s=99_999.0),
        _run(status=RunStatus.UNKNOWN, progress=50.0, eta_s=99_999.0),
    ],
    ids=["begun", "no-progress", "queued", "unknown"],
)
def test_a_forecast_that_means_nothing_yet_ends_nothing(run: TrainingRun) -> None:
    """Under a tenth done, or not running: its forecast is not believed."""
    guard = _guard()
    assert [_stopped(guard, 60.0, run) for _ in range(9)] == [None] * 9


def test_without_the_providers_forecast_the_pace_is_one() -> None:
    """A fifth in four minutes makes twenty in all."""
    guard, run = _guard(), _run(progress=20.0)
    assert [_stopped(guard, 240.0, run) for _ in range(CONFIRMED_BY)][-1] is not None
    guard, run = _guard(), _run(progress=50.0)
    assert [_stopped(guard, 240.0, run) for _ in range(9)] == [None] * 9


@pytest.mark.parametrize(
    "run", [_run(started_at=None), _run(status=RunStatus.COMPLETED), _run(status=RunStatus.CANCELLED)], ids=repr
)
def test_what_has_not_begun_or_has_ended_costs_no_more(run: TrainingRun) -> None:
    """Hours in a queue are free; of a run that has ended nothing can be saved."""
    assert _stopped(_guard(), 99_999.0, run) is None


def test_without_a_cap_nothing_is_too_expensive() -> None:
    """No limit was set: nothing is ended, and there is nothing to say about it."""
    guard = _guard(None)
    assert (_stopped(guard, 99_999.0, _run()), guard.idle) == (None, None)


def test_a_run_whose_price_nobody_knows_is_watched_and_said_so() -> None:
    """Taken over from elsewhere: not ended, and who set a cap learns that nothing watches over it."""
    guard = BurnGuard(make_request(budget_credits=1), None)
    assert _stopped(guard, 99_999.0, _run()) is None
    assert "not known" in str(guard.idle)
    assert BurnGuard(make_request(), None).idle is None


def test_a_cap_in_another_unit_ends_nothing_and_says_so() -> None:
    """A run that is taken over with a cap its price cannot be compared with: it goes on, with a warning."""
    guard = BurnGuard(make_request(budget_usd=0.01), make_estimate(unit=Unit.CREDITS))
    assert _stopped(guard, 99_999.0, _run()) is None
    assert "budget_credits" in str(guard.idle)


def test_a_clock_behind_the_providers_makes_no_negative_time() -> None:
    """Started in our future: it has cost nothing yet."""
    assert _stopped(_guard(), -3600.0, _run(), wait_s=60.0) is None


def test_a_bar_that_begins_anew_forecasts_nothing() -> None:
    """Twelve percent of the second epoch are not twelve percent of the training."""
    guard = _guard()
    _check(guard, 60, _run(progress=100.0))
    for after_s in range(120, 120 + 60 * CONFIRMED_BY, 60):
        assert _stopped(guard, after_s, _run(progress=12.0)) is None
