"""What answers and failures mean: every status, every httpx exception and every error body."""

from __future__ import annotations

import inspect
from typing import Any

import httpx
import pytest

from pipeline import errors
from pipeline.errors import (
    AuthenticationError,
    ConflictError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PipelineError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
    UnexpectedResponseError,
)
from providers.http_errors import STATUS_MEANINGS, meaning_of, read_error_body
from providers.transport import FAILURES, failure_of
from tests.unit.http_double import (
    answering,
    sequence,
)

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


def test_every_error_of_the_provider_family_can_come_from_here() -> None:
    """The tree's provider errors are exactly those the two tables produce: none is forgotten, none is invented.

    What a provider has no call for is said without asking it.
    """
    made = set(STATUS_TABLE.values()) | {row.error for row in FAILURES if issubclass(row.error, ProviderError)}
    family = {
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, ProviderError) and not kind.__subclasses__() and kind is not errors.NotOfferedError
    }
    assert made == family
