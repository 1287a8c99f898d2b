"""Stop a run before its cost passes the cap: by the time it has taken, and by the time it is going to take."""

from __future__ import annotations

import math
from datetime import datetime

from pipeline.errors import ConfigurationError, ErrorContext, WatchStoppedError
from pipeline.models import CostEstimate, Money, RunStatus, TrainingRun
from pipeline.requests import TrainRequest
from pipeline.start.pricing import cap_of
from pipeline.watch.polling import Look

LEAST_PROGRESS = 10.0
"""Percent from which a forecast is believed."""
CONFIRMED_BY = 3
"""Looks in a row that must forecast a cost above the cap."""


class BurnGuard:
    """Compares what a run has cost, and is going to cost, with the request's cap; asked at every look."""

    def __init__(self, request: TrainRequest, estimate: CostEstimate | None) -> None:
        self._estimate = estimate
        self._cap: Money | None = None
        self._over = 0
        self._furthest = 0.0
        self._restarts = False
        self.idle: str | None = None
        """Why a cap that was set is not watched over; none when it is, or none was set."""
        has_cap = request.budget_credits is not None or request.budget_usd is not None
        if estimate is None:
            self.idle = "what the run costs a minute is not known" if has_cap else None
            return
        try:
            self._cap = cap_of(request, estimate.total.unit)
        except ConfigurationError as error:  # of a run taken over: it is paid for, and goes on being watched
            self.idle = str(error)

    def check(self, look: Look[TrainingRun], run: TrainingRun, now: datetime) -> None:
        """Raise when the run must be ended for its cost's sake; ``run`` is the latest that is known of it.

        Raises:
            WatchStoppedError: It would pass the cap before the next look, or is forecast to by several looks.
        """
        if self._estimate is None or self._cap is None or run.started_at is None or run.status.is_terminal:
            return
        per_minute = self._estimate.per_minute
        elapsed_s = max((now - run.started_at).total_seconds(), 0.0)
        if _cost(per_minute, elapsed_s + look.wait_s).amount > self._cap.amount:
            raise _stop(
                f"it has cost about {_cost(per_minute, elapsed_s)} in {elapsed_s / 60:.1f} min and would pass the cap "
                f"of {self._cap} before the next look"
            )
        total_s = self._forecast_s(run, elapsed_s) if look.seen is not None else None
        if total_s is None:
            return
        self._over = self._over + 1 if _cost(per_minute, total_s).amount > self._cap.amount else 0
        if self._over >= CONFIRMED_BY:
            raise _stop(f"it is going to cost about {_cost(per_minute, total_s)}, above the cap of {self._cap}")

    def _forecast_s(self, run: TrainingRun, elapsed_s: float) -> float | None:
        """Return the seconds the run takes in all, as far as it can be told by now.

        Progress that falls back is not that of the whole run: a bar that begins anew with every epoch.
        """
        progress = run.progress
        self._restarts = self._restarts or (progress is not None and progress < self._furthest)
        self._furthest = max(self._furthest, progress or 0.0)
        if self._restarts or run.status is not RunStatus.RUNNING or progress is None or progress < LEAST_PROGRESS:
            return None
        return elapsed_s + run.eta_s if run.eta_s is not None else elapsed_s * 100 / progress


def _cost(per_minute: Money, seconds: float) -> Money:
    """Return the price of a time: every begun minute counts."""
    return Money(amount=per_minute.amount * math.ceil(seconds / 60), unit=per_minute.unit)


def _stop(reason: str) -> WatchStoppedError:
    return WatchStoppedError(reason, ErrorContext(operation="training.get", code="over_budget"))
