"""How long a training run still takes: the provider's prediction corrected for its age, or the run's own pace.

A provider that works out its prediction once an epoch repeats a figure that is up to one epoch old. Taken at its word,
such a run would be found a whole wait too late, so a figure that has not moved since the last look is aged.
"""

from __future__ import annotations

from pipeline.clock import Clock
from pipeline.models import RunStatus, TrainingRun

STANDSTILL_S = 1.5
"""A prediction in whole seconds that stays the same for this long is repeated, not made anew at each look."""


class RunForecast:
    """Predicts the rest of one run from what its looks show; called once for each look."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began: tuple[float, float] | None = None
        self._furthest = 0.0
        self._word: tuple[float | None, float | None] | None = None
        self._word_after = 0.0
        self._looked_at = 0.0
        self._in_steps = False
        self._rest_s: float | None = None

    def __call__(self, run: TrainingRun) -> float | None:
        """Return the remaining seconds, negative when they should be over; none while nothing is known."""
        now = self._clock.monotonic()
        if run.status is not RunStatus.RUNNING:
            self._word = self._began = None  # what is said of a queued run is not about the queue
            return None
        self._take(run, now)
        self._looked_at = now
        if self._rest_s is None:
            return None
        return self._rest_s - (now - self._word_after)

    def _take(self, run: TrainingRun, now: float) -> None:
        """Note what the run says, and since when it may have said so."""
        word = (run.eta_s, None) if run.eta_s is not None else (None, run.progress)
        if self._word is None:
            self._word_after = now
        elif word == self._word:
            self._in_steps = self._in_steps or now - self._looked_at >= STANDSTILL_S
            return
        else:
            # Made at some moment since the last look. Where figures come in steps the earliest moment is taken: looking
            # too early costs a look, looking too late costs the whole wait.
            self._word_after = self._looked_at if self._in_steps else now
        self._word = word
        self._rest_s = run.eta_s if run.eta_s is not None else self._rest_by_pace(run.progress, now)

    def _rest_by_pace(self, progress: float | None, now: float) -> float | None:
        if progress is None:
            return None
        if self._began is None or progress < self._furthest:  # falls back when the run was restarted at the provider
            self._began = (now, progress)
        self._furthest = progress
        began_at, first = self._began
        return (100.0 - progress) * (now - began_at) / (progress - first) if progress > first else None
