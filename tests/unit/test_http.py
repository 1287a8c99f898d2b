"""The JSON client: what it sends, what it repeats, what stays in doubt, and the key that appears nowhere."""

from __future__ import annotations

import html
import io
import json
import logging
import pickle
import re
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from pydantic import SecretStr

from pipeline.errors import (
    ConfigurationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    ProviderError,
    ProviderUnavailableError,
    TransportError,
    UnexpectedResponseError,
)
from providers.calls import ApiRequest, ClientOptions
from providers.http import ApiClient, path_segment, redact_url, user_agent
from tests.unit.http_double import (
    CANARY,
    CREATE,
    READ,
    Wire,
    answering,
    everything_in,
    sequence,
)


@pytest.mark.parametrize(
    "response",
    [
        {"text": "<html>login</html>", "headers": {"Content-Type": "text/html"}},
        {"content": b'{"cut": '},
        {"content": b"\xff\xfe\x00"},
        {"content": b"[" * 100_000},
    ],
)
def test_garbage_with_a_success_status_is_an_error(response: dict[str, Any]) -> None:
    """A 200 that is not JSON is an unexpected response, never an empty answer."""
    with pytest.raises(UnexpectedResponseError, match="expected JSON"):
        answering(200, **response).call()


def test_an_empty_success_has_no_payload() -> None:
    """204 and empty bodies are answers without content."""
    assert answering(204).call().payload is None


def test_redirects_are_never_followed() -> None:
    """A redirect is reported with its reason and no second request is sent."""
    wire = answering(307, headers={"Location": "https://elsewhere.example/"})
    with pytest.raises(UnexpectedResponseError, match="redirects are not followed"):
        wire.call()
    assert len(wire.seen) == 1


def test_what_a_request_carries() -> None:
    """Key, agent and JSON are sent; the base URL's path stays in front; a body only where there is one."""
    wire = Wire(lambda _: httpx.Response(200, json={}), base_url="https://api.example/env/")
    wire.call(ApiRequest("x", "GET", "/thing", (("limit", 3), ("name", "a b"))))
    wire.call(CREATE)
    read, created = wire.seen
    assert str(read.url) == "https://api.example/env/thing?limit=3&name=a+b"
    assert read.headers["X-API-Key"] == CANARY
    assert read.headers["User-Agent"] == user_agent()
    assert user_agent().startswith("train-pipeline/")
    assert read.headers["Accept"] == "application/json"
    assert "Content-Type" not in read.headers
    assert "Idempotency-Key" not in read.headers
    assert (created.content, created.headers["Idempotency-Key"]) == (b'{"a":1}', "k")


def test_an_absolute_address_cannot_take_the_key_elsewhere() -> None:
    """Of an address the server supplies, only path and query are used."""
    wire = answering(200, json={})
    wire.call(ApiRequest("x", "GET", "https://evil.example/next?page=2"))
    assert str(wire.seen[0].url) == "https://api.example/next?page=2"


def test_the_request_id_is_kept() -> None:
    """The provider's request id is in answers and errors, for a support ticket."""
    assert answering(200, json={}, headers={"X-Request-Id": "r1"}).call().request_id == "r1"
    with pytest.raises(NotFoundError) as caught:
        answering(404, headers={"X-Request-Id": "r2"}).call()
    assert caught.value.context.request_id == "r2"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_passing_trouble_is_retried_with_the_same_idempotency_key(status: int) -> None:
    """A repeatable POST is sent again after a passing failure, its key unchanged."""
    wire = sequence(httpx.Response(status), httpx.Response(200, json={"ok": True}))
    assert wire.call(CREATE).payload == {"ok": True}
    assert [request.headers["Idempotency-Key"] for request in wire.seen] == ["k", "k"]
    assert len(wire.slept) == 1


def test_repeating_is_declared_by_the_operation() -> None:
    """A GET that is not declared repeatable is sent once: the method alone says nothing."""
    wire = answering(503)
    with pytest.raises(ProviderUnavailableError):
        wire.call(ApiRequest("trigger", "GET", "/start"))
    assert len(wire.seen) == 1


@pytest.mark.parametrize(("status", "waited"), [(429, [9.0]), (503, [9.0])])
def test_retry_after_is_believed_where_it_is_defined(status: int, waited: list[float]) -> None:
    """429 and 503 may name their own delay."""
    wire = sequence(httpx.Response(status, headers={"Retry-After": "9"}), httpx.Response(200, json={}))
    wire.call()
    assert wire.slept == waited


def test_retry_after_on_other_statuses_is_ignored() -> None:
    """A 500 with Retry-After is retried after our own wait."""
    wire = sequence(httpx.Response(500, headers={"Retry-After": "99"}), httpx.Response(200, json={}))
    wire.call()
    assert 0.7 < wire.slept[0] < 1.3


@pytest.mark.parametrize(
    ("step", "unknown"),
    [
        (httpx.Response(500), True),
        (httpx.Response(408), True),
        (httpx.Response(200, text="<html>"), True),
        (httpx.ReadTimeout("x"), True),
        (httpx.RemoteProtocolError("x"), True),
        (httpx.ConnectError("x"), False),
        (httpx.ConnectTimeout("x"), False),
        (httpx.Response(429), False),
        (httpx.Response(422), False),
        (httpx.Response(402), False),
    ],
)
def test_only_a_request_that_may_have_arrived_leaves_doubt(step: httpx.Response | Exception, unknown: bool) -> None:
    """With an effect, the outcome is unknown after lost answers and server errors, and certain otherwise."""
    with pytest.raises(ProviderError) as caught:
        sequence(*[step] * 4).call(CREATE)
    assert caught.value.context.outcome_unknown is unknown


def test_a_refusal_after_a_lost_answer_is_in_doubt() -> None:
    """409 after a dropped connection may be the echo of our own success."""
    with pytest.raises(ConflictError) as caught:
        sequence(httpx.ReadError("x"), httpx.Response(409)).call(CREATE)
    assert caught.value.context.outcome_unknown


def test_reading_never_leaves_doubt() -> None:
    """An operation without an effect has no unknown outcome."""
    with pytest.raises(TransportError) as caught:
        sequence(*[httpx.ReadTimeout("x")] * 4).call(READ)
    assert not caught.value.context.outcome_unknown


ECHOES = {
    "401 echo": [httpx.Response(401, json={"detail": f"Invalid key {CANARY}"})],
    "text echo": [httpx.Response(400, text=f"bad header X-API-Key: {CANARY}")],
    "garbage echo": [httpx.Response(200, text=f"<p>{CANARY}</p>")],
    "field echo": [httpx.Response(422, json={"detail": [{"loc": ["body", CANARY], "msg": CANARY}]})],
    "code echo": [httpx.Response(409, json={"error": {"code": CANARY, "message": CANARY}})],
    "escaped echo": [httpx.Response(401, text=json.dumps({"detail": CANARY}).replace("_", "\\u005f"))],
    "escaped code": [httpx.Response(409, text=json.dumps({"error": {"code": CANARY}}).replace("p", "\\u0070"))],
    "escaped text": [httpx.Response(400, text=f"no JSON: {CANARY}".replace("_", "\\u005F"))],
    "quoted text": [httpx.Response(400, text=f"key={CANARY}".replace("_", "%5f"))],
    "marked text": [httpx.Response(400, text=f"<p>{CANARY}</p>".replace("_", "&#95;"))],
    "name echo": [httpx.Response(422, json={"detail": [{"loc": [{CANARY: 1}], "msg": {CANARY: CANARY}}]})],
    "content type echo": [httpx.Response(200, text="x", headers={"Content-Type": f"text/{CANARY}"})],
    "request id echo": [httpx.Response(400, json={}, headers={"X-Request-Id": f"req-{CANARY}"})],
    "request id of garbage": [httpx.Response(200, text="x", headers={"X-Request-Id": CANARY})],
    "connection": [httpx.ConnectError("x")] * 4,
    "timeout": [httpx.ReadTimeout("x")] * 4,
}


@pytest.mark.parametrize("steps", ECHOES.values(), ids=ECHOES.keys())
def test_the_key_is_in_no_exception_and_no_log(steps: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a server echoes and whatever fails, the key is in no message, chain, context, pickle or log line."""
    caplog.set_level(logging.DEBUG)
    wire = sequence(*steps)
    with pytest.raises(ProviderError) as caught:
        wire.call()
    assert wire.seen[0].headers["X-API-Key"] == CANARY
    stored = io.BytesIO()
    pickle.dump(caught.value, stored)
    assert CANARY not in everything_in(caught.value)
    assert CANARY.encode() not in stored.getvalue()
    assert CANARY not in caplog.text
    assert caplog.text
    shown = re.sub(r"\\+u(00..)", lambda found: chr(int(found[1], 16)), everything_in(caught.value))
    assert CANARY not in html.unescape(unquote(shown))


@pytest.mark.parametrize("depth", [950, 100_000])
def test_an_answer_nested_without_end_is_unreadable(depth: int) -> None:
    """Brackets that the parser or the scrubber cannot follow are no answer, and no crash either."""
    with pytest.raises(UnexpectedResponseError, match="expected JSON"):
        answering(200, text="[" * depth + "]" * depth).call()


def test_the_key_is_in_no_repr_and_no_answer() -> None:
    """Client, options, request and an answer that echoes the key show nothing of it."""
    wire = answering(200, json={"you_sent": CANARY})
    client = wire.client()
    reply = client.call(READ)
    assert CANARY not in repr(client) + repr(vars(client)) + repr(reply) + repr(wire.seen)


HALVES = {
    "value": {"name": "half \ud83d of it"},
    "name": {"\ude00": 1},
    "nested": {"rows": [{"logs": ["\ud83d", {"\ud83d": "\udfff\ud800"}]}]},
}


@pytest.mark.parametrize("answer", HALVES.values(), ids=HALVES.keys())
def test_half_a_character_is_none_in_an_answer(answer: dict[str, Any]) -> None:
    """JSON may hold it, and nothing that stores or shows an answer can take it: it is replaced, in names as well."""
    read = answering(200, text=json.dumps(answer)).call().payload
    shown = json.dumps(read, ensure_ascii=False)
    assert "\ufffd" in shown.encode().decode()
    assert re.sub("[\ud800-\udfff]", "\ufffd", json.dumps(answer, ensure_ascii=False)) == shown


def test_a_whole_character_in_two_escapes_stays() -> None:
    """Most of what is written in two halves is one character."""
    assert answering(200, text='{"a": "\\ud83d\\ude00"}').call().payload == {"a": "\U0001f600"}


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(400, text=json.dumps({"detail": "no \ud83d"})),
        httpx.Response(409, text=json.dumps({"error": {"code": "\ud83d", "message": "no"}})),
        httpx.Response(422, text=json.dumps({"detail": [{"loc": ["\ud83d"], "msg": "\ud83d"}]})),
        httpx.Response(400, content=b"no +2D0-", headers={"Content-Type": "text/plain; charset=utf-7"}),
    ],
    ids=["message", "code", "field", "text"],
)
def test_half_a_character_is_none_in_an_error(response: httpx.Response) -> None:
    """Errors are stored and shown like answers."""
    with pytest.raises(ProviderError) as caught:
        sequence(response).call()
    said = f"{caught.value}{caught.value.context}"
    assert "\ufffd" in said.encode().decode()


@pytest.mark.parametrize("key", ["", "with space", "line\nbreak", "schlüssel", "tab\t"])
def test_an_unsendable_key_is_refused_before_httpx_sees_it(key: str) -> None:
    """A key no header can carry is a configuration error that does not repeat it."""
    with pytest.raises(ConfigurationError) as caught:
        ApiClient(SecretStr(key), ClientOptions("https://api.example"))
    assert not key or key not in everything_in(caught.value)


def test_urls_are_shown_without_their_secrets() -> None:
    """User, password and query are taken out; scheme, host, port and path stay."""
    assert redact_url("https://u:p@h.example:8443/a/b?X-Goog-Signature=s") == "https://h.example:8443/a/b?[redacted]"
    assert redact_url("https://h.example/a") == "https://h.example/a"


def test_httpx_logs_no_signed_query(caplog: pytest.LogCaptureFixture) -> None:
    """The request line of httpx itself is logged without the query."""
    caplog.set_level(logging.INFO)
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client:
        client.get("https://bucket.example/o?X-Goog-Signature=secretsignature")
    assert "https://bucket.example/o" in caplog.text
    assert "secretsignature" not in caplog.text


@pytest.mark.parametrize(("name", "segment"), [("run 1/x", "run%201%2Fx"), ("ä?#", "%C3%A4%3F%23"), ("a..b", "a..b")])
def test_a_name_is_one_segment(name: str, segment: str) -> None:
    """Nothing in a name can split the path or start a query, on the wire included."""
    wire = answering(200, json={})
    wire.call(ApiRequest("x", "GET", f"/t/{path_segment(name)}"))
    assert wire.seen[0].url.raw_path == f"/t/{segment}".encode()


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_address_something_else_is_refused(name: str) -> None:
    """Dot segments and the empty name never reach the wire."""
    with pytest.raises(InvalidRequestError):
        path_segment(name)
