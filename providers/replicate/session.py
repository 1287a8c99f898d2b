"""What every Replicate resource needs: one call by our own base and path, one reader, pages to the end.

Addresses the API hands out are never followed: the key travels with every call. Of a page's ``next`` only the query is
used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

from pydantic import JsonValue

from pipeline.errors import ErrorContext, InvalidRequestError
from providers.calls import ApiReply, ApiRequest
from providers.http import ApiClient, path_segment
from providers.replicate.secrecy import Redaction
from providers.wire import Row, read_wire

Params = tuple[tuple[str, str | int], ...]
_SHOWN = frozenset({"logs", "error"})
"""Fields that are free text, written by a trainer or a model."""


def get(operation: str, path: str) -> ApiRequest:
    """Return a reading call."""
    return ApiRequest(operation, "GET", path, repeatable=True)


def model_path(model: str) -> str:
    """Return the path of a model named ``owner/name``."""
    owner, _, name = model.partition("/")
    return f"/v1/models/{path_segment(owner)}/{path_segment(name)}"


def version_path(version: str) -> str:
    """Return the path of a version named ``owner/name:id``.

    Raises:
        InvalidRequestError: It is named otherwise.
    """
    model, colon, version_id = version.partition(":")
    if not colon or "/" not in model:
        message = f"{version!r} is no version of a model: it must read owner/name:id."
        raise InvalidRequestError(message, ErrorContext(operation="versions.get"))
    return f"{model_path(model)}/versions/{path_segment(version_id)}"


class ReplicateSession:
    """One client, what its last answer said of the server behind it, and what must not be shown of any answer."""

    def __init__(self, client: ApiClient, redaction: Redaction) -> None:
        self._client = client
        self._redaction = redaction
        self.from_sandbox = False
        """Whether the last answer came from a sandbox."""

    def close(self) -> None:
        """Release connections."""
        self._client.close()

    def call(self, request: ApiRequest) -> ApiReply:
        """Send one request."""
        reply = self._client.call(request)
        self.from_sandbox = reply.from_sandbox
        return reply

    def read(self, request: ApiRequest, wire: type[Row]) -> Row:
        """Send one request and return the object it answers with."""
        return self.parse(self.call(request), wire)

    def parse(self, reply: ApiReply, wire: type[Row]) -> Row:
        """Return the object an answer is."""
        return self._row(reply, reply.payload, wire)

    def read_rows(self, request: ApiRequest, wire: type[Row]) -> tuple[Row, ...]:
        """Send one request and return the bare list it answers with."""
        reply = self.call(request)
        return tuple(self._row(reply, entry, wire) for entry in _entries(reply, reply.payload))

    def iter_rows(self, request: ApiRequest, wire: type[Row], *, pages: int | None = None) -> Iterator[Row]:
        """Yield the rows of a collection, newest first; ``pages`` bounds how many are read.

        Raises:
            UnexpectedResponseError: The pages run in a circle, or one cannot be read.
        """
        seen: set[Params] = set()
        following: Params | None = request.params
        while following is not None and (pages is None or len(seen) < pages):
            seen.add(following)
            reply = self.call(replace(request, params=following))
            page = reply.payload if isinstance(reply.payload, dict) else {}
            for entry in _entries(reply, page.get("results")):
                yield self._row(reply, entry, wire)
            following = _query(page.get("next"))
            if following in seen:
                raise reply.unreadable("its next page is one that was read already")

    def _row(self, reply: ApiReply, content: JsonValue, wire: type[Row]) -> Row:
        if isinstance(content, dict):
            content = {
                name: self._redaction.said(value) if name in _SHOWN else value for name, value in content.items()
            }
        return read_wire(reply, content, wire)


def _entries(reply: ApiReply, content: JsonValue) -> list[JsonValue]:
    if not isinstance(content, list):
        raise reply.unreadable("expected a list")
    return content


def _query(address: JsonValue) -> Params | None:
    """Return the query of the next page's address, whatever its host; none at the end."""
    if not isinstance(address, str) or not address:
        return None
    return tuple(parse_qsl(urlsplit(address).query, keep_blank_values=True)) or None
