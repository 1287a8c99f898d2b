"""What is new since the last look that was shown, so that each thing is shown once."""

from __future__ import annotations

from pipeline.models import RunStatus, TrainingRun


class Shown:
    """Remembers what was shown of one run."""

    def __init__(self) -> None:
        self.percent = 0.0
        """Percent done as far as is known, 0 to 100."""
        self._word: str | None = None
        self._line = ""
        self._stalled = False

    def new_word(self, run: TrainingRun) -> bool:
        """Tell whether the provider says another word about the run than before."""
        known, self._word = self._word, run.provider_status
        return known != self._word

    def new_line(self, run: TrainingRun, line: str) -> bool:
        """Tell whether the line about the run is another one than before; ``percent`` follows the run."""
        self.percent = self._percent_of(run)
        known, self._line = self._line, line
        return known != line

    def new_stall(self, idle_s: float | None) -> bool:
        """Tell whether the run has begun to stall."""
        known, self._stalled = self._stalled, idle_s is not None
        return self._stalled and not known

    def _percent_of(self, run: TrainingRun) -> float:
        if run.status is RunStatus.COMPLETED:
            return 100.0
        progress = run.progress
        # Written so that what is not a number keeps what is known.
        return progress if progress is not None and 0.0 <= progress <= 100.0 else self.percent
