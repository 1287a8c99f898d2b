"""The JSON client: every status and every httpx exception becomes its own error, and the key appears nowhere."""

from __future__ import annotations

import inspect
import io
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pipeline import errors
from pipeline.errors import (
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PipelineError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
    TransportError,
    UnexpectedResponseError,
)
from providers.http import (
    FAILURES,
    ApiClient,
    ApiReply,
    ApiRequest,
    ClientOptions,
    failure_of,
    path_segment,
    redact_url,
    user_agent,
)
from providers.http_errors import STATUS_MEANINGS, meaning_of, read_error_body

CANARY = "pk_live_canary0123456789"
Handler = Callable[[httpx.Request], httpx.Response]
READ = ApiRequest("thing.get", "GET", "/thing", repeatable=True)
CREATE = ApiRequest(
    "thing.create", "POST", "/things/", body={"a": 1}, repeatable=True, effect=True, idempotency_key="k"
)


@dataclass
class Wire:
    """A server in memory and a clock that only counts."""

    handler: Handler
    base_url: str = "https://api.example"
    seen: list[httpx.Request] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def client(self) -> ApiClient:
        """Return a client of this server."""
        options = ClientOptions(self.base_url, transport=httpx.MockTransport(self._answer), clock=self)
        return ApiClient(SecretStr(CANARY), options)

    def call(self, request: ApiRequest = READ) -> ApiReply:
        """Send one request."""
        return self.client().call(request)

    def time(self) -> float:
        """Return a fixed moment."""
        return 1_800_000_000.0

    def sleep(self, seconds: float, /) -> None:
        """Count instead of waiting."""
        self.slept.append(seconds)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        return self.handler(request)


def answering(status: int, **response: Any) -> Wire:
    """Return a server with one answer."""
    return Wire(lambda _: httpx.Response(status, **response))


def sequence(*steps: httpx.Response | Exception) -> Wire:
    """Return a server that answers or fails in turn."""
    queue: Iterator[httpx.Response | Exception] = iter(steps)

    def handler(_: httpx.Request) -> httpx.Response:
        step = next(queue)
        if isinstance(step, Exception):
            raise step
        return step

    return Wire(handler)


def everything_in(error: BaseException) -> str:
    """Return all text an exception can show: the chain, traceback locals excepted, arguments and reprs."""
    parts = ["".join(traceback.format_exception(error))]
    link: BaseException | None = error
    while link is not None:
        parts.append(repr(link) + repr(link.args) + repr(vars(link)))
        link = link.__cause__ or link.__context__
    return "\n".join(parts)


STATUS_TABLE = {
    307: UnexpectedResponseError,
    302: UnexpectedResponseError,
    400: InvalidRequestError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: UnexpectedResponseError,
    408: ProviderUnavailableError,
    409: ConflictError,
    410: NotFoundError,
    413: InvalidRequestError,
    418: UnexpectedResponseError,
    422: InvalidRequestError,
    423: ConflictError,
    425: ProviderUnavailableError,
    429: RateLimitError,
    500: ProviderUnavailableError,
    501: ProviderUnavailableError,
    502: ProviderUnavailableError,
    503: ProviderUnavailableError,
    504: ProviderUnavailableError,
    505: ProviderUnavailableError,
    507: ProviderUnavailableError,
}


@pytest.mark.parametrize(("status", "expected"), STATUS_TABLE.items())
def test_every_status_has_its_own_error(status: int, expected: type[ProviderError]) -> None:
    """A status becomes exactly one class, names operation, path and status, and says what to do next."""
    wire = answering(status, json={"detail": "because"})
    with pytest.raises(ProviderError) as caught:
        wire.call()
    assert type(caught.value) is expected
    assert caught.value.context.status_code == status
    for part in ("thing.get (GET /thing)", f"HTTP {status}", "because", "Next: "):
        assert part in str(caught.value)


def test_the_status_table_is_complete() -> None:
    """Every status with a meaning of its own is tested above, and every other one still gets an error."""
    assert set(STATUS_MEANINGS) <= set(STATUS_TABLE)
    for status in [*range(300, 600)]:
        assert issubclass(meaning_of(status).error, ProviderError)
        assert meaning_of(status).advice


def test_every_httpx_exception_has_a_meaning() -> None:
    """No exception httpx can raise while calling escapes the table, and no narrow row stands behind a wider one."""
    raised = [kind for _, kind in inspect.getmembers(httpx, inspect.isclass) if issubclass(kind, Exception)]
    uncallable = {httpx.CookieConflict}  # raised only by reading cookies, which nothing here does
    for kind in set(raised) - uncallable:
        assert any(issubclass(kind, row.raised) for row in FAILURES), kind
    for index, row in enumerate(FAILURES):
        assert not any(issubclass(row.raised, earlier.raised) for earlier in FAILURES[:index]), row.raised


@pytest.mark.parametrize("row", FAILURES, ids=lambda row: row.raised.__name__)
def test_a_transport_failure_becomes_our_error_with_its_cause(row: Any) -> None:
    """The error class comes from the table, httpx's exception stays as the cause."""
    exc = row.raised("boom") if row.raised is not httpx.StreamError else httpx.StreamError("boom")
    wire = sequence(*[exc] * 4)
    with pytest.raises(PipelineError) as caught:
        wire.call()
    assert type(caught.value) is row.error
    assert failure_of(exc) is row
    assert caught.value.__cause__ is exc


@pytest.mark.parametrize(
    ("payload", "message", "code", "fields"),
    [
        ({"detail": "Unknown operation: bogus"}, "Unknown operation: bogus", None, ()),
        ({"detail": {"error": "insufficient_credits", "message": "need"}}, "need", "insufficient_credits", ()),
        ({"error": "not_found", "message": "Dataset not found", "details": {}}, "Dataset not found", "not_found", ()),
        (
            {"error": {"code": "conflict", "message": "taken", "details": {}}, "detail": "older text"},
            "taken",
            "conflict",
            (),
        ),
        (
            {"detail": [{"loc": ["body", "config", "epochs"], "msg": "too big", "type": "x"}, {"loc": ["query"]}]},
            None,
            None,
            ("config.epochs: too big", "request: refused"),
        ),
        (
            {
                "error": {
                    "code": "validation_error",
                    "message": "bad",
                    "details": {"errors": [{"loc": ["gpu"], "msg": "?"}]},
                }
            },
            "bad",
            "validation_error",
            ("gpu: ?",),
        ),
        (["nothing", "known"], None, None, ()),
        ({"detail": 7, "error": ["x"]}, None, None, ()),
    ],
)
def test_all_error_bodies_are_read(payload: object, message: str | None, code: str | None, fields: tuple[str]) -> None:
    """Every shape gives the sentence, not the slug, and every field error is kept."""
    body = read_error_body(payload)
    assert (body.message, body.code, body.fields) == (message, code, fields)


def test_an_error_without_json_shows_the_start_of_its_text() -> None:
    """A proxy's page is cut to its beginning, in one line."""
    with pytest.raises(ProviderUnavailableError, match="Bad gateway of the proxy") as caught:
        answering(502, text="Bad gateway\n of the proxy" + "x" * 5000).call()
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (
            {"error": {"code": "insufficient_credits", "message": "m", "details": {
                "required_micro_usd": 2_000_000, "remaining_micro_usd": 0, "unit": "micro_usd"}}},
            "required $2.00, remaining $0.00",
        ),
        ({"error": {"code": "c", "message": "m", "details": {"required": 5, "remaining": 3, "unit": "micro_usd"}}},
         "remaining $0.00"),
        ({"detail": {"error": "c", "message": "m", "required": 300, "remaining": 10}},
         "required 300 credits, remaining 10 credits"),
        ({"detail": "m", "credit_cost": 300, "credits_remaining": 0}, "required 300 credits, remaining 0 credits"),
    ],
)  # fmt: skip
def test_a_402_says_what_is_missing(body: dict[str, Any], shown: str) -> None:
    """The message carries required and remaining in the account's unit, a remaining of zero included."""
    with pytest.raises(InsufficientCreditsError) as caught:
        answering(402, json=body).call()
    assert shown in str(caught.value)


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


def test_the_key_is_in_no_repr_and_no_answer() -> None:
    """Client, options, request and an answer that echoes the key show nothing of it."""
    wire = answering(200, json={"you_sent": CANARY})
    client = wire.client()
    reply = client.call(READ)
    assert CANARY not in repr(client) + repr(vars(client)) + repr(reply) + repr(wire.seen)


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


def test_every_error_of_the_provider_family_can_come_from_here() -> None:
    """The tree's provider errors are exactly those the two tables produce: none is forgotten, none is invented."""
    made = set(STATUS_TABLE.values()) | {row.error for row in FAILURES if issubclass(row.error, ProviderError)}
    family = {
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, ProviderError) and not kind.__subclasses__()
    }
    assert made == family
