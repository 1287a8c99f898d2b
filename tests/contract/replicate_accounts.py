"""Accounts of the emulated Replicate API, and orders with what a test does not care about filled in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from sandbox.client import SandboxAccount
from sandbox.replicate.models import TRAINER, TRAINER_VERSION
from sandbox.server import SandboxServer

DESTINATION = "sandbox-user/signs"
TRAIN_PATH = f"/v1/models/{TRAINER}/versions/{TRAINER_VERSION}/trainings"
NO_DATA = "data:application/zip;base64,UEsFBg=="
STEPS = [{"status": "queued", "for_s": 10}, {"status": "running", "for_s": 40}, {"status": "completed"}]


@dataclass(frozen=True)
class Opened:
    """An account, and an HTTP client with its token."""

    account: SandboxAccount
    http: httpx.Client

    def get(self, path: str, **options: Any) -> Any:
        """Return the JSON of a read that succeeds."""
        answer = self.http.get(path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def train(self, given: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
        """Start a training."""
        usual = {"train_data": NO_DATA, "pipeline": "classification", "epochs": 4}
        body = {"destination": DESTINATION, "input": {**usual, **(given or {})}, **changes}
        answer = self.http.post(TRAIN_PATH, json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def training(self, started: dict[str, Any]) -> dict[str, Any]:
        """Return a training as it is now."""
        return dict(self.get(f"/v1/trainings/{started['id']}"))

    def upload(self, content: bytes, **options: Any) -> dict[str, Any]:
        """Upload a file."""
        answer = self.http.post("/v1/files", files={"content": ("data.zip", content, "application/zip")}, **options)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


@contextmanager
def opened(server: SandboxServer, **settings: Any) -> Iterator[Opened]:
    """Open an account with a destination to train into; its script takes fifty seconds."""
    usual = {"engine": "scripted", "script": {"steps": STEPS}}
    account = server.new_account(balance=settings.pop("balance", None), **{**usual, **settings})
    headers = {"Authorization": f"Bearer {account.api_key}"}
    with httpx.Client(base_url=account.url, headers=headers, trust_env=False, timeout=30) as http:
        model = {"owner": "sandbox-user", "name": "signs", "visibility": "private", "hardware": "gpu-a40-large"}
        http.post("/v1/models", json=model)
        yield Opened(account, http)
