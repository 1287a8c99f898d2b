"""What is new since the last look that was shown, so that each thing is shown once."""

from __future__ import annotations

import re

from pipeline.models import RunStatus, TrainingRun

MOST_LINES = 50
"""Most lines of a trainer's log shown for one look."""
LONGEST_LINE = 300
"""Most characters of one such line."""
_BAR = re.compile(r"^\s*\d+%\s*\|")


class Shown:
    """Remembers what was shown of one run."""

    def __init__(self) -> None:
        self.percent = 0.0
        """Percent done as far as is known, 0 to 100."""
        self._word: str | None = None
        self._line = ""
        self._stalled = False
        self._log_at = 0

    def new_word(self, run: TrainingRun) -> bool:
        """Tell whether the provider says another word about the run than before."""
        known, self._word = self._word, run.provider_status
        return known != self._word

    def new_line(self, run: TrainingRun, line: str) -> bool:
        """Tell whether the line about the run is another one than before; ``percent`` follows the run."""
        self.percent = self._percent_of(run)
        known, self._line = self._line, line
        return known != line

    def new_log_lines(self, run: TrainingRun) -> list[str]:
        """Return the whole lines the trainer has printed since, without progress bars; a log that shrinks has none."""
        text = run.logs or ""
        end = text.rfind("\n") + 1 if not run.status.is_terminal else len(text)
        if end <= self._log_at:
            return []
        added, self._log_at = text[self._log_at : end], end
        lines = [line.rstrip()[:LONGEST_LINE] for line in added.splitlines() if line.strip() and not _BAR.match(line)]
        more = len(lines) - MOST_LINES
        return lines if more <= 0 else [f"({more} lines left out)", *lines[-MOST_LINES:]]

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
