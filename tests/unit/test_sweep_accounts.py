"""Which accounts a sweep looks after: those with something open or with a key, each once, whatever the others do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from deployments.serve import load_deployments
from flows import sweep_runs as flow
from pipeline.errors import ConfigurationError, ProviderUnavailableError
from pipeline.journal.records import OperationRecord
from pipeline.provider_requests import REQUESTS
from pipeline.requests import ProviderName, SweepRequest
from pipeline.sweep.accounts import Swept, accounts_of
from pipeline.sweep.mending import Mended
from pipeline.sweep.sweeping import Action, Found, SweepClass
from tasks import sweeping
from tasks.credentials import open_provider, providers_with_keys
from tests.unit.conftest import make_request
from tests.unit.operations import make_record

KEYS = ("PICTOGRAPH_API_KEY", "REPLICATE_API_TOKEN", "BLUESIGHT_API_KEY", "PHOTOGPT_API_KEY")
REPLICATE = REQUESTS["replicate"](
    dataset="d.zip", trainer=f"a/b:{'0' * 64}", destination="me/model", credentials="team", pipeline="yolox"
)
ROWS = (
    make_record(),
    make_record(request=make_request(credentials="team")),
    make_record(provider="replicate", request=REPLICATE),
    make_record(provider="replicate", request=REPLICATE),
    make_record(sandbox=True, request=make_request(sandbox=True, credentials="team")),
)


def named(accounts: tuple[SweepRequest, ...]) -> list[tuple[str | None, bool, str | None]]:
    """Return what tells accounts apart."""
    return [(one.provider, one.sandbox, one.credentials) for one in accounts]


def test_every_account_with_something_open_or_a_key_is_swept_once() -> None:
    """By the credentials its rows were begun with, with the policies that were asked for; rehearsals apart."""
    asked = SweepRequest(unknown_runs="cancel")
    accounts = accounts_of(asked, ROWS, ("pictograph", "photogpt"))
    assert named(accounts) == [
        ("pictograph", False, None),
        ("photogpt", False, None),
        ("pictograph", False, "team"),
        ("replicate", False, "team"),
    ]
    assert {one.unknown_runs for one in accounts} == {"cancel"}


def test_the_deployed_sweep_is_about_every_account() -> None:
    """The one on the schedule; what Prefect starts about one flow run names no provider either."""
    deployed = {made.name: made.parameters["request"] for made in load_deployments() if made.flow_name == "sweep-runs"}
    assert set(deployed) == {"sweep", "reconcile"}
    for given in deployed.values():
        request = SweepRequest.model_validate(given)
        assert (request.provider, request.sandbox, request.credentials) == (None, False, None)


def test_a_rehearsal_has_one_key() -> None:
    """The sandbox's, whatever block its request names."""
    assert named(accounts_of(SweepRequest(sandbox=True), ROWS, ())) == [("pictograph", True, None)]


def test_a_provider_that_is_named_is_swept_alone() -> None:
    """With its credentials, whatever else is open."""
    asked = SweepRequest(provider="bluesight", credentials="team")
    assert accounts_of(asked, ROWS, ("pictograph",)) == (asked,)


def test_credentials_without_their_provider_are_refused() -> None:
    """A block is of one provider's kind: with the field to correct."""
    with pytest.raises(ConfigurationError, match="name the provider") as caught:
        accounts_of(SweepRequest(credentials="team"), (), ())
    assert caught.value.context.field == "credentials"


def test_one_account_can_be_opened_and_no_more() -> None:
    """A request for every account names none."""
    with pytest.raises(ConfigurationError, match="provider is not set"):
        open_provider(SweepRequest())


@pytest.mark.parametrize(("variable", "provider"), list(zip(KEYS, get_args(ProviderName), strict=True)))
def test_a_key_makes_an_account(variable: str, provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each provider's own variable; blanks are none. In the sandbox every provider has its account."""
    for key in KEYS:
        monkeypatch.setenv(key, "  ")
    assert providers_with_keys(sandbox=False) == ()
    monkeypatch.setenv(variable, "secret")
    assert providers_with_keys(sandbox=False) == (provider,)
    assert providers_with_keys(sandbox=True) == get_args(ProviderName)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, ...]]]:
    """Put accounts by their credentials, and rows, where the stages look for them; return the events and tables."""

    def make(hashes: dict[str | None, str | Exception], rows: tuple[OperationRecord, ...]) -> list[tuple[str, ...]]:
        said: list[tuple[str, ...]] = []

        @contextmanager
        def opened(account: SweepRequest) -> Iterator[Any]:
            one = hashes[account.credentials]
            if isinstance(one, Exception):
                raise one
            yield SimpleNamespace(account=one)

        @contextmanager
        def journal() -> Iterator[Any]:
            yield SimpleNamespace(open_operations=lambda: rows)

        def survey(account: SweepRequest) -> tuple[Found, ...]:
            with opened(account):
                return (Found(SweepClass.FLOW_GONE, "why", None, ROWS[0]),)

        monkeypatch.setattr(sweeping, "open_provider", opened)
        monkeypatch.setattr(sweeping, "opened_journal", journal)
        monkeypatch.setattr(sweeping, "survey_account", survey)
        monkeypatch.setattr(
            sweeping, "mend_found", lambda _, found: tuple(Mended(one, Action.NOTIFY, "") for one in found)
        )
        monkeypatch.setattr(sweeping, "say", lambda *_, **__: None)
        monkeypatch.setattr(sweeping, "announce", lambda event, subject, *_, **__: said.append((event, subject)))
        monkeypatch.setattr(flow, "publish_sweep", lambda _, swept: said.append(("table", str(len(swept)))))
        for key in KEYS:
            monkeypatch.delenv(key, raising=False)
        return said

    return make


def test_one_account_under_two_names_is_swept_once(world: Callable[..., Any]) -> None:
    """The block holds the key that the environment holds."""
    world({None: "account-1", "team": "account-1"}, ROWS[:2])
    assert named(sweeping.address(SweepRequest())) == [("pictograph", False, None)]
    world({None: "account-1", "team": "account-2"}, ROWS[:2])
    assert len(sweeping.address(SweepRequest())) == 2


@pytest.mark.parametrize("error", [ConfigurationError("needs a key"), ProviderUnavailableError("503")], ids=repr)
def test_an_account_that_cannot_be_swept_is_told_and_the_others_are_swept(
    world: Callable[..., Any], error: Exception
) -> None:
    """It has something open, so the sweep has not done its work: failed, with the account's name and the reason."""
    events = world({None: error, "team": "account-2"}, ROWS[:2])
    state = flow.sweep_runs.fn(SweepRequest())
    assert (state.name, state.is_failed()) == ("NotDone", True)
    assert state.message == (
        f"at pictograph nothing could be looked after ({error}); at pictograph (team) 1 flow gone: notify"
    )
    assert events == [("sweep.not_swept", "account.pictograph"), ("table", "2")]


def test_what_hinders_the_only_account_is_raised(world: Callable[..., Any]) -> None:
    """As it is, for the exit code."""
    world({None: ConfigurationError("needs a key")}, ROWS[:1])
    with pytest.raises(ConfigurationError):
        flow.sweep_runs.fn(SweepRequest())


def test_a_sweep_without_an_account_fails(world: Callable[..., Any]) -> None:
    """No key and nothing open: a schedule whose key was forgotten must not look as if everything were looked after."""
    world({}, ())
    with pytest.raises(ConfigurationError, match="no account to sweep"):
        flow.sweep_runs.fn(SweepRequest())


def test_the_table_names_providers_and_those_that_were_not_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for each training, and one for an account nobody could look at, which is no training."""
    made: list[tuple[Any, str, str]] = []

    class Display:
        def __enter__(self) -> Display:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def table(self, *about: Any) -> None:
            made.append(about)

    monkeypatch.setattr(sweeping, "Display", Display)
    done = Mended(Found(SweepClass.ENDED, "why", None, ROWS[2]), Action.CLOSE, "")
    account = SweepRequest(provider="replicate", credentials="team")
    lost = Swept(account.model_copy(update={"provider": "photogpt", "credentials": None}), trouble="401")
    sweeping.publish_sweep.fn(SweepRequest(), (Swept(account, (done,)), lost))
    ((rows, key, said),) = made
    assert [(row["class"], row["provider"], row["reason"]) for row in rows] == [
        ("ended", "replicate", "why"),
        ("not_swept", "photogpt", "401"),
    ]
    assert (key, said) == ("sweep", "1 trainings looked after")
