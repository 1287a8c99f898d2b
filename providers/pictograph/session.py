"""What every Pictograph resource needs: one call, either envelope, either way of addressing, pages to the end.

Two eras of the API are in use. They differ in the envelope (``{"data": ...}`` today, a key named after the resource
before) and in how data sets and exports are addressed by name. Neither is configured: each answer shows its envelope,
one small read shows the era before the first address that depends on it, and a miss is tried the other way once.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from pydantic import JsonValue

from pipeline.errors import NotFoundError, ProviderError
from providers import sides
from providers.calls import ApiReply, ApiRequest
from providers.http import ApiClient
from providers.wire import MintWire, Row, read_wire

PAGE_SIZE = 100
Params = tuple[tuple[str, str | int], ...]
# What a server may answer to an address of the era it does not speak: no such route, no such method, not a UUID.
_MAYBE_OTHER_ERA = frozenset({404, 405, 422})


class Era(StrEnum):
    """Which names and addresses the server understands."""

    BY_NAME = "by_name"
    SEGMENT = "segment"


@dataclass(frozen=True)
class Listing:
    """A collection that can be paged through."""

    operation: str
    """For messages."""
    path: str
    """Where it is."""
    key: str
    """Its key in the older envelope."""
    filters: Params = ()
    """Query besides limit and offset."""

    def page(self, limit: int, offset: int) -> ApiRequest:
        """Return the request for one page."""
        return get(self.operation, self.path, (("limit", limit), ("offset", offset), *self.filters))


def get(operation: str, path: str, params: Params = ()) -> ApiRequest:
    """Return a reading call."""
    return ApiRequest(operation, "GET", path, params, repeatable=True)


def post(
    operation: str, path: str, body: Mapping[str, JsonValue] | None = None, *, key: str | None = None
) -> ApiRequest:
    """Return a call that changes something; its idempotency key makes it safe to repeat."""
    return ApiRequest(
        operation,
        "POST",
        path,
        body=body,
        repeatable=True,
        effect=True,
        idempotency_key=key or uuid.uuid4().hex,
    )


def filters(**values: str | None) -> Params:
    """Return the query of the filters that were given."""
    return tuple((name, value) for name, value in values.items() if value is not None)


class PictographSession:
    """One client and what was learned about the server behind it."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._era: Era | None = None
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

    def read(self, request: ApiRequest, key: str, wire: type[Row]) -> Row:
        """Send one request and return the object it answers with."""
        return self.parse(self.call(request), key, wire)

    def parse(self, reply: ApiReply, key: str, wire: type[Row]) -> Row:
        """Return the object in an answer of either envelope."""
        return read_wire(reply, self._unwrap(reply, key), wire)

    def read_flat(self, request: ApiRequest, wire: type[Row]) -> Row:
        """Send one request whose answer has no envelope in either era."""
        return self.parse_flat(self.call(request), wire)

    def parse_flat(self, reply: ApiReply, wire: type[Row]) -> Row:
        """Return the object an answer without envelope is."""
        return read_wire(reply, reply.payload, wire)

    def download_url(self, reply: ApiReply) -> str:
        """Return the signed URL in an answer of either envelope; it is a secret while it is valid."""
        payload = reply.payload
        content = payload.get("data", payload) if isinstance(payload, dict) else payload
        return read_wire(reply, content, MintWire).download_url

    def list_rows(self, listing: Listing, wire: type[Row], limit: int, offset: int) -> tuple[Row, ...]:
        """Return one page."""
        return self.parse_rows(self.call(listing.page(limit, offset)), listing.key, wire)

    def parse_rows(self, reply: ApiReply, key: str, wire: type[Row]) -> tuple[Row, ...]:
        """Return the rows in an answer of either envelope."""
        return tuple(read_wire(reply, entry, wire) for entry in self._entries(reply, key))

    def iter_rows(self, listing: Listing, wire: type[Row], page_size: int = PAGE_SIZE) -> Iterator[Row]:
        """Yield every row of a collection, each id once.

        Ends at ``has_more: false`` or at a page with nothing new. A short page is no end: a server may cap pages below
        the size asked for, and a run that is overlooked here would be paid for twice.
        """
        seen: set[str] = set()
        offset = 0
        while True:
            reply = self.call(listing.page(page_size, offset))
            entries = self._entries(reply, listing.key)
            fresh = [entry for entry in entries if _id_of(entry) not in seen]
            seen.update(_id_of(entry) for entry in fresh)
            for entry in fresh:
                yield read_wire(reply, entry, wire)
            offset += len(entries)
            if not fresh or _says_no_more(reply.payload):
                return

    def call_named(self, segment: ApiRequest, by_name: ApiRequest) -> ApiReply:
        """Send a call whose address depends on the era: the likelier one, and after a miss the other one, once.

        Raises:
            NotFoundError: Neither address names anything.
        """
        pair = {Era.SEGMENT: segment, Era.BY_NAME: by_name}
        likely = self.era()
        other = Era.BY_NAME if likely is Era.SEGMENT else Era.SEGMENT
        try:
            return self.call(pair[likely])
        except ProviderError as error:
            if error.context.status_code not in _MAYBE_OTHER_ERA:
                raise
            missed = error
        try:
            reply = self.call(pair[other])
        except ProviderError as error:
            if error.context.status_code not in _MAYBE_OTHER_ERA:
                raise
            raise (missed if isinstance(missed, NotFoundError) else error) from error
        self._era = other
        return reply

    def era(self) -> Era:
        """Return the server's era, asking with one small read if no answer has shown it yet."""
        if self._era is None:
            reply = self.call(get("datasets.list", "/datasets/", (("limit", 1), ("offset", 0))))
            self._unwrap(reply, "datasets")
        return self._era or Era.SEGMENT

    def _entries(self, reply: ApiReply, key: str) -> list[JsonValue]:
        content = self._unwrap(reply, key)
        if isinstance(content, dict):
            content = content.get(key)
        if not isinstance(content, list):
            raise reply.unreadable(f"expected a list under 'data' or {key!r}")
        return content

    def _unwrap(self, reply: ApiReply, key: str) -> JsonValue:
        payload = reply.payload
        if not isinstance(payload, dict) or not ({"data", key} & payload.keys()):
            raise reply.unreadable(f"neither 'data' nor {key!r} is in it")
        if self._era is None:
            self._era = Era.SEGMENT if "data" in payload else Era.BY_NAME
        return payload["data"] if "data" in payload else payload[key]


def _id_of(entry: JsonValue) -> str:
    return str(entry.get("id") if isinstance(entry, dict) else entry)


def _says_no_more(payload: JsonValue) -> bool:
    pagination = payload.get("pagination") if isinstance(payload, dict) else None
    return isinstance(pagination, dict) and pagination.get("has_more") is False


def check_side(*, from_sandbox: bool, expected: bool) -> None:
    """Refuse a rehearsal that would be paid for, and a model of the sandbox that would pass for a hosted one.

    Raises:
        ConfigurationError: Naming the variable whose address leads to the wrong side.
    """
    sides.check_side(from_sandbox=from_sandbox, expected=expected, variable="PICTOGRAPH_BASE_URL")


def without_effect(request: ApiRequest) -> ApiRequest:
    """Declare that a POST changes nothing, so that a lost answer leaves nothing unknown."""
    return replace(request, effect=False)
