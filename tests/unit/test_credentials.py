"""The key in a Prefect block: read once, kept for later stages, and never quoted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import httpx
import pytest
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from pydantic import SecretStr

from pipeline.errors import ConfigurationError, PipelineError, TransportError, is_retryable
from pipeline.local_requests import BluesightRequest, PhotogptRequest, ReplicateRequest
from pipeline.provider_requests import REQUESTS, PictographRequest
from pipeline.requests import SweepRequest, TrainRequest
from providers.settings import VENDORS
from tasks import credentials
from tasks.credentials import BLOCKS, Credentials, PictographCredentials, open_provider
from tests.unit.http_double import everything_in

KEY = "pk_live_block_canary"


class Blocks:
    """Stands in for Prefect's loader: a script of keys and failures, and how often it was asked."""

    def __init__(self, *steps: str | Exception | Callable[[], Any]) -> None:
        self.steps = list(steps)
        self.asked: list[str] = []

    def load(self, name: str) -> Any:
        """Answer with the next step."""
        self.asked.append(name)
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return PictographCredentials(api_key=SecretStr(step)) if isinstance(step, str) else step()


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Blocks]:
    """Give a function that replaces Prefect's loader, in a process that has read nothing yet."""

    def replace(*steps: Any) -> Blocks:
        blocks = Blocks(*steps)
        monkeypatch.setattr(PictographCredentials, "load", blocks.load)
        return blocks

    monkeypatch.setattr(credentials, "_keys", {})
    monkeypatch.delenv("PICTOGRAPH_API_KEY", raising=False)
    return replace


def connect(block: str = "team") -> str:
    """Open a provider as a stage does, and return the key it got."""
    with open_provider(PictographRequest(dataset="d", credentials=block)) as provider:
        pattern: str = provider._session._client._scrubber.text(KEY)  # type: ignore[attr-defined]
        return pattern


def status_error(status: int) -> PrefectHTTPStatusError:
    """Return what Prefect's client raises for a status."""
    request = httpx.Request("GET", "http://prefect.example/api/block_documents")
    answer = httpx.Response(status, request=request)
    return PrefectHTTPStatusError.from_httpx_error(httpx.HTTPStatusError("no", request=request, response=answer))


AWAY = {
    "refused": lambda: httpx.ConnectError("no"),
    "timeout": lambda: httpx.ReadTimeout("no"),
    "503": lambda: status_error(503),
    "429": lambda: status_error(429),
    "ephemeral": lambda: RuntimeError("Timed out while attempting to connect to ephemeral Prefect API server."),
    "garbage": lambda: json.JSONDecodeError("Expecting value", "<html>", 0),
}


@pytest.mark.parametrize("fault", AWAY.values(), ids=AWAY)
def test_prefect_being_away_between_stages_ends_nothing(
    fault: Callable[[], Exception], prefect: Callable[..., Blocks]
) -> None:
    """The first stage's key serves the later ones; Prefect is not even asked."""
    blocks = prefect(KEY, fault())
    assert [connect(), connect(), connect()] == ["[redacted]"] * 3
    assert blocks.asked == ["team"]


@pytest.mark.parametrize("fault", AWAY.values(), ids=AWAY)
def test_prefect_being_away_at_first_may_pass(fault: Callable[[], Exception], prefect: Callable[..., Blocks]) -> None:
    """Without a key in hand it is a retryable error of ours, and the next attempt asks again."""
    prefect(fault(), KEY)
    with pytest.raises(TransportError, match=r"block 'team' could not be read: Prefect's API did not answer") as caught:
        connect()
    assert is_retryable(caught.value)
    assert connect() == "[redacted]"


def test_every_block_has_a_key_of_its_own(prefect: Callable[..., Blocks]) -> None:
    """A second block is read although the first one is known."""
    blocks = prefect("pk_live_other", KEY)
    assert [connect("a"), connect("b"), connect("a")] == [KEY, "[redacted]", KEY]
    assert blocks.asked == ["a", "b"]


def test_a_block_that_does_not_exist_is_named(prefect: Callable[..., Blocks]) -> None:
    """It is a fault of the request, not of Prefect, and is asked for again once it may have been made."""
    missing = ValueError("Unable to find block document")
    missing.__cause__ = ObjectNotFound(http_exc=Exception("404"))
    prefect(missing, KEY)
    with pytest.raises(ConfigurationError, match=r"'team' names no pictograph-credentials block.*PICTOGRAPH_API_KEY"):
        connect()
    assert connect() == "[redacted]"


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_by_prefect_is_a_matter_of_configuration(status: int, prefect: Callable[..., Blocks]) -> None:
    """Asking again would not help."""
    prefect(status_error(status))
    with pytest.raises(ConfigurationError, match="may not be read") as caught:
        connect()
    assert caught.value.context.field == "credentials"


def test_a_block_without_a_key_is_named_and_not_quoted(prefect: Callable[..., Blocks]) -> None:
    """What the block holds instead may be the key in the wrong field: the error and its chain show nothing of it."""

    def load() -> Any:
        try:
            return PictographCredentials(api_kye=KEY)  # type: ignore[call-arg]
        except ValueError as error:
            raise RuntimeError("Unable to load 'team'") from error

    prefect(load)
    with pytest.raises(PipelineError, match="'team' holds no API key") as caught:
        connect()
    assert isinstance(caught.value, ConfigurationError)
    assert KEY not in everything_in(caught.value)


ASKED: dict[str, TrainRequest] = {
    "pictograph": PictographRequest(dataset="d", credentials="team"),
    "replicate": ReplicateRequest(
        dataset="d.zip", credentials="team", trainer=f"owner/trainer:{'0' * 64}", destination="me/signs"
    ),
    "bluesight": BluesightRequest(dataset="t.h5", credentials="team"),
    "photogpt": PhotogptRequest(dataset="person", credentials="team", age=30, gender="Female"),
}


class Connected:
    """Stands for a provider that was connected to with a key."""

    def __init__(self, asked: TrainRequest | str, key: SecretStr | None) -> None:
        self.name = asked if isinstance(asked, str) else asked.provider
        self.key = None if key is None else key.get_secret_value()

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """Keys in Prefect's blocks by the block's kind and name, in a process that has read nothing yet."""
    stored: dict[tuple[str, str], str] = {}

    def loader(kind: type[Credentials]) -> Callable[[str], Credentials]:
        def load(name: str) -> Credentials:
            if (kind._block_type_slug or "", name) not in stored:
                raise ValueError("Unable to find block document")
            return kind(api_key=SecretStr(stored[kind._block_type_slug or "", name]))

        return load

    def connect(asked: TrainRequest | str, *, sandbox: bool, api_key: SecretStr | None = None) -> Connected:
        _ = sandbox
        return Connected(asked, api_key)

    for kind in BLOCKS.values():
        monkeypatch.setattr(kind, "load", loader(kind))
    monkeypatch.setattr(credentials, "_keys", {})
    monkeypatch.setattr(credentials, "connect", connect)
    return stored


def opened(request: TrainRequest | SweepRequest) -> tuple[str, str | None]:
    """Open a request's provider; return which one it is and the key it got."""
    with open_provider(request) as provider:
        connected = cast("Connected", provider)
        return connected.name, connected.key


def test_every_provider_has_a_kind_of_its_own() -> None:
    """Named after the vendor, so that a key is not put where another provider's is looked for."""
    assert set(BLOCKS) == set(REQUESTS) == set(VENDORS)
    for provider, kind in BLOCKS.items():
        assert kind._block_type_slug == f"{provider}-credentials"
        assert kind._block_type_name == f"{VENDORS[provider].title} Credentials"
        assert KEY not in repr(kind(api_key=SecretStr(KEY)))


@pytest.mark.parametrize("provider", REQUESTS)
def test_a_key_goes_to_the_provider_whose_block_holds_it(provider: str, blocks: dict[tuple[str, str], str]) -> None:
    """Blocks of one name and of different kinds are different keys, for trainings and sweeps."""
    for kind in REQUESTS:
        blocks[f"{kind}-credentials", "team"] = f"key of {kind}"
    for kind in REQUESTS:  # whatever this process has read before
        opened(ASKED[kind])
    sweep = SweepRequest.model_validate({"provider": provider, "credentials": "team"})
    assert opened(ASKED[provider]) == opened(sweep) == (provider, f"key of {provider}")


@pytest.mark.parametrize("provider", REQUESTS)
def test_another_providers_block_is_not_taken(provider: str, blocks: dict[tuple[str, str], str]) -> None:
    """The error names the kind that is wanted, how Prefect comes to know it, and the variable that does instead."""
    for kind in set(REQUESTS) - {provider}:
        blocks[f"{kind}-credentials", "team"] = KEY
    with pytest.raises(ConfigurationError, match=f"'team' names no {provider}-credentials block") as caught:
        opened(ASKED[provider])
    assert "prefect block register -m tasks.credentials" in str(caught.value)
    assert str(caught.value).endswith(f"set {VENDORS[provider].key_variable}")
    assert KEY not in everything_in(caught.value)


@pytest.mark.parametrize("provider", REQUESTS)
def test_a_rehearsal_reads_no_block(provider: str, blocks: dict[tuple[str, str], str]) -> None:
    """The sandbox gets no key of anybody's, named or not; neither does a request that names no block."""
    blocks[f"{provider}-credentials", "team"] = KEY
    request = ASKED[provider]
    assert opened(request.model_copy(update={"sandbox": True})) == (provider, None)
    assert opened(request.model_copy(update={"credentials": None})) == (provider, None)
