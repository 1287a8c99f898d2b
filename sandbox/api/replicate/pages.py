"""Pages of the emulated Replicate API: newest first, with opaque cursors in absolute links."""

import base64
import binascii
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from sandbox.api.replicate.call import Call
from sandbox.api.replicate.errors import refuse
from sandbox.replicate.words import stamp
from sandbox.store import Row


def page(call: Call, rows: list[Row], view: Callable[[Row], dict[str, Any]]) -> dict[str, Any]:
    """Return the page of these rows, newest first, that the request's cursor asks for."""
    size = call.settings.page_size
    older, seq = _position(call.request.query_params.get("cursor"))
    if seq is None:
        begin = 0
    elif older:
        begin = sum(row["seq"] >= seq for row in rows)
    else:
        begin = max(0, sum(row["seq"] > seq for row in rows) - size)
    shown = rows[begin : begin + size]
    has_more = begin + size < len(rows)
    return {
        "previous": _link(call, shown[0], older=False) if begin and shown else None,
        "next": _link(call, shown[-1], older=True) if has_more else None,
        "results": [view(row) for row in shown],
    }


def _link(call: Call, row: Row, *, older: bool) -> str:
    place = f"p={quote(str(stamp(row['created_at'])))}&s={row['seq']}{'' if older else '&r=1'}"
    cursor = base64.b64encode(place.encode()).decode()
    base_url = call.settings.next_base_url or call.base_url
    return f"{base_url.rstrip('/')}{call.request.url.path}?cursor={quote(cursor)}"


def _position(cursor: str | None) -> tuple[bool, int | None]:
    """Return the direction of a cursor and the row it stands at."""
    if cursor is None:
        return True, None
    try:
        parts = dict(part.split("=", 1) for part in base64.b64decode(cursor, validate=True).decode().split("&"))
        return "r" not in parts, int(parts["s"])
    except (binascii.Error, ValueError, KeyError):
        raise refuse(404, "Invalid cursor.") from None
