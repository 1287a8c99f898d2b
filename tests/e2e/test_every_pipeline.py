"""The whole flow for every pipeline a request can name: a real training, verified, tried out, paid, accepted."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, get_args

import httpx
import onnxruntime
import pytest

from pipeline.models import PIPELINE_TASKS, ModelTask, Outcome
from pipeline.report.figures import summary_json
from pipeline.requests import PipelineType
from sandbox.client import SandboxAccount
from sandbox.launch import ensure_running
from tests.e2e.conftest import FlowRun

DATASET = "large-signs"
CONFIG = {"batch_size": 8, "image_size": 64}
EPOCHS = {
    "yolox": 50,
    "rfdetr_detection": 40,
    "rfdetr_segmentation": 50,
    "detectron2": 30,
    "sm_pytorch": 25,
    "classification": 20,
}
"""Two to five seconds of training each; with one large sign on each picture that is enough."""
METRICS = {
    ModelTask.OBJECT_DETECTION: "mAP50",
    ModelTask.INSTANCE_SEGMENTATION: "mAP50",
    ModelTask.SEMANTIC_SEGMENTATION: "mIoU",
    ModelTask.CLASSIFICATION: "top1",
}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxAccount]:
    """The default account of a sandbox that has just been started as a rehearsal starts it, with little data."""
    address = ensure_running(tmp_path_factory.mktemp("new-sandbox"), idle_exit_s=600)
    made = SandboxAccount(address.url, address.api_key)
    made.add_dataset(DATASET, count=48, size=64, single=True)
    yield made
    health = httpx.get(f"{address.url}/_sandbox/health", timeout=30, trust_env=False)
    os.kill(int(health.json()["pid"]), signal.SIGTERM)


def test_every_pipeline_is_tried_here() -> None:
    """What a request can name, what the provider is said to offer and what is tried below are the same."""
    assert set(get_args(PipelineType)) == set(PIPELINE_TASKS) == set(EPOCHS)


@pytest.mark.parametrize("pipeline", get_args(PipelineType))
def test_a_pipeline_goes_from_data_to_an_accepted_model(
    account: SandboxAccount, run_flow: Callable[..., FlowRun], pipeline: Any
) -> None:
    """Accepted on its merits: labels found, the held-out metric known, the file opened, the money counted."""
    before = account.bill()["charged"]
    report = run_flow(account, dataset=DATASET, pipeline=pipeline, config={**CONFIG, "epochs": EPOCHS[pipeline]}).report
    assert report.outcome is Outcome.ACCEPTED, report.message
    said = json.loads(summary_json(report))
    assert said["metric"]["name"] == METRICS[PIPELINE_TASKS[pipeline]]
    assert said["metric"]["value"] >= 0.4
    assert said["charged"]["amount"] > 0
    assert report.settlement is not None
    assert report.smoke is not None
    assert report.smoke.agreement is not None
    assert report.smoke.agreement >= report.request.min_agreement == 0.5
    assert len(report.smoke.results) == report.request.samples
    assert report.artifact is not None
    assert report.artifact.model.task is PIPELINE_TASKS[pipeline]
    onnxruntime.InferenceSession(report.artifact.path, providers=["CPUExecutionProvider"])
    assert account.bill()["charged"] > before
