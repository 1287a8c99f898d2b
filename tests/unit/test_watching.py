"""What is kept of what was seen while a run was watched: the curve, the pace, the run itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.errors import ProviderUnavailableError
from pipeline.models import CurvePoint, RunStatus, TrainingRun
from pipeline.watch.polling import Look
from pipeline.watch.watching import WatchLog, watch_run
from tests.unit.conftest import POLICY, FakeClock, make_run

DONE = make_run(RunStatus.COMPLETED)


def _log(*seen: tuple[float, TrainingRun | None]) -> WatchLog:
    log = WatchLog(make_run(RunStatus.PENDING))
    for elapsed_s, run in seen:
        log.add(Look(run, None if run else ProviderUnavailableError("503"), elapsed_s, 1.0))
    return log


def _epochs(times_s: Sequence[float]) -> list[tuple[float, TrainingRun]]:
    return [(at_s, make_run(epoch=number, progress=float(number))) for number, at_s in enumerate(times_s)]


def test_a_stall_is_told_by_the_runs_own_pace() -> None:
    """Five median epochs without progress are a stall; before that nothing is said."""
    paced = _epochs([0, 10, 20, 30])
    last = paced[-1][1]
    assert _log(*paced, (79.0, last)).stalled_s is None
    assert _log(*paced, (81.0, last)).stalled_s == 51


def test_an_epoch_lasts_from_its_start() -> None:
    """Percent that move inside an epoch do not make it look shorter."""
    seen = [(at_s, make_run(epoch=at_s // 100, progress=at_s / 10)) for at_s in range(0, 410, 10)]
    log = _log(*seen)
    assert log.stalled_s is None
    assert _log(*seen, (890.0, seen[-1][1])).stalled_s is None
    assert _log(*seen, (910.0, seen[-1][1])).stalled_s == 510


def test_epochs_that_passed_unseen_share_their_time() -> None:
    """Looks that come every few epochs do not make an epoch look longer."""
    seen = [(float(epoch * 10), make_run(epoch=epoch)) for epoch in (0, 4, 8, 12)]
    assert _log(*seen, (170.0, seen[-1][1])).stalled_s is None
    assert _log(*seen, (171.0, seen[-1][1])).stalled_s == 51


def test_blindness_is_not_a_stall() -> None:
    """While no look succeeds nothing is known about progress."""
    assert _log(*_epochs([0, 10, 20, 30]), (500.0, None)).stalled_s is None


def test_no_stall_is_claimed_without_a_pace_or_after_the_end() -> None:
    """Two epochs are no pace; queued and ended runs do not stall."""
    assert _log(*_epochs([0, 10]), (900.0, _epochs([0, 10])[-1][1])).stalled_s is None
    assert _log(*_epochs([0, 10, 20, 30]), (900.0, DONE)).stalled_s is None
    assert _log().stalled_s is None


def test_the_curve_is_gathered_from_single_looks() -> None:
    """Each look's loss is kept under its epoch, in order, once."""
    seen = [(float(n), make_run(epoch=n, metrics={"loss": 1 / n})) for n in (1, 2, 2, 4)]
    assert _log(*seen).result().curve == (
        CurvePoint(epoch=1, loss=1.0),
        CurvePoint(epoch=2, loss=0.5),
        CurvePoint(epoch=4, loss=0.25),
    )


def test_the_curve_is_gathered_from_a_history() -> None:
    """A history fills the epochs nobody looked at; what it cannot mean is left out."""
    history: list[Any] = [
        {"epoch": 2, "loss": 0.5},
        {"epoch": 1, "loss": 1},
        {"epoch": 0, "loss": 9},
        {"epoch": 3},
        {"epoch": "4", "loss": 1},
        {"epoch": 5, "loss": "low"},
        {"epoch": 6, "loss": float("nan")},
        {"epoch": 7, "loss": float("inf")},
        "row",
    ]
    curve = _log((0.0, make_run(metrics={"history": history}))).result().curve
    assert curve == (CurvePoint(epoch=1, loss=1.0), CurvePoint(epoch=2, loss=0.5))


@pytest.mark.parametrize("metrics", [{}, {"history": None}, {"history": "soon"}, {"loss": None}])
def test_no_figures_give_no_curve(metrics: dict[str, Any]) -> None:
    """Providers without figures are watched all the same."""
    assert _log((0.0, make_run(epoch=1, metrics=metrics))).result().curve == ()


@pytest.mark.parametrize("loss", [10**400, -(10**400)])
def test_a_loss_beyond_every_float_is_left_out(loss: int) -> None:
    """A whole number of four hundred digits is legal JSON; it may not end the watching of a paid run."""
    history: list[Any] = [{"epoch": 1, "loss": loss}, {"epoch": 2, "loss": 0.5}]
    seen = make_run(epoch=3, metrics={"history": history, "loss": loss})
    assert _log((0.0, seen)).result().curve == (CurvePoint(epoch=2, loss=0.5),)


def test_a_log_without_a_look_has_the_run_as_it_was_created() -> None:
    """It exists, and is billed, whether it was ever seen or not."""
    result = _log((1.0, None)).result("blind")
    assert (result.run.status, result.looks, result.failed_looks, result.gave_up) == (RunStatus.PENDING, 0, 1, "blind")


@pytest.mark.parametrize(("before_s", "watched_s"), [(0.0, 7200.0), (7000.0, 7200.0), (9000.0, 9000.0)])
def test_what_was_watched_before_counts_towards_the_deadline(
    before_s: float, watched_s: float, clock: FakeClock
) -> None:
    """A watch that another process began ends when it would have; one that is overdue ends after one look."""
    began, run = clock.monotonic(), make_run(RunStatus.PENDING)
    watched = watch_run(run, lambda: run, POLICY, clock, lambda *_: None, before_s)
    assert watched.watched_s == pytest.approx(watched_s)
    assert clock.monotonic() - began == pytest.approx(watched_s - before_s)
    assert watched.gave_up is not None


def test_what_was_watched_before_is_not_blindness(clock: FakeClock) -> None:
    """Only failed looks of this watch make it give up for not seeing anything."""
    answers = iter([ProviderUnavailableError("503"), DONE])

    def look() -> TrainingRun:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert watch_run(make_run(), look, POLICY, clock, lambda *_: None, 7000.0).run.status is RunStatus.COMPLETED
