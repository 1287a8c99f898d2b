"""Connecting: what the environment must say, in which words it is missed, and which key goes where."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pipeline.errors import ConfigurationError
from pipeline.provider_requests import PictographRequest
from pipeline.requests import TrainRequest
from providers import connect as module
from providers.connect import connect
from providers.pictograph.adapter import PictographProvider
from providers.settings import read_settings

HOSTED_KEY, SANDBOX_KEY = "pk_live_hosted_canary", "pk_live_sandbox_canary"
VARIABLES = ("PICTOGRAPH_API_KEY", "PICTOGRAPH_BASE_URL", "PICTOGRAPH_TIMEOUT", "PICTOGRAPH_MAX_RETRIES",
             "PICTOGRAPH_RUN_PAGE", "TRAIN_PIPELINE_SANDBOX_URL", "TRAIN_PIPELINE_SANDBOX_KEY")  # fmt: skip


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start every test without any of the variables."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Request]:
    """Replace the network and collect what would have been sent over it."""
    requests: list[httpx.Request] = []

    def answer(_: Any, request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"credits_remaining": 1})

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    return requests


@pytest.fixture
def fake_sandbox(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Stand in for the module that starts the sandbox."""

    class Address:
        url, api_key = "http://127.0.0.1:4242", SANDBOX_KEY

    launch = ModuleType("sandbox.launch")
    vars(launch).update(ensure_running=Address, SandboxStartError=StartError)
    monkeypatch.setitem(sys.modules, "sandbox.launch", launch)
    return launch


class StartError(RuntimeError):
    """The stand-in's error."""


def look(asked: TrainRequest | str = "pictograph", **options: Any) -> None:
    """Connect and read the balance."""
    provider = connect(asked, **options)
    assert isinstance(provider, PictographProvider)
    provider.credits.balance()
    provider.close()


def test_a_missing_key_names_the_variable_and_the_way_without() -> None:
    """Hosted without a key is a configuration error that names both ways out, before any request."""
    with pytest.raises(ConfigurationError, match=r"PICTOGRAPH_API_KEY.*--sandbox") as caught:
        connect("pictograph", sandbox=False)
    assert caught.value.context.field == "PICTOGRAPH_API_KEY"


@pytest.mark.parametrize("blank", ["", "   ", "\n"])
def test_a_blank_key_is_a_missing_key(blank: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whitespace is not a key."""
    monkeypatch.setenv("PICTOGRAPH_API_KEY", blank)
    with pytest.raises(ConfigurationError, match="PICTOGRAPH_API_KEY"):
        connect("pictograph", sandbox=False)


def test_the_environments_key_is_stripped_and_sent(monkeypatch: pytest.MonkeyPatch, sent: list[httpx.Request]) -> None:
    """The hosted key goes to the hosted address."""
    monkeypatch.setenv("PICTOGRAPH_API_KEY", f" {HOSTED_KEY}\n")
    look(PictographRequest(dataset="road-signs"), sandbox=False)
    assert str(sent[0].url) == "https://api.pictograph.io/api/v1/developer/credits/balance"
    assert sent[0].headers["X-API-Key"] == HOSTED_KEY


def test_a_key_given_by_hand_wins(monkeypatch: pytest.MonkeyPatch, sent: list[httpx.Request]) -> None:
    """An explicit key is taken before the environment's."""
    monkeypatch.setenv("PICTOGRAPH_API_KEY", "pk_live_other")
    look(sandbox=False, api_key=SecretStr(HOSTED_KEY))
    assert sent[0].headers["X-API-Key"] == HOSTED_KEY


def test_the_environment_sets_address_timeout_retries_and_run_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every documented variable is read."""
    for name, value in zip(VARIABLES, ("k", "https://h.example/env", "7.5", "0", "https://ui/{run_id}"), strict=False):
        monkeypatch.setenv(name, value)
    settings = read_settings()
    assert (settings.pictograph_base_url, settings.pictograph_timeout, settings.pictograph_max_retries) == (
        "https://h.example/env", 7.5, 0,
    )  # fmt: skip
    assert connect("pictograph", sandbox=False).profile.run_page == "https://ui/{run_id}"
    monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_KEY", SANDBOX_KEY)
    assert connect("pictograph", sandbox=True).profile.run_page == ""


@pytest.mark.parametrize("name", ["PICTOGRAPH_TIMEOUT", "PICTOGRAPH_MAX_RETRIES"])
def test_an_unreadable_variable_is_named_without_its_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable; its value may be a secret in the wrong place."""
    monkeypatch.setenv(name, HOSTED_KEY)
    with pytest.raises(ConfigurationError, match=name) as caught:
        connect("pictograph", sandbox=True)
    assert HOSTED_KEY not in repr(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize(
    "url",
    ["api.pictograph.io", "ftp://h", "https://", "https://u:p@h", "https://h?key=k", "https://h:port", "https://["],
)
def test_an_impossible_address_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base URL that is none is a configuration error naming the variable."""
    monkeypatch.setenv("PICTOGRAPH_API_KEY", HOSTED_KEY)
    monkeypatch.setenv("PICTOGRAPH_BASE_URL", url)
    with pytest.raises(ConfigurationError, match="PICTOGRAPH_BASE_URL"):
        connect("pictograph", sandbox=False)


@pytest.mark.usefixtures("fake_sandbox")
def test_the_sandbox_never_sees_the_hosted_key(monkeypatch: pytest.MonkeyPatch, sent: list[httpx.Request]) -> None:
    """With a hosted key in the environment and in hand, a rehearsal still uses the sandbox's own key and address."""
    monkeypatch.setenv("PICTOGRAPH_API_KEY", HOSTED_KEY)
    monkeypatch.setenv("PICTOGRAPH_BASE_URL", "https://hosted.example")
    look(sandbox=True, api_key=SecretStr(HOSTED_KEY))
    assert sent[0].url.host == "127.0.0.1"
    assert sent[0].headers["X-API-Key"] == SANDBOX_KEY
    assert HOSTED_KEY not in str(sent[0].headers.raw)


def test_the_hosted_provider_never_sees_the_sandbox_key(
    monkeypatch: pytest.MonkeyPatch, sent: list[httpx.Request]
) -> None:
    """A configured sandbox does not stand in for a missing hosted key, nor travel beside a present one."""
    monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_URL", "http://127.0.0.1:4242")
    monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_KEY", SANDBOX_KEY)
    with pytest.raises(ConfigurationError, match="PICTOGRAPH_API_KEY"):
        connect("pictograph", sandbox=False)
    monkeypatch.setenv("PICTOGRAPH_API_KEY", HOSTED_KEY)
    look(sandbox=False)
    assert SANDBOX_KEY not in str(sent[0].headers.raw)
    assert sent[0].url.host == "api.pictograph.io"


def test_a_running_sandbox_is_used_without_starting_one(
    monkeypatch: pytest.MonkeyPatch, sent: list[httpx.Request]
) -> None:
    """Address and key of a sandbox in the environment are enough; the sandbox package is not even imported."""
    monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_URL", "http://127.0.0.1:4242/env")
    monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_KEY", SANDBOX_KEY)
    monkeypatch.setitem(sys.modules, "sandbox.launch", None)
    look(sandbox=True)
    assert str(sent[0].url) == "http://127.0.0.1:4242/env/api/v1/developer/credits/balance"


@pytest.mark.parametrize("present", ["TRAIN_PIPELINE_SANDBOX_URL", "TRAIN_PIPELINE_SANDBOX_KEY"])
def test_half_a_sandbox_is_refused(present: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Address without key, or key without address, names the one that is missing."""
    missing = ({"TRAIN_PIPELINE_SANDBOX_URL", "TRAIN_PIPELINE_SANDBOX_KEY"} - {present}).pop()
    monkeypatch.setenv(present, "http://127.0.0.1:4242")
    with pytest.raises(ConfigurationError, match=f"{missing} is not set"):
        connect("pictograph", sandbox=True)


def test_a_rehearsal_cannot_be_pointed_at_the_hosted_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hosted address is refused as a sandbox's."""
    monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_URL", "https://api.pictograph.io/")
    monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_KEY", SANDBOX_KEY)
    with pytest.raises(ConfigurationError, match="TRAIN_PIPELINE_SANDBOX_URL"):
        connect("pictograph", sandbox=True)


@pytest.mark.parametrize(
    ("base", "url", "refused"),
    [
        ("https://hosted.example/api", "https://hosted.example", True),
        ("https://hosted.example/api", "https://Hosted.Example:443/env", True),
        ("http://hosted.example:8080", "http://hosted.example:8080", True),
        ("https://hosted.example", "https://hosted.example:8443", False),
        ("https://hosted.example", "https://sandbox.example", False),
        ("https://hosted.example", "https://api.pictograph.io:8443", True),
        ("http://127.0.0.1:4242", "http://127.0.0.1:4242", False),
        ("no address", "http://127.0.0.1:4242", False),
    ],
)
def test_a_rehearsal_cannot_be_pointed_at_the_configured_host(
    base: str, url: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor at the address that is configured as the hosted one, unless that is this very machine."""
    monkeypatch.setenv("PICTOGRAPH_BASE_URL", base)
    monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_URL", url)
    monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_KEY", SANDBOX_KEY)
    if not refused:
        assert connect("pictograph", sandbox=True).profile.sandbox
        return
    with pytest.raises(ConfigurationError, match="TRAIN_PIPELINE_SANDBOX_URL is the hosted"):
        connect("pictograph", sandbox=True)


@pytest.mark.parametrize(
    "page",
    ["https://x/{id}", "https://x/{}", "https://x/{run_id", "https://x/{run_id.real}", "https://x/{run_id!r:>{id}}",
     "https://x/{dataset[0]}", "x/{run_id}", "javascript:alert()", "{run_id}", "https://x/{0}"],
)  # fmt: skip
def test_a_run_page_that_cannot_be_filled_in_is_refused(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template with anything but the run's id and data set is named before the run, not after it was paid for."""
    monkeypatch.setenv("PICTOGRAPH_API_KEY", HOSTED_KEY)
    monkeypatch.setenv("PICTOGRAPH_RUN_PAGE", page)
    with pytest.raises(ConfigurationError, match="PICTOGRAPH_RUN_PAGE") as caught:
        connect("pictograph", sandbox=False)
    assert caught.value.context.field == "PICTOGRAPH_RUN_PAGE"


@pytest.mark.parametrize("page", ["https://x/{dataset}/{run_id}", "https://x/runs", "https://x/{{a}}/{run_id}"])
def test_a_run_page_may_name_run_and_data_set(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both, either, or neither."""
    monkeypatch.setenv("PICTOGRAPH_API_KEY", HOSTED_KEY)
    monkeypatch.setenv("PICTOGRAPH_RUN_PAGE", page)
    assert connect("pictograph", sandbox=False).profile.run_page == page


def test_a_sandbox_that_is_not_installed_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing library becomes the command that installs it, and names the library."""
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(ConfigurationError, match=r"needs torch: .*train-pipeline\[sandbox\]"):
        connect("pictograph", sandbox=True)


def test_a_sandbox_that_does_not_start_is_our_error(fake_sandbox: ModuleType) -> None:
    """The sandbox's own exception stays behind the adapter's, its reason kept."""

    def fail() -> None:
        raise StartError("port taken")

    vars(fake_sandbox)["ensure_running"] = fail
    with pytest.raises(ConfigurationError, match="did not start: port taken"):
        connect("pictograph", sandbox=True)


def test_an_unknown_provider_is_named() -> None:
    """The message names what was asked and what there is."""
    with pytest.raises(ConfigurationError, match=r"'replicant'.*pictograph, replicate, bluesight, photogpt"):
        connect("replicant", sandbox=True)


def test_no_secret_in_any_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings and provider can be printed."""
    monkeypatch.setenv("PICTOGRAPH_API_KEY", HOSTED_KEY)
    monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_KEY", SANDBOX_KEY)
    provider = connect("pictograph", sandbox=False)
    shown = repr(read_settings()) + repr(provider) + repr(vars(provider)) + repr(vars(module))
    assert HOSTED_KEY not in shown
    assert SANDBOX_KEY not in shown


def test_a_variable_that_should_be_json_is_named_and_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the message nor in what caused it."""
    monkeypatch.setenv("REPLICATE_RATES", "canary")
    with pytest.raises(ConfigurationError, match="REPLICATE_RATES") as caught:
        read_settings()
    assert caught.value.__context__ is None
    assert "canary" not in str(caught.value)
