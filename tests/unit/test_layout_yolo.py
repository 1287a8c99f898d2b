"""YOLO folders: where their pictures, labels and names are, what a line means, and what is said about a bad one."""

from pathlib import Path

import pytest

from sandbox.layouts.reading import read_data
from tests.unit.own_data import labels, picture, refusal, write

BOX = "1 0.5 0.5 0.5 0.4\n"
CAR = [("car", (5.0, 3.0, 10.0, 4.0))]
NAMES = "names: [bus, car]\n"


def small(root: Path, label: str = BOX, **files: str) -> Path:
    """Write one picture of 20x10 with one label file, and data.yaml."""
    return write(root, {"images/a.png": picture(), "labels/a.txt": label, "data.yaml": NAMES, **files})


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/train/a.png", "labels/train/a.txt"),
        ("images/train2017/deep/a.png", "labels/train2017/deep/a.txt"),
        ("train/images/a.png", "train/labels/a.txt"),
    ],
)
@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("data.yaml", NAMES),
        ("coco8.yml", "names: {0: bus, 1: car}\nnc: 2\n"),
        ("data.yaml", "names: {'0': bus, '1': car}\n"),
        ("classes.txt", "bus\ncar\n\n"),
        ("classes.txt", "\ufeffbus\r\ncar"),
    ],
)
def test_splits_are_above_or_below_and_names_in_yaml_or_text(
    tmp_path: Path, image: str, label: str, file: str, names: str
) -> None:
    """Both arrangements of the folders, names as a list or by number, and a list of lines."""
    write(tmp_path, {image: picture(), label: BOX, file: names})
    read = read_data(tmp_path)
    assert (read.layout, read.notices, read.images[0].split) == ("YOLO", (), "train")
    assert labels(read) == {"a.png": CAR}


def test_flat_folders_have_no_split_and_missing_labels_are_no_objects(tmp_path: Path) -> None:
    """An empty label file and a missing one both mean a picture without objects; the missing one is reported."""
    write(tmp_path, {"images/a.png": picture(), "images/b.png": picture(), "images/c.png": picture()})
    write(tmp_path, {"labels/a.txt": BOX, "labels/b.txt": "\n", "labels/z.txt": BOX, "labels/classes.txt": "bus\ncar"})
    read = read_data(tmp_path)
    assert labels(read) == {"a.png": CAR, "b.png": [], "c.png": []}
    assert {image.split for image in read.images} == {None}
    missing, orphan = read.notices
    assert missing == "no label file, so taken as without objects: 1 of 3 pictures ('images/c.png')"
    assert "'labels/z.txt'" in orphan


@pytest.mark.parametrize(
    ("yaml", "splits"),
    [
        ("train: images/one\nval: images/two\n", {"a.png": "train", "b.png": "val"}),
        ("path: ../elsewhere/data\ntrain: ./images/one/\nval: [images/two]\n", {"a.png": "train", "b.png": "val"}),
        ("path: images\ntrain: one\ntest: two\n", {"a.png": "train", "b.png": "test"}),
        ("train: ../images/one\nvalid: ../images/two\n", {"a.png": "train", "b.png": "val"}),
        ("train: list.txt\n", {"b.png": "train"}),
    ],
)
def test_data_yaml_says_where_the_splits_are(tmp_path: Path, yaml: str, splits: dict[str, str]) -> None:
    """Folders, several of them, lists of files, with a `path` that was true on another machine and without."""
    write(tmp_path, {"images/one/a.png": picture(), "images/two/b.png": picture(), "data.yaml": NAMES + yaml})
    write(tmp_path, {"labels/one/a.txt": BOX, "labels/two/b.txt": BOX, "list.txt": "./images/two/b.png\n\n"})
    read = read_data(tmp_path)
    assert {image.name: image.split for image in read.images} == splits
    assert all(found == CAR for found in labels(read).values())


def test_a_picture_listed_twice_keeps_its_first_split(tmp_path: Path) -> None:
    """Small published sets validate on what they train on; that must not hold out what was learned."""
    small(tmp_path, **{"data.yaml": NAMES + "train: images\nval: images\ntest: gone\n"})
    read = read_data(tmp_path)
    assert [(image.name, image.split) for image in read.images] == [("a.png", "train")]
    assert "two splits" in read.notices[0]
    assert "test: gone, which is not in the folder" in read.notices[1]


def test_pictures_that_data_yaml_leaves_out_are_reported(tmp_path: Path) -> None:
    """Only the listed folder is read; what lies beside it is counted once, not as lost labels too."""
    small(tmp_path, **{"data.yaml": NAMES + "train: images/train\n"})
    write(tmp_path, {"images/train/b.v2.png": picture(), "labels/train/b.v2.txt": BOX})
    read = read_data(tmp_path)
    assert labels(read) == {"b.v2.png": CAR}
    assert read.notices == ("in no split that data.yaml gives, passed over: 1 pictures ('images/a.png')",)


def test_places_outside_the_folder_are_not_read(tmp_path: Path) -> None:
    """A data.yaml that names another folder of the machine is passed over, and a list that does is refused."""
    write(tmp_path, {"other/x.png": picture(), "other/x.txt": BOX})
    root = small(tmp_path / "data", **{"data.yaml": f"{NAMES}path: {tmp_path}\ntrain: other\nval: ../other\n"})
    assert list(labels(read_data(root))) == ["a.png"]
    small(root, **{"data.yaml": NAMES + "train: list.txt\n", "list.txt": "images/a.png\n../other/x.png\n"})
    assert refusal(root) == "'list.txt' line 2: '../other/x.png' is not in the folder"


def test_outlines_are_polygons_and_what_sticks_out_is_cut(tmp_path: Path) -> None:
    """Three points or more make an outline with its bounds; a box over the border ends there; doubles count once."""
    small(tmp_path, "0 0.1 0.2 0.6 0.2 0.6 0.8\n0 0.95 0.5 0.2 0.2\n0 0.95 0.5 0.2 0.2\n")
    read = read_data(tmp_path)
    outline, box = read.images[0].shapes
    assert outline.polygon == ((2, 2), (12, 2), (12, 8))
    assert (outline.name, outline.box) == ("bus", (2, 2, 10, 6))
    assert box.box == pytest.approx((17, 4, 3, 2))
    assert read.notices == ("'labels/a.txt' line 3 repeats a line before it and was passed over",)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2 0.5 0.5 0.1 0.1", "class 2 is none of the 2 named classes (0 to 1)"),
        ("-1 0.5 0.5 0.1 0.1", "class -1 is none"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5 is none"),
        ("car 0.5 0.5 0.1 0.1", "not every column is a number"),
        ("0 0.5 nan 0.1 0.1", "not every column is a finite number"),
        ("0 10 5 4 4", "10 is no share of the picture from 0 to 1 (are these pixels?)"),
        ("0 0.5 0.5 0.1 0", "the box has no area"),
        ("0 0.5 0.5 -0.005 0.1", "the box has no area"),
        ("0 1.005 0.5 0.001 0.1", "outside the picture"),
        ("0 0.1 0.1 0.5 0.5 0.9 0.9", "the outline has no area"),
        ("0 0.5 0.5 0.1 0.1 0.9", "6 columns"),
        ("0", "1 columns"),
    ],
)
def test_a_bad_line_is_named_with_its_reason(tmp_path: Path, line: str, reason: str) -> None:
    """File, line, reason, and what to do."""
    said = refusal(small(tmp_path, f"{BOX}\n{line}\n"))
    assert said.startswith("'labels/a.txt' line 3: ")
    assert reason in said
    assert said.endswith("; correct this line or remove it")


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ({"data.yaml": "names: [a\nnc: 2"}, ("'data.yaml' line 2 column 3", "not YAML")),
        ({"data.yaml": "names: [a]\nnc: 2"}, ("'data.yaml'", "nc is 2, but names has 1")),
        ({"data.yaml": "names: [a, a]"}, ("'data.yaml'", "'a' occurs twice")),
        ({"data.yaml": "names: [a, '']"}, ("'data.yaml'", "name 2 is empty")),
        ({"data.yaml": "names: [[a], b]"}, ("'data.yaml'", "list of texts")),
        ({"data.yaml": "names: 7"}, ("'data.yaml'", "names no class")),
        ({"data.yaml": NAMES + "kpt_shape: [17, 3]"}, ("'data.yaml'", "key points")),
        ({"data.yaml": "names: !!python/object/apply:os.getcwd []"}, ("'data.yaml' line 1", "not YAML")),
        ({"data.yaml": "a: &a [x]\nb: {<<: [*a, *a]}\nnames: *a"}, ("'data.yaml'", "by alias")),
        ({"data.yaml": "x: 1"}, ("without class names", "classes.txt")),
        ({"data.yaml": "x: 1", "classes.txt": "bus\n\ncar"}, ("'classes.txt'", "name 2 is empty")),
        ({"labels/a.txt": b"\xff\xfe\x00"}, ("'labels/a.txt'", "not UTF-8")),
        ({"images/a.png": b""}, ("'images/a.png'", "empty (0 bytes)")),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, files: dict[str, bytes | str], parts: tuple[str, ...]) -> None:
    """The file, the place in it, and the reason."""
    said = refusal(write(small(tmp_path), files))
    assert all(part in said for part in parts), said


def test_labels_in_the_wrong_place_are_not_taken_for_pictures_without_objects(tmp_path: Path) -> None:
    """Not one label file found: the first that was looked for is named."""
    write(tmp_path, {"images/train/a.png": picture(), "labels/a.txt": BOX, "data.yaml": NAMES})
    assert "'labels/train/a.txt' is the first that is missing" in refusal(tmp_path)


def test_names_by_count_and_labels_beside_the_pictures(tmp_path: Path) -> None:
    """`nc` alone numbers the classes; without an images folder labels lie beside the pictures."""
    write(tmp_path, {"all/a.png": picture(), "all/a.txt": BOX, "data.yaml": "nc: 2\ntrain: all"})
    assert labels(read_data(tmp_path)) == {"a.png": [("class_1", CAR[0][1])]}


def test_another_list_of_classes_is_reported(tmp_path: Path) -> None:
    """data.yaml goes first; that there was a choice is said."""
    read = read_data(small(tmp_path, **{"a.yaml": "names: [x, y]"}))
    assert labels(read) == {"a.png": CAR}
    assert read.notices == ("'data.yaml' was used; 'a.yaml' could be the list of classes too",)


def test_linked_folders_are_followed_and_a_loop_is_not(tmp_path: Path) -> None:
    """Pictures on another disk are a person's own choice; a link to a folder above would never end."""
    write(tmp_path / "disk", {"a.png": picture()})
    root = write(tmp_path / "data", {"labels/train/a.txt": BOX, "data.yaml": NAMES, "images/x.txt": ""})
    (root / "images" / "train").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "again").symlink_to(tmp_path / "disk")
    assert labels(read_data(root)) == {"a.png": CAR}


@pytest.mark.parametrize("names", ["names: [yes, car]\n", "names:\n  0: car\n  1: off\n", "names:\n  on: car\n"])
def test_names_that_yaml_takes_for_truth_values_are_refused(tmp_path: Path, names: str) -> None:
    """A class called yes would become one called True, and nobody would know."""
    small(tmp_path, **{"data.yaml": names})
    assert "put them in quotes" in refusal(tmp_path)
