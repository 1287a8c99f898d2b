"""What the request log keeps of a request: no keys, no signatures, no files, no pictures, nothing about a person."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from sandbox.wire import Scope

_MAX_LOGGED_CHARS = 100_000
_MAX_READ_BYTES = 4_000_000
"""Longer bodies are not taken apart: what is left of them would not fit in any case."""
_FORM = "application/x-www-form-urlencoded"
_DATA_URI = re.compile(r"data:[\w.+/-]*(?:;[^\s,\"']*)*,[^\s\"']*", re.IGNORECASE)
_PICTURE = re.compile(r"(/+storage/+[^/\s]+/+photogpt/+[^/\s]+/+)[^\s\"'?#]+")
"""Address of a PhotoGPT picture: whoever knows its last part sees the picture."""
_PERSONS = "/api/models"
"""Where PhotoGPT is told about the person a model is of."""


@dataclass(frozen=True)
class Sent:
    """What of a request decides how much of its body is kept."""

    method: str
    path: str
    """Decoded, as it is routed."""
    headers: Mapping[str, str]
    """Their names in lower case."""


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers of a request, their names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def redacted(query: str) -> str:
    """Return a query string without the value of a signature."""
    return re.sub(r"((?:^|&|-)[Ss]ignature=)[^&]*", r"\1…", query)


def logged_path(raw_path: str) -> str:
    """Return a path, percent-encoded as it came; the address of a PhotoGPT picture without its last part."""
    found = _PICTURE.match(unquote(raw_path))
    return f"{found[1]}…" if found else raw_path


def logged_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with no more than the end of a key in them."""
    return {
        name: f"…{value[-4:]}" if name in ("x-api-key", "authorization") else value for name, value in headers.items()
    }


def logged_body(sent: Sent, body: bytes) -> str | None:
    """Return the beginning of JSON or of a form, without the files in it; of anything else what it is and how long."""
    if not body:
        return None
    kind = sent.headers.get("content-type", "").partition(";")[0].strip().lower()
    text = None if len(body) > _MAX_READ_BYTES else _text(sent, kind, body)
    return f"({kind or 'no content type'}, {len(body)} bytes)" if text is None else text[:_MAX_LOGGED_CHARS]


def _text(sent: Sent, kind: str, body: bytes) -> str | None:
    """Return what may be kept, or None for a body that cannot be looked through."""
    is_about_a_person = sent.method == "POST" and sent.path.rstrip("/") == _PERSONS
    if kind == _FORM and not is_about_a_person:
        return _form(body.decode("utf-8", "replace"))
    if kind != "application/json" and not kind.endswith("+json"):
        return None
    try:
        read = json.loads(body)
        if is_about_a_person:
            return json.dumps(dict.fromkeys(read, "…")) if isinstance(read, dict) else None
        kept = _without_files(read)
        # Unchanged bodies are kept as they were written, spaces and all.
        return body.decode("utf-8", "replace") if kept == read else json.dumps(kept)
    except (ValueError, RecursionError):
        return None


def _form(text: str) -> str:
    """Return a form; the fields are looked at one by one, because they are encoded."""
    fields = parse_qsl(text, keep_blank_values=True)
    kept = [(_shortened(name), _shortened(value)) for name, value in fields]
    return text if kept == fields else urlencode(kept, safe=" ()/:,…")


def _without_files(value: Any) -> Any:
    if isinstance(value, str):
        return _shortened(value)
    if isinstance(value, list):
        return [_without_files(entry) for entry in value]
    if isinstance(value, dict):
        return {_shortened(name): _without_files(entry) for name, entry in value.items()}
    return value


def _shortened(text: str) -> str:
    """Return a text with a note in the place of data: URIs, and without the last part of a picture's address."""
    if text.lstrip()[:5].lower() == "data:":
        return f"(data: URI, {len(text)} characters)"  # white space in it does not end it
    text = _DATA_URI.sub(lambda found: f"(data: URI, {len(found[0])} characters)", text)
    return _PICTURE.sub(r"\1…", text)
