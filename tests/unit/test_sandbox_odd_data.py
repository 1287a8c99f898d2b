"""Values that no program writes and a person's file may hold all the same: refused in a sentence, never a crash."""

import json
from pathlib import Path
from typing import Any

import pytest

from sandbox.datasets import DataError
from sandbox.layouts.reading import read_data
from sandbox.photogpt.window import WindowError, seq_of, token_of
from tests.unit.own_data import grey, picture, refusal, write

LARGE, LONG = "1" + "0" * 400, "1" + "0" * 5000
"""Beyond the largest float, and beyond the digits that Python reads."""


def coco(**changes: str) -> str:
    """Return a COCO document of one box; `changes` are JSON texts of its picture's name and its box's width."""
    text = {"file_name": '"a.png"', "width": "4", **changes}
    return (
        f'{{"images": [{{"id": 1, "file_name": {text["file_name"]}}}], "categories": [{{"id": 3, "name": "car"}}], '
        f'"annotations": [{{"id": 7, "image_id": 1, "category_id": 3, "bbox": [2, 3, {text["width"]}, 5]}}]}}'
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"file_name": '"a\\u0000.png"'}, "file 'a\\x00.png' is not in the folder"),
        ({"file_name": '"a\\ud800.png"'}, "file 'a\\ud800.png' is not in the folder"),
        ({"width": LARGE}, "annotation 7: bbox is"),
        ({"width": LONG}, "'labels.json' cannot be read as JSON"),
    ],
)
def test_coco(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    """Names no file can have, numbers nothing can be calculated with."""
    assert said in refusal(write(tmp_path, {"a.png": picture(), "labels.json": coco(**changes)}))


def test_links_that_lead_to_each_other_are_no_picture(tmp_path: Path) -> None:
    """They are not in the folder, as far as anybody can tell."""
    write(tmp_path, {"labels.json": coco()})
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    assert "file 'a.png' is not in the folder" in refusal(tmp_path)


@pytest.mark.parametrize("value", ["1e999", LARGE, LONG])
@pytest.mark.parametrize("place", ["width", "x"])
def test_an_export(tmp_path: Path, value: str, place: str) -> None:
    """Sizes and coordinates: the entry that holds one is named."""
    box = {"x": 1, "y": 2, "w": 3, "h": 4}
    about: dict[str, Any] = {"file_name": "a.png", "width": 20, "height": 10}
    document = {"image": about, "tags": [], "annotations": [{"name": "a", "type": "bbox", "bounding_box": box}]}
    (about if place == "width" else box)[place] = 77
    files = {"images/a.png": picture(), "annotations/a.png.json": json.dumps(document).replace("77", value)}
    assert "export entry 'annotations/a.png.json'" in refusal(write(tmp_path, {"dataset.json": "{}", **files}))


@pytest.mark.parametrize(
    "config",
    [
        f'names: {{? "{LONG}" : a}}',
        f"names: [a]\nnc: 0x{LONG}",
        f"names: [0x{LONG}]",
        f"names: [1{':59' * 5000}]",
    ],
    ids=["number", "count", "name", "base 60"],
)
def test_yolo_numbers_without_end(tmp_path: Path, config: str) -> None:
    """Class numbers, counts and names of thousands of digits, in every base that YAML knows."""
    files: dict[str, bytes | str] = {"images/a.png": picture(), "labels/a.txt": "0 .5 .5 .2 .2"}
    with pytest.raises(DataError, match=r"'data\.yaml'"):
        read_data(write(tmp_path, {**files, "data.yaml": config}))


def test_a_notice_can_always_be_sent(tmp_path: Path) -> None:
    """Half a surrogate pair in a path of data.yaml is shown as its number."""
    files: dict[str, bytes | str] = {"images/a.png": picture(), "labels/a.txt": "0 .5 .5 .2 .2"}
    read = read_data(write(tmp_path, {**files, "data.yaml": 'names: [a]\ntrain: "x\\ud800"'}))
    (notice,) = read.notices
    assert notice.encode()
    assert "x\\ud800" in notice


@pytest.mark.parametrize("classes", [f'{{"a": {LONG}}}', f'{{"{LONG}": "a"}}', f'{{"a": {LARGE}}}'])
def test_masks_with_class_numbers_without_end(tmp_path: Path, classes: str) -> None:
    """As a number or as a text."""
    files: dict[str, bytes | str] = {"images/a.png": picture(2, 1), "masks/a.png": grey([[0, 1]])}
    assert "classes.json" in refusal(write(tmp_path, {**files, "classes.json": classes}))


@pytest.mark.parametrize("seq", [2**63, 10**30, "9" * 5000])
def test_a_page_token_beyond_any_row(seq: Any) -> None:
    """It was not made here, and the store could not count so far."""
    with pytest.raises(WindowError):
        seq_of(token_of(seq))
