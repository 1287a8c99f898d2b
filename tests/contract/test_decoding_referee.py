"""The provider's published client reads the same model files and pictures; both readings must agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pictograph
import pytest
from PIL import Image

from pipeline.models import ModelTask, Prediction
from pipeline.smoke.agreement import box_iou
from pipeline.smoke.inference import InferenceJob, run_inference
from tests.graphs import Head, save_heads

ANCHORS = 8 * 8 + 4 * 4 + 2 * 2
SIZES = ((96, 96), (75, 140), (150, 61))
NAMES = ("car", "stop sign", "tree", "dog")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Three smooth random pictures: square, wide, tall."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(7)
    paths = []
    for height, width in SIZES:
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        paths.append(folder / f"{height}x{width}.png")
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(paths[-1])
    return tuple(paths)


def read_with_client(job: InferenceJob, path: Path) -> list[Prediction]:
    """Ask the published client, offline."""
    config = {
        "_pictograph": {
            "model_type": job.task.value,
            "architecture": job.architecture,
            "class_mapping": {"classes": list(job.classes)},
            "input_shape": [64, 64],
            "name": "referee",
        }
    }
    model = pictograph.load_model(job.model, config, task=job.task.value, device="cpu", cache_dir=job.model.parent)
    answer = model.predict(str(path), confidence=job.confidence)
    if job.task is ModelTask.CLASSIFICATION:
        return [Prediction(name=seen.name, confidence=seen.confidence) for seen in answer.classes]
    boxes = [(seen, seen.bounding_box) for seen in answer.predictions]
    return [
        Prediction(name=seen.name, confidence=seen.confidence, box=(box.x, box.y, box.w, box.h)) for seen, box in boxes
    ]


def compare(ours: Sequence[Prediction], theirs: Sequence[Prediction], slack: float, confidence: float) -> int:
    """Pair every prediction with exactly one of the other reading; return how many there were."""
    left = list(ours)
    for seen in theirs:
        twin = next((mine for mine in left if is_twin(mine, seen, slack, confidence)), None)
        assert twin is not None, f"only the client sees {seen}; left of ours: {left}"
        left.remove(twin)
    assert not left, f"the client does not see {left}"
    return len(theirs)


def is_twin(one: Prediction, other: Prediction, slack: float, confidence: float) -> bool:
    """Tell whether two predictions are the same but for rounding in the resized picture."""
    assert one.box is not None
    assert other.box is not None
    close = bool(np.allclose(one.box, other.box, atol=slack)) or box_iou(one.box, other.box) >= 0.95
    return close and one.name == other.name and abs(one.confidence - other.confidence) <= confidence


def compare_readings(job: InferenceJob) -> int:
    """Compare both readings on every picture, confidences included; return how many predictions were compared."""
    readings = run_inference(job).readings
    return sum(
        compare(reading.predictions, read_with_client(job, path), slack=1.0, confidence=0.01)
        for path, reading in zip(job.pictures, readings, strict=True)
    )


def boxes_bias(queries: int, seed: int) -> np.ndarray:
    """Draw normalised boxes of 0.1 to 0.5 sides, some over the border."""
    rng = np.random.default_rng(seed)
    centres, sides = rng.uniform(0.05, 0.95, (queries, 2)), rng.uniform(0.1, 0.5, (queries, 2))
    return np.concatenate([centres, sides], axis=1)[None].astype(np.float32)


@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize("seed", [1, 2])
def test_yolox_reads_as_the_client_does(tmp_path: Path, pictures: tuple[Path, ...], count: int, seed: int) -> None:
    """YOLOX: letterbox in BGR, grid, exponentials, products of scores and suppression agree."""
    # The input runs to 255, so the slope is small, or boxes would be wider than any picture.
    bias = np.zeros((1, ANCHORS, 5 + count), np.float32)
    bias[..., 2:] = 1.0
    head = Head("output", (1, ANCHORS, 5 + count), bias=bias, slope=0.0008, probabilities_from=4)
    path = save_heads(tmp_path / "m.onnx", head, seed=seed)
    job = InferenceJob(
        model=path,
        task=ModelTask.OBJECT_DETECTION,
        architecture="YOLOX-nano",
        classes=NAMES[:count],
        pictures=pictures,
        confidence=0.5,
    )
    assert compare_readings(job) >= 10


@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.parametrize("task", [ModelTask.OBJECT_DETECTION, ModelTask.INSTANCE_SEGMENTATION])
def test_rfdetr_reads_as_the_client_does(
    tmp_path: Path, pictures: tuple[Path, ...], count: int, task: ModelTask
) -> None:
    """RF-DETR: normalisation, background column, clipping and suppression agree, with three classes too."""
    queries = 20
    heads = [
        Head("dets", (1, queries, 4), bias=boxes_bias(queries, 3), slope=0.002),
        Head("labels", (1, queries, count + 1), bias=-0.5, slope=0.15),
    ]
    if task is ModelTask.INSTANCE_SEGMENTATION:
        heads.append(Head("masks", (1, queries, 16, 16), bias=blob_masks(queries, heads[0].bias), slope=0.02))
    job = InferenceJob(
        model=save_heads(tmp_path / "m.onnx", *heads, seed=count),
        task=task,
        architecture="rfdetr-nano",
        classes=NAMES[:count],
        pictures=pictures,
    )
    if task is ModelTask.OBJECT_DETECTION:
        assert compare_readings(job) >= 10
    else:
        assert compare_mask_readings(job) >= 10


def blob_masks(queries: int, boxes: np.ndarray) -> np.ndarray:
    """Draw a filled box a query, as mask logits: the box itself, one cell smaller or larger for rounding."""
    masks = np.full((1, queries, 16, 16), -8.0, np.float32)
    for number, (x, y, width, height) in enumerate(boxes[0]):
        rows = slice(max(0, round((y - height / 2) * 16)), max(1, round((y + height / 2) * 16)))
        columns = slice(max(0, round((x - width / 2) * 16)), max(1, round((x + width / 2) * 16)))
        masks[0, number, rows, columns] = 8.0
    return masks


def compare_mask_readings(job: InferenceJob) -> int:
    """The client gives the boxes of simplified polygons clear of the border: compare them with our masks' extents."""
    compared = 0
    for path, reading in zip(job.pictures, run_inference(job).readings, strict=True):
        ours = []
        for seen, packed in zip(reading.predictions, reading.masks, strict=True):
            rows, columns = np.nonzero(packed.unpack())
            extent = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
            ours.append(seen.model_copy(update={"box": tuple(float(value) for value in extent)}))
        compared += compare(ours, read_with_client(job, path), slack=2.0, confidence=0.01)
    return compared


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("baked", [True, False], ids=["probabilities", "logits"])
def test_semantic_maps_read_as_the_client_does(
    tmp_path: Path, pictures: tuple[Path, ...], count: int, baked: bool
) -> None:
    """Semantic: one channel or a background channel more, probabilities or logits, regions by class agree."""
    channels = 1 if count == 1 else count + 1
    bias = np.full((1, channels, 16, 16), -6.0, np.float32)
    for number in range(channels):
        bias[0, number, 1 + 3 * number : 5 + 3 * number, 2:7] = 6.0
        bias[0, number, 3:6, 9:14] = 6.0 if number == channels - 1 else -6.0
    head = Head("output", bias.shape, bias=bias, slope=0.05, probabilities_from=-1 if baked else None)
    job = InferenceJob(
        model=save_heads(tmp_path / "m.onnx", head, seed=count),
        task=ModelTask.SEMANTIC_SEGMENTATION,
        architecture="unet",
        classes=NAMES[:count],
        pictures=pictures,
    )
    compared = 0
    for path, reading in zip(job.pictures, run_inference(job).readings, strict=True):
        # Two pixels: the client simplifies polygons and keeps them clear of the border. Its confidence is the mean over
        # all of a class, ours over the region.
        compared += compare(reading.predictions, read_with_client(job, path), slack=2.0, confidence=0.5)
    assert compared >= 3


@pytest.mark.parametrize("count", [1, 2, 4])
def test_classifiers_read_as_the_client_does(tmp_path: Path, pictures: tuple[Path, ...], count: int) -> None:
    """Classification: the same best class with the same confidence, on every picture."""
    path = save_heads(tmp_path / "m.onnx", Head("output", (1, count), slope=0.3), seed=count)
    job = InferenceJob(
        model=path,
        task=ModelTask.CLASSIFICATION,
        architecture="resnet18",
        classes=NAMES[:count],
        pictures=pictures,
    )
    for path, reading in zip(pictures, run_inference(job).readings, strict=True):
        best = read_with_client(job, path)[0]
        assert reading.predictions[0].name == best.name
        assert reading.predictions[0].confidence == pytest.approx(best.confidence, abs=0.01)
