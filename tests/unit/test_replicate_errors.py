"""Tests of what Replicate's error answers mean."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from pipeline.errors import (
    AuthenticationError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
    UnexpectedResponseError,
)
from tests.unit.http_double import everything_in
from tests.unit.scripted_replicate import HANDLE, KEY, RUN_ID, api, problem

CANCEL = f"POST /v1/trainings/{RUN_ID}/cancel"
GET = f"GET /v1/trainings/{RUN_ID}"


def _error(answer: httpx.Response) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        api({GET: answer}).provider.get_run(HANDLE)
    return caught.value


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AuthenticationError),
        (402, InsufficientCreditsError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (413, InvalidRequestError),
        (422, InvalidRequestError),
        (429, RateLimitError),
        (301, UnexpectedResponseError),
        (500, ProviderUnavailableError),
        (503, ProviderUnavailableError),
    ],
)
def test_every_status_has_its_error(status: int, error: type[ProviderError]) -> None:
    """With the server's sentence in it."""
    found = _error(problem(status, "this is why"))
    assert type(found) is error
    assert "this is why" in found.message


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"detail": "why"}, ": why."),
        ({"title": "Unauthenticated"}, ": Unauthenticated."),
        ({"title": "Invalid version", "detail": "why"}, ": Invalid version: why."),
        ({"title": "same", "detail": "same"}, ": same."),
        ({"title": 3, "detail": {"message": "inside"}}, ": inside."),
        ({"detail": [{"loc": ["body", "input"], "msg": "bad"}]}, "input: bad"),
        (["a", "list"], "no explanation"),
        ({}, "no explanation"),
    ],
)
def test_problems_are_read_in_any_shape(body: Any, said: str) -> None:
    """Title, detail, both, or neither."""
    assert said in _error(httpx.Response(422, json=body)).message


@pytest.mark.parametrize("text", ["<html><body>502 Bad Gateway</body></html>", " \n<!doctype html>"])
def test_a_page_of_html_is_not_quoted(text: str) -> None:
    """Whatever stands in front of the API wrote it."""
    message = _error(httpx.Response(413, text=text)).message
    assert "a page of HTML" in message
    assert "<" not in message


@pytest.mark.parametrize(
    ("body", "header", "delay_s"),
    [
        ({"detail": "Request was throttled. Expected available in 1 second."}, None, 1.0),
        ({"detail": "Your rate limit resets in ~30s."}, None, 30.0),
        ({"detail": "x", "status": 429, "retry_after": 5}, None, 5.0),
        ({"detail": "Expected available in 12 seconds.", "retry_after": 5}, "7", 12.0),
        ({"detail": "x", "retry_after": 5}, "7", 7.0),
        ({"detail": "Expected available in 86400 seconds."}, None, 120.0),
        ({"detail": "x", "retry_after": True}, None, None),
        ({"detail": "x", "retry_after": -3}, "0", None),
        ({"detail": "x"}, None, None),
    ],
)
def test_a_throttle_carries_the_longest_delay_it_names(
    body: dict[str, Any], header: str | None, delay_s: float | None
) -> None:
    """Header, body and sentence; two minutes at most."""
    headers = {"Retry-After": header} if header else {}
    assert _error(httpx.Response(429, json=body, headers=headers)).context.retry_after_s == delay_s


def test_a_delay_is_waited_for() -> None:
    """Between the repetitions of a look."""
    server = api({GET: problem(429, "Expected available in 9 seconds.")})
    with pytest.raises(RateLimitError):
        server.provider.get_run(HANDLE)
    assert server.slept == [9.0] * 3


def test_a_delay_of_another_error_is_not_believed() -> None:
    """Only a throttle names one."""
    assert _error(problem(422, "resets in 30s", retry_after=30)).context.retry_after_s is None


def test_a_key_that_is_echoed_is_in_no_error() -> None:
    """In title or detail, spelled out or escaped."""
    found = _error(problem(401, f"token {KEY} is not valid", title=f"No {KEY}"))
    assert KEY not in everything_in(found)
    assert "[redacted]" in found.message
