"""Calls to servers of this machine: over in a set time, however slow the answer, and at the sandbox's stop."""

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import httpx

from sandbox.launch import NO_TLS

CALL_ERRORS = (httpx.HTTPError, httpx.InvalidURL, ValueError)
"""What a call raises: an address may be none at all, or hold what cannot be encoded."""
_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
_CONNECT_S = 1.0  # this machine answers at once, or not at all
_LOOK_S = 0.05


def is_address(url: str) -> bool:
    """Whether a text is an HTTP address that can be called, port and all."""
    try:
        parts, port = httpx.URL(url), urlsplit(url).port
    except CALL_ERRORS:
        return False
    return parts.scheme in ("http", "https") and bool(parts.host) and port != 0


def host_of(url: str) -> str | None:
    """Return the host of an address; None where there is none to be read."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def is_here(url: str) -> bool:
    """Whether an address lies on this machine."""
    return host_of(url) in _HOSTS


@contextmanager
def called(
    method: str, url: str, *, within_s: float, stopping: threading.Event, **options: Any
) -> Iterator[httpx.Response]:
    """Give the answer to a request, its body unread; leaving closes the connection, read or not.

    Raises:
        httpx.HTTPError: It failed, took longer in all than `within_s`, or the sandbox stopped meanwhile.
        httpx.InvalidURL: The address is none.
        ValueError: The address holds what cannot be encoded.
    """
    line, done = _Line(), threading.Event()
    cut = threading.Thread(target=line.cut_in_time, args=(within_s, stopping, done), name="sandbox-call", daemon=True)
    cut.start()
    timeout = httpx.Timeout(within_s, connect=min(within_s, _CONNECT_S))
    try:
        with (
            httpx.Client(timeout=timeout, trust_env=False, verify=NO_TLS) as client,
            client.stream(method, url, extensions={"trace": line.note}, **options) as answer,
        ):
            yield answer
    finally:
        done.set()
        cut.join()
    if line.is_cut:  # a body without a length looks whole when its connection ends
        raise httpx.ReadTimeout(f"no whole answer within {within_s:g} s")


class _Line:
    """The connection of one call: cut from another thread, because a timeout for each read never ends a slow answer."""

    def __init__(self) -> None:
        self.is_cut = False
        self._socket: socket.socket | None = None

    def note(self, event: str, about: Mapping[str, Any]) -> None:
        """Remember the socket once there is one; the HTTP client tells this."""
        if event == "connection.connect_tcp.complete":
            self._socket = about["return_value"].get_extra_info("socket")
            if self.is_cut:
                self._shut()

    def cut_in_time(self, within_s: float, stopping: threading.Event, done: threading.Event) -> None:
        """Wait for the end of the call, and make it end after so many seconds or at the stop."""
        deadline_s = time.monotonic() + within_s
        while not done.wait(_LOOK_S):
            if stopping.is_set() or time.monotonic() >= deadline_s:
                self.is_cut = True
                self._shut()
                return

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # it has ended by itself
                self._socket.shutdown(socket.SHUT_RDWR)
