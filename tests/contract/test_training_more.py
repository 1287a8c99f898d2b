"""Detection with queries, masks and semantic maps: tiny trainings whose files both decoders read, and their parts."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from pictograph import load_model

from pipeline.models import ModelTask
from pipeline.smoke.inference import InferenceJob, run_inference
from sandbox.datasets import LabelledImage, Shape, decode
from sandbox.exportzip import write_export
from sandbox.roadsigns import CLASSES, road_signs
from sandbox.training import jobs, mask_scores, outlines, pixels, semantic
from sandbox.training.detections import Found
from sandbox.training.queries import as_ranked
from sandbox.training.recipes import RECIPES, resolve
from sandbox.training.results import progress
from sandbox.training.task import task_of
from tests.contract.conftest import HEIGHT, WIDTH, Reduced

torch.set_num_threads(1)  # as the child does: two threads on busy cores wait for each other
TINY: dict[str, Any] = {"epochs": 20, "batch_size": 4, "image_height": HEIGHT, "image_width": WIDTH}
QUERIES = 50
CELLS = sum((HEIGHT // stride) * (WIDTH // stride) for stride in (8, 16, 32))
LIMIT_S = 120
KINDS = ("rfdetr_detection", "rfdetr_segmentation", "detectron2", "sm_pytorch")
JOBS = [*((kind, 3) for kind in KINDS), ("rfdetr_detection", 1), ("sm_pytorch", 1)]
LEAST_CONFIDENCE = 0.05
"""So little that half-trained models have something to say."""


@dataclass(frozen=True)
class Trained:
    """A finished tiny job."""

    kind: str
    folder: Path
    classes: tuple[str, ...]
    images: tuple[LabelledImage, ...]

    @property
    def model(self) -> Path:
        """The exported file."""
        return self.folder / "model.onnx"

    def pictures(self) -> tuple[Path, ...]:
        """Write the images to files, as decoders take them."""
        paths = tuple(self.folder / image.name for image in self.images)
        for path, image in zip(paths, self.images, strict=True):
            path.write_bytes(image.content)
        return paths

    def outputs(self, image: LabelledImage) -> list[Any]:
        """Run the exported file on one picture, prepared as the contract says."""
        raw = torch.from_numpy(np.array(decode(image.name, image.content), np.float32)).permute(2, 0, 1)[None]
        sized = torch.nn.functional.interpolate(raw, (HEIGHT, WIDTH), mode="bilinear", align_corners=False)
        session = onnxruntime.InferenceSession(self.model, providers=["CPUExecutionProvider"])
        return list(session.run(None, {"input": pixels.imagenet_normalised(sized).numpy()}))


def prepare(folder: Path, kind: str, images: list[LabelledImage], **config: Any) -> Path:
    """Write a job folder."""
    folder.mkdir()
    write_export(folder / "export.zip", dataset="d", export="e", images=images, include_images=True)
    job = {"pipeline_type": kind, "seed": 5, "threads": 1, "export": str(folder / "export.zip"), "config": config}
    (folder / "job.json").write_text(json.dumps(job))
    return folder


def finish(folder: Path, child: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Wait for a job and return what it reported."""
    child.wait(LIMIT_S)
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    assert result["status"] == "completed", (result["error_message"], (folder / "log.txt").read_text())
    return result


@pytest.fixture(scope="module")
def trained(
    reduced: Callable[[str], Reduced], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, int], Trained]:
    """Give a pipeline trained on three classes (the shared training) or on one, for pictures wider than high."""
    done: dict[tuple[str, int], Trained] = {}

    def train(kind: str) -> Trained:
        images = road_signs(12, seed=1, size=96)
        images = [replace(i, shapes=tuple(s for s in i.shapes if s.name == CLASSES[0])) for i in images]
        folder = prepare(tmp_path_factory.mktemp("job") / kind, kind, images, **TINY)
        result = finish(folder, jobs.start(folder))
        return Trained(kind, folder, tuple(result["classes"]), tuple(images))

    def make(kind: str, classes: int) -> Trained:
        if (kind, classes) not in done:
            shared = reduced(kind) if classes > 1 else None
            done[kind, classes] = (
                train(kind) if shared is None else Trained(kind, shared.folder, CLASSES, shared.held_out)
            )
        return done[kind, classes]

    return make


def dimensions(values: Any) -> list[tuple[str, list[int]]]:
    """Return the names and static shapes of graph inputs or outputs."""
    return [(value.name, [dim.dim_value for dim in value.type.tensor_type.shape.dim]) for value in values]


@pytest.mark.parametrize(("kind", "count"), JOBS)
def test_the_graphs_have_the_hosted_contract(trained: Callable[[str, int], Trained], kind: str, count: int) -> None:
    """Names, order and static shapes: boxes before logits before masks, a background more; one semantic class alone."""
    job = trained(kind, count)
    model = onnx.load(job.model)
    boxes = [("dets", [1, QUERIES, 4]), ("labels", [1, QUERIES, count + 1])]
    masks = ("masks", [1, QUERIES, HEIGHT // 4, WIDTH // 4])
    expected = {
        "rfdetr_detection": boxes,
        "rfdetr_segmentation": [*boxes, masks],
        "detectron2": [*boxes, masks],
        "sm_pytorch": [("output", [1, 1 if count == 1 else count + 1, HEIGHT, WIDTH])],
    }
    assert dimensions(model.graph.input) == [("input", [1, 3, HEIGHT, WIDTH])]
    assert dimensions(model.graph.output) == expected[kind]
    assert [opset.version for opset in model.opset_import] == [17]
    notes = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(notes["classes"]) == list(job.classes) == list(CLASSES[:count])
    assert str(Path(__file__).resolve().parents[2]).encode() not in model.SerializeToString()


@pytest.mark.parametrize(("kind", "count"), JOBS)
def test_both_decoders_read_the_model(trained: Callable[[str, int], Trained], kind: str, count: int) -> None:
    """Our decoder and the published client, offline, read the same classes in the same pictures."""
    job = trained(kind, count)
    paths, recipe = job.pictures(), RECIPES[kind]
    ours = run_inference(
        InferenceJob(
            model=job.model,
            task=ModelTask(recipe.model_type),
            architecture=recipe.architecture,
            classes=job.classes,
            pictures=paths,
            confidence=LEAST_CONFIDENCE,
        )
    )
    client: Any = load_model(job.model, job.folder / "config.json", task=recipe.model_type, device="cpu")  # type: ignore[call-overload]
    theirs = [client.predict(path, confidence=LEAST_CONFIDENCE).predictions for path in paths]
    assert sum(map(len, theirs)) >= len(paths)
    agreed = [
        {seen.name for seen in mine.predictions} == {seen.name for seen in other}
        for mine, other in zip(ours.readings, theirs, strict=True)
    ]
    assert sum(agreed) >= len(paths) * 0.75  # scores and areas next to a threshold may fall on either side


@pytest.mark.parametrize("kind", ["rfdetr_detection", "rfdetr_segmentation", "detectron2"])
def test_queries_are_ranked_and_their_background_says_the_opposite(
    trained: Callable[[str, int], Trained], kind: str
) -> None:
    """Best first, boxes are shares of the picture and inside it, the last column mirrors the best class."""
    job = trained(kind, 3)
    boxes, labels = job.outputs(job.images[0])[:2]
    best = labels[0, :, :-1].max(1)
    assert (np.diff(best) <= 0).all()
    assert labels[0, :, -1] == pytest.approx(-best)
    middles, halves = boxes[0, :, :2], boxes[0, :, 2:] / 2
    assert halves.min() >= 0
    assert (middles - halves).min() >= -1e-6
    assert 0.1 < (middles + halves).max() <= 1 + 1e-6


@pytest.mark.parametrize("kind", ["rfdetr_segmentation", "detectron2"])
def test_masks_are_nothing_outside_their_boxes(trained: Callable[[str, int], Trained], kind: str) -> None:
    """Further than half a cell from its box a mask is strongly negative; inside it is what the network says."""
    job = trained(kind, 3)
    boxes, _, masks = job.outputs(job.images[0])
    height, width = masks.shape[2:]
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    near = [
        (abs(x - cx)[None] <= w / 2 + 0.51 / width) & (abs(y - cy)[:, None] <= h / 2 + 0.51 / height)
        for cx, cy, w, h in boxes[0].tolist()
    ]
    assert (masks[0][~np.array(near)] == -12).all()
    assert (masks[0][np.array(near)] > -12).any()


def test_semantic_outputs_cannot_be_mistaken(trained: Callable[[str, int], Trained]) -> None:
    """One class leaves the graph as a probability; several are logits that no decoder takes for probabilities."""
    (chances,) = trained("sm_pytorch", 1).outputs(road_signs(1)[0])
    assert 0 <= chances.min() < 0.5 < chances.max() <= 1
    (logits,) = trained("sm_pytorch", 3).outputs(road_signs(1)[0])
    assert logits.max() == pytest.approx(-1)


@pytest.mark.parametrize("kind", ["rfdetr_segmentation", "sm_pytorch"])
def test_a_killed_job_goes_on_to_the_same_bytes(tmp_path: Path, kind: str) -> None:
    """SIGKILL after some epochs and a second start give the model of an undisturbed run."""
    images = road_signs(8, size=64)
    config = {"epochs": 8, "batch_size": 4, "image_size": 64}
    whole, killed = (prepare(tmp_path / name, kind, images, **config) for name in ("whole", "killed"))
    undisturbed, child = jobs.start(whole), jobs.start(killed)
    while len(progress(killed)) < 3:
        assert child.poll() is None, "the child ended early"
    child.kill()
    child.wait(LIMIT_S)
    assert not (killed / "result.json").exists()
    resumed = finish(killed, jobs.start(killed))
    assert finish(whole, undisturbed)["metrics"] == resumed["metrics"]
    assert (whole / "model.onnx").read_bytes() == (killed / "model.onnx").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_objects_has_a_finite_loss(kind: str) -> None:
    """Pictures whose objects were all moved out of sight must not end a training."""
    settings, _ = resolve(RECIPES[kind], {"image_size": 64})
    task = task_of(("a", "b"), settings)
    images = [replace(image, shapes=()) for image in road_signs(2, size=64)]
    samples = task.samples(images)
    network = task.network()
    loss = task.loss(network, *task.batch(samples, torch.arange(2), np.random.default_rng(0)))
    loss.backward()
    assert bool(torch.isfinite(loss))
    metrics = task.evaluate(network.eval(), samples)
    assert metrics[task.key_metric] is None
    assert metrics["evaluated_images"] == 2


@pytest.mark.parametrize("rotation", [0, 14])
def test_outlines_move_as_their_picture_does(rotation: int) -> None:
    """The moved polygon covers what the picture's warp makes of the drawn one, on a picture wider than high."""
    ring = np.array([(20.0, 15.0), (70.0, 20.0), (60.0, 45.0), (25.0, 40.0)])
    motion = pixels.draw(np.random.default_rng(3), 6, pixels.Augmentation(rotation=rotation))
    drawn = torch.from_numpy(outlines.label_map([(ring, 1)], HEIGHT, WIDTH)).float().expand(6, 1, -1, -1)
    warped = (pixels.warp(drawn, motion, torch.tensor(0.0)) > 0.5).squeeze(1).numpy()
    for row in range(6):
        own = outlines.label_map([(outlines.moved(ring, motion, row, HEIGHT, WIDTH), 1)], HEIGHT, WIDTH) == 1
        assert (own & warped[row]).sum() / (own | warped[row]).sum() > 0.93


def test_coverage_is_exact_on_average() -> None:
    """Cells hold the share of them inside the outline: their sum is the polygon's area, at any offset."""
    shape = Shape("a", (10.3, 8.7, 41.5, 33.25))
    cells = outlines.coverage(outlines.ring_of(shape), HEIGHT, WIDTH, 4)
    assert cells.shape == (HEIGHT // 4, WIDTH // 4)
    assert cells.sum() * 16 == pytest.approx(41.5 * 33.25, rel=0.03)
    assert (cells.max(), cells.min()) == (1.0, 0.0)


def test_small_labels_lie_on_top_and_many_classes_fit() -> None:
    """A sign on a wall is not painted over, whatever the order; numbers above 255 survive."""
    wall, sign = (outlines.ring_of(Shape("a", box)) for box in ((0, 0, 60, 60), (20, 20, 10, 10)))
    painted = outlines.label_map([(sign, 300), (wall, 1)], 64, 64)
    assert (painted[25, 25], painted[5, 5], painted[62, 62]) == (300, 1, 0)


def test_mask_scores_see_the_form_and_not_only_the_box() -> None:
    """The labelled outline scores 1; a mask that fills its whole box scores 0 on masks and 1 on boxes."""
    angle = ((0.0, 0.0), (40.0, 0.0), (40.0, 10.0), (10.0, 10.0), (10.0, 40.0), (0.0, 40.0))
    image = LabelledImage("a.png", b"", 64, 64, (Shape("a", (0, 0, 40, 40), angle),))
    found = Found(np.array([[0.0, 0, 40, 40]]), np.array([0.9]), np.array([0]))
    scores = []
    for ring in (np.array(angle), outlines.ring_of(Shape("a", (0, 0, 40, 40)))):
        logits = torch.from_numpy(outlines.label_map([(ring, 1)], 64, 64)).float().unsqueeze(0) - 0.5
        masks = mask_scores.encoded(image, logits)
        scores.append(mask_scores.score_masks([image], [found], [masks], ("a", "b")))
    exact, filled = scores
    assert (exact["mAP50"], exact["precision"], exact["recall"], exact["box_mAP50"]) == (1.0, 1.0, 1.0, 1.0)
    assert exact["per_class"] == {"a": 1.0, "b": None}
    assert (filled["mAP50"], filled["precision"], filled["box_mAP50"]) == (0.0, 0.0, 1.0)


def test_semantic_scores_are_shares_of_the_union() -> None:
    """Intersection over union by class; a class that no label shows is not measured."""
    confusion = np.array([[80, 5, 0], [5, 10, 0], [0, 0, 0]])
    metrics = semantic.scores(confusion, ("a", "b"), 1)
    assert metrics["per_class"] == {"a": 0.5, "b": None}
    assert (metrics["mIoU"], metrics["background_IoU"], metrics["pixel_accuracy"]) == (0.5, 80 / 90, 0.9)


def test_queries_ranked_the_other_way_are_the_same_and_wrong_ones_are_not() -> None:
    """Two almost equal queries may swap places between runtimes; another box stays a difference."""
    boxes, logits = torch.rand(1, 4, 4), torch.tensor([[[3.0, 0], [2.0, 0], [2.0 - 1e-7, 0], [1.0, 0]]])
    swapped = [part[:, [0, 2, 1, 3]].clone() for part in (boxes, logits)]
    for ours, theirs in zip((boxes, logits), as_ranked([boxes, logits], swapped), strict=True):
        assert (ours - theirs).abs().max() < 1e-6
    swapped[0][0, 0] += 0.01
    aligned = as_ranked([boxes, logits], swapped)
    assert (boxes - aligned[0]).abs().max() == pytest.approx(0.01, abs=1e-6)
