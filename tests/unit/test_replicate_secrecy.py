"""Nothing secret of a Replicate training is stored or shown: queries of URLs, and inputs from the environment."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pipeline.addresses import cut_addresses
from pipeline.errors import ConfigurationError, ProviderError
from pipeline.local_requests import ReplicateRequest
from providers.connect import connect
from providers.replicate.adapter import ReplicateProvider
from providers.replicate.schema import fill_inputs
from providers.replicate.secrecy import UNSTORED, Redaction, UnshownInputs, refuse_secrets
from providers.replicate.values import ReplicateSetup
from providers.replicate.wire import VersionWire
from providers.settings import read_settings
from tests.notes import MemoryNotes
from tests.unit.http_double import everything_in
from tests.unit.scripted_replicate import (
    EXPORT,
    FILE_URL,
    HANDLE,
    RUN_ID,
    TRAINER_PATH,
    Api,
    api,
    archive,
    ok,
    order,
    page,
    plan,
    problem,
    ready_routes,
    schema,
    training,
)

CANARY = "hf_canary0123456789"
GET = f"GET /v1/trainings/{RUN_ID}"
CREATE = f"POST {TRAINER_PATH}/trainings"
SETUP = ReplicateSetup(secret_inputs={"hf_token": SecretStr(CANARY)})
TAKES_IT = {"properties": {"train_data": {}, "epochs": {}, "hf_token": {}}, "required": ["train_data", "hf_token"]}


def _server(routes: dict[str, Any] | None = None, setup: ReplicateSetup = SETUP) -> Api:
    return api({**ready_routes(**{f"GET {TRAINER_PATH}": ok(schema(TAKES_IT))}), **(routes or {})}, setup=setup)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("get https://s.example/d.zip?sig=x&v=1 now", "get https://s.example/d.zip?[redacted] now"),
        ('{"url":"http://s.example:80/a?b=\'c\'","n":1}', '{"url":"http://s.example:80/a?[redacted]","n":1}'),
        ("s3://bucket/key?token=x", "s3://bucket/key?[redacted]"),
        (r"https:\/\/s.example\/d?sig=a\u0026b=c", r"https:\/\/s.example\/d?[redacted]"),
        ("https://me:word@s.example/d?x=1", "https://s.example/d?[redacted]"),
        ("https://s.example/d?next=https://t.example/e?sig=x", "https://s.example/d?[redacted]"),
        ("https://s.example/d.zip and why? no", "https://s.example/d.zip and why? no"),
        (" 38%|###8 | 6/16 [00:00<00:05]", " 38%|###8 | 6/16 [00:00<00:05]"),
    ],
)
def test_of_a_url_everything_after_its_path_is_cut(text: str, shown: str) -> None:
    """A signed query is as good as a password; the rest of the text stays as it is."""
    assert cut_addresses(text) == shown


def test_a_long_log_is_read_in_no_time() -> None:
    """A log comes whole at every look, and its writer is not one to be trusted."""
    begun_s = time.perf_counter()
    cut_addresses("a://" * 250_000 + "x" * 1_000_000)
    assert time.perf_counter() - begun_s < 5


def test_logs_and_reasons_show_no_query() -> None:
    """Whatever shape the reason has; progress is read all the same."""
    url = "https://s.example/d.zip?sig=canary"
    logs = f"reading {url}\n 38%|###8      | 6/16 [00:00<00:05, 7.83it/s]\n"
    for error in (f"404 of {url}", {"why": [url]}):
        run = api({GET: ok(training(logs=logs, error=error))}).provider.get_run(HANDLE)
        assert run.progress == 38.0
        assert "https://s.example/d.zip?[redacted]" in (run.logs or "")
        assert "https://s.example/d.zip?[redacted]" in (run.error_message or "")
        assert "canary" not in f"{run.logs}{run.error_message}"


@pytest.mark.parametrize(
    "answer",
    [
        problem(422, "cannot read https://s.example/d?sig=canary today"),
        problem(422, "why", title="https://s.example/d?sig=canary"),
        problem(422, [{"loc": ["body", "input"], "msg": "https://s.example/d?sig=canary"}]),
        httpx.Response(422, json={"error": "https://s.example/d?sig=canary"}),
        httpx.Response(502, text="no https://s.example/d?sig=canary"),
    ],
)
def test_a_problem_shows_no_query(answer: httpx.Response) -> None:
    """In whatever part of it one is quoted."""
    with pytest.raises(ProviderError, match=r"s\.example/d") as caught:
        api({GET: answer}).provider.get_run(HANDLE)
    assert "canary" not in everything_in(caught.value)


@pytest.mark.parametrize(
    "name",
    ["token", "HF_TOKEN", "hfToken", "client-secret", "db password", "api_key", "apikey", "APIKey", "aws_credentials"],
)
def test_an_input_that_is_a_secret_by_its_name_is_refused(name: str, tmp_path: Path) -> None:
    """Before anything is made: by then the request is stored, and an order would be as well."""
    server = api(ready_routes(**{f"GET {TRAINER_PATH}": ok({"id": "v"})}))
    for call in (server.provider.check_account, lambda asked: server.provider.order(asked, EXPORT, MemoryNotes())):
        with pytest.raises(ConfigurationError, match=UNSTORED) as caught:
            call(plan(archive(tmp_path), inputs={name: CANARY, "epochs": 3}))
        assert caught.value.context.field == "inputs"
        assert repr(name) in caught.value.message
        assert CANARY not in everything_in(caught.value)
    assert {request.method for request in server.asked} == {"GET"}


@pytest.mark.parametrize(
    "inputs", [{"token": ""}, {"max_tokens": "9"}, {"token": 3}, {"secretary": "x"}, {"keyapi": "x"}, {"api": "key"}]
)
def test_other_inputs_are_no_secrets(inputs: dict[str, Any]) -> None:
    """Only whole words of a name count, and only a text can be one."""
    refuse_secrets(inputs)


def test_secret_inputs_are_sent_and_not_written_down(tmp_path: Path) -> None:
    """The order goes into the journal; the create's body goes nowhere but to the provider."""
    server = _server({CREATE: ok(training(), 201), "GET /v1/trainings": page(training())})
    asked = plan(archive(tmp_path), inputs={"epochs": 3})
    server.provider.check_account(asked)
    made = server.provider.order(asked, EXPORT, MemoryNotes())
    assert made["input"] == {"epochs": 3, "train_data": FILE_URL}
    server.provider.create_run(asked, made, MemoryNotes())
    assert server.bodies(CREATE)[0]["input"] == {"epochs": 3, "train_data": FILE_URL, "hf_token": CANARY}
    found = server.provider.find_run(asked, made)
    assert found is not None
    assert found.handle.run_id == RUN_ID


def test_a_required_input_may_come_from_the_environment(tmp_path: Path) -> None:
    """Without it there, it is missed."""
    _server().provider.check_account(plan(archive(tmp_path)))
    with pytest.raises(ConfigurationError, match="lacks 'hf_token'"):
        _server(setup=ReplicateSetup()).provider.check_account(plan(archive(tmp_path)))


@pytest.mark.parametrize(
    ("name", "request_", "said"),
    [
        ("epochs", {"inputs": {"epochs": 3}}, "the request fills"),
        ("train_data", {}, "the request fills"),
        ("other", {}, "does not take"),
    ],
)
def test_a_secret_input_that_cannot_be_one_is_named(
    name: str, request_: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """By the variable it comes from, without its value."""
    setup = ReplicateSetup(secret_inputs={**SETUP.secret_inputs, name: SecretStr(CANARY)})
    with pytest.raises(ConfigurationError, match=said) as caught:
        _server(setup=setup).provider.check_account(plan(archive(tmp_path), **request_))
    assert caught.value.context.field == UNSTORED
    assert f"{UNSTORED} holds {name!r}" in caught.value.message
    assert CANARY not in everything_in(caught.value)


def test_a_pipeline_from_the_environment_is_not_filled_in() -> None:
    """The order's own inputs would win over it."""
    trainer = VersionWire.model_validate(schema({"properties": {"train_data": {}, "pipeline": {}}}))
    assert fill_inputs(plan().asked_of(ReplicateRequest), trainer, ["pipeline"]) == {}


@pytest.mark.parametrize(
    "answer",
    [
        problem(422, f"hf_token: {CANARY} is not valid", title=f"No {CANARY}"),
        problem(422, [{"loc": ["body", CANARY], "msg": CANARY}]),
        httpx.Response(422, json={"error": CANARY, "detail": "no"}, headers={"X-Request-Id": CANARY}),
        httpx.Response(502, text=f"no {CANARY}"),
        httpx.Response(502, text="x" * 190 + CANARY),
        ok({"no": CANARY}, 201),
    ],
)
def test_a_secret_input_that_is_echoed_is_in_no_error(answer: httpx.Response) -> None:
    """Nor its beginning, where an answer was cut."""
    with pytest.raises(ProviderError) as caught:
        _server({CREATE: answer}).provider.create_run(plan(), order(), MemoryNotes())
    assert CANARY[:8] not in everything_in(caught.value)


def test_a_secret_input_that_is_echoed_is_in_no_run() -> None:
    """Trainers print what they were given."""
    row = training(logs=f"token={CANARY}\nurl https://s/{CANARY}\n", error={CANARY: CANARY}, status="failed")
    run = _server({GET: ok(row)}).provider.get_run(HANDLE)
    assert CANARY not in f"{run!r}{run.logs}"
    assert "token=[redacted]" in (run.logs or "")


def test_a_secret_in_another_one_leaves_nothing_of_it() -> None:
    """The longer one goes first, in whatever order they were given."""
    for secrets in (["word", "password1"], ["password1", "word"]):
        assert Redaction(map(SecretStr, secrets)).text("a password1 b word") == "a [redacted] b [redacted]"


def test_no_secret_input_is_in_any_repr() -> None:
    """Of the adapter, its setup, or a body on its way."""
    provider = _server().provider
    shown = repr(provider) + repr(vars(provider)) + repr(SETUP) + repr(UnshownInputs(hf_token=CANARY))
    assert CANARY not in shown
    assert "hf_token" in shown
    assert json.loads(json.dumps(UnshownInputs(hf_token=CANARY))) == {"hf_token": CANARY}


def _connected(monkeypatch: pytest.MonkeyPatch, *, sandbox: bool = False, **variables: str) -> ReplicateProvider:
    for name in ("REPLICATE_SECRET_INPUTS", "REPLICATE_WEBHOOK_URL", "REPLICATE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    fixed = {
        "REPLICATE_API_TOKEN": "r8_x",
        "TRAIN_PIPELINE_SANDBOX_URL": "http://127.0.0.1:9",
        "TRAIN_PIPELINE_SANDBOX_KEY": "k",
    }
    for name, value in {**fixed, **variables}.items():
        monkeypatch.setenv(name, value)
    provider = connect("replicate", sandbox=sandbox)
    assert isinstance(provider, ReplicateProvider)
    provider.close()
    return provider


def test_secret_inputs_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a JSON object; a rehearsal gets none, as it gets no hosted key."""
    given = json.dumps({"hf_token": CANARY})
    hosted = _connected(monkeypatch, REPLICATE_SECRET_INPUTS=given)
    assert {name: value.get_secret_value() for name, value in hosted._setup.secret_inputs.items()} == {
        "hf_token": CANARY
    }
    assert CANARY not in repr(read_settings())
    assert _connected(monkeypatch, sandbox=True, REPLICATE_SECRET_INPUTS=given)._setup.secret_inputs == {}
    assert _connected(monkeypatch)._setup.secret_inputs == {}


@pytest.mark.parametrize(
    "given", [f"{CANARY}", f'{{"a": "{CANARY}"', f'["{CANARY}"]', f'{{"{CANARY}": 3}}', '{"a": " "}', '{"": "x"}']
)
def test_secret_inputs_that_cannot_be_read_are_not_quoted(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is named, and neither the error nor its cause holds the content."""
    with pytest.raises(ConfigurationError, match="REPLICATE_SECRET_INPUTS") as caught:
        _connected(monkeypatch, REPLICATE_SECRET_INPUTS=given)
    assert caught.value.context.field == "REPLICATE_SECRET_INPUTS"
    assert caught.value.__context__ is None
    assert CANARY not in everything_in(caught.value)


@pytest.mark.parametrize("sandbox", [False, True])
def test_webhooks_are_looked_for_only_where_they_were_asked_for(sandbox: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an address nobody calls back."""
    assert not _connected(monkeypatch, sandbox=sandbox).profile.sends_webhooks
    url = "https://us.example/hook"
    assert _connected(monkeypatch, sandbox=sandbox, REPLICATE_WEBHOOK_URL=url).profile.sends_webhooks
