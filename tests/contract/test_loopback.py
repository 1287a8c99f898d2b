"""The tests' own guard: no test, and no Python process a test starts, reaches another machine."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.loopback import sitecustomize as guard

# Addresses set aside for documentation (RFC 5737, RFC 3849): were the guard gone, nobody would be there.
ELSEWHERE, ELSEWHERE_6 = "192.0.2.1", "2001:db8::1"


def _with_socket(family: socket.AddressFamily, use: Callable[[socket.socket], object]) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as made:  # a datagram socket connects without sending anything
        use(made)


ATTEMPTS: dict[str, Callable[[], object]] = {
    "connect": lambda: _with_socket(socket.AF_INET, lambda s: s.connect((ELSEWHERE, 9))),
    "connect_ex": lambda: _with_socket(socket.AF_INET, lambda s: s.connect_ex((ELSEWHERE, 9))),
    "connect to any": lambda: _with_socket(socket.AF_INET, lambda s: s.connect(("0.0.0.0", 9))),  # noqa: S104 - refused
    "connect by name": lambda: _with_socket(socket.AF_INET, lambda s: s.connect(("elsewhere.invalid", 9))),
    "connect, IPv6": lambda: _with_socket(socket.AF_INET6, lambda s: s.connect((ELSEWHERE_6, 9))),
    "connect, mapped": lambda: _with_socket(socket.AF_INET6, lambda s: s.connect((f"::ffff:{ELSEWHERE}", 9))),
    "sendto": lambda: _with_socket(socket.AF_INET, lambda s: s.sendto(b"", (ELSEWHERE, 9))),
    "create_connection": lambda: socket.create_connection((ELSEWHERE, 9), timeout=1),
    "getaddrinfo": lambda: socket.getaddrinfo("elsewhere.invalid", 443),
    "gethostbyname": lambda: socket.gethostbyname("elsewhere.invalid"),
    "gethostbyaddr": lambda: socket.gethostbyaddr(ELSEWHERE),
    "getnameinfo": lambda: socket.getnameinfo((ELSEWHERE, 9), 0),
}


@pytest.fixture
def _forgiven() -> Iterator[None]:
    """Take back what these tests are refused on purpose."""
    before = list(guard.refused)
    yield
    guard.refused[:] = before


@pytest.mark.usefixtures("_forgiven")
@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_another_machine_is_refused(attempt: Callable[[], object]) -> None:
    """By address or name, in either family, in every way a socket offers; and it is remembered."""
    before = len(guard.refused)
    with pytest.raises(guard.OtherMachineError, match="tests use loopback only"):
        attempt()
    assert len(guard.refused) == before + 1


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", b"localhost", "::1", "::1%lo", None])
def test_this_machine_is_not_another_one(host: object) -> None:
    """Loopback addresses, their name and no name at all pass."""
    assert guard.is_loopback(host)


@pytest.mark.parametrize("host", ["", "localhost.example", "127.0.0.1.example", "::ffff:192.0.2.1", "10.0.0.1", "::"])
def test_what_only_looks_like_this_machine_does_not_pass(host: str) -> None:
    """Names that begin like ours, private networks and the unspecified address are other machines."""
    assert not guard.is_loopback(host)


@pytest.mark.parametrize("options", [(), ("-P",)], ids=["plain", "safe path"])
def test_processes_of_the_tests_are_held_to_it(tmp_path: Path, options: tuple[str, ...]) -> None:
    """A Python process started by a test is refused the same, and notes what it is and whom it wanted."""
    log = tmp_path / "connections.jsonl"
    code = f"import socket; socket.create_connection(({ELSEWHERE!r}, 9), timeout=1)"
    command = [sys.executable, *options, "-c", code]
    environment = {**os.environ, guard.LOG_VARIABLE: str(log)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "OtherMachineError" in done.stderr
    noted = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert noted == [["process", command], ["host", ELSEWHERE]]
