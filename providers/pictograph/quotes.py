"""What a quote says about a training: its price, and what speaks against starting it."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.models import CostEstimate, Finding, Severity
from providers.pictograph.values import TrainingQuote


def cost_of_quote(quote: TrainingQuote) -> CostEstimate:
    """Return what a training is going to cost, with a finding for each thing that speaks against it."""
    short = any(blocker.code == "insufficient_credits" for blocker in quote.blocking)
    return CostEstimate(
        total=quote.total,
        per_minute=quote.per_minute,
        gpu_minutes=quote.minutes,
        gpu=quote.gpu,
        balance=quote.budget_remaining,
        sufficient=quote.covers_estimate and not short,
        source="quote",
        findings=tuple(_remarks(quote)),
    )


def _remarks(quote: TrainingQuote) -> Iterator[Finding]:
    if quote.deleted_images:
        message = f"{quote.deleted_images} images were deleted since the export was made: make a fresh export."
        yield Finding(severity=Severity.WARNING, code="deleted_images", message=message)
    if quote.fits is False:
        tier = quote.recommended_gpu or "a larger tier"
        message = f"The work does not fit into the memory of {quote.gpu}: take {tier}, or a smaller batch or image."
        yield Finding(severity=Severity.WARNING, code="gpu_too_small", message=message)
    for blocker in quote.blocking:
        # Missing money is `sufficient`; anything else would make the create fail.
        severity = Severity.WARNING if blocker.code == "insufficient_credits" else Severity.ERROR
        yield Finding(severity=severity, code=blocker.code, message=f"The provider blocks the run: {blocker.message}")
    if not quote.can_start and not quote.blocking and quote.covers_estimate:  # else the balance is the reason
        message = "The provider's quote says, without a reason, that the run could not start: ask the provider."
        yield Finding(severity=Severity.ERROR, code="cannot_start", message=message)
