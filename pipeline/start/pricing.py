"""Money: is the price within the cap and the balance, and what has been used so far."""

from __future__ import annotations

from datetime import datetime

from pipeline.errors import BudgetExceededError, ConfigurationError, ErrorContext, InsufficientCreditsError
from pipeline.models import CostEstimate, Money, Severity, Skipped, TrainingRun, Unit
from pipeline.requests import TrainRequest

_CHEAPER = ", train shorter or on a cheaper GPU"


def check_affordable(estimate: CostEstimate, request: TrainRequest) -> None:
    """Refuse a price above the request's cap or the account's balance, before anything is spent.

    Raises:
        BudgetExceededError: The price is above the cap.
        ConfigurationError: The provider says that it would not start this run, whatever the balance.
        ConfigurationError: The cap is in another unit than the account, or the price is made of minutes nobody named.
        InsufficientCreditsError: The provider says the balance does not cover it.
    """
    cap = cap_of(request, estimate.total.unit)
    if cap is not None and estimate.source == "estimate" and request.expected_minutes is None:
        raise ConfigurationError(
            f"this account is priced by the minute, and the {estimate.gpu_minutes:g} min behind {estimate.total} are a "
            f"guess that the cap of {cap} cannot be compared with; set gpu_minutes to what the training may take",
            ErrorContext(operation="credits.estimate", field="gpu_minutes"),
        )
    if cap is not None and estimate.total.amount > cap.amount:
        field = "budget_credits" if cap.unit is Unit.CREDITS else "budget_usd"
        raise BudgetExceededError(
            f"the training is priced at {describe_price(estimate)}, above {field}={cap}; raise {field}"
            f"{_CHEAPER if estimate.source != 'configured' else ''}",
            ErrorContext(field=field),
        )
    blocked = [finding.message for finding in estimate.findings if finding.severity is Severity.ERROR]
    if blocked:
        raise ConfigurationError(
            f"the provider would not start this training: {'; '.join(blocked)}", ErrorContext(operation="quote")
        )
    if not estimate.sufficient:
        balance = f", the balance is {estimate.balance}" if estimate.balance is not None else ""
        raise InsufficientCreditsError(
            f"the training needs {estimate.total}{balance}; top up the account, or train shorter or on a cheaper GPU",
            ErrorContext(operation="credits.estimate"),
        )


def describe_price(estimate: CostEstimate) -> str:
    """Return the price and what it is made of, such as ``$0.60 for 20 min on a10g``."""
    if estimate.source == "configured":
        return str(estimate.total)
    return f"{estimate.total} for {estimate.gpu_minutes:g} min on {estimate.gpu} at {estimate.per_minute} a minute"


def check_unpriced(skipped: Skipped, request: TrainRequest) -> None:
    """Refuse limits on a price that nobody knows.

    Raises:
        ConfigurationError: The request sets one.
    """
    for field in ("budget_credits", "budget_usd", "approve_above"):
        if getattr(request, field) is not None:
            message = (
                f"{field}={getattr(request, field):g} cannot be kept, for the price is not known: {skipped.reason}"
            )
            raise ConfigurationError(message, ErrorContext(field=field))


def cap_of(request: TrainRequest, unit: Unit) -> Money | None:
    """Return the request's cap in the account's unit; none when it sets no limit.

    Raises:
        ConfigurationError: The cap is in the other unit.
    """
    if request.budget_credits is not None:
        cap, field = Money(amount=request.budget_credits, unit=Unit.CREDITS), "budget_credits"
    elif request.budget_usd is not None:
        cap, field = Money(amount=round(request.budget_usd * 1_000_000), unit=Unit.MICRO_USD), "budget_usd"
    else:
        return None
    if cap.unit is not unit:
        other = "budget_credits" if unit is Unit.CREDITS else "budget_usd"
        raise ConfigurationError(
            f"{field}={cap} cannot be compared: this account is billed in {unit.value}; set {other} instead",
            ErrorContext(field=field),
        )
    return cap


def needs_approval(estimate: CostEstimate, request: TrainRequest) -> bool:
    """Tell whether a person is to be asked about this price."""
    if request.approve_above is None:
        return False
    price = estimate.total.amount / (1 if estimate.total.unit is Unit.CREDITS else 1_000_000)
    return price > request.approve_above


def cost_so_far(estimate: CostEstimate | None, run: TrainingRun, now: datetime) -> Money | None:
    """Return the price of the GPU time used until ``now`` or until the run ended.

    None before it started, and for a run that was found instead of priced.
    """
    if estimate is None or run.started_at is None or estimate.source == "configured":
        return None
    seconds = max(((run.completed_at or now) - run.started_at).total_seconds(), 0.0)
    return Money(amount=round(estimate.per_minute.amount * seconds / 60), unit=estimate.per_minute.unit)
