"""Loopback only, for every Python process of the tests: this folder leads their ``PYTHONPATH``.

Python imports ``sitecustomize`` at each start, so servers, trainings and commands under test are held to it as well. A
connection to another machine, or a question for its name, is refused before it leaves. Where ``TEST_CONNECTIONS`` names
a file, each process notes there what it is and what it wanted. Needs nothing but the standard library: the interpreter
of an old client runs it too.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from ipaddress import IPv6Address, ip_address
from typing import Any

LOG_VARIABLE = "TEST_CONNECTIONS"
CONNECTING = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
NAMING = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
INTERNET = frozenset({socket.AF_INET, socket.AF_INET6})


class OtherMachineError(AssertionError):
    """A test, or a process it started, tried to reach another machine."""


refused: list[str] = []
"""What this process was refused; some callers swallow the error."""


def is_loopback(host: object) -> bool:
    """Tell whether a host name or address, as given to a socket, means this machine and nothing else."""
    if isinstance(host, (bytes, bytearray)):
        host = bytes(host).decode("ascii", "replace")
    if host is None or host == "localhost":
        return True
    try:
        address = ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _wanted(event: str, arguments: tuple[Any, ...]) -> Iterator[object]:
    if event in CONNECTING:
        peer, address = arguments[0], arguments[1]
        if peer.family in INTERNET and isinstance(address, tuple):
            yield address[0]
    elif event in NAMING:
        yield arguments[0]
    elif event == "socket.getnameinfo":
        yield arguments[0][0]


def _note(kind: str, what: object) -> None:
    what = what.decode("ascii", "replace") if isinstance(what, bytes) else what
    path = os.environ.get(LOG_VARIABLE)
    if path:
        with open(path, "a", encoding="utf-8") as log:  # noqa: PTH123 - pathlib is not worth its import in every process
            log.write(json.dumps([kind, what]) + "\n")


def _check(event: str, arguments: tuple[Any, ...]) -> None:
    for host in _wanted(event, arguments):
        if is_loopback(host):
            continue
        _note("host", host)
        refused.append(f"{event} {host!r}")
        raise OtherMachineError(f"a test tried to reach {host!r}; tests use loopback only")


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event.startswith("socket."):
        _check(event, arguments)
        for host in _wanted(event, arguments):
            _note("host", host)


def _checked(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of a socket that looks at the address first: the interpreter resolves a name before it asks."""

    @wraps(method)
    def call(self: socket.socket, *arguments: Any) -> Any:
        if arguments:
            _check("socket.connect", (self, arguments[-1]))
        return method(self, *arguments)

    return call


_note("process", sys.orig_argv)
sys.addaudithook(_watch)
for _name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, _name, _checked(getattr(socket.socket, _name)))
