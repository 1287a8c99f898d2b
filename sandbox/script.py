"""Where a script stands after so much time, or after so many looks: arithmetic without state."""

import hashlib
import math
from dataclasses import dataclass

from sandbox.settings import TERMINAL, Script, Step

_PEAK_WITHIN_S = 5.0


@dataclass(frozen=True)
class Position:
    """A point of a script."""

    index: int
    """Number of the step."""
    step: Step
    """The step itself."""
    fraction: float
    """Share of the step that has passed, in [0, 1]."""
    entered_at: float
    """Where the step began, in the script's own measure (seconds, or looks)."""
    left: float | None
    """What remains until the step ends, None when it lasts for ever."""

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended here."""
        return self.step.status in TERMINAL


def locate(script: Script, elapsed: float) -> Position:
    """Return where a script stands; elapsed is in virtual seconds, or in looks."""
    begin = 0.0
    last = len(script.steps) - 1
    for index, step in enumerate(script.steps):
        if step.status in TERMINAL:
            return Position(index, step, 1.0, begin, None)
        length = step.for_s if script.mode == "time" else float(step.for_looks)
        if elapsed < begin + length:
            return Position(index, step, (elapsed - begin) / length, begin, begin + length - elapsed)
        if index == last:
            return Position(index, step, 1.0, begin, None)
        begin += length
    raise AssertionError("a script has at least one step")


def epoch_of(position: Position, total_epochs: int) -> tuple[int, int]:
    """Return (current epoch, total epochs) at a position."""
    total = position.step.epochs or total_epochs
    if position.step.status != "running":
        return 0, total
    return math.floor(position.fraction * total), total


def first_running(script: Script) -> float | None:
    """Return where the first running step begins, None when there is none."""
    begin = 0.0
    for step in script.steps:
        if step.status == "running":
            return begin
        begin += step.for_s if script.mode == "time" else float(step.for_looks)
    return None


def memory_peak(script: Script) -> float | None:
    """Return where a training takes its most memory: a look, or a twentieth, into the first running step."""
    begin = first_running(script)
    if begin is None or script.mode != "time":
        return None if begin is None else begin + 1
    step = next(step for step in script.steps if step.status == "running")
    return begin + min(_PEAK_WITHIN_S, step.for_s / 20)


def noisy_eta_s(script: Script, position: Position, epoch: int, seed: str) -> int | None:
    """Return the estimate a client sees: what is left of a running step, off by up to the script's noise."""
    if position.step.eta_seconds is not None:
        return position.step.eta_seconds
    if position.step.status != "running" or position.left is None:
        return None
    digest = hashlib.sha256(f"{seed}:{epoch}".encode()).digest()
    wobble = digest[0] / 127.5 - 1.0
    return max(0, round(position.left / script.speed * (1 + script.eta_noise * wobble)))
