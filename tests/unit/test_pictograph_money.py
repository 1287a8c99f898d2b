"""Money in both eras of the Pictograph API: balance, prices, quotes, ledger."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from pipeline.errors import (
    ConfigurationError,
    InvalidRequestError,
    UnexpectedResponseError,
)
from pipeline.models import (
    Money,
    Severity,
    Unit,
)
from providers.pictograph.wire import RunWire
from tests.unit.scripted_pictograph import (
    EXPORT,
    HANDLE,
    QUOTE,
    Answer,
    Api,
    api,
    ok,
    plan,
    refused,
    run_row,
)


@pytest.mark.parametrize(
    ("payload", "spendable"),
    [
        ({"credits_remaining": 300, "credits_monthly_allowance": 1000}, Money(amount=300, unit=Unit.CREDITS)),
        ({"included_remaining_micro_usd": 5, "budget_remaining_micro_usd": 7}, Money(amount=12, unit=Unit.MICRO_USD)),
        ({"budget_remaining_micro_usd": 0, "credits_remaining": 9}, Money(amount=0, unit=Unit.MICRO_USD)),
        ({}, None),
    ],
)
def test_balance_of_both_eras(payload: dict[str, Any], spendable: Money | None) -> None:
    """Credits are credits; dollars win where both are sent; an empty answer names no amount."""
    assert api({"GET /credits/balance": ok(payload)}).provider.credits.balance().spendable == spendable


OLD_PRICE = {"operation": "o", "credits_per_unit": 10, "unit": "minute", "quantity": 30, "total_credits": 300,
             "sufficient": True, "credits_remaining": 1000}  # fmt: skip
NEW_PRICE = {"operation": "o", "unit": "minute", "quantity": 30, "micro_usd_per_unit": 22_917,
             "total_micro_usd": 687_500, "remaining_micro_usd": 0, "sufficient": False}  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "total"),
    [
        (OLD_PRICE, Money(amount=300, unit=Unit.CREDITS)),
        (NEW_PRICE, Money(amount=687_500, unit=Unit.MICRO_USD)),
        ({**OLD_PRICE, **NEW_PRICE}, Money(amount=687_500, unit=Unit.MICRO_USD)),
    ],
)
def test_prices_of_both_eras(payload: dict[str, Any], total: Money) -> None:
    """An estimate reads in credits or dollars, and in dollars where old fields are still sent along."""
    assert api({"GET /credits/estimate": ok(payload)}).provider.credits.estimate("o", quantity=30).total == total


def test_an_estimate_without_a_price_is_not_free() -> None:
    """An answer that names no amount is unexpected, not a price of zero."""
    server = api({"GET /credits/estimate": ok({"operation": "o", "quantity": 1})})
    with pytest.raises(UnexpectedResponseError, match="no price"):
        server.provider.credits.estimate("o", quantity=1)


def test_the_price_lists_name_for_a_gpu_minute_is_found_once() -> None:
    """After 400 Unknown operation the other name is tried, and remembered."""

    def answer(request: httpx.Request) -> httpx.Response:
        slug = request.url.params["operation"]
        return ok(OLD_PRICE) if slug.endswith("_per_minute") else refused(400, f"Unknown operation: {slug}")

    server = api({"GET /credits/estimate": answer})
    provider = server.provider
    provider.credits.estimate_gpu_minutes("a10g", minutes=30)
    provider.credits.estimate_gpu_minutes("a100", minutes=30)
    assert [request.url.params["operation"] for request in server.asked] == [
        "training_a10g", "training_a10g_per_minute", "training_a100_per_minute",
    ]  # fmt: skip


def test_another_400_does_not_try_another_name() -> None:
    """Only an unknown operation means that the name was wrong."""
    server = api({"GET /credits/estimate": refused(400, "quantity too large")})
    with pytest.raises(InvalidRequestError, match="quantity too large"):
        server.provider.credits.estimate_gpu_minutes("a10g", minutes=30)
    assert len(server.asked) == 1


@pytest.mark.parametrize(("price", "unit"), [(OLD_PRICE, Unit.CREDITS), (NEW_PRICE, Unit.MICRO_USD)])
def test_a_balance_in_credits_is_checked_against_a_price(price: dict[str, Any], unit: Unit) -> None:
    """Balances in credits were sent when prices were already in dollars: the price decides the ledger's unit."""
    server = api({"GET /credits/balance": ok({"credits_remaining": 1}), "GET /credits/estimate": ok(price)})
    assert server.provider.credits.unit() is unit


def test_history_is_in_the_accounts_unit() -> None:
    """Ledger rows do not name their unit; the balance does."""
    row = {"id": "1", "operation": "training", "amount": -50, "created_at": "2026-05-12T12:00:00Z"}
    server = api({
        "GET /credits/balance": ok({"included_remaining_micro_usd": 1}),
        "GET /credits/history": ok({"entries": [row]}),
    })  # fmt: skip
    assert server.provider.credits.history(limit=5)[0].amount == Money(amount=-50, unit=Unit.MICRO_USD)
    assert server.lines()[1] == "GET /credits/history?limit=5&offset=0"


def test_a_quote_prices_this_very_run() -> None:
    """The quote's concrete tier, minutes and total are the estimate; the request is the create's body without name."""
    server = api({"POST /training/quote": ok({"data": QUOTE})})
    cost = server.provider.estimate_cost(plan(gpu="auto", config={"epochs": 3}), EXPORT)
    assert (cost.source, cost.gpu, cost.gpu_minutes, cost.total.amount) == ("quote", "a100", 12.5, 500_000)
    assert (cost.sufficient, cost.balance, cost.findings) == (True, Money(amount=9_000_000, unit=Unit.MICRO_USD), ())
    assert server.bodies("POST /training/quote") == [
        {"dataset_name": "road-signs", "export_name": "ex 1", "pipeline_type": "yolox", "gpu_type": "auto",
         "config": {"epochs": 3}}
    ]  # fmt: skip


@pytest.mark.parametrize("deleted", [4, ["a", "b", "c", "d"]])
def test_the_quotes_remarks_become_findings(deleted: Any) -> None:
    """Deleted images and a too small GPU warn, a blocker other than money is an error, money is not sufficient."""
    blocking = [{"code": "insufficient_credits", "message": "top up"}, {"code": "forbidden", "message": "viewer"}]
    quote = {**QUOTE, "fits": False, "recommended_gpu_type": "h100", "deleted_images": deleted, "blocking": blocking}
    cost = api({"POST /training/quote": ok({"data": quote})}).provider.estimate_cost(plan(), EXPORT)
    assert not cost.sufficient
    assert [(finding.code, finding.severity) for finding in cost.findings] == [
        ("deleted_images", Severity.WARNING), ("gpu_too_small", Severity.WARNING),
        ("insufficient_credits", Severity.WARNING), ("forbidden", Severity.ERROR),
    ]  # fmt: skip
    assert "4 images" in cost.findings[0].message
    assert "h100" in cost.findings[1].message


def test_a_quote_that_says_no_without_a_reason_is_an_error() -> None:
    """Money and balance are fine, nothing is named, and still it could not start: nothing is created."""
    quote = {**QUOTE, "can_start": False, "blocking": []}
    cost = api({"POST /training/quote": ok({"data": quote})}).provider.estimate_cost(plan(), EXPORT)
    assert [(finding.code, finding.severity) for finding in cost.findings] == [("cannot_start", Severity.ERROR)]


def test_a_quote_that_says_no_for_want_of_money_names_the_money() -> None:
    """An uncovered price is the reason, so no second one is invented."""
    short = {**QUOTE, "can_start": False, "balance": {**QUOTE["balance"], "covers_estimate": False}}
    cost = api({"POST /training/quote": ok({"data": short})}).provider.estimate_cost(plan(), EXPORT)
    assert (cost.sufficient, cost.findings) == (False, ())


def test_minutes_nobody_named_are_priced_as_thirty() -> None:
    """The older API prices by the minute: a request without minutes still gets a figure."""
    server = api({"POST /training/quote": refused(404), "GET /credits/estimate": ok(OLD_PRICE)})
    server.provider.estimate_cost(plan(), EXPORT)
    assert "quantity=30" in server.lines()[-1]


@pytest.mark.parametrize("status", [404, 405])
def test_without_quotes_the_price_list_is_asked(status: int) -> None:
    """A server without the route is recognised once; minutes come from the request."""
    server = api({"POST /training/quote": refused(status), "GET /credits/estimate": ok(OLD_PRICE)})
    provider = server.provider
    first = provider.estimate_cost(plan(gpu_minutes=30), EXPORT)
    provider.estimate_cost(plan(gpu_minutes=30), EXPORT)
    assert (first.source, first.total, first.gpu) == ("estimate", Money(amount=300, unit=Unit.CREDITS), "a10g")
    assert [line.partition("?")[0] for line in server.lines()] == [
        "POST /training/quote", "GET /credits/estimate", "GET /credits/estimate",
    ]  # fmt: skip


def test_auto_without_quotes_is_a_configuration_error() -> None:
    """A tier without a price is not guessed: the error names the field and the tiers."""
    with pytest.raises(ConfigurationError, match="name a10g") as caught:
        api({}).provider.estimate_cost(plan(gpu="auto"), EXPORT)
    assert caught.value.context.field == "gpu"


def ledger(*rows: dict[str, Any]) -> Api:
    """Return a server with a ledger in credits."""
    entries = [{"id": str(n), "operation": "training_a10g", **row} for n, row in enumerate(rows)]
    pages: list[Answer] = [ok({"entries": entries}), ok({"entries": []})]
    return api({
        "GET /credits/balance": ok({"credits_remaining": 70}),
        "GET /credits/estimate": ok(OLD_PRICE),
        "GET /credits/history": pages,
    })  # fmt: skip


def test_settling_sums_what_names_the_run() -> None:
    """Debits and refunds are found by metadata, by run id in the words, and by the run's whole name; others are not."""
    run = RunWire.model_validate(run_row(name="night-abc")).to_value("road-signs")
    server = ledger(
        {"amount": -50, "metadata": {"training_run_id": HANDLE.run_id}},
        {"amount": 20, "operation": "training_refund_a10g", "description": f"Refund for {HANDLE.run_id}"},
        {"amount": -3, "description": "storage of night-abc"},
        {"amount": -700, "description": "night-abcd and other-night-abc"},
        {"amount": 1000, "operation": "monthly_reset"},
    )
    settlement = server.provider.settle(run)
    assert settlement is not None
    assert (settlement.charged.amount, settlement.refunded.amount) == (33, 20)
    assert settlement.balance == Money(amount=70, unit=Unit.CREDITS)


def test_settling_is_silent_where_the_ledger_is() -> None:
    """No entry about the run is no statement, not a charge of zero."""
    run = RunWire.model_validate(run_row()).to_value("road-signs")
    assert ledger({"amount": -50, "description": "someone else's"}).provider.settle(run) is None


def test_settling_stops_reading_an_old_ledger() -> None:
    """A ledger from new to old is left once it is older than the run."""
    run = RunWire.model_validate(run_row(created_at="2026-05-12T12:00:00Z")).to_value("road-signs")
    server = ledger(
        {"amount": -50, "metadata": {"run": HANDLE.run_id}, "created_at": "2026-05-12T13:00:00Z"},
        {"amount": -1, "created_at": "2026-05-10T12:00:00Z"},
    )
    assert server.provider.settle(run) is not None
    assert [line.partition("?")[0] for line in server.lines()].count("GET /credits/history") == 1


def test_a_run_from_the_beginning_of_the_calendar_is_settled_too() -> None:
    """No subtraction leaves the calendar."""
    run = RunWire.model_validate(run_row(created_at="0001-01-01T00:00:00Z")).to_value("road-signs")
    server = ledger(
        {"amount": -50, "metadata": {"run": HANDLE.run_id}, "created_at": "2026-05-12T13:00:00Z"},
        {"amount": -1, "created_at": "2026-05-10T12:00:00Z"},
    )
    assert server.provider.settle(run) is not None
