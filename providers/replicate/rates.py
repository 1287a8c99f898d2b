"""What a second of Replicate's hardware costs; the API names no price, so this is data that may be overridden."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipeline.errors import ConfigurationError, ErrorContext
from pipeline.local_requests import ReplicateRequest
from pipeline.models import CostEstimate, Money, RunStatus, TrainingRun, Unit
from providers.figures import figure_of
from providers.replicate.wire import ABORTED

RATES_DATE = "2025"
"""When the prices were published."""
MICRO_USD_PER_S: dict[str, float] = {
    "cpu": 100,
    "gpu-t4": 225,
    "gpu-a40-small": 575,
    "gpu-a40-large": 725,
    "gpu-l40s": 975,
    "gpu-2x-l40s": 1_950,
    "gpu-4x-l40s": 3_900,
    "gpu-8x-l40s": 7_800,
    "gpu-a100-large": 1_400,
    "gpu-a100-large-2x": 2_800,
    "gpu-a100-large-4x": 5_600,
    "gpu-a100-large-8x": 11_200,
    "gpu-h100": 1_525,
    "gpu-h100-2x": 3_050,
    "gpu-h100-4x": 6_100,
    "gpu-h100-8x": 12_200,
}
"""Millionths of a US dollar a second, as published in ``RATES_DATE``."""
_COUNT_IN_FRONT = re.compile(r"gpu-(\d+x)-(.+)")
_COUNT_BEHIND = re.compile(r"gpu-(.+)-(\d+x)")
GUESSED_MINUTES = 30
"""Minutes priced where nobody has named any; a cap is not compared with them."""


class Rates:
    """The table, with ``overrides`` in millionths of a US dollar a second on top."""

    def __init__(self, overrides: Mapping[str, float] | None = None) -> None:
        self._table = {**MICRO_USD_PER_S, **(overrides or {})}

    def of(self, hardware: str) -> float | None:
        """Return the rate, for either spelling of several devices; none where the table does not have it."""
        rate = self._table.get(hardware)
        return self._table.get(_respelled(hardware)) if rate is None else rate

    def estimate(self, request: ReplicateRequest) -> CostEstimate:
        """Price the minutes that were named, or a guess, on the trainer's hardware.

        Raises:
            ConfigurationError: The hardware has no rate; the message names what has.
        """
        rate = self.of(request.hardware)
        if rate is None:
            known = ", ".join(self._table)
            message = f"hardware={request.hardware!r} has no rate; take the name on the trainer's page, one of: {known}"
            raise ConfigurationError(message, ErrorContext(operation="rates", field="hardware"))
        minutes = float(request.gpu_minutes or GUESSED_MINUTES)
        return CostEstimate(
            total=_money(rate * 60 * minutes),
            per_minute=_money(rate * 60),
            gpu_minutes=minutes,
            gpu=request.hardware,
            balance=None,  # the API shows none
            sufficient=True,
            source="estimate",
        )

    def charge(self, run: TrainingRun, hardware: str) -> Money | None:
        """Return what an ended run was billed; none where its seconds or the hardware's rate are not known."""
        rate, seconds = self.of(hardware), billed_s(run)
        if rate is None or seconds is None or figure_of(rate * seconds) is None:
            return None
        return _money(rate * seconds)


def billed_s(run: TrainingRun) -> float | None:
    """Return the seconds an ended run is billed for; none where they are not known.

    That no start is shown says nothing: the answer to a cancel may leave it out.
    """
    measured = figure_of(run.metrics.get("predict_time"))
    if measured is not None:
        return max(measured, 0.0)
    if run.started_at is not None and run.completed_at is not None:
        return max((run.completed_at - run.started_at).total_seconds(), 0.0)
    return 0.0 if run.provider_status == ABORTED else None


def never_ran(run: TrainingRun) -> bool:
    """Tell whether a look at a run, after its end, says that it ended without a start."""
    began = run.started_at is not None or "predict_time" in run.metrics
    return run.status in {RunStatus.FAILED, RunStatus.CANCELLED} and not began


def _respelled(hardware: str) -> str:
    """Return ``gpu-2x-h100`` for ``gpu-h100-2x`` and the other way round: both are in use."""
    in_front = _COUNT_IN_FRONT.fullmatch(hardware)
    if in_front is not None:
        return f"gpu-{in_front[2]}-{in_front[1]}"
    behind = _COUNT_BEHIND.fullmatch(hardware)
    return hardware if behind is None else f"gpu-{behind[2]}-{behind[1]}"


def _money(micro_usd: float) -> Money:
    return Money(amount=round(micro_usd), unit=Unit.MICRO_USD)
