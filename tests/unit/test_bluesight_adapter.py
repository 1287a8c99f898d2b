"""The Bluesight adapter as a provider: its facts, the check of the server, and what it does not offer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from pipeline.errors import ConfigurationError, NotOfferedError, TransportError, UnexpectedResponseError
from pipeline.local_requests import BluesightRequest
from pipeline.models import GuaranteeLevel, ModelFacts, ModelTask, RunStatus, Skipped, TrainingRun
from pipeline.provider import Provider
from pipeline.watch.polling import next_wait_s
from providers.bluesight.profile import bluesight_profile
from tests.notes import MemoryNotes
from tests.unit.scripted_bluesight import EXPORT, HANDLE, PROFILE, WELCOME, Answer, Api, api, ok, plan, refused

SAYS_SANDBOX = {"X-Train-Pipeline-Sandbox": "1"}
REHEARSAL = httpx.Response(200, json={"message": "Welcome"}, headers=SAYS_SANDBOX)
RUN = TrainingRun(handle=HANDLE, status=RunStatus.COMPLETED, provider_status="succeeded")
FACTS = ModelFacts(model_id="m", name="m", status="ready", task=ModelTask.CLASSIFICATION)


def test_the_adapter_is_a_provider() -> None:
    """The port's type is satisfied, method by method."""
    provider: Provider = api({}).provider
    assert provider.profile is PROFILE


@pytest.mark.parametrize("sandbox", [False, True])
def test_the_profile_promises_no_more_than_the_vendor_gives(sandbox: bool) -> None:
    """Nothing to download, price, list or find; a create is sent once, and twice only where somebody wants that."""
    profile = bluesight_profile(sandbox=sandbox)
    assert (profile.weights, profile.hosted_inference) == ("none", "free")
    assert (profile.prices, profile.cancels) == ("none", "advice")
    promises = [profile.finds_runs, profile.lists_runs, profile.has_key, profile.bills, profile.shows_progress]
    assert not any(promises)
    assert (profile.guarantee, profile.creation.sendings) == (GuaranteeLevel.AT_MOST_ONCE, 2)
    assert profile.sandbox is sandbox


@pytest.mark.parametrize("sandbox", [False, True])
def test_no_silence_ends_a_watch_before_its_deadline(sandbox: bool) -> None:
    """The server answers nothing while it trains: the longest deadline a request can name comes before blindness."""
    longest = BluesightRequest.model_json_schema()["properties"]["deadline_s"]["anyOf"][0]["maximum"]
    poll = bluesight_profile(sandbox=sandbox).poll
    assert poll.max_blind_s >= longest
    assert poll.floor_s <= next_wait_s(poll, None) <= poll.ceiling_s


def test_checking_the_account_asks_for_the_welcome_alone(tmp_path: Path) -> None:
    """No key is needed, none is sent, and neither the local file nor anything else is asked for."""
    server = api({"GET /": WELCOME})
    server.provider.check_account(plan(tmp_path))
    assert server.lines() == ["GET /"]
    assert "Authorization" not in server.asked[0].headers
    assert server.read_timeouts() == [60.0]
    assert server.asked[0].extensions["timeout"]["connect"] == 10.0


def test_a_key_is_sent_as_a_bearer_where_there_is_one(tmp_path: Path) -> None:
    """Some server in front of Bluesight's may ask for one."""
    server = api({"GET /": WELCOME})
    server.with_key("blue-key").check_account(plan(tmp_path))
    assert server.asked[0].headers["Authorization"] == "Bearer blue-key"


def test_accounts_differ_by_server_and_key_and_show_neither() -> None:
    """The same server is the same account, with or without a slash at the end of its address."""
    server = api({})
    accounts = [
        server.with_key(None).account,
        server.with_key("blue-key").account,
        server.with_key(None, "https://other.example").account,
    ]
    assert len(set(accounts)) == 3
    assert server.with_key(None, "https://blue.example/").account == accounts[0]
    assert all("blue" not in account for account in accounts)


@pytest.mark.parametrize(
    ("answer", "sandbox", "variable"),
    [(REHEARSAL, False, "BLUESIGHT_BASE_URL"), (WELCOME, True, "TRAIN_PIPELINE_SANDBOX_URL")],
)
def test_the_wrong_side_is_refused(tmp_path: Path, answer: Answer, sandbox: bool, variable: str) -> None:
    """A sandbox is no hosted server, nor the other way round; the error names the variable that leads there."""
    server = replace(api({"GET /": answer}), profile=bluesight_profile(sandbox=sandbox))
    with pytest.raises(ConfigurationError, match=variable) as caught:
        server.provider.check_account(plan(tmp_path))
    assert caught.value.context.field == variable


def test_the_right_side_is_accepted(tmp_path: Path) -> None:
    """A rehearsal reaches the sandbox."""
    replace(api({"GET /": REHEARSAL}), profile=bluesight_profile(sandbox=True)).provider.check_account(plan(tmp_path))


@pytest.mark.parametrize("answer", [ok(["hello"]), httpx.Response(200, text="<html>"), refused(404, "Not Found")])
def test_another_server_is_not_taken_for_bluesight(tmp_path: Path, answer: Answer) -> None:
    """A page, a list or a missing route is no welcome."""
    with pytest.raises(UnexpectedResponseError):
        api({"GET /": answer}).provider.check_account(plan(tmp_path))


def test_a_server_that_trains_says_so_in_the_error(tmp_path: Path) -> None:
    """Silence has a usual reason here; a connection that is refused has not."""
    with pytest.raises(TransportError, match="while it trains"):
        api({"GET /": httpx.ReadTimeout("x")}).provider.check_account(plan(tmp_path))
    with pytest.raises(TransportError) as caught:
        api({"GET /": httpx.ConnectError("x")}).provider.check_account(plan(tmp_path))
    assert "while it trains" not in str(caught.value)


def test_no_price_is_not_the_price_nothing(tmp_path: Path) -> None:
    """The stage is left out, with the reason."""
    assert api({}).provider.estimate_cost(plan(tmp_path), EXPORT) == Skipped(
        stage="price", reason="Bluesight publishes no price"
    )


def test_what_cannot_be_looked_up_is_not_asked_for(tmp_path: Path) -> None:
    """No request is made to find, list or settle anything."""
    server = api({})
    assert server.provider.find_run(plan(tmp_path), {"task": "classification"}) is None
    assert server.provider.live_runs() == ()
    assert server.provider.settle(RUN) is None
    assert server.asked == []


def test_what_is_not_offered_says_what_to_do_instead(tmp_path: Path) -> None:
    """Exports and downloads are refused without a request."""
    server: Api = api({})
    provider: Provider = server.provider
    for refusal in (
        lambda: provider.find_or_create_export(plan(tmp_path)),
        lambda: provider.get_export(EXPORT),
        lambda: provider.open_export(EXPORT),
    ):
        with pytest.raises(NotOfferedError, match="on this machine"):
            refusal()
    for refusal in (lambda: provider.get_model(RUN), lambda: provider.open_model(FACTS)):
        with pytest.raises(NotOfferedError, match="asked there"):
            refusal()
    assert server.asked == []


def test_a_plan_of_another_provider_is_refused() -> None:
    """The adapter never guesses what another vendor's request means."""
    from tests.unit.scripted_pictograph import plan as foreign

    with pytest.raises(TypeError, match="pictograph"):
        api({}).provider.order(foreign(), EXPORT, MemoryNotes())
