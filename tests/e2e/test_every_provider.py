"""The whole flow at every other provider: local data, a training, and a model that is tried as far as it can be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from PIL import Image

from pipeline.models import Outcome, RunReport
from pipeline.report.figures import summary_json
from sandbox.client import SandboxAccount
from sandbox.exportzip import write_export
from sandbox.replicate.models import TRAINER, TRAINER_VERSION
from sandbox.roadsigns import CLASSES, road_signs
from sandbox.server import SandboxServer
from sandbox.tiles_demo import Demonstration, write_demonstration
from tests.e2e.conftest import FlowRun

SOON = {"mode": "time", "steps": [{"status": "running", "for_s": 0.5}, {"status": "completed"}]}
"""A training at PhotoGPT, where nothing real can be trained here."""
CREDITS = 500
"""What it costs there."""


@pytest.fixture
def train(
    sandbox_server: SandboxServer, run_flow: Callable[..., FlowRun]
) -> Callable[..., tuple[RunReport, SandboxAccount]]:
    """Return a function that opens an account and runs the flow of one provider to its end."""

    def run(provider: str, settings: dict[str, Any], **request: Any) -> tuple[RunReport, SandboxAccount]:
        account = sandbox_server.new_account(**settings)
        report = run_flow(account, provider=provider, **request).report
        bill = account.bill()
        assert (bill["started_runs"], bill["active_runs"]) == (1, 0), report.message
        said = json.loads(summary_json(report))
        assert (said["outcome"], said["operation"]) == (report.outcome.value, report.operation_id)
        return report, account

    return run


def test_replicate_trains_a_detector_that_is_accepted_on_its_merits(
    train: Callable[..., tuple[RunReport, SandboxAccount]], tmp_path: Path
) -> None:
    """The sample trainer on an export: its ONNX, tried on real pictures here, and its seconds billed."""
    data = tmp_path / "large-signs.zip"
    images = road_signs(48, size=64, single=True)
    write_export(data, dataset="large-signs", export="e", images=images, include_images=True)
    report, account = train(
        "replicate",
        {"engine": "real"},
        dataset=str(data),
        trainer=f"{TRAINER}:{TRAINER_VERSION}",
        destination="sandbox-user/signs",
        inputs={"epochs": 50, "batch_size": 8, "image_size": 64},
        gpu_minutes=5,
    )
    assert report.outcome is Outcome.ACCEPTED, report.message
    assert report.export is not None
    assert (report.export.export.image_count, {count.name for count in report.export.classes}) == (48, set(CLASSES))
    assert report.smoke is not None
    assert report.smoke.agreement is not None
    assert report.smoke.agreement >= report.request.min_agreement == 0.5
    assert report.artifact is not None
    onnxruntime.InferenceSession(report.artifact.path, providers=["CPUExecutionProvider"])
    assert report.settlement is not None
    assert report.settlement.charged.amount == account.bill()["net"] > 0


def test_bluesight_trains_a_classifier_that_answers_there(
    train: Callable[..., tuple[RunReport, SandboxAccount]], tmp_path: Path
) -> None:
    """A real training on drawn tiles; its model is asked about tiles it has not seen, and knows most of them."""
    pytest.importorskip("h5py")
    for name, count, seed in (("tiles", 60, 0), ("unseen", 12, 9)):
        write_demonstration(tmp_path / f"{name}.h5", Demonstration(count=count, side=16, seed=seed))
    report, account = train(
        "bluesight",
        {"engine": "real"},
        dataset=str(tmp_path / "tiles.h5"),
        validation=str(tmp_path / "unseen.h5"),
        samples=6,
    )
    assert report.outcome is Outcome.ACCEPTED, report.message
    assert report.artifact is None
    assert report.hosted is not None
    assert (report.hosted.asked, report.hosted.answered) == (6, 6)
    assert report.hosted.agreement is not None
    assert report.hosted.agreement >= 0.5
    assert account.bill()["net"] == 0


@pytest.mark.parametrize("smoke", [True, False], ids=["tried", "untried"])
def test_photogpt_trains_a_person_and_makes_a_picture_when_asked(
    train: Callable[..., tuple[RunReport, SandboxAccount]], tmp_path: Path, smoke: bool
) -> None:
    """One training; with ``smoke`` one picture is billed and kept, without it the model is not called accepted."""
    person = tmp_path / "anna"
    person.mkdir()
    for number in range(12):
        Image.new("RGB", (300, 300), (number * 20, 90, 160)).save(person / f"secret-{number:02}.jpg")
    quick = {"generation_queued_s": 0, "generation_running_s": 0.1, "training_credits": CREDITS, "image_credits": 10}
    report, account = train(
        "photogpt",
        {"script": SOON, "billing": "credits", "photogpt": quick},
        dataset=str(person),
        age=34,
        gender="Female",
        price_credits=CREDITS,
        budget_credits=CREDITS,
        smoke=smoke,
    )
    assert report.outcome is (Outcome.ACCEPTED if smoke else Outcome.UNTRIED), report.message
    assert report.settlement is not None
    assert report.settlement.charged.amount == CREDITS
    assert account.bill()["net"] == CREDITS + 10 * smoke
    assert "secret-" not in report.model_dump_json()
    if smoke:
        assert report.hosted is not None
        with Image.open(report.hosted.pictures[0]) as made:
            assert min(made.size) >= 256
