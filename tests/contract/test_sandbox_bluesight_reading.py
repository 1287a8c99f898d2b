"""How scripted jobs of the emulated Bluesight read their files: outside any transaction, and not without bound."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sandbox.bluesight import training
from sandbox.core import DATABASE
from sandbox.server import SandboxServer
from sandbox.tiles_demo import layout
from tests.contract.bluesight_accounts import bluesight

h5py = pytest.importorskip("h5py")
SCRIPT = [{"status": "queued"}, {"status": "running"}, {"status": "completed"}]


def can_write(database: Path) -> bool:
    """Whether another process could write to the store now."""
    with closing(sqlite3.connect(database, timeout=2)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        other.rollback()
    return True


@pytest.mark.parametrize(("reader", "ticks"), [("check_tiles", 1), ("read_tiles", 2)])
def test_a_file_is_read_while_others_can_write(
    server: SandboxServer, monkeypatch: pytest.MonkeyPatch, reader: str, ticks: int
) -> None:
    """Nobody waits for a large file: while it is checked, and later read, the store takes another writer."""
    real, seen = getattr(training, reader), list[bool]()

    def watched(path: Path) -> Any:
        seen.append(can_write(server.home / DATABASE))
        return real(path)

    monkeypatch.setattr(training, reader, watched)
    with bluesight(server, scripted=SCRIPT) as api:
        job = api.create(api.upload())
        for _ in range(ticks):
            assert not seen
            api.control.advance(job)
        assert seen == [True]
        assert api.job(job)["status"] == ("running" if ticks == 1 else "succeeded")


def test_a_file_that_declares_gigabytes_fails_its_job(server: SandboxServer, tmp_path: Path) -> None:
    """A script's job says why when it begins to run, a child's as well; neither takes the memory."""
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (40_000,), layout("classification", 64), chunks=(1,))
    words = "ValueError: Dataset 'data' takes 2624960000 bytes unpacked: the sandbox reads 512000000."
    with bluesight(server, scripted=SCRIPT) as api:
        job = api.create(api.upload(path.read_bytes()))
        api.control.advance(job)
        assert (api.job(job)["status"], api.job(job)["error"]) == ("failed", words)
    with bluesight(server) as api:
        assert api.ended(api.create(api.upload(path.read_bytes())))["error"] == words
