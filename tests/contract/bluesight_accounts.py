"""An account of the emulated Bluesight API, with tiles to train on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from sandbox.client import SandboxAccount
from sandbox.server import SandboxServer
from sandbox.tiles_demo import Demonstration, demonstration, write_demonstration
from tests.waiting import eventually

Json = dict[str, Any]
FINAL = ("succeeded", "failed")


@cache
def tile_file(task: Any = "classification", count: int = 24, side: int = 16, seed: int = 0) -> bytes:
    """Return a training file of drawn tiles."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tiles.h5"
        write_demonstration(path, Demonstration(task, count, side, seed))
        return path.read_bytes()


def images(task: Any = "classification", count: int = 4, side: int = 16, seed: int = 9) -> tuple[list[Json], list[Any]]:
    """Return drawn tiles as inference takes them, and their labels."""
    tiles = demonstration(Demonstration(task, count, side, seed))
    shown = [
        {
            "gsd": float(tile["gsd"]),
            "bands": [name.decode() for name in tile["bands"]],
            "pixels": tile["pixels"].tolist(),
            "platform": tile["platform"].decode(),
        }
        for tile in tiles
    ]
    return shown, tiles["label"].tolist()


@dataclass(frozen=True)
class Bluesight:
    """A client of one account."""

    control: SandboxAccount
    http: httpx.Client

    def upload(self, content: bytes | None = None, name: str = "tiles.h5") -> str:
        """Upload a file and return its id."""
        answer = self.http.post("/files", files={"file": (name, tile_file() if content is None else content)})
        return str(answer.raise_for_status().json()["id"])

    def create(self, file_id: str, **order: Any) -> str:
        """Order a training and return its id."""
        body = {"task": "classification", "training_file": file_id, **order}
        return str(self.http.post("/training/jobs", json=body).raise_for_status().json()["id"])

    def job(self, job_id: str) -> Json:
        """Look at a job."""
        return dict(self.http.get(f"/training/jobs/{job_id}").raise_for_status().json())

    def ended(self, job_id: str) -> Json:
        """Wait for the end of a job."""
        return eventually(lambda: view if (view := self.job(job_id))["status"] in FINAL else None, job_id)

    def cancel(self, job_id: str) -> httpx.Response:
        """Cancel a job."""
        return self.http.delete(f"/training/jobs/{job_id}")

    def infer(self, model: str, tiles: list[Json]) -> httpx.Response:
        """Ask a model for labels."""
        return self.http.post("/inference", json={"model": model, "images": tiles})


@contextmanager
def bluesight(server: SandboxServer, *, scripted: Any = None, **quirks: Any) -> Iterator[Bluesight]:
    """Open an account: with steps its jobs follow a script, without they train; quirks are Bluesight's settings."""
    script = {"mode": "manual", "steps": scripted} if isinstance(scripted, list) else scripted
    how = {"engine": "scripted", "script": script} if script else {"engine": "real"}
    account = server.new_account(bluesight=quirks, **how)
    headers = {"Authorization": f"Bearer {account.api_key}"}
    with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=60) as client:
        yield Bluesight(account, client)
