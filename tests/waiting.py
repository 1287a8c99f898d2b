"""Waiting for what comes from another thread or process: looked for again and again, never for ever."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE_S = 180.0
"""Longest wait for what should come: what does not come is a fault, and a busy machine is none."""


def eventually(look: Callable[[], T], what: str = "", *, within_s: float = PATIENCE_S, pause_s: float = 0.02) -> T:
    """Return the first look that is true or not empty.

    Raises:
        AssertionError: Nothing came in time.
    """
    deadline = time.monotonic() + within_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what or look}: nothing came within {within_s:.0f} s, last {seen!r}"
        time.sleep(pause_s)
    return seen


def end(process: subprocess.Popen[bytes], patience_s: float = 30.0) -> None:
    """Ask a process to end, and end it when it does not."""
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
