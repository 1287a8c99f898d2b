"""The built-in pictures that come with scikit-learn: handwritten digits, alone and in photographs."""

from __future__ import annotations

import hashlib
import io
import sys
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sandbox.builtin import AT_FIRST_START, BUILT_IN, generate
from sandbox.datasets import DataError, LabelledImage, class_names, image_size
from sandbox.digits import CLASSES, SCENE_CLASSES, digit_scenes, digits
from sandbox.layouts.geometry import ring_area


def pixels(image: LabelledImage) -> NDArray[np.uint8]:
    """Return the picture (H, W) uint8, grey."""
    return np.asarray(Image.open(io.BytesIO(image.content)).convert("L"))


@pytest.mark.parametrize("make", [digits, digit_scenes])
def test_the_same_seed_gives_the_same_bytes(make: Callable[..., list[LabelledImage]]) -> None:
    """Determinism by seed, and other pictures for another one."""
    first, again, other = (
        [hashlib.sha256(image.content).hexdigest() for image in make(6, seed=seed, size=48)] for seed in (1, 1, 2)
    )
    assert first == again
    assert not set(first) & set(other)


def test_digits_have_one_tag_each_and_none_occurs_twice() -> None:
    """Ten classes that take turns, no shapes, pictures of the size asked for, all different."""
    images = digits(60, seed=3, size=48)
    assert [image.tags for image in images] == [(CLASSES[k % 10],) for k in range(60)]
    assert not any(image.shapes for image in images)
    assert {(image.width, image.height, *image_size(image.name, image.content)) for image in images} == {(48,) * 4}
    assert len({image.content for image in images}) == len({image.name for image in images}) == 60


def test_digits_are_dark_on_white() -> None:
    """The frame is bare paper and the middle holds ink, in every picture."""
    for image in digits(20, size=64):
        grey = pixels(image)
        assert min(grey[0].min(), grey[-1].min(), grey[:, 0].min(), grey[:, -1].min()) > 200
        assert grey[16:48, 16:48].min() < 60


def test_there_are_no_more_digits_than_there_are() -> None:
    """The refusal says how many there are."""
    with pytest.raises(DataError, match=r"1798.*1797"):
        digits(1798)


def test_scenes_are_labelled_inside_the_image() -> None:
    """One to three digits; boxes hold their outlines, lie inside the image and do not overlap; tags are the classes."""
    images = digit_scenes(40, seed=3)
    assert class_names(images) == SCENE_CLASSES
    assert {len(image.shapes) for image in images} == {1, 2, 3}
    for number, image in enumerate(images):
        assert (image.width, image.height) == image_size(image.name, image.content) == (128, 128)
        assert image.tags == tuple(sorted({shape.name for shape in image.shapes}))
        assert image.shapes[0].name == SCENE_CLASSES[number % 3]
        for shape in image.shapes:
            x, y, w, h = shape.box
            assert min(x, y) >= 0
            assert max(x + w, y + h) <= 128
            assert min(w, h) >= 8
            assert shape.polygon is not None
            assert 0.2 * w * h < ring_area(shape.polygon) <= w * h
            xs, ys = zip(*shape.polygon, strict=True)
            assert (min(xs), min(ys)) == (x, y)
            assert (max(xs), max(ys)) == pytest.approx((x + w, y + h), abs=0.002)
        boxes = [shape.box for shape in image.shapes]
        apart = [
            a[0] + a[2] <= b[0] or b[0] + b[2] <= a[0] or a[1] + a[3] <= b[1] or b[1] + b[3] <= a[1]
            for k, a in enumerate(boxes)
            for b in boxes[k + 1 :]
        ]
        assert all(apart)


def test_the_boxes_of_scenes_are_where_the_ink_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """On black photographs every bright pixel lies in a box, and reaches each of its sides within two pixels."""
    black = SimpleNamespace(images=[np.zeros((300, 400, 3), np.uint8)])
    monkeypatch.setattr("sklearn.datasets.load_sample_images", lambda: black)
    for image in digit_scenes(20, seed=5, classes=CLASSES):
        bright = pixels(image) >= 110
        for shape in image.shapes:
            x, y, w, h = shape.box
            left, top, right, bottom = int(x) - 1, int(y) - 1, int(x + w) + 2, int(y + h) + 2
            rows, columns = np.nonzero(bright[max(top, 0) : bottom, max(left, 0) : right])
            found = (columns.min() + max(left, 0), rows.min() + max(top, 0))
            assert found == pytest.approx((x, y), abs=2), (image.name, shape)
            assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == pytest.approx((w, h), abs=3), (image.name, shape)
            bright[max(top, 0) : bottom, max(left, 0) : right] = False
        assert not bright.any(), image.name


def test_the_classes_of_scenes_can_be_chosen() -> None:
    """Only these are shown, each of them."""
    images = digit_scenes(12, size=64, classes=("3", "9"))
    shown = Counter(shape.name for image in images for shape in image.shapes)
    assert set(shown) == {"3", "9"}
    assert digit_scenes(2, size=64, classes=("3",))[0].content != images[0].content


@pytest.mark.parametrize("kind", ["digits", "digits-scenes"])
def test_without_scikit_learn_the_error_names_the_extra(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed the digits say what to install, and what the first start makes is made all the same."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match=r"scikit-learn.*pip install 'train-pipeline\[sandbox\]'"):
        BUILT_IN[kind](3)  # type: ignore[index]
    assert [len(generate(name, count=2, size=64)) for name in AT_FIRST_START] == [2, 2]
