"""PhotoGPT behind the port: account, looks at runs, prices, bills, and what is not offered."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.errors import (
    AuthenticationError,
    ConfigurationError,
    NotOfferedError,
    PermissionDeniedError,
    ProviderError,
    RateLimitError,
    UnexpectedResponseError,
)
from pipeline.models import CostEstimate, ModelFacts, ModelTask, RunStatus, Skipped, TrainingRun
from pipeline.start.planning import resolve_plan
from providers.http import SANDBOX_HEADER
from providers.photogpt.adapter import PhotogptProvider
from providers.photogpt.profile import photogpt_profile
from tests.unit.http_double import everything_in
from tests.unit.scripted_photogpt import EXPORT, KEY, Fault, Server, handle_of, make_plan, nok, ok

PLAN = make_plan(Path("anna"))


def _pinged(fault: Fault, **facts: Any) -> Server:
    server = Server(faults={"GET /ping": [fault] * 4}, **facts)
    server.provider.check_account(PLAN)
    return server


def test_every_request_says_who_asks_and_which_version() -> None:
    """Key, version and a product name; firewalls refuse the names of libraries."""
    sent = _pinged(None).asked[0]
    assert sent.headers["Authorization"] == f"Bearer {KEY}"
    assert sent.headers["API-Version"] == "1"
    assert sent.headers["User-Agent"].startswith("train-pipeline/")
    assert "X-API-Key" not in sent.headers


def test_a_bad_key_is_named_and_not_shown() -> None:
    """A 401 is the key's; nothing of it is in the error, even when the server echoes it."""
    with pytest.raises(AuthenticationError) as caught:
        _pinged(nok(401, f"bad key {KEY}"))
    assert KEY not in everything_in(caught.value)


@pytest.mark.parametrize("body", ["error code: 1010", "<html>blocked</html>"])
def test_a_firewall_is_not_taken_for_a_missing_right(body: str) -> None:
    """A 403 that is no JSON never reached the API."""
    with pytest.raises(PermissionDeniedError, match="blocked before reaching the API"):
        _pinged(httpx.Response(403, text=body))


def test_a_403_of_the_api_is_a_missing_right() -> None:
    """In the envelope it is the API's own."""
    with pytest.raises(PermissionDeniedError, match="not the owner") as caught:
        _pinged(nok(403, "not the owner"))
    assert "blocked" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 404])
def test_a_wrong_address_is_named(status: int) -> None:
    """The vendor's own hint: a ping that is not understood went to the wrong place."""
    with pytest.raises(ConfigurationError) as caught:
        _pinged(nok(status))
    assert caught.value.context.field == "PHOTOGPT_BASE_URL"


def test_the_wrong_side_is_refused() -> None:
    """A hosted run is not rehearsed, and a rehearsal reaches no hosted account."""
    marked = httpx.Response(200, json={"status": "OK"}, headers={SANDBOX_HEADER: "1"})
    with pytest.raises(ConfigurationError):
        _pinged(marked)
    with pytest.raises(ConfigurationError):
        _pinged(None, profile=photogpt_profile(sandbox=True))
    _pinged(marked, profile=photogpt_profile(sandbox=True))


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(200, json=[]), httpx.Response(200, json={"id": "m1", "status": "new"}),
     httpx.Response(200, text="hello"), ok({"id": "m1"}), ok([]), ok({"status": "new"})],
)  # fmt: skip
def test_an_answer_that_is_not_understood_is_said_to_be(answer: httpx.Response) -> None:
    """Without the envelope, without an id, without a status."""
    with pytest.raises(UnexpectedResponseError):
        Server(faults={"GET /models/m1": [answer]}).provider.get_run(handle_of("m1"))


def test_an_envelope_without_its_status_is_read() -> None:
    """Not every field is guaranteed."""
    answer = httpx.Response(200, json={"result": {"id": "m1", "status": "ready"}})
    run = Server(faults={"GET /models/m1": [answer]}).provider.get_run(handle_of("m1"))
    assert run.status is RunStatus.COMPLETED


def test_a_cancel_is_not_offered() -> None:
    """The error says what to do instead."""
    with pytest.raises(NotOfferedError, match="collect it later"):
        Server().provider.cancel_run(handle_of("m1"))


RUN = TrainingRun(handle=handle_of("m1"), status=RunStatus.COMPLETED, provider_status="ready", model_id="m1")
MODEL = ModelFacts(model_id="m1", name="n", status="ready", task=ModelTask.IMAGE_GENERATION)


@pytest.mark.parametrize(
    "call",
    [
        lambda provider: provider.find_or_create_export(PLAN),
        lambda provider: provider.get_export(EXPORT),
        lambda provider: provider.open_export(EXPORT),
        lambda provider: provider.get_model(RUN),
        lambda provider: provider.open_model(MODEL),
    ],
)
def test_what_there_is_no_call_for_is_not_offered(call: Callable[[PhotogptProvider], Any]) -> None:
    """Without a request."""
    server = Server()
    with pytest.raises(NotOfferedError):
        call(server.provider)
    assert server.asked == []


def test_the_price_is_the_requests() -> None:
    """The vendor publishes none."""
    provider = Server().provider
    assert isinstance(provider.estimate_cost(PLAN, EXPORT), Skipped)
    estimate = provider.estimate_cost(make_plan(Path("anna"), price_credits=500), EXPORT)
    assert isinstance(estimate, CostEstimate)
    assert (str(estimate.total), estimate.source, estimate.sufficient) == ("500 credits", "configured", True)
    assert estimate.balance is None


def _billed(status: RunStatus, *jobs: dict[str, Any]) -> str | None:
    server = Server()
    server.add_model("m1", "ready")
    for job in jobs:
        server.add_job(**{"model_id": "m1", **job})
    run = RUN.model_copy(update={"status": status, "created_at": datetime.fromtimestamp(server.now_s, UTC)})
    settlement = server.provider.settle(run)
    return None if settlement is None else str(settlement.charged)


def test_the_bill_is_the_trainings_job() -> None:
    """Pictures made with the model, a training that failed before, and other models are not it."""
    picture = {"images": [{"id": "o", "url": "https://x"}], "credits": 10}
    done = {"credits": 480}
    failed = {"status": "failed", "credits": 0}
    assert _billed(RunStatus.COMPLETED, failed, done, picture, {"status": "failed", "credits": 3}) == "480 credits"
    assert _billed(RunStatus.FAILED, failed) == "0 credits"


def test_no_bill_is_no_bill() -> None:
    """Where no job names the model, or the list shows no credits."""
    assert _billed(RunStatus.COMPLETED) is None
    assert _billed(RunStatus.COMPLETED, {"model_id": "other"}) is None
    assert _billed(RunStatus.COMPLETED, {"model_id": None}) is None
    assert _billed(RunStatus.COMPLETED, {"credits": None}) is None


def test_reads_are_repeated() -> None:
    """They cannot do anything twice."""
    server = Server(faults={"GET /models/m1": [nok(503), httpx.ReadTimeout("x"), nok(429)]})
    server.add_model("m1", "training")
    assert server.provider.get_run(handle_of("m1")).status is RunStatus.RUNNING
    assert server.count("GET /models/m1") == 4


@pytest.mark.parametrize(
    ("answer", "error"),
    [(nok(429, "insufficient capacity"), RateLimitError), (nok(403, "insufficient permissions"), PermissionDeniedError),
     (nok(401, "no credits for this key"), AuthenticationError)],
)  # fmt: skip
def test_not_every_lack_is_one_of_money(answer: httpx.Response, error: type[ProviderError]) -> None:
    """The words alone do not decide where they have another meaning."""
    with pytest.raises(error) as caught:
        Server(faults={"GET /models": [answer] * 4}).provider.live_runs()
    assert type(caught.value) is error


def test_accounts_are_told_apart_without_their_keys() -> None:
    """By a hash."""
    provider = Server().provider
    assert provider.account == Server().provider.account
    assert KEY not in provider.account


@pytest.mark.parametrize("sandbox", [False, True])
def test_the_profile_is_the_vendors(sandbox: bool) -> None:
    """What the rest of the pipeline goes by."""
    profile = photogpt_profile(sandbox=sandbox)
    plan = resolve_plan(PLAN.request, profile, PLAN.operation)
    assert plan.task is ModelTask.IMAGE_GENERATION
    assert (profile.data, profile.weights, profile.hosted_inference) == ("pictures", "none", "billed")
    assert (profile.cancels, profile.prices, profile.bills, profile.shows_progress) == ("no", "configured", True, False)
    assert profile.creation.sendings == 2
    assert profile.poll.deadline_s == 2100
    assert profile.poll.fixed is not sandbox
