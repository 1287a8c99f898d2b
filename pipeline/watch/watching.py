"""Watch a training run to its end: what was seen on the way, and what is known when watching ends before the run."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median

from pipeline.clock import Clock
from pipeline.errors import AuthenticationError, PermissionDeniedError, TrainingTimedOutError, WatchStoppedError
from pipeline.models import CurvePoint, PollPolicy, RunStatus, TrainingRun, WatchedRun
from pipeline.watch.forecasting import RunForecast
from pipeline.watch.polling import Look, observe

STALL_FACTOR = 5.0
"""No progress for so many median epoch times is worth an event."""


def watch_run(
    run: TrainingRun,
    get: Callable[[], TrainingRun],
    policy: PollPolicy,
    clock: Clock,
    on_look: Callable[[Look[TrainingRun], WatchLog], None],
    before_s: float = 0.0,
) -> WatchedRun:
    """Watch a training run until it ends or watching does; the result's status tells which, ``gave_up`` why.

    Args:
        run: The run as it was created or found: what is known of it until a look succeeds.
        get: One look.
        policy: When to look again and how much to bear.
        clock: The ``time`` module, or a fake.
        on_look: Called with every look, before its wait; raises ``WatchStoppedError`` with ``context.code`` when the
            run is to be ended.
        before_s: Seconds it has been watched before: they count towards the deadline.

    Raises:
        TrainingLostError: The provider does not know the run, beyond the grace period.
    """
    log = WatchLog(run)
    try:
        for look in observe(get, policy, clock, RunForecast(clock), before_s):
            log.add(look)
            on_look(look, log)
    except TrainingTimedOutError as error:
        return log.result(gave_up=str(error))
    except WatchStoppedError as error:
        return log.result(gave_up=str(error)).model_copy(update={"stopped": error.context.code})
    except (AuthenticationError, PermissionDeniedError) as error:
        # Our key says nothing about the run: it goes on, and is billed, whoever may look at it.
        return log.result(
            gave_up=f"{error}; the run goes on at the provider: set a key it accepts, then come back to "
            f"the operation to go on watching"
        )
    return log.result()


class WatchLog:
    """Collects what is seen while a training run is watched: loss curve, counts, epoch times."""

    def __init__(self, run: TrainingRun) -> None:
        self._curve: dict[int, float] = {}
        self._looks = 0
        self._failed = 0
        self._elapsed_s = 0.0
        self._seen_at_s = 0.0
        self._last_progress: tuple[float, tuple[float | None, int | None]] = (0.0, (None, None))
        self._last_epoch: tuple[float, int] | None = None
        self._epoch_times_s: list[float] = []
        self.last = run
        """The latest observation; before the first one, the run as it was created or found."""

    def add(self, look: Look[TrainingRun]) -> None:
        """Take in one look."""
        self._elapsed_s = look.elapsed_s
        if look.seen is None:
            self._failed += 1
            return
        self._looks += 1
        self._seen_at_s = look.elapsed_s
        self._take_curve(look.seen)
        self._take_progress(look.seen, look.elapsed_s)
        self.last = look.seen

    @property
    def stalled_s(self) -> float | None:
        """Seconds without progress, when that is unusual for this run; otherwise none."""
        if self.last.status is not RunStatus.RUNNING or len(self._epoch_times_s) < 3:
            return None
        # Up to the last successful look: while nothing is seen, nothing is known about progress.
        idle_s = self._seen_at_s - self._last_progress[0]
        return idle_s if idle_s > STALL_FACTOR * median(self._epoch_times_s) else None

    def result(self, gave_up: str | None = None) -> WatchedRun:
        """Return the run as last seen, with everything collected on the way."""
        curve = tuple(CurvePoint(epoch=epoch, loss=loss) for epoch, loss in sorted(self._curve.items()))
        return WatchedRun(
            run=self.last,
            curve=curve,
            looks=self._looks,
            failed_looks=self._failed,
            watched_s=self._elapsed_s,
            gave_up=gave_up,
        )

    def _take_curve(self, run: TrainingRun) -> None:
        history = run.metrics.get("history")
        for row in history if isinstance(history, list) else []:
            if isinstance(row, dict):
                self._take_point(row.get("epoch"), row.get("loss"))
        self._take_point(run.epoch, run.metrics.get("loss"))

    def _take_point(self, epoch: object, loss: object) -> None:
        if not isinstance(epoch, int) or epoch <= 0 or not isinstance(loss, (int, float)):
            return
        try:
            value = float(loss)
        except OverflowError:  # a whole number of hundreds of digits is legal JSON
            return
        if math.isfinite(value):
            self._curve.setdefault(epoch, value)

    def _take_progress(self, run: TrainingRun, elapsed_s: float) -> None:
        now = (run.progress, run.epoch)
        if now == self._last_progress[1]:
            return
        self._last_progress = (elapsed_s, now)
        if run.epoch is None:
            return
        if self._last_epoch is not None and run.epoch > self._last_epoch[1]:
            at_s, before = self._last_epoch
            self._epoch_times_s.append((elapsed_s - at_s) / (run.epoch - before))
        if self._last_epoch is None or run.epoch != self._last_epoch[1]:
            self._last_epoch = (elapsed_s, run.epoch)
