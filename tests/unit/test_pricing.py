"""Money: the cap, the balance, the cost so far."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline import models, provider_requests
from pipeline.errors import BudgetExceededError, ConfigurationError, InsufficientCreditsError
from pipeline.models import Money, Unit
from pipeline.start.pricing import check_affordable, check_unpriced, cost_so_far, needs_approval
from tests.unit.conftest import make_estimate, make_request, make_run

START = datetime(2026, 1, 1, tzinfo=UTC)


def test_no_cap_and_enough_balance_passes() -> None:
    """Nothing is refused without a reason."""
    check_affordable(make_estimate(), make_request())


@pytest.mark.parametrize(("price", "allowed"), [(99, True), (100, True), (101, False)])
@pytest.mark.parametrize("unit", list(Unit))
def test_the_cap_is_the_last_allowed_price(price: int, allowed: bool, unit: Unit) -> None:
    """At the cap is within it; one unit above is not, in either unit."""
    request = make_request(budget_credits=100) if unit is Unit.CREDITS else make_request(budget_usd=0.0001)
    if allowed:
        check_affordable(make_estimate(price, unit), request)
        return
    field = "budget_credits" if unit is Unit.CREDITS else "budget_usd"
    with pytest.raises(BudgetExceededError, match=field) as caught:
        check_affordable(make_estimate(price, unit), request)
    assert caught.value.context.field == field


@pytest.mark.parametrize(
    ("unit", "request_", "field", "instead"),
    [
        (Unit.MICRO_USD, make_request(budget_credits=10**9), "budget_credits", "budget_usd"),
        (Unit.CREDITS, make_request(budget_usd=10**6), "budget_usd", "budget_credits"),
    ],
)
def test_units_never_mix(unit: Unit, request_: provider_requests.PictographRequest, field: str, instead: str) -> None:
    """A cap in the wrong unit is refused however high it is, and the right field is named."""
    with pytest.raises(ConfigurationError, match=f"set {instead} instead") as caught:
        check_affordable(make_estimate(1, unit), request_)
    assert caught.value.context.field == field


def test_a_short_balance_is_refused_with_both_figures() -> None:
    """The provider's verdict counts; the message says what is missing."""
    with pytest.raises(InsufficientCreditsError, match=r"needs 100 credits, the balance is 1000 credits"):
        check_affordable(make_estimate(sufficient=False), make_request())
    with pytest.raises(InsufficientCreditsError, match=r"needs 100 credits;"):
        check_affordable(make_estimate(sufficient=False, balance=None), make_request())


def test_nothing_is_charged_before_the_start() -> None:
    """Queueing is free."""
    assert cost_so_far(make_estimate(), make_run(), START) is None


def test_cost_grows_with_time_and_stops_at_the_end() -> None:
    """Ten credits a minute, counted to now or to the end, never below zero."""
    running = make_run(started_at=START)
    ended = make_run(started_at=START, completed_at=START + timedelta(minutes=2))
    assert cost_so_far(make_estimate(), running, START + timedelta(seconds=90)) == Money(amount=15, unit=Unit.CREDITS)
    assert cost_so_far(make_estimate(), ended, START + timedelta(days=1)) == Money(amount=20, unit=Unit.CREDITS)
    assert cost_so_far(make_estimate(), running, START - timedelta(minutes=1)) == Money(amount=0, unit=Unit.CREDITS)


def test_a_blocker_of_the_quote_stops_the_run() -> None:
    """What the provider says it would refuse is refused here, with its reason; a warning is not."""
    finding = models.Finding(severity=models.Severity.ERROR, code="forbidden", message="the key's role is too low")
    with pytest.raises(ConfigurationError, match="role is too low"):
        check_affordable(make_estimate(findings=(finding,)), make_request())
    warning = finding.model_copy(update={"severity": models.Severity.WARNING})
    check_affordable(make_estimate(findings=(warning,)), make_request())


@pytest.mark.parametrize("cap", [1, 100, 10**9])
def test_a_cap_is_not_compared_with_a_guess(cap: int) -> None:
    """Priced by minutes that nobody named: the cap would prove nothing, and the field that is missing is named."""
    guess = make_estimate(source="estimate")
    with pytest.raises(ConfigurationError, match="set gpu_minutes") as caught:
        check_affordable(guess, make_request(budget_credits=cap))
    assert caught.value.context.field == "gpu_minutes"


def test_minutes_that_were_named_can_be_capped() -> None:
    """And a quote needs none, nor does a request without a cap."""
    named = make_request(budget_credits=100, gpu_minutes=10)
    check_affordable(make_estimate(source="estimate"), named)
    with pytest.raises(BudgetExceededError):
        check_affordable(make_estimate(101, source="estimate"), named)
    check_affordable(make_estimate(), make_request(budget_credits=100))
    check_affordable(make_estimate(source="estimate"), make_request())


def test_a_run_that_was_not_priced_has_no_cost_so_far() -> None:
    """Found again by its operation: what it costs is in the provider's ledger, not guessed here."""
    assert cost_so_far(None, make_run(started_at=START), START + timedelta(minutes=1)) is None


@pytest.mark.parametrize(
    ("unit", "amount", "above", "asked"),
    [
        (Unit.MICRO_USD, 5_000_001, 5.0, True),
        (Unit.MICRO_USD, 5_000_000, 5.0, False),
        (Unit.CREDITS, 6, 5.0, True),
        (Unit.CREDITS, 5, 5.0, False),
        (Unit.CREDITS, 10**9, None, False),
    ],
)
def test_a_person_is_asked_above_the_threshold(unit: Unit, amount: int, above: float | None, asked: bool) -> None:
    """In the account's own unit, and only when a threshold was given."""
    assert needs_approval(make_estimate(amount, unit), make_request(approve_above=above)) is asked


def test_a_price_that_was_named_is_no_price_a_minute() -> None:
    """It is compared with the cap as it stands, and nothing is worked out from the time that has passed."""
    named = make_estimate(500, source="configured", gpu_minutes=0, gpu="", balance=None)
    run = make_run(started_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert cost_so_far(named, run, datetime(2026, 1, 1, 1, tzinfo=UTC)) is None
    with pytest.raises(
        BudgetExceededError, match=r"priced at 500 credits, above budget_credits=10 credits; raise"
    ) as caught:
        check_affordable(named, make_request(budget_credits=10))
    assert "minute" not in str(caught.value)
    assert "GPU" not in str(caught.value)


@pytest.mark.parametrize("limit", [{"budget_credits": 5}, {"budget_usd": 5.0}, {"approve_above": 5.0}])
def test_a_limit_on_a_price_that_nobody_knows_is_refused(limit: dict[str, float]) -> None:
    """Ignoring it would be spending without it."""
    skipped = models.Skipped(stage="price", reason="nobody publishes one")
    check_unpriced(skipped, make_request())
    with pytest.raises(ConfigurationError, match="nobody publishes one") as caught:
        check_unpriced(skipped, make_request(**limit))
    assert caught.value.context.field == next(iter(limit))
