"""How far a training is, read from the progress bars its trainer prints (the shape that tqdm gives them)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LAST_CHARACTERS = 65_536
"""A log comes whole at every look and may be long; a bar further back than this says nothing of now."""
# A count with a unit ("1.2M/5M") is no count of steps, so nothing but space or the bracket may follow it.
_BAR = re.compile(r"\s*(\d{1,3})%\s*\|.+?\|\s*(\d{1,15})/(\d{1,15})(?=\s|$)(?:\s*\[[^\]<]*<\s*([^,\]]+))?")
_CLOCK = re.compile(r"(?:(\d{1,9}):)?(\d{1,2}):(\d{2})")


@dataclass(frozen=True)
class LogProgress:
    """The last bar of a log; a log with several bars starts again at 0 with each."""

    percent: float
    """0 to 100."""
    current: int
    """Steps done."""
    total: int
    """Steps of this bar."""
    eta_s: float | None
    """Seconds the bar expects to take yet."""


def read_progress(logs: str | None) -> LogProgress | None:
    """Return where the last bar of a log stands; none when there is no bar."""
    for line in reversed((logs or "")[-_LAST_CHARACTERS:].splitlines()):
        bar = _BAR.match(line)
        if bar is not None:
            percent, current, total, left = bar.groups()
            return LogProgress(min(float(percent), 100.0), int(current), int(total), _seconds(left))
    return None


def _seconds(text: str | None) -> float | None:
    """Return the seconds in ``MM:SS`` or ``H:MM:SS``; none for anything else, such as ``?``."""
    shown = _CLOCK.fullmatch((text or "").strip())
    if shown is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in shown.groups())
    return float(hours * 3600 + minutes * 60 + seconds)
