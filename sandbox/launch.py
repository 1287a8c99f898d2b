"""Finding the sandbox that serves a home, or starting one; light enough to import anywhere."""

import fcntl
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path

import httpx

from sandbox.environment import child_environment

HOME_VARIABLE = "TRAIN_PIPELINE_SANDBOX_HOME"
ADDRESS_FILE = "server.json"
LOG_FILE = "server.log"
# Loopback speaks plain HTTP; loading the system's certificates for each call would take longer than the call.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_START_S = 60.0
_LOG_LINES = 15


class SandboxStartError(RuntimeError):
    """The sandbox could not be started: the message says why and holds the end of its log."""


@dataclass(frozen=True)
class SandboxAddress:
    """Where a sandbox answers, and the key of its default account."""

    url: str
    api_key: str = field(repr=False)


@dataclass(frozen=True)
class HomeLock:
    """A lock on a home folder; the system drops it when its process ends, however it ends."""

    file: TextIOWrapper

    def release(self) -> None:
        """Give the lock back."""
        self.file.close()


def default_home() -> Path:
    """Return the folder the sandbox keeps everything in."""
    chosen = os.environ.get(HOME_VARIABLE)
    return Path(chosen) if chosen else Path.home() / ".local" / "share" / "train-pipeline" / "sandbox"


def home_lock(home: Path, name: str, *, wait_s: float) -> HomeLock:
    """Take a lock of a home folder.

    Raises:
        SandboxStartError: Somebody else held it all the time.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = (home / name).open("a", encoding="utf-8")
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                file.close()
                raise SandboxStartError(
                    f"another sandbox uses {str(home)!r}: stop it, or choose another --home"
                ) from None
            time.sleep(0.05)
        else:
            return HomeLock(file)


def find_running(home: Path) -> SandboxAddress | None:
    """Return the sandbox that serves a home, if one answers."""
    try:
        record = json.loads((home / ADDRESS_FILE).read_text(encoding="utf-8"))
        health = httpx.get(f"{record['url']}/_sandbox/health", timeout=5, trust_env=False, verify=NO_TLS).json()
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        return None
    served = health.get("home") == str(home) if isinstance(health, dict) else False
    return SandboxAddress(record["url"], record["api_key"]) if served else None


def ensure_running(home: Path | None = None, *, idle_exit_s: float = 60) -> SandboxAddress:
    """Return the sandbox that serves a home, starting one as a process of its own when there is none.

    Raises:
        SandboxStartError: It did not start; the message holds the last lines of its log.
    """
    folder = (home or default_home()).resolve()
    found = find_running(folder)
    if found is not None:
        return found
    lock = home_lock(folder, "starting.lock", wait_s=_START_S)
    try:
        return find_running(folder) or _start(folder, idle_exit_s)
    finally:
        lock.release()


def _start(folder: Path, idle_exit_s: float) -> SandboxAddress:
    command = [sys.executable, "-m", "sandbox", "serve", "--home", str(folder), "--exit-when-idle", str(idle_exit_s)]
    environment = child_environment()
    with (folder / LOG_FILE).open("ab") as log:
        child = subprocess.Popen(  # noqa: S603 -- our own interpreter and module
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    threading.Thread(target=child.wait, name="sandbox-reaper", daemon=True).start()  # it outlives us; no zombie if not
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s:
        found = find_running(folder)
        if found is not None:
            return found
        if child.poll() is not None:
            break
        time.sleep(0.05)
    reason = f"ended with code {child.returncode}" if child.poll() is not None else f"took more than {_START_S:.0f} s"
    raise SandboxStartError(f"the sandbox in {str(folder)!r} did not start ({reason}):\n{_log_tail(folder)}")


def _log_tail(folder: Path) -> str:
    text = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")
    return "\n".join(text.splitlines()[-_LOG_LINES:])
