"""A question on the terminal stands still until it is answered."""

from __future__ import annotations

import io
import logging

from rich.console import Console

from flows.live import _LineHandler


class _Status:
    """Notes what is done to the moving line."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def start(self) -> None:
        self.done.append("start")

    def stop(self) -> None:
        self.done.append("stop")

    def update(self, line: str) -> None:
        self.done.append(line)


def _record(message: str, **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": message, "levelno": logging.INFO, "train_pipeline": True, **extra})


def test_nothing_is_drawn_over_an_answer() -> None:
    """The moving line stops for the question and goes on with the next one."""
    said, status = io.StringIO(), _Status()
    handler = _LineHandler(Console(file=said), status)  # type: ignore[arg-type]
    handler.emit(_record("train for $3? [y/N]", asks=True))
    assert status.done == ["stop"]
    assert said.getvalue().endswith("train for $3? [y/N]\n")
    handler.emit(_record("7 %", percent=7.0, asks=False))
    assert status.done == ["stop", "start", "7 %"]
