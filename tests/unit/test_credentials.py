"""The key in a Prefect block: read once, kept for later stages, and never quoted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from pydantic import SecretStr

from pipeline.errors import ConfigurationError, PipelineError, TransportError, is_retryable
from pipeline.provider_requests import PictographRequest
from tasks import credentials
from tasks.credentials import PictographCredentials, open_provider
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
