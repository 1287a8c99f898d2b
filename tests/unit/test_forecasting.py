"""The rest of a run, predicted from what its looks show."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline.models import RunStatus
from pipeline.watch.forecasting import RunForecast
from tests.unit.conftest import FakeClock, make_run

Sight = tuple[float, dict[str, Any]]


def _rests(clock: FakeClock, *sights: Sight) -> list[float | None]:
    """Return what is predicted at each look, given as (seconds since the first one, what is seen)."""
    forecast, began = RunForecast(clock), clock.now
    rests = []
    for at_s, seen in sights:
        clock.now = began + at_s
        rests.append(forecast(make_run(**{"status": RunStatus.RUNNING, **seen})))
    return rests


def test_a_prediction_made_anew_at_each_look_is_believed(clock: FakeClock) -> None:
    """Whatever it was before: an estimate may grow."""
    assert _rests(clock, (0, {"eta_s": 100}), (50, {"eta_s": 60}), (60, {"eta_s": 80})) == [100, 60, 80]


def test_a_repeated_prediction_grows_old(clock: FakeClock) -> None:
    """What was said a minute ago, and is only repeated, is a minute less by now, and overdue in the end."""
    said = {"eta_s": 90.0}
    assert _rests(clock, (0, said), (60, said), (90, said), (100, said)) == [90, 30, 0, -10]


def test_after_a_repetition_new_figures_count_from_the_look_before(clock: FakeClock) -> None:
    """They may be as old as that: looking too late would cost the whole wait."""
    old, new = {"eta_s": 600.0}, {"eta_s": 300.0}
    assert _rests(clock, (0, old), (60, old), (120, new), (180, new)) == [600, 540, 240, 180]


def test_whole_seconds_are_not_a_repetition(clock: FakeClock) -> None:
    """Two looks within one second show the same figure of a prediction that is made anew each time."""
    assert _rests(clock, (0, {"eta_s": 9}), (0.5, {"eta_s": 9}), (1.0, {"eta_s": 8})) == [9, 8.5, 8]


def test_without_a_prediction_the_runs_own_pace_is_one(clock: FakeClock) -> None:
    """A tenth in a minute leaves nine minutes; before anything has moved nothing is predicted."""
    sights = [(0, {"progress": 10.0}), (30, {"progress": 10.0}), (60, {"progress": 20.0}), (90, {"progress": 20.0})]
    assert _rests(clock, *sights) == [None, None, 8 * 60 - 30, 8 * 60 - 60]


def test_the_pace_is_that_of_the_whole_run(clock: FakeClock) -> None:
    """One slow stretch does not count for all that is left."""
    sights = [(0, {"progress": 0.0}), (10, {"progress": 10.0}), (100, {"progress": 50.0})]
    assert _rests(clock, *sights)[2] == 100


def test_progress_that_falls_back_starts_a_new_pace(clock: FakeClock) -> None:
    """A run that was restarted at the provider is not further than it says."""
    sights = [(0, {"progress": 0.0}), (100, {"progress": 50.0}), (110, {"progress": 5.0}), (120, {"progress": 10.0})]
    assert _rests(clock, *sights) == [None, 100, None, 180]


@pytest.mark.parametrize("status", [status for status in RunStatus if status is not RunStatus.RUNNING])
def test_only_a_running_run_is_predicted(status: RunStatus, clock: FakeClock) -> None:
    """The time in the queue is nobody's guess, and does not make a prediction old."""
    waiting, running = {"status": status, "eta_s": 100.0}, {"eta_s": 100.0}
    assert _rests(clock, (0, waiting), (300, waiting), (600, running)) == [None, None, 100]


def test_nothing_known_is_nothing_predicted(clock: FakeClock) -> None:
    """Neither prediction nor progress."""
    assert _rests(clock, (0, {}), (60, {})) == [None, None]


@pytest.mark.parametrize("eta_s", [math.inf, math.nan])
def test_nonsense_is_passed_on(eta_s: float, clock: FakeClock) -> None:
    """The limits of the policy make a legal wait of it."""
    first, second = _rests(clock, (0, {"eta_s": eta_s}), (60, {"eta_s": eta_s}))
    assert str(first) == str(second) == str(eta_s)
