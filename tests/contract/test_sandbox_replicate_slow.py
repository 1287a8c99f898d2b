"""Servers that answer a byte at a time, and what the emulated Replicate does about them: no wait for all of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sandbox.accounts import create_account
from sandbox.core import Sandbox, open_sandbox
from sandbox.replicate import inputs, webhooks
from sandbox.replicate.inputs import InputError, fetch
from sandbox.server import SandboxServer
from sandbox.settings import AccountSettings
from tests.contract.replicate_accounts import opened
from tests.waiting import eventually

HEAD = b"HTTP/1.1 200 OK\r\n"
SOON = {"steps": [{"status": "running", "for_s": 0.1}, {"status": "completed"}]}


@contextmanager
def dripping(begun: bytes, piece: bytes = b"x", pause_s: float = 0.05) -> Iterator[tuple[str, list[float]]]:
    """Give the address of a server that never ends its answer, and when each request came."""
    calls, over = list[float](), threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65_536)
            calls.append(time.monotonic())
            connection.sendall(begun)
            while not over.wait(pause_s):
                connection.sendall(piece)

    def serve() -> None:
        with suppress(OSError):
            while not over.is_set():
                threads.append(threading.Thread(target=answer, args=(listener.accept()[0],)))
                threads[-1].start()

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve)
        server.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/x", calls
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        server.join()
    for thread in threads:
        thread.join()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox without a server."""
    made = open_sandbox(tmp_path)
    yield made
    made.store.close()


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    begun_s = time.monotonic()
    work()
    return time.monotonic() - begun_s


@pytest.mark.parametrize("begun", [HEAD, HEAD + b"\r\n", HEAD + b"content-length: 999999\r\n\r\n"], ids=len)
def test_a_fetch_has_an_end(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    """Headers or a body that come a byte at a time are given up after a time in all, with a length or without."""
    monkeypatch.setattr(inputs, "_FETCH_S", 0.4)
    account = create_account(sandbox, AccountSettings())

    def fetched() -> None:
        with pytest.raises(InputError, match="cannot be fetched"):
            fetch(sandbox, account, url)

    with dripping(begun) as (url, _):
        assert seconds(fetched) < 3


def test_a_fetch_has_a_limit(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is larger is not kept in memory: it ends with a reason before the time does."""
    monkeypatch.setattr(inputs, "_MAX_FETCHED_BYTES", 10_000)
    account = create_account(sandbox, AccountSettings())
    with dripping(HEAD + b"\r\n", b"x" * 4000) as (url, _), pytest.raises(InputError, match="larger than 10000 bytes"):
        fetch(sandbox, account, url)


def test_a_fetch_ends_with_the_sandbox(sandbox: Sandbox) -> None:
    """The stop does not wait for another server."""
    account = create_account(sandbox, AccountSettings())
    threading.Timer(0.2, sandbox.stopping.set).start()

    def fetched() -> None:
        with pytest.raises(InputError):
            fetch(sandbox, account, url)

    with dripping(HEAD + b"\r\n") as (url, _):
        assert seconds(fetched) < 3


def test_a_delivery_waits_for_no_body(sandbox: Sandbox) -> None:
    """The status is all that is wanted; headers that never end are given up after three seconds in all."""
    with dripping(HEAD + b"\r\n") as (url, _):
        assert seconds(lambda: webhooks._posted(sandbox, url, b"{}", {})) < 2
        assert webhooks._posted(sandbox, url, b"{}", {})
    with dripping(HEAD) as (url, _):
        answers: list[bool] = []
        assert 2.5 < seconds(lambda: answers.append(webhooks._posted(sandbox, url, b"{}", {}))) < 5
        assert answers == [False]


def test_a_slow_receiver_holds_up_no_training_and_no_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a delivery hangs, another account's export is built; the server ends in a moment."""
    monkeypatch.setattr(webhooks, "_ANSWER_S", 60.0)
    server = SandboxServer(tmp_path).start()
    try:
        with (
            dripping(HEAD) as (url, calls),
            opened(server, script=SOON) as mine,
            opened(server, engine="real") as other,
        ):
            mine.train(webhook=url)
            eventually(lambda: calls, "the delivery", within_s=10)
            failed = other.train({"train_data": "https://data.invalid/a.zip"})
            eventually(lambda: other.training(failed)["status"] == "failed", "the worker", within_s=10)
            assert seconds(server.stop) < 5
            assert len(calls) == 1
    finally:
        server.stop()
