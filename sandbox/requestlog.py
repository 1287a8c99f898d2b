"""What the request log keeps of a request: no keys, no signatures, no pictures."""

import re
from collections.abc import Mapping

from sandbox.wire import Scope

_MAX_LOGGED_CHARS = 100_000
_TEXT = ("application/json", "application/problem+json", "application/x-www-form-urlencoded", "text/")


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers of a request, their names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def redacted(query: str) -> str:
    """Return a query string without the value of a signature."""
    return re.sub(r"((?:^|&|-)[Ss]ignature=)[^&]*", r"\1…", query)


def logged_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with no more than the end of a key in them."""
    return {
        name: f"…{value[-4:]}" if name in ("x-api-key", "authorization") else value for name, value in headers.items()
    }


def logged_body(headers: Mapping[str, str], body: bytes) -> str | None:
    """Return the beginning of a text; of an upload, no more than what it is and how long."""
    if not body:
        return None
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and not kind.startswith(_TEXT):
        return f"({kind}, {len(body)} bytes)"
    return body.decode("utf-8", "replace")[:_MAX_LOGGED_CHARS]
