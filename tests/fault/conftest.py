"""One Prefect server and one sandbox for all fault tests; an account of its own for each."""

from __future__ import annotations

import functools
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from sandbox.client import SandboxAccount
from sandbox.server import SandboxServer
from tests.fault.workbench import DATASET, PATIENT_S, Patience, SkippingClock, Workbench, skip_waiting
from tests.graphs import Head, save_heads

CLASSES = ("parking", "stop", "warning")
"""What is labelled in the generated data set of eight pictures."""
SCRIPT = {
    "mode": "looks",
    "model": "uploaded",
    "steps": [{"status": "queued"}, {"status": "running", "epochs": 5}, {"status": "completed"}],
}
"""A training of three looks."""


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    """A sandbox with a home of its own."""
    with SandboxServer(tmp_path_factory.mktemp("sandbox")) as server:
        yield server


@functools.cache
def quiet_detector() -> bytes:
    """Return a detector for three classes that answers to pictures and is sure of nothing."""
    with tempfile.TemporaryDirectory() as folder:
        head = Head("output", (1, 84, 5 + len(CLASSES)), bias=-3.0, slope=0.001, probabilities_from=4)
        return save_heads(Path(folder) / "model.onnx", head).read_bytes()


@pytest.fixture
def open_account(sandbox: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., SandboxAccount]:
    """Return a function that opens an account with a data set and makes it the one the environment names."""

    def open_one(*, count: int = 8, api_key: str | None = None, balance: int | None = None, **settings: Any) -> Any:
        chosen = {"engine": "scripted", "script": SCRIPT, **settings}
        account = sandbox.new_account(balance=balance, api_key=api_key, **chosen)
        if count:
            account.add_dataset(DATASET, count=count, size=64)
        account.upload_model(quiet_detector(), classes=",".join(CLASSES), architecture="yolox-s", side=64)
        monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_URL", account.url)
        monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_KEY", account.api_key)
        return account

    return open_one


@pytest.fixture
def make_bench(
    open_account: Callable[..., SandboxAccount], prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Workbench]:
    """Return a function that opens an account and puts the flow before it, with nothing left to wait for."""

    def make(**settings: Any) -> Workbench:
        clock, patience = SkippingClock(), Patience()
        monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", str(tmp_path / "journal.db"))
        skip_waiting(clock, monkeypatch)
        monkeypatch.setenv("PICTOGRAPH_TIMEOUT", str(PATIENT_S))
        monkeypatch.setattr("providers.storage.LEAST_READ_S", PATIENT_S)
        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", patience.lost(httpx.HTTPTransport.handle_request))
        return Workbench(open_account(**settings), clock, patience, tmp_path / "runs")

    return make


@pytest.fixture
def bench(make_bench: Callable[..., Workbench]) -> Workbench:
    """The usual account: today's and yesterday's dialect, dollars, a training of three looks."""
    return make_bench()


@pytest.fixture
def manual(prefect_api: str) -> Iterator[UUID]:
    """The deployment ``train-pipeline/manual``; what was asked of it goes with it."""
    from prefect import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

    from flows.train_pipeline import train_pipeline

    assert prefect_api
    made = train_pipeline.to_deployment(name="manual").apply()
    yield made
    with get_client(sync_client=True) as client:
        asked = client.read_flow_runs(deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[made])))
        for run in asked:
            client.delete_flow_run(run.id)
        client.delete_deployment(made)


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    """Take back what the command line does to levels and environment for the length of its process."""
    names = ("prefect", "prefect.flow_runs", "prefect.task_runs")
    levels = {name: logging.getLogger(name).level for name in names}
    kept = {name: os.environ.get(name) for name in ("PREFECT_SERVER_LOGGING_LEVEL", "PREFECT_SERVER_ANALYTICS_ENABLED")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    for name, value in kept.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})
