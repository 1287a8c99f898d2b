"""What a call of an API is made of, what comes back, and how an API is reached."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import httpx
from pydantic import JsonValue

from pipeline.errors import ErrorContext, ProviderError, UnexpectedResponseError
from providers.http_errors import ErrorBody, status_error
from providers.retry import DEFAULT, Clock, RetryPolicy, Uniform


@dataclass(frozen=True)
class UploadPart:
    """One part of a form: a file, or bytes that are sent as one."""

    field: str
    """The part's name."""
    content: Path | bytes
    """The file, opened anew for each attempt, or the bytes themselves."""
    filename: str | None
    """The name it is sent under; none sends a plain field."""
    content_type: str = "application/octet-stream"
    """Its media type."""


@dataclass(frozen=True)
class ApiRequest:
    """One call of an API."""

    operation: str
    """What it does, for messages: ``training.create``."""
    method: Literal["GET", "POST", "PATCH", "DELETE"]
    """HTTP method."""
    path: str
    """Path below the API's base, names already quoted; of an absolute URL only path and query are used."""
    params: tuple[tuple[str, str | int], ...] = ()
    """Query."""
    body: Mapping[str, JsonValue] | None = None
    """JSON body."""
    repeatable: bool = False
    """Declared by the operation: sending it again cannot do anything twice."""
    look_first: bool = False
    """Declared by the operation: once an attempt may have had its effect, the caller looks before it is sent again."""
    effect: bool = False
    """Declared by the operation: it changes something, so that a lost answer leaves the outcome unknown."""
    idempotency_key: str | None = None
    """Same for every attempt of one operation."""
    parts: tuple[UploadPart, ...] = ()
    """A multipart form, in the place of a JSON body."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further headers."""
    timeout_s: float | None = None
    """Seconds to wait for an answer where that is not the client's usual time; a connection keeps the usual one."""

    @property
    def subject(self) -> str:
        """The call for messages, without its query."""
        return f"{self.operation} ({self.method} {urlsplit(self.path).path})"


@dataclass(frozen=True)
class ApiReply:
    """A successful answer."""

    request: ApiRequest
    """What was asked."""
    status_code: int
    """2xx."""
    payload: JsonValue
    """Parsed body; None when it was empty."""
    request_id: str | None
    """The provider's id of the request."""
    from_sandbox: bool = False
    """Whether a sandbox answered."""

    def unreadable(self, why: str) -> UnexpectedResponseError:
        """Return the error for a body that is JSON but not what the call should give."""
        context = ErrorContext(
            operation=self.request.operation,
            status_code=self.status_code,
            request_id=self.request_id,
            outcome_unknown=self.request.effect,
        )
        message = f"{self.request.subject} gave an answer that cannot be read: {why}. The API may have changed."
        return UnexpectedResponseError(message, context)


ErrorReader = Callable[[str, ErrorBody, ErrorContext], ProviderError]
"""Makes an error from what was asked, the answer's body and what else is known, its status among it."""


@dataclass(frozen=True)
class ClientOptions:
    """How to reach an API."""

    base_url: str
    """Scheme, host and path prefix."""
    timeout_s: float = 30.0
    """Seconds to wait for a connection, and between bytes."""
    scheme: Literal["X-API-Key", "Bearer"] = "X-API-Key"
    """How the key is sent: in a header of its own, or as a bearer token."""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers of every request."""
    error_of: ErrorReader = status_error
    """Makes the error of an answer outside 2xx, as the vendor means it."""
    retry: RetryPolicy = DEFAULT
    """For operations that are safe to repeat."""
    transport: httpx.BaseTransport | None = None
    """Replaces the network in tests."""
    clock: Clock = time
    """Replaced in tests."""
    uniform: Uniform = random.uniform
    """Source of jitter; replaced in tests."""
