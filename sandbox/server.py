"""Running the sandbox: in a thread of this process, or as a process of its own."""

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import uvicorn

from sandbox import attempts
from sandbox.accounts import change_settings, create_account, find_by_key
from sandbox.app import create_app
from sandbox.builtin import AT_FIRST_START, DEFAULT_KEY_FILE, generate
from sandbox.catalog import add_dataset
from sandbox.client import SandboxAccount, new_account
from sandbox.clock import Clock
from sandbox.core import Sandbox, open_sandbox, put_bytes
from sandbox.launch import ADDRESS_FILE, HomeLock, SandboxStartError, home_lock
from sandbox.settings import REQUESTABLE, AccountSettings
from sandbox.upkeep import sweep
from sandbox.wire import Protocol
from sandbox.worker import Worker

_HOST = "127.0.0.1"
FIRST_PORT = 7717
_PORT_TRIES = 200
_START_S = 30


class _Server(uvicorn.Server):
    """uvicorn, calling back once it listens and on every turn; in the main thread it ends on SIGINT and SIGTERM."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None], should_end: Callable[[], bool]) -> None:
        super().__init__(config)
        self._on_started, self._should_end = on_started, should_end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()

    async def on_tick(self, counter: int) -> bool:
        if counter % 5 == 0 and self._should_end():
            self.should_exit = True
        return await super().on_tick(counter)


@dataclass
class SandboxServer:
    """A sandbox served from a thread of this process: `with SandboxServer(home) as s: s.new_account(...)`.

    Leaving the block ends the server and its trainings; what it knows stays in the home folder.
    """

    home: Path
    clock: Clock | None = None
    _thread: threading.Thread | None = field(default=None, init=False)
    _server: _Server | None = field(default=None, init=False)
    _lock: HomeLock | None = field(default=None, init=False)
    url: str = field(default="", init=False)

    def start(self) -> Self:
        """Start serving and return when requests are answered.

        Raises:
            SandboxStartError: Another server serves this home, or it did not come up within thirty seconds.
            OtherSchemaError: The home was written by another version of the sandbox.
        """
        with ExitStack() as undo:
            self._lock = home_lock(self.home, "serving.lock", wait_s=0)
            undo.callback(self._lock.release)
            sandbox = open_sandbox(self.home, self.clock)
            undo.callback(sandbox.store.close)
            listener = free_socket(0)
            undo.callback(listener.close)
            self.url = _url(listener)
            undo.callback(self._end)
            self._begin(sandbox, listener)
            undo.pop_all()
        return self

    def _begin(self, sandbox: Sandbox, listener: socket.socket) -> None:
        settled = threading.Event()
        server, worker = build(sandbox, settled.set, lambda _worker: False)

        def run() -> None:
            try:
                _run(server, worker, sandbox, listener)
            finally:
                settled.set()

        self._server, self._thread = server, threading.Thread(target=run, name="sandbox-server", daemon=True)
        self._thread.start()
        if not settled.wait(_START_S) or not self._thread.is_alive():
            raise SandboxStartError(f"the sandbox in {str(self.home)!r} did not start within {_START_S} s")

    def _end(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._server.force_exit = True
            self._thread.join()

    def stop(self) -> None:
        """End the server and wait for it."""
        self._end()
        if self._lock is not None:
            self._lock.release()

    def new_account(self, *, balance: int | None = None, api_key: str | None = None, **settings: Any) -> SandboxAccount:
        """Add an account with these settings."""
        return new_account(self.url, balance=balance, api_key=api_key, **settings)

    def __enter__(self) -> Self:
        """Start serving."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        self.stop()


def build(
    sandbox: Sandbox, on_started: Callable[[], None], should_end: Callable[[Worker], bool]
) -> tuple[_Server, Worker]:
    """Tidy the home and put server and worker together; neither runs yet."""
    sweep(sandbox)
    attempts.forget(sandbox)
    worker = Worker(sandbox)
    config = uvicorn.Config(
        create_app(sandbox, worker.in_use),
        http=Protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_level="error",
        access_log=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=1,
    )
    return _Server(config, on_started, lambda: should_end(worker)), worker


def _run(server: _Server, worker: Worker, sandbox: Sandbox, listener: socket.socket) -> None:
    worker.start()
    try:
        server.run(sockets=[listener])
    finally:
        worker.stop()
        listener.close()
        sandbox.store.close()


def serve(home: Path, *, port: int = 0, exit_when_idle_s: float | None = None, say: Callable[[str], None]) -> None:
    """Serve a home until a signal ends it, or nobody has asked for anything for so long.

    Raises:
        SandboxStartError: Another server serves this home, or the port is taken.
        OtherSchemaError: The home was written by another version of the sandbox.
    """
    with ExitStack() as undo:
        undo.callback(home_lock(home, "serving.lock", wait_s=0).release)
        sandbox = open_sandbox(home)
        undo.callback(sandbox.store.close)
        listener = _usual_socket(home, port)
        undo.callback(listener.close)
        url, api_key = _url(listener), seed_default_account(sandbox)

        def started() -> None:
            record = {"url": url, "api_key": api_key, "started_at": time.time()}
            put_bytes(home / ADDRESS_FILE, json.dumps(record).encode(), private=True)
            say(f"sandbox at {url}, its key is in {home / ADDRESS_FILE}")

        def should_end(worker: Worker) -> bool:
            return exit_when_idle_s is not None and worker.idle_s() >= exit_when_idle_s

        server, worker = build(sandbox, started, should_end)
        undo.callback((home / ADDRESS_FILE).unlink, missing_ok=True)
        _run(server, worker, sandbox, listener)


def seed_default_account(sandbox: Sandbox) -> str:
    """Return the key of the default account, making it and its first datasets at the first start."""
    path = sandbox.home / DEFAULT_KEY_FILE
    if path.is_file():
        api_key = path.read_text(encoding="utf-8")
        _offer_every_trainer(sandbox, api_key)
        return api_key
    account = create_account(sandbox, AccountSettings(pipelines=REQUESTABLE))
    for name in AT_FIRST_START:
        add_dataset(sandbox, account, name, generate(name))
    put_bytes(path, account.api_key.encode(), private=True)
    return account.api_key


def _offer_every_trainer(sandbox: Sandbox, api_key: str) -> None:
    """Widen the default account of a home that an earlier release made; what somebody has chosen stays."""
    with sandbox.store.write() as tx:
        account = find_by_key(tx, api_key)
        if account is not None and account.settings.dialect == "both" and account.settings.pipelines is None:
            change_settings(tx, account, {"pipelines": REQUESTABLE})


def free_socket(port: int) -> socket.socket:
    """Return a bound loopback socket: this port, or with 0 the first free one from FIRST_PORT on.

    Raises:
        SandboxStartError: The port is taken.
    """
    for candidate in [port] if port else range(FIRST_PORT, FIRST_PORT + _PORT_TRIES):
        # Named as TCP, so that asyncio turns Nagle off: header and body leave in two writes, 40 ms apart with it.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, candidate))
            listener.listen(128)
        except OSError:
            listener.close()
            continue
        return listener
    wanted = port or f"{FIRST_PORT}-{FIRST_PORT + _PORT_TRIES - 1}"
    raise SandboxStartError(f"port {wanted} is taken: choose another with --port")


def _usual_socket(home: Path, port: int) -> socket.socket:
    """Return a socket on the port this home was served from last time, so that addresses that were kept stay good."""
    known = home / "port"
    usual = known.read_text(encoding="utf-8") if known.is_file() and not port else ""
    try:
        listener = free_socket(int(usual) if usual.isdigit() else port)
    except SandboxStartError:
        if port:
            raise
        listener = free_socket(0)
    put_bytes(known, str(listener.getsockname()[1]).encode())
    return listener


def _url(listener: socket.socket) -> str:
    return f"http://{_HOST}:{listener.getsockname()[1]}"
