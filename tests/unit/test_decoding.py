"""Decoding, on arrays made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import OutputCheckError
from pipeline.models import ModelTask
from pipeline.smoke.decoding import Detection, Family, Reading, decode, family_of, non_maximum_suppression, preprocess
from pipeline.smoke.regions import connected_regions

ANCHORS = 64 + 16 + 4


def reading(family: Family, *classes: str, picture: tuple[int, int] = (64, 64), confidence: float = 0.5) -> Reading:
    """Describe a model of 64x64 input."""
    return Reading(family, classes, (64, 64), picture, confidence)


def queries(*rows: tuple[list[float], list[float]]) -> list[np.ndarray]:
    """Build RF-DETR outputs from (box, logits) pairs."""
    boxes = np.array([[box for box, _ in rows]], np.float32)
    return [boxes, np.array([[logits for _, logits in rows]], np.float32)]


def names(found: tuple[Detection, ...]) -> list[str]:
    """Return class names in order."""
    return [seen.prediction.name for seen in found]


@pytest.mark.parametrize(
    ("task", "architecture", "family"),
    [
        (ModelTask.OBJECT_DETECTION, "YOLOX-s", Family.YOLOX),
        (ModelTask.OBJECT_DETECTION, "rfdetr_nano", Family.RFDETR_DETECTION),
        (ModelTask.OBJECT_DETECTION, None, Family.RFDETR_DETECTION),
        (ModelTask.INSTANCE_SEGMENTATION, "detectron2", Family.RFDETR_SEGMENTATION),
        (ModelTask.SEMANTIC_SEGMENTATION, "yolox", Family.SM_PYTORCH),
        (ModelTask.CLASSIFICATION, "resnet18", Family.CLASSIFICATION),
    ],
)
def test_task_and_architecture_choose_the_family(task: ModelTask, architecture: str | None, family: Family) -> None:
    """Only detection looks at the architecture, and only at how its name begins."""
    assert family_of(task, architecture) is family


def test_yolox_anchor_lands_in_picture_pixels() -> None:
    """Anchor 64 + 5 is cell (1, 1) of stride 16; its box is scaled back by the letterbox ratio."""
    rows = np.zeros((1, ANCHORS, 7), np.float32)
    rows[0, 64 + 5] = [0.5, 0.25, np.log(2), np.log(1), 0.9, 0.1, 0.8]
    (seen,) = decode([rows], reading(Family.YOLOX, "a", "b", picture=(32, 128)))
    # Centre (24, 20), size 32x16 in the input; the ratio of a 128 wide picture is one half.
    assert seen.prediction.name == "b"
    assert seen.prediction.confidence == pytest.approx(0.72)
    assert seen.prediction.box == pytest.approx((16.0, 24.0, 64.0, 32.0))


def test_yolox_suppresses_within_a_class_only() -> None:
    """Of three boxes at one place the weaker of the same class goes, the other class stays."""
    rows = np.zeros((1, ANCHORS, 7), np.float32)
    rows[0, 64 + 5] = [0.5, 0.5, 0, 0, 1, 0.9, 0]
    rows[0, 64 + 6] = [-0.5, 0.5, 0, 0, 1, 0.8, 0]
    rows[0, 64 + 9] = [0.5, -0.5, 0, 0, 1, 0, 0.7]
    assert names(decode([rows], reading(Family.YOLOX, "a", "b"))) == ["a", "b"]


def test_yolox_with_another_number_of_anchors_is_refused() -> None:
    """The message names both counts."""
    with pytest.raises(OutputCheckError, match=r"84 anchors for an input of 64x64, got 83 anchors"):
        decode([np.zeros((1, 83, 6), np.float32)], reading(Family.YOLOX, "a"))


@pytest.mark.parametrize("columns", [6, 8])
def test_yolox_with_another_number_of_classes_is_refused(columns: int) -> None:
    """A class too few and a class too many are both refused, with the room there is."""
    with pytest.raises(OutputCheckError, match=rf"2 declared class.*room for {columns - 5}"):
        decode([np.zeros((1, ANCHORS, columns), np.float32)], reading(Family.YOLOX, "a", "b"))


def test_yolox_logits_instead_of_scores_are_refused() -> None:
    """Scores beyond 1 mean that the export lacks its sigmoid."""
    with pytest.raises(OutputCheckError, match="between 0 and 1"):
        decode([np.full((1, ANCHORS, 6), 3.0, np.float32)], reading(Family.YOLOX, "a"))


def test_yolox_box_of_infinite_size_is_refused() -> None:
    """Finite outputs whose exponential is not are refused too."""
    rows = np.full((1, ANCHORS, 6), 1.0, np.float32)
    rows[..., 2] = 200
    with pytest.raises(OutputCheckError, match="infinite size"):
        decode([rows], reading(Family.YOLOX, "a"))


def test_rfdetr_ignores_the_background_column() -> None:
    """A background score above the best class does not drop the detection; the box is cut at the border."""
    outputs = queries(([0.9, 0.5, 0.4, 0.2], [2.0, -3.0, 9.0]))
    (seen,) = decode(outputs, reading(Family.RFDETR_DETECTION, "a", "b", picture=(100, 200)))
    assert seen.prediction.name == "a"
    assert seen.prediction.confidence == pytest.approx(1 / (1 + np.exp(-2.0)), abs=1e-5)
    assert seen.prediction.box == pytest.approx((140.0, 40.0, 60.0, 20.0), abs=1e-3)


def test_rfdetr_with_three_classes_takes_the_first_output_for_boxes() -> None:
    """Logits of three classes are four wide as well: position decides."""
    outputs = queries(([0.5, 0.5, 0.2, 0.2], [-3.0, 4.0, -3.0, 0.0]))
    assert names(decode(outputs, reading(Family.RFDETR_DETECTION, "a", "b", "c"))) == ["b"]


def test_rfdetr_finds_boxes_behind_logits_of_another_width() -> None:
    """Where widths differ the order of outputs does not matter."""
    boxes, logits = queries(([0.5, 0.5, 0.2, 0.2], [4.0, 0.0]))
    assert names(decode([logits, boxes], reading(Family.RFDETR_DETECTION, "a"))) == ["a"]


@pytest.mark.parametrize(("shift", "kept"), [(0.05, 1), (0.08, 2)])
def test_rfdetr_suppresses_above_half_an_overlap(shift: float, kept: int) -> None:
    """Twins that overlap by 0.6 become one; by 0.43 both stay."""
    outputs = queries(([0.5, 0.5, 0.2, 0.2], [4.0, 0.0]), ([0.5 + shift, 0.5, 0.2, 0.2], [3.0, 0.0]))
    assert len(decode(outputs, reading(Family.RFDETR_DETECTION, "a"))) == kept


def test_rfdetr_without_background_column_is_refused() -> None:
    """Otherwise the last class would silently be lost."""
    outputs = queries(([0.5, 0.5, 0.2, 0.2], [4.0, 0.0]))
    with pytest.raises(OutputCheckError, match=r"2 logit columns, which is room for 1"):
        decode(outputs, reading(Family.RFDETR_DETECTION, "a", "b"))


def test_rfdetr_boxes_in_pixels_are_refused() -> None:
    """Box centres far outside the picture mean another export contract."""
    outputs = queries(([320.0, 200.0, 50.0, 40.0], [4.0, 0.0]))
    with pytest.raises(OutputCheckError, match="shares of the picture"):
        decode(outputs, reading(Family.RFDETR_DETECTION, "a"))


def test_rfdetr_keeps_three_hundred_queries_at_most() -> None:
    """Of 400 confident queries the best 300 are read."""
    rows = [([(n % 20) / 20, (n // 20) / 20, 0.01, 0.01], [1.0 + n / 400, 0.0]) for n in range(400)]
    found = decode(queries(*rows), reading(Family.RFDETR_DETECTION, "a"))
    assert len(found) == 300
    assert found[-1].prediction.confidence == pytest.approx(1 / (1 + np.exp(-1.25)), abs=1e-4)


def test_instance_mask_covers_the_picture() -> None:
    """A mask is brought to picture size and cut at zero; box and mask belong to the same query."""
    outputs = queries(([0.5, 0.5, 0.2, 0.2], [-4.0, 0.0]), ([0.25, 0.25, 0.5, 0.5], [4.0, 0.0]))
    masks = np.full((1, 2, 16, 16), -5.0, np.float32)
    masks[0, 1, :8, :8] = 5.0
    (seen,) = decode([*outputs, masks], reading(Family.RFDETR_SEGMENTATION, "a", picture=(32, 64)))
    assert seen.mask is not None
    assert seen.mask.shape == (32, 64)
    assert seen.mask[:15, :30].all()
    assert not seen.mask[17:].any()


def test_instance_segmentation_without_masks_is_refused() -> None:
    """Boxes and logits alone are a detection model."""
    with pytest.raises(OutputCheckError, match=r"masks of shape \(1, 1, h, w\), got no output of rank 4"):
        decode(queries(([0.5, 0.5, 0.2, 0.2], [4.0, 0.0])), reading(Family.RFDETR_SEGMENTATION, "a"))


@pytest.mark.parametrize("logits", [True, False])
def test_semantic_map_gives_one_prediction_a_region(logits: bool) -> None:
    """Channel 0 is background; each connected region becomes a box in picture pixels; specks are dropped."""
    maps = np.full((1, 3, 64, 64), -6.0 if logits else 0.01, np.float32)
    maps[0, 0] = 0.0 if logits else 0.3
    for channel, rows, columns in ((1, slice(8, 24), slice(8, 24)), (1, slice(40, 56), slice(8, 40)), (2, 30, 60)):
        maps[0, channel, rows, columns] = 6.0 if logits else 0.9
    maps[0, 1, 0, 63] = 6.0 if logits else 0.9
    found = decode([maps], reading(Family.SM_PYTORCH, "road", "speck", picture=(64, 64)))
    boxes = sorted(seen.prediction.box for seen in found if seen.prediction.name == "road" and seen.prediction.box)
    assert boxes == [(8, 8, 16, 16), (8, 40, 32, 16)]
    assert names(found).count("speck") == 1


def test_semantic_single_channel_needs_no_background() -> None:
    """One class may come as one channel of probabilities."""
    maps = np.zeros((1, 1, 16, 16), np.float32)
    maps[0, 0, 4:12, 4:12] = 0.9
    (seen,) = decode([maps], reading(Family.SM_PYTORCH, "road", picture=(32, 32)))
    assert seen.prediction.box == pytest.approx((8, 8, 16, 16), abs=1)


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_semantic_channels_must_fit_the_classes(channels: int) -> None:
    """Two classes need three channels."""
    with pytest.raises(OutputCheckError, match=f"{channels} channels, which is room for {max(1, channels - 1)}"):
        decode([np.zeros((1, channels, 8, 8), np.float32)], reading(Family.SM_PYTORCH, "a", "b"))


def test_classifier_always_names_its_best_class() -> None:
    """The threshold prunes the second rank onwards."""
    found = decode([np.array([[0.0, 0.2, 0.1]], np.float32)], reading(Family.CLASSIFICATION, "a", "b", "c"))
    assert names(found) == ["b"]
    assert found[0].prediction.confidence == pytest.approx(0.367, abs=1e-3)
    assert found[0].prediction.box is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("family", list(Family))
def test_numbers_that_are_none_are_refused(family: Family, bad: float) -> None:
    """Whatever the family, one non-finite value condemns the outputs."""
    outputs = [np.zeros((1, 2, 4), np.float32), np.full((1, 2, 2), bad, np.float32)]
    with pytest.raises(OutputCheckError, match="4 of 4 values of output 1 are not"):
        decode(outputs, reading(family, "a"))


@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 3, 4), (1, 2, 3, 4, 5), (0, 4), ()])
def test_any_shape_gives_a_verdict(family: Family, shape: tuple[int, ...]) -> None:
    """Outputs of a shape that fits no family are refused, never an index error."""
    with pytest.raises(OutputCheckError):
        decode([np.zeros(shape, np.float32)], reading(family, "a"))


def test_no_output_at_all_is_refused() -> None:
    """A graph may have no outputs."""
    with pytest.raises(OutputCheckError, match="at least one output"):
        decode([], reading(Family.CLASSIFICATION, "a"))


def test_suppression_survives_boxes_without_area() -> None:
    """Two empty boxes at one place do not divide by zero and both stay."""
    boxes = np.zeros((2, 4), np.float32)
    kept = non_maximum_suppression(boxes, np.array([0.6, 0.9], np.float32), np.zeros(2, np.intp), 0.5)
    assert kept.tolist() == [1, 0]


def test_families_are_fed_differently() -> None:
    """YOLOX takes BGR bytes on a grey canvas; the others take normalised RGB over the whole input."""
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[..., 0] = 200
    boxed = preprocess(Family.YOLOX, picture, (64, 64))
    assert boxed[0, :, 0, 0].tolist() == [0, 0, 200]
    assert boxed[0, :, 40, 0].tolist() == [114, 114, 114]
    plain = preprocess(Family.CLASSIFICATION, picture, (64, 64))
    assert plain.shape == (1, 3, 64, 64)
    assert plain[0, 0].min() == pytest.approx((200 / 255 - 0.485) / 0.229, abs=1e-5)


def test_regions_join_over_corners_and_around_bends() -> None:
    """A U shape is one region; a diagonal step joins; separate blobs do not."""
    mask = np.zeros((12, 12), np.bool_)
    mask[1:6, 1] = mask[1:6, 4] = mask[5, 1:5] = True
    mask[6, 5] = True
    mask[9:11, 9:12] = True
    found = connected_regions(mask, mask.astype(np.float32))
    assert [(region.box, region.area) for region in found] == [((1, 1, 5, 6), 13), ((9, 9, 3, 2), 6)]
