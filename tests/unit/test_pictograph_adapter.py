"""The Pictograph adapter against answers of both eras, tolerant of decoration, strict about identity and money."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pipeline.errors import (
    ConfigurationError,
    ConflictError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    ProviderError,
    UnexpectedResponseError,
)
from pipeline.models import (
    Export,
    ExportStatus,
    ModelFacts,
    ModelTask,
    Money,
    RunHandle,
    RunStatus,
    Severity,
    TrainPlan,
    TrainRequest,
    Unit,
)
from pipeline.planning import resolve_plan
from pipeline.provider import Provider
from providers.http import ClientOptions
from providers.pictograph import API_PREFIX, PictographProvider
from providers.pictograph_exports import export_key
from providers.pictograph_profile import pictograph_profile
from providers.pictograph_session import PAGE_SIZE
from providers.pictograph_values import TrainingSpec
from providers.pictograph_wire import RunWire, read_classes

PROFILE = pictograph_profile(sandbox=False)
EXPORT = Export(id="e1", name="ex 1", dataset="road-signs", status=ExportStatus.COMPLETED, provider_status="completed")
HANDLE = RunHandle(provider="pictograph", run_id="11111111-1111-4111-8111-111111111111", name="n", dataset="road-signs")
Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


def plan(**request: Any) -> TrainPlan:
    """Return the plan of a request for the road signs."""
    return resolve_plan(TrainRequest(dataset="road-signs", **request), PROFILE, "operation")


def ok(payload: Any, status: int = 200) -> httpx.Response:
    """Return a JSON answer."""
    return httpx.Response(status, json=payload)


def refused(status: int, message: str = "no") -> httpx.Response:
    """Return an error answer."""
    return httpx.Response(status, json={"detail": message})


def run_row(**changes: Any) -> dict[str, Any]:
    """Return a run as the API sends it."""
    row = {"id": HANDLE.run_id, "organization_id": "o", "name": "n", "pipeline_type": "yolox", "status": "running",
           "created_at": "2026-05-12T12:00:00Z"}  # fmt: skip
    return {**row, **changes}


def model_row(**changes: Any) -> dict[str, Any]:
    """Return a model as the API sends it."""
    row = {"id": "m1", "name": "signs", "model_type": "object_detection", "status": "ready",
           "class_mapping": {"classes": ["stop", "yield"]}, "metrics": {"mAP": 0.5}}  # fmt: skip
    return {**row, **changes}


def export_row(**changes: Any) -> dict[str, Any]:
    """Return an export as the API sends it."""
    return {"id": "e1", "dataset_name": "road-signs", "name": "ex 1", "status": "completed", **changes}


@dataclass
class Api:
    """A server in memory: routes to answers (the last one repeats), everything asked, and time that only counts."""

    routes: dict[str, list[Answer]]
    asked: list[httpx.Request] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    @property
    def provider(self) -> PictographProvider:
        """A fresh adapter of this server."""
        options = ClientOptions("https://api.example", transport=httpx.MockTransport(self._answer), clock=self)
        return PictographProvider(SecretStr("pk_live_key"), options, PROFILE)

    def lines(self) -> list[str]:
        """Return what was asked, one line each, below the API's prefix."""
        return [f"{request.method} {_below(request)}" for request in self.asked]

    def bodies(self, route: str) -> list[Any]:
        """Return the JSON bodies sent to a route."""
        return [json.loads(request.content) for request in self.asked if _route(request) == route]

    def time(self) -> float:
        """Return a fixed moment."""
        return 1_800_000_000.0

    def sleep(self, seconds: float, /) -> None:
        """Count instead of waiting."""
        self.slept.append(seconds)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answers = self.routes.get(_route(request), [refused(404, "no such route")])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer


def _below(request: httpx.Request) -> str:
    return request.url.raw_path.decode().removeprefix(API_PREFIX)


def _route(request: httpx.Request) -> str:
    return f"{request.method} {_below(request).partition('?')[0]}"


def api(routes: dict[str, Answer | list[Answer]]) -> Api:
    """Return a server with these routes."""
    return Api({route: answers if isinstance(answers, list) else [answers] for route, answers in routes.items()})


def test_the_adapter_is_a_provider() -> None:
    """The port's type is satisfied, method by method."""
    provider: Provider = api({}).provider
    assert provider.profile is PROFILE


# ------------------------------------------------------------------ money


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


QUOTE = {
    "dataset_id": "d", "gpu_type": "a100", "fits": True, "can_start": True, "image_count": 9,
    "estimate": {"minutes": 12.5, "micro_usd_per_minute": 40_000, "total_micro_usd": 500_000},
    "balance": {"budget_remaining_micro_usd": 9_000_000, "covers_estimate": True},
}  # fmt: skip


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


# ------------------------------------------------------------------ addresses and envelopes


def old_server(name: str = "road%2Fsigns") -> dict[str, Answer | list[Answer]]:
    """Return the routes of a server of the first era."""
    return {
        "GET /datasets/": ok({"datasets": []}),
        f"GET /datasets/by-name/{name}": ok({"dataset": {"id": "d", "name": "x"}}),
        f"GET /exports/{name}/ex%201": ok({"export": export_row()}),
    }


def new_server(name: str = "road%2Fsigns") -> dict[str, Answer | list[Answer]]:
    """Return the routes of a server of today."""
    return {
        "GET /datasets/": ok({"data": [], "pagination": {"has_more": False}}),
        f"GET /datasets/{name}": ok({"data": {"id": "d", "name": "x"}}),
        "GET /exports/ex%201": ok({"data": export_row()}),
    }


def test_the_era_is_read_from_one_answer_and_remembered() -> None:
    """One small read decides; names are one quoted segment; no address of the other era is tried."""
    for routes, expected in [
        (old_server(), ["GET /datasets/by-name/road%2Fsigns", "GET /exports/road%2Fsigns/ex%201"]),
        (new_server(), ["GET /datasets/road%2Fsigns", "GET /exports/ex%201?dataset=road%2Fsigns"]),
    ]:
        server = api(routes)
        provider = server.provider
        provider.datasets.get("road/signs")
        provider.exports.get("road/signs", "ex 1")
        assert server.lines() == ["GET /datasets/?limit=1&offset=0", *expected]


def test_an_answer_that_came_anyway_shows_the_era() -> None:
    """After any enveloped answer no probing read is needed."""
    server = api({**new_server(), "GET /training/": ok({"data": []})})
    provider = server.provider
    provider.training.list()
    provider.datasets.get("road/signs")
    assert server.lines() == ["GET /training/?limit=100&offset=0", "GET /datasets/road%2Fsigns"]


@pytest.mark.parametrize("status", [404, 405, 422])
def test_a_miss_is_tried_the_other_way_once_and_learned(status: int) -> None:
    """An answer in today's envelope with the old addresses is found by the second address, from then on directly."""
    server = api({**old_server(), "GET /datasets/": ok({"data": []}), "GET /datasets/road%2Fsigns": refused(status)})
    provider = server.provider
    provider.datasets.get("road/signs")
    provider.datasets.get("road/signs")
    assert server.lines()[1:] == [
        "GET /datasets/road%2Fsigns", "GET /datasets/by-name/road%2Fsigns", "GET /datasets/by-name/road%2Fsigns",
    ]  # fmt: skip


@pytest.mark.parametrize("first", [404, 422])
def test_not_found_both_ways_is_not_found(first: int) -> None:
    """Whatever the wrong address answered, a name that exists nowhere gives NotFoundError after two requests."""
    server = api({"GET /datasets/": ok({"data": []}), "GET /datasets/x": refused(first)})
    with pytest.raises(NotFoundError):
        server.provider.datasets.get("x")
    assert len(server.asked) == 3


def test_other_failures_are_not_tried_the_other_way() -> None:
    """A refused key says nothing about addresses."""
    server = api({"GET /datasets/": ok({"data": []}), "GET /datasets/x": refused(403)})
    with pytest.raises(ProviderError):
        server.provider.datasets.get("x")
    assert len(server.asked) == 2


def test_a_body_with_both_envelopes_is_read() -> None:
    """Servers that answer both clients at once are understood."""
    row = run_row()
    assert api({f"GET /training/{HANDLE.run_id}": ok({"data": row, "training_run": row})}).provider.get_run(HANDLE)


@pytest.mark.parametrize("payload", [None, [], "text", 5, {}, {"run": {}}, {"data": None}, {"data": []}, {"data": {}}])
def test_a_success_with_the_wrong_body_is_unexpected(payload: Any) -> None:
    """A 200 without the object is an unexpected response naming what is missing, never a crash or an empty run."""
    with pytest.raises(UnexpectedResponseError, match=r"training\.get"):
        api({f"GET /training/{HANDLE.run_id}": ok(payload)}).provider.get_run(HANDLE)


# ------------------------------------------------------------------ account, export


def test_an_unknown_data_set_is_answered_with_the_nearest() -> None:
    """The message names what was asked and up to ten that exist, nearest first."""
    names = [*(f"other-{number}" for number in range(30)), "road-sign"]
    rows = [{"id": name, "name": name} for name in names]
    pages: list[Answer] = [ok({"data": []}), ok({"data": rows, "pagination": {"has_more": False}})]
    server = api({"GET /credits/balance": ok({}), "GET /datasets/": pages})
    with pytest.raises(NotFoundError, match=r"'road-signs' does not exist.*: 'road-sign'") as caught:
        server.provider.check_account(plan())
    assert caught.value.message.count("'other-") <= 9
    assert caught.value.context.field == "dataset"


def test_checking_the_account_reads_only() -> None:
    """Key and data set are checked with GET requests alone."""
    server = api({"GET /credits/balance": ok({}), **new_server("road-signs")})
    server.provider.check_account(plan())
    assert {request.method for request in server.asked} == {"GET"}


def test_an_asked_for_export_is_never_made() -> None:
    """A named export that does not exist is NotFoundError with the ones that do; nothing is created."""
    server = api({
        "GET /datasets/": ok({"data": []}),
        "GET /exports/": ok({"data": [export_row(name="night")], "pagination": {"has_more": False}}),
    })  # fmt: skip
    with pytest.raises(NotFoundError, match=r"no export 'nigth'; exports that exist: 'night'"):
        server.provider.find_or_create_export(plan(export="nigth"))
    assert all(request.method == "GET" for request in server.asked)


def test_a_fresh_export_carries_images_filters_and_its_own_key() -> None:
    """The export is asked for with images and filters; its idempotency key is its own, derived from the operation's."""
    server = api({"POST /exports/": ok({"data": export_row(status="pending")}, 201)})
    asked = plan(class_filter=("stop",), status_filter="complete")
    export = server.provider.find_or_create_export(asked)
    assert (export.status, export.dataset) == (ExportStatus.PENDING, "road-signs")
    assert server.bodies("POST /exports/") == [
        {"dataset_name": "road-signs", "name": asked.export_name, "format": "pictograph", "include_images": True,
         "class_filter": ["stop"], "status_filter": "complete"}
    ]  # fmt: skip
    key = server.asked[0].headers["Idempotency-Key"]
    assert key == export_key(asked.operation_key) != asked.operation_key
    assert len(key) == 32


def test_filters_that_were_not_asked_for_are_not_sent() -> None:
    """Absent filters are absent keys."""
    server = api({"POST /exports/": ok({"export": export_row()})})
    server.provider.find_or_create_export(plan(status_filter=None))
    assert server.bodies("POST /exports/")[0].keys() == {"dataset_name", "name", "format", "include_images"}


@pytest.mark.parametrize("status", [409, 400, 422])
def test_an_export_made_by_an_earlier_attempt_is_taken(status: int) -> None:
    """A taken name that carries our operation key is ours."""
    name = plan().export_name
    server = api({
        "POST /exports/": refused(status, "already exists"),
        "GET /datasets/": ok({"data": []}),
        f"GET /exports/{name}": ok({"data": export_row(name=name)}),
    })  # fmt: skip
    assert server.provider.find_or_create_export(plan()).name == name


def test_a_conflict_that_is_not_about_the_name_is_raised() -> None:
    """A data set in cold storage gives its conflict, not 'export not found'."""
    cold = ok({"error": {"code": "dataset_cold", "message": "cold"}}, 409)
    server = api({"POST /exports/": cold, "GET /datasets/": ok({"data": []})})
    with pytest.raises(ConflictError, match="cold") as caught:
        server.provider.find_or_create_export(plan())
    assert caught.value.context.code == "dataset_cold"


def test_an_unknown_export_status_is_not_ready() -> None:
    """A word we do not know is neither completed nor failed, and the provider's word is kept."""
    server = api({**new_server("road-signs"), "GET /exports/ex%201": ok({"data": export_row(status="thawing")})})
    export = server.provider.get_export(EXPORT)
    assert (export.status, export.provider_status, export.status.is_terminal) == (
        ExportStatus.UNKNOWN,
        "thawing",
        False,
    )


# ------------------------------------------------------------------ runs


def test_create_sends_every_key_and_the_operations_key() -> None:
    """Body and header are fixed by the plan; every key is present even when empty; the reply's status is kept."""
    server = api({"POST /training/": ok({"data": run_row(status="queued")}, 201)})
    run = server.provider.create_run(plan(), EXPORT)
    assert (run.status, run.handle.run_id, run.handle.dataset) == (RunStatus.QUEUED, HANDLE.run_id, "road-signs")
    assert server.bodies("POST /training/") == [
        {"dataset_name": "road-signs", "export_name": "ex 1", "pipeline_type": "yolox", "name": plan().run_name,
         "gpu_type": "a10g", "config": {}}
    ]  # fmt: skip
    assert server.asked[0].headers["Idempotency-Key"] == plan().operation_key


def test_every_attempt_to_create_is_the_same_request() -> None:
    """After lost answers the very same bytes and key are sent again."""
    server = api({"POST /training/": [httpx.ReadError("x"), refused(503), ok({"data": run_row()})]})
    server.provider.create_run(plan(), EXPORT)
    assert len({(request.content, request.headers["Idempotency-Key"]) for request in server.asked}) == 1
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "answers",
    [
        [httpx.ReadTimeout("x")] * 4,
        [refused(503)] * 4,
        [httpx.ReadError("x"), refused(409)],
        [refused(502), refused(422)],
        [ok({"data": {}})],
        [httpx.Response(200, text="<html>")],
    ],
)
def test_a_create_that_may_have_worked_says_so(answers: list[Answer]) -> None:
    """Whenever a run may exist although no usable answer came, the error carries outcome_unknown."""
    with pytest.raises(ProviderError) as caught:
        api({"POST /training/": answers}).provider.create_run(plan(), EXPORT)
    assert caught.value.context.outcome_unknown


@pytest.mark.parametrize("answer", [refused(409), refused(422), refused(404), httpx.ConnectError("x")])
def test_a_create_that_was_refused_is_certain(answer: Answer) -> None:
    """A plain refusal, or no connection at all, leaves no doubt that nothing was made."""
    with pytest.raises(ProviderError) as caught:
        api({"POST /training/": [answer] * 4}).provider.create_run(plan(), EXPORT)
    assert not caught.value.context.outcome_unknown


def test_missing_money_is_named() -> None:
    """A 402 becomes InsufficientCreditsError with both amounts in its message."""
    body = {"detail": {"error": "insufficient_credits", "message": "need", "required": 300, "remaining": 10}}
    with pytest.raises(InsufficientCreditsError, match="required 300 credits, remaining 10 credits"):
        api({"POST /training/": ok(body, 402)}).provider.create_run(plan(), EXPORT)


def paged(rows: list[dict[str, Any]], cap: int, style: str) -> Callable[[httpx.Request], httpx.Response]:
    """Return a list route that caps its pages below what is asked."""

    def answer(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        page = rows[offset : offset + cap]
        if style == "v1":
            return ok({"training_runs": page})
        return ok({"data": page, "pagination": {"has_more": offset + cap < len(rows)}})

    return answer


@pytest.mark.parametrize(("style", "requests"), [("v1", 5), ("v2", 4)])
def test_find_run_reads_to_the_end_under_a_cap(style: str, requests: int) -> None:
    """A server that caps pages at 30 of the 100 asked for still shows its last run; nothing is skipped."""
    rows = [run_row(id=str(number), name=f"run-{number}") for number in range(109)]
    rows.append(run_row(id="last", name=plan().run_name))
    server = api({"GET /training/": paged(rows, 30, style)})
    found = server.provider.find_run(plan())
    assert found is not None
    assert found.handle.run_id == "last"
    assert len(server.asked) == requests
    assert server.asked[0].url.params["dataset_name"] == "road-signs"


def test_find_run_takes_the_exact_name_and_the_newest() -> None:
    """Longer names are other runs; of several with the name the latest created counts, whatever the order."""
    name = plan().run_name
    rows = [
        run_row(id="old", name=name, created_at="2026-05-12 11:00:00"),
        run_row(id="new", name=name, created_at="2026-05-12T13:00:00+00:00"),
        run_row(id="mid", name=name, created_at=1_778_587_200),
        run_row(id="longer", name=name + "-2", created_at="2026-06-12T13:00:00Z"),
    ]
    found = api({"GET /training/": paged(rows, 100, "v2")}).provider.find_run(plan())
    assert found is not None
    assert found.handle.run_id == "new"


def test_find_run_knows_its_own_run_under_another_readable_name() -> None:
    """The operation key in the name decides, so that a rerun with a new --name does not pay again."""
    key = plan().operation_key[:10]
    rows = [run_row(id="other", name=f"renamed-x{key}"), run_row(id="ours", name=f"renamed-{key}")]
    found = api({"GET /training/": paged(rows, 100, "v2")}).provider.find_run(plan())
    assert found is not None
    assert found.handle.run_id == "ours"


def test_a_server_that_ignores_the_offset_ends_the_search() -> None:
    """The same page again and again is read twice, not for ever."""
    server = api({"GET /training/": ok({"training_runs": [run_row()]})})
    assert server.provider.find_run(plan()) is None
    assert len(server.asked) == 2


def test_rows_of_other_eras_do_not_break_a_list() -> None:
    """Words and decorations nobody here knows leave the rest of the list readable."""
    rows = [
        run_row(id="a", pipeline_type="detectron2"),
        run_row(id="b", pipeline_type="rfdetr_keypoint", gpu_type="b300", status="hibernating"),
        run_row(id="c", progress=None, metrics=None, current_epoch=None, config=None, created_at=None),
        run_row(id="d", progress="45.5", current_epoch="much", eta_seconds="soon", created_at="yesterday", warnings=7),
        run_row(id="e", progress=250, metrics=["?"], warnings=[{"code": "classes_not_trained"}, 7]),
    ]
    runs = api({"GET /training/": paged(rows, 100, "v2")}).provider.training.list()
    assert [run.handle.run_id for run in runs] == ["a", "b", "c", "d", "e"]
    assert (runs[1].status, runs[1].provider_status) == (RunStatus.UNKNOWN, "hibernating")
    assert not runs[1].status.is_terminal
    assert (runs[3].progress, runs[3].epoch, runs[3].created_at, runs[4].progress) == (45.5, None, None, 100)
    assert [finding.code for finding in runs[4].warnings] == ["classes_not_trained"]


def test_a_row_without_identity_breaks_a_list() -> None:
    """A run that cannot be named cannot be overlooked either: it might be the one that was paid for."""
    row = run_row()
    del row["name"]
    with pytest.raises(UnexpectedResponseError, match="name"):
        api({"GET /training/": paged([row], 100, "v2")}).provider.find_run(plan())


def test_times_are_aware_whatever_the_form() -> None:
    """ISO with and without zone, a space separator and epoch seconds all become the same UTC moment."""
    forms = ["2026-05-12T12:00:00Z", "2026-05-12T12:00:00", "2026-05-12 12:00:00", "2026-05-12T14:00:00+02:00",
             1_778_587_200]  # fmt: skip
    moments = {RunWire.model_validate(run_row(created_at=form)).to_value().created_at for form in forms}
    assert len(moments) == 1
    moment = moments.pop()
    assert moment is not None
    assert moment.utcoffset() is not None


def test_an_answer_about_another_run_is_unexpected() -> None:
    """A look that comes back with someone else's run is not an observation."""
    with pytest.raises(UnexpectedResponseError, match="the answer is about"):
        api({f"GET /training/{HANDLE.run_id}": ok({"data": run_row(id="other")})}).provider.get_run(HANDLE)


def handles(count: int) -> tuple[RunHandle, ...]:
    """Return handles of many runs."""
    return tuple(HANDLE.model_copy(update={"run_id": f"r{number}"}) for number in range(count))


def test_many_runs_are_looked_at_with_one_request() -> None:
    """Runs that a page shows cost one request together; handles stay the ones that were asked with."""
    rows = [run_row(id=f"r{number}") for number in range(60)]
    server = api({"GET /training/": paged(rows, PAGE_SIZE, "v2")})
    runs = server.provider.get_runs(handles(50))
    assert tuple(run.handle for run in runs) == handles(50)
    assert len(server.asked) == 1


def test_runs_that_are_gone_are_left_out() -> None:
    """A run the list does not show is looked at by itself, and left out when that says 404."""
    server = api(
        {"GET /training/": paged([run_row(id="r0")], 100, "v2"), "GET /training/r2": ok({"data": run_row(id="r2")})}
    )
    assert [run.handle.run_id for run in server.provider.get_runs(handles(3))] == ["r0", "r2"]


def test_one_run_costs_one_look() -> None:
    """No list is read for a single run, and none for no run."""
    server = api({"GET /training/r0": ok({"data": run_row(id="r0")})})
    assert len(server.provider.get_runs(handles(1))) == 1
    assert server.provider.get_runs(()) == ()
    assert server.lines() == ["GET /training/r0"]


CANCEL = f"POST /training/{HANDLE.run_id}/cancel"


def test_cancel_returns_the_cancelled_run() -> None:
    """The cancel carries an idempotency key and no body."""
    server = api({CANCEL: ok({"data": run_row(status="cancelled")})})
    assert server.provider.cancel_run(HANDLE).status is RunStatus.CANCELLED
    assert server.asked[0].content == b""
    assert len(server.asked[0].headers["Idempotency-Key"]) == 32


@pytest.mark.parametrize("status", [400, 409])
def test_cancelling_an_ended_run_returns_it(status: int) -> None:
    """The refusal to cancel a terminal run is answered with the run as it is."""
    server = api({CANCEL: refused(status), f"GET /training/{HANDLE.run_id}": ok({"data": run_row(status="failed")})})
    assert server.provider.cancel_run(HANDLE).status is RunStatus.FAILED


def test_a_cancel_refused_for_a_live_run_is_an_error() -> None:
    """A run that goes on is never reported as cancelled."""
    server = api({CANCEL: refused(400), f"GET /training/{HANDLE.run_id}": ok({"data": run_row()})})
    with pytest.raises(InvalidRequestError):
        server.provider.cancel_run(HANDLE)


def test_a_cancel_without_a_body_is_looked_up() -> None:
    """An empty answer is followed by one look."""
    server = api({CANCEL: httpx.Response(204), f"GET /training/{HANDLE.run_id}": ok({"data": run_row()})})
    assert server.provider.cancel_run(HANDLE).status is RunStatus.RUNNING


def test_bulk_cancel_in_both_eras() -> None:
    """Today's server is asked once; an older one run by run, with the same result."""
    modern = api({"POST /training/bulk-cancel": ok({"data": {"succeeded": ["a"], "not_found": ["b"], "count": 1}})})
    older = api({
        "POST /training/bulk-cancel": refused(405),
        "POST /training/a/cancel": ok({"training_run": run_row(id="a", status="cancelled")}),
        "POST /training/b/cancel": refused(400),
    })  # fmt: skip
    results = [server.provider.training.bulk_cancel(("a", "b")) for server in (modern, older)]
    assert [(result.succeeded, result.not_found) for result in results] == [(("a",), ("b",))] * 2
    assert modern.bodies("POST /training/bulk-cancel") == [{"run_ids": ["a", "b"]}]


# ------------------------------------------------------------------ models


@pytest.mark.parametrize(
    ("mapping", "names"),
    [
        ({"classes": ["stop", "yield"]}, ("stop", "yield")),
        ({"class_names": ["stop", "yield"]}, ("stop", "yield")),
        ({"classes": [{"name": "stop"}, {"name": "yield"}]}, ("stop", "yield")),
        ({"1": "yield", "10": "ten", "0": "stop", "2": "two"}, ("stop", "yield", "two", "ten")),
        (["stop"], ("stop",)),
        (None, ()),
        ({}, ()),
        ("?", ()),
    ],
)
def test_class_names_come_in_label_order(mapping: Any, names: tuple[str, ...]) -> None:
    """Both published forms, and their near relatives, give the same tuple; keys sort as numbers."""
    assert read_classes(mapping) == names


def test_a_completed_runs_model() -> None:
    """The model is found by the id in the run and described in the pipeline's words."""
    run = RunWire.model_validate(run_row(status="completed", model_id="m1")).to_value()
    facts = api({"GET /models/m1": ok({"model": model_row()})}).provider.get_model(run)
    assert (facts.task, facts.classes, facts.status) == (ModelTask.OBJECT_DETECTION, ("stop", "yield"), "ready")
    assert facts.metrics == {"mAP": 0.5}


def test_a_run_without_a_model_is_not_found() -> None:
    """No model id is an error that names the run, before any request."""
    with pytest.raises(NotFoundError, match="'n'"):
        api({}).provider.get_model(RunWire.model_validate(run_row(status="completed")).to_value())


def test_a_model_of_an_unknown_type_is_unexpected() -> None:
    """A task the pipeline cannot read is refused by its name, while listing still shows it."""
    row = model_row(model_type="keypoint_detection")
    server = api({"GET /models/m1": ok({"data": row}), "GET /models/": ok({"data": [row]})})
    run = RunWire.model_validate(run_row(model_id="m1")).to_value()
    with pytest.raises(UnexpectedResponseError, match="keypoint_detection"):
        server.provider.get_model(run)
    assert server.provider.models.list(name="signs")[0].model_type == "keypoint_detection"
    assert server.lines()[-1] == "GET /models/?limit=50&offset=0&name=signs"


def test_versions_and_files_are_read() -> None:
    """The manifest of a model's versions and files is typed."""
    version = {"version_id": "v1", "version_number": 2, "is_current": True, "status": "ready", "precision": "fp16"}
    weights = {"version_id": "v1", "name": "model.onnx", "kind": "weights", "format": "onnx", "size_bytes": 7}
    server = api({
        "GET /models/m1/versions": ok({"data": [version]}),
        "GET /models/m1/files": ok({"data": {"versions": [version], "files": [weights], "pinned_version_id": None}}),
    })  # fmt: skip
    models = server.provider.models
    assert (models.versions("m1")[0].number, models.versions("m1")[0].is_current) == (2, True)
    assert (models.files("m1")[0].name, models.files("m1")[0].size_bytes) == ("model.onnx", 7)


def test_deleting_twice_because_of_a_lost_answer_is_a_success() -> None:
    """404 after an attempt whose answer was lost means that attempt worked; a plain 404 is an error."""
    lost: list[Answer] = [httpx.ReadError("x"), refused(404)]
    api({"DELETE /models/m1": lost}).provider.models.delete("m1")
    with pytest.raises(NotFoundError):
        api({"DELETE /models/m1": refused(404)}).provider.models.delete("m1")


FACTS = ModelFacts(model_id="m1", name="signs", status="ready", task=ModelTask.OBJECT_DETECTION)


@pytest.mark.parametrize("status", ["training", "failed", "archived", "resting"])
def test_only_a_ready_model_is_opened(status: str) -> None:
    """The status is read afresh; anything but ready is a conflict naming it, and no URL is minted."""
    server = api({"GET /models/m1": ok({"data": model_row(status=status)})})
    with pytest.raises(ConflictError, match=status), server.provider.open_model(FACTS):
        pass
    assert server.lines() == ["GET /models/m1"]


@pytest.mark.parametrize(("status", "error"), [(400, ConflictError), (409, ConflictError), (404, NotFoundError)])
def test_a_refused_download_is_explained(status: int, error: type[ProviderError]) -> None:
    """400 and 409 both mean not downloadable, 404 that the weights are missing; the model is named."""
    server = api({"GET /models/m1": ok({"data": model_row()}), "GET /models/m1/download": refused(status, "why")})
    with pytest.raises(error, match=r"'signs'.*why"), server.provider.open_model(FACTS):
        pass


@pytest.mark.parametrize("envelope", ["data", None])
def test_weights_are_read_from_the_signed_url_without_the_key(envelope: str | None) -> None:
    """The minted URL of either era is read by a client that does not know the key."""
    minted = {"download_url": "https://bucket.example/w?X-Goog-Signature=s"}
    server = api({
        "GET /models/m1": ok({"data": model_row()}),
        "GET /models/m1/download": ok({envelope: minted} if envelope else minted),
        "GET /w": httpx.Response(200, stream=httpx.ByteStream(b"weights"), headers={"Content-Length": "7"}),
    })  # fmt: skip
    with server.provider.open_model(FACTS) as stream:
        assert (b"".join(stream.chunks), stream.facts.size_bytes) == (b"weights", 7)
    storage = server.asked[-1]
    assert storage.url.host == "bucket.example"
    assert "X-API-Key" not in storage.headers
    assert "pk_live_key" not in str(storage.headers.raw)
    assert server.lines()[1] == "GET /models/m1/download?format=onnx"


@pytest.mark.parametrize(("status", "era"), [(400, "data"), (409, "data"), (400, "exports")])
def test_an_unfinished_export_is_a_conflict(status: int, era: str) -> None:
    """An archive asked for too early is a conflict in both eras, not a bad request."""
    path = "/exports/ex%201/download" if era == "data" else "/exports/road-signs/ex%201/download"
    server = api({"GET /datasets/": ok({"data" if era == "data" else "datasets": []}), f"GET {path}": refused(status)})
    with pytest.raises(ConflictError), server.provider.open_export(EXPORT):
        pass


# ------------------------------------------------------------------ facts


def test_the_profile_states_the_vendors_figures() -> None:
    """Interval, deadline, limits and pipelines are the published ones, and the sandbox only waits less."""
    sandbox = pictograph_profile(sandbox=True)
    assert (PROFILE.poll.interval_s, PROFILE.poll.deadline_s, PROFILE.export_poll.deadline_s) == (5, 7200, 300)
    assert (PROFILE.min_images, PROFILE.run_name_max, PROFILE.sandbox) == (5, 100, False)
    assert PROFILE.pipelines["detectron2"] is ModelTask.INSTANCE_SEGMENTATION
    assert (sandbox.poll.floor_s, sandbox.sandbox, sandbox.pipelines) == (0.5, True, PROFILE.pipelines)


def test_every_pipeline_and_gpu_a_request_can_name_is_in_the_profile() -> None:
    """The request's choices and the profile's facts are the same lists."""
    schema = TrainRequest.model_json_schema()
    assert set(schema["properties"]["pipeline"]["enum"]) == set(PROFILE.pipelines)
    assert set(schema["properties"]["gpu"]["enum"]) == set(PROFILE.gpus)


def test_a_spec_prices_and_creates_alike() -> None:
    """Quote and create send the same body but for the name."""
    server = api({"POST /training/quote": ok({"data": QUOTE}), "POST /training/": ok({"data": run_row()})})
    spec = TrainingSpec(dataset="d", export="e", pipeline="sm_pytorch", config={"epochs": 1})
    training = server.provider.training
    training.quote(spec)
    training.create(spec, "n", key="0" * 32)
    quoted, created = server.bodies("POST /training/quote")[0], server.bodies("POST /training/")[0]
    assert created == {**quoted, "name": "n"}
