"""PhotoGPT's envelope: ``{"status": "OK", "result": ...}``, or NOK with whatever status; and its pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pydantic import JsonValue

from pipeline.errors import ErrorContext
from providers.calls import ApiReply, ApiRequest
from providers.http import ApiClient
from providers.http_errors import read_error_body
from providers.photogpt.errors import photogpt_error
from providers.wire import Row, read_wire

PAGE_SIZE = 20
_MOST_PAGES = 500


@dataclass(frozen=True)
class Opened:
    """An answer out of its envelope."""

    reply: ApiReply
    """The answer."""
    result: JsonValue
    """What it holds."""

    @property
    def page_size(self) -> int | None:
        """Rows on a full page, where the answer says that it is a page."""
        payload = self.reply.payload
        size = payload.get("pageSize") if isinstance(payload, dict) else None
        return size if isinstance(size, int) and size > 0 else None

    @property
    def is_page(self) -> bool:
        """True when the answer says that it is one of several."""
        payload = self.reply.payload
        return isinstance(payload, dict) and bool({"page", "pageSize"} & payload.keys())

    def rows(self, wire: type[Row]) -> tuple[Row, ...]:
        """Return the rows of an answer that is a list."""
        if not isinstance(self.result, list):
            raise self.reply.unreadable("expected a list under 'result'")
        return tuple(read_wire(self.reply, entry, wire) for entry in self.result)


class PhotogptSession:
    """One client and what was learned about the server behind it."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self.from_sandbox = False
        """Whether the last answer came from a sandbox."""

    def close(self) -> None:
        """Release connections."""
        self._client.close()

    def call(self, request: ApiRequest) -> Opened:
        """Send one request and open its envelope.

        Raises:
            ProviderError: By status, by transport failure, or because the envelope says NOK.
        """
        reply = self._client.call(request)
        self.from_sandbox = reply.from_sandbox
        payload = reply.payload
        said = payload.get("status") if isinstance(payload, dict) else None
        word = said.strip().upper() if isinstance(said, str) else ""
        if not isinstance(payload, dict) or not (word in {"OK", "NOK"} or "result" in payload):
            raise reply.unreadable("it is not in the envelope with 'status' and 'result'")
        if word and word != "OK":
            context = ErrorContext(
                operation=request.operation, status_code=reply.status_code, request_id=reply.request_id
            )
            raise photogpt_error(request.subject, read_error_body(payload), context)
        return Opened(reply, payload.get("result"))

    def read(self, request: ApiRequest, wire: type[Row]) -> Row:
        """Send one request and return the object it answers with."""
        return self.parse(self.call(request), wire)

    def parse(self, opened: Opened, wire: type[Row]) -> Row:
        """Return the object in an answer."""
        return read_wire(opened.reply, opened.result, wire)

    def pages(self, request: ApiRequest, page_size: int | None) -> Iterator[Opened]:
        """Yield a collection's pages, from 1, to one that is short or repeats another.

        Without a ``page_size`` the first request asks for no page, and the answer says whether there are more.
        """
        seen: set[str] = set()
        for number in range(1, _MOST_PAGES + 1):
            asked = (("pageNum", number), ("pageSize", page_size)) if page_size else (("pageNum", number),)
            paged = request if number == 1 and page_size is None else replace(request, params=request.params + asked)
            opened = self.call(paged)
            entries = opened.result if isinstance(opened.result, list) else []
            fresh = {_id_of(entry) for entry in entries} - seen
            seen |= fresh
            if fresh or number == 1:
                yield opened
            if not fresh or (page_size is None and not opened.is_page):
                return
            if opened.page_size is not None and len(entries) < opened.page_size:
                return


def _id_of(entry: JsonValue) -> str:
    return str(entry.get("id") if isinstance(entry, dict) else entry)
