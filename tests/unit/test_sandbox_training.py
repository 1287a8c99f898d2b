"""Config, split and class rules of the trainers, and the arithmetic of their scores; no torch."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sandbox.datasets import DataError, LabelledImage, Shape
from sandbox.training import jobs
from sandbox.training.detections import Found, non_maximum_suppression, score_boxes
from sandbox.training.recipes import RECIPES, ConfigError, resolve
from sandbox.training.selection import Selection, _take, assign_splits, select

YOLOX, CLASSIFICATION = RECIPES["yolox"], RECIPES["classification"]


def labelled(count: int, *names: str, **fields: Any) -> list[LabelledImage]:
    """Return images that show the names in turn, as a box and as the one tag."""
    shown = [names[k % len(names)] for k in range(count)]
    return [
        LabelledImage(f"{k:03d}.png", b"", 64, 64, (Shape(name, (8, 8, 16, 16)),), (name,), **fields)
        for k, name in enumerate(shown)
    ]


def chosen(images: list[LabelledImage], kind: str = "yolox", seed: int = 0, **config: Any) -> Selection:
    """Select with the settings of a config."""
    return select(images, resolve(RECIPES[kind], config)[0], seed)


def test_the_config_overrides_the_recipe_and_unknown_keys_are_reported() -> None:
    """Known keys count; a key that has no effect is a warning, never silence."""
    settings, warnings = resolve(
        YOLOX,
        {"epochs": 3, "batch_size": 4, "learning_rate": 0.001, "image_size": 96, "momentum": 1, "gpu_autoselect": {}},
    )
    assert (settings.epochs, settings.batch_size, settings.learning_rate) == (3, 4, 0.001)
    assert (settings.height, settings.width) == (96, 96)
    codes = {(warning["code"], warning["message"].split("'")[1]) for warning in warnings}
    assert codes == {("unknown_config_key", "momentum")}  # the other key is the service's own


@pytest.mark.parametrize(
    ("kind", "word", "expected"),
    [
        ("yolox", None, ("m", 1.0)),
        ("yolox", "YOLOX-s", ("s", 0.75)),
        ("yolox", "yolox_tiny", ("tiny", 0.625)),
        ("rfdetr_detection", "large", ("large", 1.5)),
        ("rfdetr_segmentation", "2xlarge", ("2xlarge", 1.75)),
        ("classification", None, ("medium", 1.0)),
    ],
)
def test_the_vendor_s_words_for_sizes_are_understood(kind: str, word: str | None, expected: tuple[str, float]) -> None:
    """Each pipeline has its own words; no word is the default, whose network is the one that was measured."""
    settings, warnings = resolve(RECIPES[kind], {"model_size": word})
    assert ((settings.size.word, settings.size.channel_factor), warnings) == (expected, [])


@pytest.mark.parametrize("word", ["medium", "", 3, ["m"], True])
def test_a_size_the_pipeline_has_not_is_refused_with_those_it_has(word: object) -> None:
    """Another pipeline's word is no word, and neither is anything that is no text."""
    with pytest.raises(ConfigError, match=r"config model_size is .*: give one of nano, tiny, s, m, l, x to yolox"):
        resolve(YOLOX, {"model_size": word})


@pytest.mark.parametrize("kind", sorted(RECIPES))
def test_boxes_that_stand_in_for_masks_are_counted(kind: str) -> None:
    """Only pipelines that learn masks warn, and only of objects without a polygon that has an inside."""
    ring = ((8.0, 8.0), (24.0, 8.0), (8.0, 24.0))
    line = ((8.0, 8.0), (9.3, 9.1), (10.6, 10.2), (8.0, 8.0))  # four points, and all but no area
    polygons = [ring, ring[:2], None, ring, line, (), ring, ring]
    images = [
        replace(image, shapes=tuple(replace(shape, polygon=polygons[k % 8]) for shape in image.shapes))
        for k, image in enumerate(labelled(24, "a", "b"))
    ]
    warned = [warning for warning in chosen(images, kind).warnings if warning["code"] == "shapes_without_polygon"]
    learns_masks = kind in ("rfdetr_segmentation", "detectron2", "sm_pytorch")
    assert [warning["count"] for warning in warned] == ([12] if learns_masks else [])
    outlined = [replace(i, shapes=tuple(replace(s, polygon=ring) for s in i.shapes)) for i in images]
    assert chosen(outlined, kind).warnings == ()


def test_an_image_side_is_raised_to_what_the_network_can_take() -> None:
    """Strides need multiples of 32; the change is reported."""
    settings, warnings = resolve(YOLOX, {"image_height": 100, "image_width": 64})
    assert (settings.height, settings.width) == (128, 64)
    assert [warning["code"] for warning in warnings] == ["image_size_rounded"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("epochs", 2.5),
        ("epochs", True),
        ("batch_size", "16"),
        ("batch_size", 1),
        ("learning_rate", -1),
        ("learning_rate", float("nan")),
        ("image_size", 100_000),
        ("image_size", [64, 32]),
        ("class_overrides", ["a"]),
    ],
)
def test_values_out_of_range_are_refused_by_key_and_value(key: str, value: object) -> None:
    """A config the trainer cannot follow fails before training, with the key and the range."""
    with pytest.raises(ConfigError, match=f"config {key} is .*: give "):
        resolve(YOLOX, {key: value})


@pytest.mark.parametrize(("images", "asked", "expected"), [(160, None, 25), (3, None, 240), (48, None, 80), (3, 2, 2)])
def test_few_images_train_longer_unless_epochs_are_given(images: int, asked: int | None, expected: int) -> None:
    """At least 240 iterations whatever the image count; an asked number is kept."""
    settings, _ = resolve(YOLOX, {"epochs": asked})
    assert settings.total_epochs(images) == expected


@pytest.mark.parametrize(("count", "sizes"), [(3, (1, 1, 1)), (5, (3, 1, 1)), (200, (160, 20, 20))])
def test_the_seeded_split_keeps_every_part_filled(count: int, sizes: tuple[int, int, int]) -> None:
    """A tenth each is held out, at least one image; every image is used once."""
    selection = chosen(labelled(count, "a"))
    parts = (selection.train, selection.val, selection.test)
    assert tuple(map(len, parts)) == sizes
    assert len({image.name for part in parts for image in part}) == count


def test_the_split_depends_on_the_seed_and_not_on_the_order() -> None:
    """The same seed holds out the same images however the export lists them; another seed holds out others."""
    images = labelled(60, "a", "b")
    names = [[image.name for image in chosen(part, seed=seed).test] for part, seed in ((images, 0), (images[::-1], 0))]
    assert names[0] == names[1]
    assert names[0] != [image.name for image in chosen(images, seed=1).test]


def test_images_are_given_the_split_a_training_would_choose() -> None:
    """The rule is one: a training on images that carry their split holds out the very same ones."""
    images = labelled(50, "stop", "yield")
    assigned = assign_splits(images)
    assert [image.name for image in assigned] == [image.name for image in images]
    held_out = {image.name for image in assigned if image.split == "test"}
    assert held_out == {image.name for image in chosen(images).test} == {image.name for image in chosen(assigned).test}
    assert assign_splits(images[:2]) == images[:2]


def test_given_splits_are_kept_and_missing_ones_are_filled() -> None:
    """Images the export calls test stay test; validation is taken from the rest."""
    images = [replace(image, split="test" if k < 4 else None) for k, image in enumerate(labelled(20, "a"))]
    selection = chosen(images)
    assert [image.name for image in selection.test] == ["000.png", "001.png", "002.png", "003.png"]
    assert (len(selection.train), len(selection.val)) == (14, 2)


def test_the_last_image_of_a_class_is_not_held_out() -> None:
    """With one image of b among six, b is trained for every seed."""
    images = [*labelled(5, "a"), replace(labelled(1, "b")[0], name="b.png")]
    assert all(chosen(images, seed=seed).classes == ("a", "b") for seed in range(20))


def by_the_book(free: list[LabelledImage], count: int) -> list[str]:
    """Return what is held out when every choice looks at every image again: the rule as it is meant."""
    free, left = list(free), Counter(tag for image in free for tag in image.tags)
    taken: list[str] = []
    for _ in range(min(count, len(free) - 1)):
        spare = [image for image in free if all(left[tag] > 1 for tag in image.tags)]
        image = ([image for image in spare if image.tags] or spare or free)[0]
        free.remove(image)
        left.subtract(image.tags)
        taken.append(image.name)
    return sorted(taken)


def test_the_held_out_images_are_chosen_as_the_rule_says() -> None:
    """For data sets of every kind, one pass chooses what looking at all images for each choice would."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        count = int(rng.integers(1, 14))
        sets = [tuple(f"c{k}" for k in range(4) if rng.random() < 0.3) for _ in range(count)]
        images = [LabelledImage(f"{k}.png", b"", 8, 8, (), tags) for k, tags in enumerate(sets)]
        wanted, left = int(rng.integers(1, 8)), list(images)
        taken = _take(left, wanted, lambda image: image.tags)
        assert sorted(image.name for image in taken) == by_the_book(images, wanted)
        assert left == [image for image in images if image not in taken]


def test_choosing_takes_one_look_at_each_image() -> None:
    """The work grows with the number of images, not with its square."""
    looks: list[str] = []

    def labels(image: LabelledImage) -> tuple[str, ...]:
        looks.append(image.name)
        return image.tags

    _take(labelled(2000, "a", "b"), 200, labels)
    assert len(looks) == 2000


def test_classes_without_training_objects_are_left_out_and_named() -> None:
    """The vendor's warning with its reason for each class; the label disappears from every split."""
    images = [replace(image, content=b"x", split="train") for image in labelled(6, "a")]
    images += [replace(image, content=b"x", name=f"t{image.name}", split="test") for image in labelled(2, "a", "b")]
    images.append(replace(labelled(1, "c")[0], name="x.png"))  # its file is gone
    selection = chosen(images)
    _, warning = selection.warnings
    assert (selection.classes, warning["code"]) == (("a",), "classes_not_trained")
    assert warning["classes"] == [
        {"name": "b", "reason": "not_in_train_split"},
        {"name": "c", "reason": "no_training_data"},
    ]
    assert {shape.name for image in selection.test for shape in image.shapes} == {"a"}


@pytest.mark.parametrize("kind", ["yolox", "classification"])
def test_labels_of_the_other_kind_are_no_missing_classes(kind: str) -> None:
    """A detector learns shapes and a classifier tags: what the other one would learn is nothing left out."""
    images = labelled(12, "a", "b")
    other: dict[str, Any] = {"tags": ("sunny",)} if kind == "yolox" else {"shapes": (Shape("wheel", (1, 1, 2, 2)),)}
    assert chosen([replace(image, **other) for image in images], kind).warnings == ()


def test_class_overrides_merge_classes() -> None:
    """Renaming b to a gives one class."""
    assert chosen(labelled(9, "a", "b"), class_overrides={"b": "a"}).classes == ("a",)


def test_images_with_several_tags_are_left_out_of_classification() -> None:
    """One label an image: others are dropped and counted."""
    images = labelled(12, "a", "b")
    images[0] = replace(images[0], tags=("a", "b"))
    selection = chosen(images, "classification")
    assert selection.warnings[0]["code"] == "images_left_out"
    assert selection.warnings[0]["count"] == 1


@pytest.mark.parametrize(
    ("kind", "images", "config", "message"),
    [
        ("yolox", [], {}, "num_samples=0"),
        ("yolox", [replace(image, shapes=()) for image in labelled(6, "a")], {}, "num_samples=0.*annotated object"),
        ("yolox", labelled(2, "a"), {}, "only 2 usable images"),
        ("yolox", labelled(6, "a", split="train"), {}, None),
        ("yolox", labelled(6, "a"), {"epochs": -1}, "config epochs"),
        ("classification", labelled(6, "a"), {}, "at least 2 classes"),
        ("classification", [replace(image, tags=()) for image in labelled(6, "a")], {}, "num_samples=0.*one tag"),
        ("classification", labelled(6, "a", "b"), {}, None),
        (
            "rfdetr_keypoint",
            labelled(6, "a"),
            {},
            "^pipeline_type 'rfdetr_keypoint' is not trainable in the sandbox yet; use yolox or ",
        ),
    ],
)
def test_check_job_says_what_a_worker_would(
    kind: str, images: list[LabelledImage], config: dict[str, Any], message: str | None
) -> None:
    """Jobs that cannot train are named before a child is started; the others pass."""
    verdict = jobs.check_job(kind, images, config)
    if message is None:
        assert verdict is None
    else:
        with pytest.raises(DataError, match=message):
            raise DataError(verdict)


def test_the_server_side_imports_no_torch() -> None:
    """Starting and checking jobs must cost the server neither torch's memory nor its seconds."""
    code = "import sys, sandbox.training.jobs; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_suppression_keeps_the_best_of_a_class_and_both_of_two() -> None:
    """Overlapping boxes of one class are one object; of two classes they are two."""
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 1, 10, 11], [50, 50, 60, 60]], float)
    scores = np.array([[0.9, 0], [0.8, 0], [0, 0.7], [0.005, 0]])
    found = non_maximum_suppression(boxes, scores, 0.45, 0.01)
    assert found.scores.tolist() == [0.9, 0.7]
    assert found.labels.tolist() == [0, 1]


def test_detection_scores_count_misses_doubles_and_wrong_classes() -> None:
    """One hit, one miss, one double and one wrong class: precision 1/3, recall 1/2; a perfect answer scores 1."""
    image = LabelledImage("a.png", b"", 64, 64, (Shape("a", (0, 0, 20, 20)), Shape("b", (40, 40, 20, 20))))
    boxes = np.array([[0, 0, 20, 20], [1, 1, 20, 20], [40, 40, 60, 60]], float)
    mixed = Found(boxes, np.array([0.9, 0.8, 0.7]), np.array([0, 0, 0]))
    metrics = score_boxes([image], [mixed], ("a", "b"))
    assert (metrics["precision"], metrics["recall"]) == pytest.approx((1 / 3, 1 / 2))
    assert metrics["per_class"] == {"a": 1.0, "b": 0.0}
    assert metrics["mAP50"] == 0.5
    perfect = Found(boxes[[0, 2]], np.array([0.9, 0.9]), np.array([0, 1]))
    assert score_boxes([image], [perfect], ("a", "b"))["mAP"] == 1.0


def test_nothing_found_scores_zero_and_absent_classes_are_not_measured() -> None:
    """No detections is a mean average precision of 0; a class without objects has none."""
    image = LabelledImage("a.png", b"", 64, 64, (Shape("a", (0, 0, 20, 20)),))
    nothing = Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.intp))
    metrics = score_boxes([image], [nothing], ("a", "b"))
    assert (metrics["mAP50"], metrics["per_class"], metrics["evaluated_images"]) == (0.0, {"a": 0.0, "b": None}, 1)
