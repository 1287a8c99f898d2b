"""Which jobs a listing is about: its window of time and its place in the pages."""

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime

DAY_S = 24 * 3600.0
LONGEST_S = 7 * DAY_S
_SEQ_DIGITS = 18
"""As many as the store can count."""


class WindowError(ValueError):
    """A window or a page token that cannot be used."""


@dataclass(frozen=True)
class Window:
    """A stretch of time, both ends included, in seconds since the epoch."""

    begin_s: float
    end_s: float


def read_window(start: str | None, end: str | None, now_s: float) -> Window:
    """Return the window of a query: up to now and one day long unless it says otherwise.

    Raises:
        WindowError: An instant is not RFC 3339, the end is before the start, or they are over seven days apart.
    """
    end_s = now_s if end is None else _instant("end", end)
    begin_s = end_s - DAY_S if start is None else _instant("start", start)
    if begin_s > end_s:
        raise WindowError("start is after end")
    if end_s - begin_s > LONGEST_S:
        raise WindowError("the range between start and end is over 7 days")
    return Window(begin_s, end_s)


def token_of(seq: int) -> str:
    """Return the token of the page that follows an item."""
    return base64.urlsafe_b64encode(f"before {seq}".encode()).decode()


def seq_of(token: str) -> int:
    """Return the item a page follows.

    Raises:
        WindowError: The token was not made here.
    """
    try:
        words = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeError):
        raise WindowError("pageToken is not valid") from None
    number = words.removeprefix("before ")
    if not number.isdigit() or number == words or len(number) > _SEQ_DIGITS:
        raise WindowError("pageToken is not valid")
    return int(number)


def _instant(name: str, text: str) -> float:
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise WindowError(f"{name} is not an RFC 3339 instant: {text[:40]!r}") from None
    if read.tzinfo is None or "T" not in text.upper():
        raise WindowError(f"{name} has no time or no zone: {text[:40]!r}")
    return read.timestamp()
