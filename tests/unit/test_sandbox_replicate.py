"""The parts of the emulated Replicate API that need no server: running a version, words, prices, logs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from pydantic import ValidationError

from pipeline.models import Money, RunStatus, TrainingRun, Unit
from pipeline.smoke.decoding import Family, Reading, decode, preprocess
from providers.replicate.rates import Rates
from sandbox.accounts import Account
from sandbox.datasets import DataError
from sandbox.lifecycle import script_of
from sandbox.replicate.inference import predict
from sandbox.replicate.inputs import own_file_id
from sandbox.replicate.logs import complete_logs, scripted_logs
from sandbox.replicate.prices import MICRO_USD_PER_S, NAMES, cost
from sandbox.replicate.settings import ReplicateSettings
from sandbox.replicate.words import new_run_id, stamp, word
from sandbox.script import locate
from sandbox.settings import AccountSettings, Script
from sandbox.tinymodel import SIDE, tiny_model
from tests.unit.scripted_replicate import HANDLE

CLASSES = ("a", "b", "c")


def _version(folder: Path, pipeline: str, seed: int) -> tuple[Path, Path]:
    model, config = folder / "model.onnx", folder / "config.json"
    model.write_bytes(tiny_model(pipeline, CLASSES, seed=seed))
    config.write_text(json.dumps({"pipeline": pipeline, "classes": CLASSES, "input_size": [SIDE, SIDE]}))
    return model, config


def _picture(width: int = SIDE, height: int = SIDE) -> tuple[bytes, np.ndarray[Any, np.dtype[np.uint8]]]:
    pixels = np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue(), pixels


@pytest.mark.parametrize(
    ("pipeline", "size"),
    [("yolox", (SIDE, SIDE)), ("yolox", (SIDE, SIDE // 2)), ("rfdetr_detection", (SIDE, SIDE))],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_detector_is_read_as_the_pipeline_reads_it(
    pipeline: str, size: tuple[int, int], seed: int, tmp_path: Path
) -> None:
    """Two decoders that know nothing of each other find the same best box (cut at the border here), class and score."""
    model, config = _version(tmp_path, pipeline, seed)
    content, pixels = _picture(*size)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    family = Family(pipeline)
    outputs = session.run(None, {"images": preprocess(family, pixels, (SIDE, SIDE))})
    wanted = decode(outputs, Reading(family, CLASSES, (SIDE, SIDE), pixels.shape[:2], 0.05))[0].prediction
    found = predict(model, config, content, 0.05)["detections"][0]
    assert wanted.box is not None
    x, y, width, height = wanted.box
    assert found["label"] == wanted.name
    assert found["score"] == pytest.approx(wanted.confidence, abs=1e-3)
    inside = np.clip([x, y, x + width, y + height], 0, [*size] * 2)
    assert found["box"] == pytest.approx(inside.tolist(), abs=0.11)


def test_a_classifier_and_shares(tmp_path: Path) -> None:
    """Classes are probabilities, the largest first; shares are of the picture, the background left out."""
    content, _ = _picture(50, 40)
    classes = predict(*_version(tmp_path, "classification", 0), content, 0.5)["classes"]
    assert sorted(row["label"] for row in classes) == list(CLASSES)
    assert sum(row["score"] for row in classes) == pytest.approx(1, abs=1e-3)
    assert classes[0]["score"] == max(row["score"] for row in classes)
    shares = predict(*_version(tmp_path, "sm_pytorch", 0), content, 0.5)["shares"]
    assert 0 < sum(row["score"] for row in shares) <= 1


@pytest.mark.parametrize("pipeline", ["rfdetr_segmentation", "detectron2", "rfdetr_keypoint"])
def test_other_pipelines_answer_boxes(pipeline: str, tmp_path: Path) -> None:
    """Whatever a network has besides boxes, its boxes lie in the picture."""
    content, _ = _picture()
    found = predict(*_version(tmp_path, pipeline, 0), content, 0.0)["detections"]
    assert found
    assert all(0 <= edge <= SIDE for row in found for edge in row["box"])


def test_what_is_no_picture(tmp_path: Path) -> None:
    """It is told as such."""
    with pytest.raises(DataError, match="image"):
        predict(*_version(tmp_path, "yolox", 0), b"PK", 0.5)


@pytest.mark.parametrize(
    ("digits", "text"),
    [(3, "2001-09-09T01:46:40.123Z"), (6, "2001-09-09T01:46:40.123456Z"), (9, "2001-09-09T01:46:40.123456000Z")],
)
def test_instants(digits: int, text: str) -> None:
    """As many digits as each kind of answer has; nothing for what did not happen."""
    assert stamp(1_000_000_000.123456, digits) == text
    assert stamp(None) is None


def test_words_and_ids() -> None:
    """The script's words become the vendor's, others stay; ids differ."""
    assert [word(text) for text in ("pending", "queued", "running", "completed", "cancelled", "failed", "odd")] == [
        *("starting", "starting", "processing", "succeeded", "canceled", "failed", "odd")
    ]
    assert len({new_run_id() for _ in range(100)}) == 100


def test_prices() -> None:
    """Each hardware has a name and a price: the nearest micro-USD, and at least one; a begun credit."""
    assert sorted(NAMES) == sorted(MICRO_USD_PER_S)
    in_money, in_credits = (Account("a", "k", "o", AccountSettings(billing=unit)) for unit in ("micro_usd", "credits"))
    assert [cost(in_money, "gpu-h100", seconds) for seconds in (0.0001, 0.001, 0.002)] == [1, 2, 3]
    assert cost(in_credits, "gpu-h100", 60) == 10
    assert cost(in_money, "gpu-t4", -1) == 0


@pytest.mark.parametrize("hardware", MICRO_USD_PER_S)
@pytest.mark.parametrize("seconds", [0.0, 0.01, 6.4288, 6.4312, 59.99973, 3_600.0004])
def test_the_bill_is_what_the_seconds_shown_come_to(hardware: str, seconds: float) -> None:
    """The adapter sees no bill: what it reckons from the seconds is what was charged, to the last digit."""
    account = Account("a", "k", "o", AccountSettings(billing="micro_usd"))
    run = TrainingRun(
        handle=HANDLE, status=RunStatus.COMPLETED, provider_status="succeeded", metrics={"predict_time": seconds}
    )
    charged = Rates().charge(run, hardware)
    assert charged == Money(amount=cost(account, hardware, seconds), unit=Unit.MICRO_USD)


def test_logs_only_grow() -> None:
    """At every point of a script, whatever its steps, the logs begin with those of every point before."""
    steps = [
        {"status": "queued", "for_s": 2},
        {"status": "running", "for_s": 5, "epochs": 7},
        {"status": "odd", "for_s": 2},
        {"status": "completed"},
    ]
    row = {"id": "x", "data": {"input": {"epochs": 7}, "script": AccountSettings().script.model_dump(mode="json")}}
    row["data"]["script"] |= {"steps": steps}
    script, before = script_of(row), ""
    for tenth in range(100):
        logs = scripted_logs(row, locate(script, tenth / 10)) or ""
        assert logs.startswith(before)
        before = logs
    assert before == complete_logs(row)
    assert " 42%|####      | 3/7 [00:12<00:16, 0.25it/s]\n" in before


def test_logs_of_very_many_epochs() -> None:
    """They have a thousand bars at most, evenly spread, the last one at the end, and only grow all the same."""
    row = {"id": "x", "data": {"input": {"epochs": 3_000_500}, "script": Script().model_dump(mode="json")}}
    script, before = script_of(row), ""
    for tenth in range(0, 30, 3):
        logs = scripted_logs(row, locate(script, tenth / 10)) or ""
        assert logs.startswith(before)
        before = logs
    bars = [line for line in complete_logs(row).splitlines() if "%|" in line]
    assert len(bars) <= 1002
    assert "100%|##########| 3000500/3000500 " in bars[-1]
    assert complete_logs(row).startswith(before)
    assert complete_logs({**row, "data": {**row["data"], "input": {"epochs": 10**400}}})


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "..", ".", "a..b", "", "a b", "x\n", "x" * 101])
def test_weights_stay_in_their_folder(name: str) -> None:
    """The name of the weights is a plain file name."""
    assert ReplicateSettings(weights_name="my-model.v1.tar").weights_name == "my-model.v1.tar"
    with pytest.raises(ValidationError, match="weights_name"):
        ReplicateSettings(weights_name=name)


@pytest.mark.parametrize(
    ("url", "base_url", "wanted"),
    [
        ("http://127.0.0.1:80/v1/files/a?x=1", "http://localhost/", "a"),
        ("https://boxes.test/v1/files/a", "https://boxes.test/", "a"),
        ("http://127.0.0.1:81/v1/files/a", "http://127.0.0.1:82/", None),
        ("http://elsewhere.test/v1/files/a", "http://127.0.0.1:82/", None),
        ("http://127.0.0.1:82/x/v1/files/a", "http://127.0.0.1:82/", None),
        ("http://[x/v1/files/a", "http://127.0.0.1:82/", None),
        ("http://127.0.0.1:x/v1/files/a", "http://127.0.0.1:82/", None),
    ],
)
def test_whose_file_an_address_is(url: str, base_url: str, wanted: str | None) -> None:
    """It is this server's by host and port; what is no address is nobody's."""
    assert own_file_id(url, base_url) == wanted
