"""What an HTTP answer that is not a success means: one table of statuses, one reader of error bodies.

Bodies come as ``{"detail": "text"}``, ``{"detail": {"error", "message", ...}}``, ``{"detail": [{"loc", "msg"}]}``, flat
``{"error": "code", "message", "details"}`` and ``{"error": {"code", "message", "details"}, "detail": ...}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import (
    AuthenticationError,
    ConflictError,
    ErrorContext,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
    UnexpectedResponseError,
)
from pipeline.models import Money, Unit
from providers.figures import figure_of

_LONGEST_MESSAGE = 500
_LONGEST_CODE = 100


@dataclass(frozen=True)
class StatusMeaning:
    """What a status means to the caller."""

    error: type[ProviderError]
    """The error it becomes."""
    advice: str
    """What to do next."""


_WAIT = "try again later"
STATUS_MEANINGS: dict[int, StatusMeaning] = {
    400: StatusMeaning(InvalidRequestError, "change the refused value"),
    401: StatusMeaning(AuthenticationError, "check that the API key is complete, valid and not revoked"),
    402: StatusMeaning(InsufficientCreditsError, "top up the account or lower the work"),
    403: StatusMeaning(PermissionDeniedError, "use a key with a higher role, or change the plan"),
    404: StatusMeaning(NotFoundError, "check the name and that the key belongs to the right organisation"),
    405: StatusMeaning(UnexpectedResponseError, "this server does not offer the call"),
    408: StatusMeaning(ProviderUnavailableError, _WAIT),
    409: StatusMeaning(ConflictError, "look at the object's present state"),
    410: StatusMeaning(NotFoundError, "it existed and was removed for good"),
    413: StatusMeaning(InvalidRequestError, "send less in one request"),
    422: StatusMeaning(InvalidRequestError, "change the refused value"),
    423: StatusMeaning(ConflictError, "wait until whatever holds the object has let go of it"),
    425: StatusMeaning(ProviderUnavailableError, _WAIT),
    429: StatusMeaning(RateLimitError, "look less often, or wait as long as the server asks"),
}
"""Statuses with a meaning of their own; the rest goes by its hundred."""


def meaning_of(status_code: int) -> StatusMeaning:
    """Return what a status outside 2xx means."""
    if status_code in STATUS_MEANINGS:
        return STATUS_MEANINGS[status_code]
    if 300 <= status_code < 400:
        advice = "redirects are not followed because the key would travel with them: correct the base URL"
        return StatusMeaning(UnexpectedResponseError, advice)
    if status_code >= 500:
        return StatusMeaning(ProviderUnavailableError, _WAIT)
    return StatusMeaning(UnexpectedResponseError, "check the base URL and what stands between here and the provider")


@dataclass(frozen=True)
class ErrorBody:
    """An error body of any shape, read."""

    message: str | None = None
    """The server's sentence."""
    code: str | None = None
    """The server's short code."""
    fields: tuple[str, ...] = ()
    """Refused fields, each as ``path: reason``."""
    details: dict[str, Any] = field(default_factory=dict)
    """Everything else it said, the most specific level winning."""


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _text(*candidates: object) -> str | None:
    return next((value for value in candidates if isinstance(value, str) and value.strip()), None)


def _field_errors(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    named = []
    for entry in (_mapping(item) for item in value):
        path = entry.get("loc", entry.get("field", "request"))
        steps = path if isinstance(path, list) else [path]
        # "body" and "query" say where the field stood, not which one it is.
        name = ".".join(str(step) for step in steps if str(step) not in {"body", "query", "path"}) or "request"
        named.append(f"{name}: {_text(entry.get('msg'), entry.get('message')) or 'refused'}")
    return tuple(named)


def read_error_body(payload: object, text: str = "") -> ErrorBody:
    """Read an error body of any known shape; ``text`` is used when it is not JSON."""
    top = _mapping(payload)
    error, detail = top.get("error"), top.get("detail")
    inner, nested = _mapping(error), _mapping(detail)
    details = {**top, **nested, **_mapping(top.get("details")), **_mapping(inner.get("details"))}
    fields = _field_errors(detail) or _field_errors(details.get("errors"))
    message = _text(inner.get("message"), nested.get("message"), top.get("message"), detail)
    code = _text(inner.get("code"), error, nested.get("error"), nested.get("code"), top.get("code"))
    if payload is None:
        message = _text(" ".join(text.split())[:200])
    return ErrorBody(message=message, code=code[:_LONGEST_CODE] if code else None, fields=fields, details=details)


def _first_number(details: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        figure = figure_of(details.get(name))
        if figure is not None:
            return round(figure)
    return None


def shortage(details: Mapping[str, Any]) -> str | None:
    """Say what is required and what remains, from the details of a 402; None when it says neither."""
    micro = details.get("unit") == "micro_usd" or "required_micro_usd" in details or "remaining_micro_usd" in details
    unit = Unit.MICRO_USD if micro else Unit.CREDITS
    required = _first_number(details, "required_micro_usd", "required", "credit_cost")
    remaining = _first_number(details, "remaining_micro_usd", "remaining", "credits_remaining")
    said = [("required", required), ("remaining", remaining)]
    parts = [f"{word} {Money(amount=amount, unit=unit)}" for word, amount in said if amount is not None]
    return ", ".join(parts) or None


def describe(status_code: int, body: ErrorBody) -> str:
    """Return what the server said, with fields and money where it named them, cut to a readable length."""
    said = [body.message or body.code or "no explanation"]
    if body.code and body.code != said[0]:
        said.append(f"code {body.code}")
    said.extend(body.fields)
    money = shortage(body.details) if status_code == 402 else None
    return "; ".join([*said, *([money] if money else [])])[:_LONGEST_MESSAGE]


def status_error(subject: str, body: ErrorBody, context: ErrorContext) -> ProviderError:
    """Make the error for an answer outside 2xx; ``subject`` says what was asked, ``context.status_code`` the status."""
    status_code = context.status_code or 0
    meaning = meaning_of(status_code)
    message = f"{subject} was answered with HTTP {status_code}: {describe(status_code, body)}. Next: {meaning.advice}."
    return meaning.error(message, context)
