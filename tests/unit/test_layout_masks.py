"""Mask folders: values to outlines, their names, and what is said about masks that cannot be used."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sandbox.layouts.reading import read_data
from sandbox.training.outlines import fitted_rings, label_map
from tests.unit.own_data import encoded, grey, labels, picture, refusal, write

MASK = np.zeros((10, 20), np.uint8)
MASK[2:6, 3:9], MASK[3:5, 4:8], MASK[7:9, 12:18], MASK[0, :] = 1, 0, 2, 255
BOXES = [("class_1", (3, 2, 6, 4)), ("class_2", (12, 7, 6, 2))]


def small(root: Path, mask: bytes | None = None, **files: bytes | str) -> Path:
    """Write one picture of 20x10 with its mask."""
    return write(root, {"images/a.jpg": picture(kind="JPEG"), "masks/a.png": mask or grey(MASK), **files})


def indexed(values: np.ndarray, bits: int | None = None) -> bytes:  # type: ignore[type-arg]
    """Return an indexed PNG, with fewer than 8 bits a pixel when asked for."""
    image = Image.fromarray(values)
    image.putpalette([k % 256 for k in range(768)])
    return encoded(image, **({"bits": bits} if bits else {}))


@pytest.mark.parametrize(
    ("image", "mask", "split"),
    [
        ("images/a.jpg", "masks/a.png", None),
        ("images/val/a.jpg", "masks/val/a.png", "val"),
        ("test/images/a.jpg", "test/masks/a.png", "test"),
    ],
)
def test_each_region_becomes_an_outline(tmp_path: Path, image: str, mask: str, split: str | None) -> None:
    """0 is background, 255 is nothing, and the hole in the frame is kept: drawn again it is the mask."""
    write(tmp_path, {image: picture(kind="JPEG"), mask: grey(MASK)})
    read = read_data(tmp_path)
    assert (read.layout, read.notices, read.images[0].split) == ("masks", (), split)
    assert labels(read) == {"a.jpg": BOXES}
    rings = zip(fitted_rings(read.images[0], 10, 20), (1, 2), strict=True)
    assert (label_map(rings, 10, 20) == np.where(MASK == 255, 0, MASK)).all()


@pytest.mark.parametrize("mask", [indexed(MASK), indexed(MASK % 255, 2), indexed(MASK % 255, 4)])
def test_indexed_masks_of_any_depth_count_by_index(tmp_path: Path, mask: bytes) -> None:
    """The palette's colours do not matter."""
    assert labels(read_data(small(tmp_path, mask))) == {"a.jpg": BOXES}


def test_one_bit_masks_are_class_1(tmp_path: Path) -> None:
    """A bilevel PNG has the values 0 and 1, whatever viewers make of them."""
    read = read_data(small(tmp_path, encoded(Image.fromarray(MASK == 2))))
    assert labels(read) == {"a.jpg": [("class_1", (12, 7, 6, 2))]}


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("classes.txt", "road\nsign\n"),
        ("classes.txt", "background\nroad\nsign\n"),
        ("classes.json", '["_background_", "road", "sign"]'),
        ("classes.json", '{"1": "road", "2": "sign", "0": "bg"}'),
        ("classes.json", '{"road": 1, "sign": 2}'),
    ],
)
def test_names_come_from_a_list_or_by_value(tmp_path: Path, file: str, content: str) -> None:
    """Lists count from 0 where the background leads them, else from 1."""
    read = read_data(small(tmp_path, **{file: content}))
    assert [shape.name for shape in read.images[0].shapes] == ["road", "sign"]


def test_pictures_without_masks_are_left_out_and_masks_of_zeros_are_not(tmp_path: Path) -> None:
    """Not labelled is not the same as empty; a mask without a picture is reported as well."""
    small(tmp_path, **{"images/b.png": picture(), "images/c.png": picture(), "masks/c.png": grey(MASK * 0)})
    read = read_data(write(tmp_path, {"masks/z.png": grey(MASK)}))
    assert labels(read) == {"a.jpg": BOXES, "c.png": []}
    assert read.notices[0].startswith("no mask, left out: 1 of 3 pictures ('images/b.png')")
    assert read.notices[1] == "masks without a picture, passed over: 1 ('masks/z.png')"


@pytest.mark.parametrize(
    ("mask", "files", "parts"),
    [
        (grey(MASK.T), {}, ("'masks/a.png' is 10x20", "picture 20x10")),
        (picture(), {}, ("'masks/a.png' has mode RGB", "8-bit indexed or grey")),
        (encoded(Image.fromarray(MASK.astype(np.uint16))), {}, ("'masks/a.png' has mode I;16",)),
        (grey(MASK, "JPEG"), {}, ("'masks/a.png' is damaged or no PNG",)),
        (grey(MASK)[:-30], {}, ("'masks/a.png'", "damaged")),
        (b"", {}, ("'masks/a.png' is empty",)),
        (grey(MASK // 255 * 255), {}, ("0 (background) and 255 (no label) alone",)),
        (None, {"classes.txt": "road"}, ("'masks/a.png' has pixels of value 2", "named: 1")),
        (None, {"classes.json": "{"}, ("'classes.json'", "not JSON")),
        (None, {"classes.json": '{"road": "sign"}'}, ("classes.json", '{"1": "road"}')),
        (None, {"classes.json": '{"1": "road", "2": "road"}'}, ("'road' occurs twice",)),
        (None, {"masks/a.png": b"", "masks/b.png": grey(MASK)}, ("'masks/a.png' is empty",)),
    ],
)
def test_masks_that_cannot_be_used_are_named(
    tmp_path: Path, mask: bytes | None, files: dict[str, bytes | str], parts: tuple[str, ...]
) -> None:
    """File, reason, what to do."""
    small(tmp_path, **files)
    if mask is not None:
        (tmp_path / "masks/a.png").write_bytes(mask)
    said = refusal(tmp_path)
    assert all(part in said for part in parts), said


def test_masks_in_the_wrong_place_are_missed_by_name(tmp_path: Path) -> None:
    """Not one mask found: the first that was looked for is named."""
    write(tmp_path, {"images/train/a.jpg": picture(kind="JPEG"), "masks/a.png": grey(MASK)})
    assert "'masks/train/a.png' is the first that is missing" in refusal(tmp_path)


def test_noise_is_no_label(tmp_path: Path) -> None:
    """What lossy compression leaves of a mask is refused as what it is."""
    specks = (np.indices((150, 150)).sum(0) % 2).astype(np.uint8)
    files = {"images/a.png": picture(150, 150), "masks/a.png": grey(specks)}
    assert "more than 5000 separate regions of 'class_1'" in refusal(write(tmp_path, dict(files)))


def test_the_mask_of_a_turned_photo_is_as_the_photo_is_seen(tmp_path: Path) -> None:
    """EXIF turns the picture and not the mask: one of the stored size does not fit."""
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = picture(20, 10, "JPEG", exif=exif)
    assert "'masks/a.png' is 20x10, its upright picture 10x20" in refusal(small(tmp_path, **{"images/a.jpg": photo}))
    (tmp_path / "masks/a.png").write_bytes(grey(MASK.T))
    assert labels(read_data(tmp_path)) == {"a.jpg": [("class_1", (2, 3, 4, 6)), ("class_2", (7, 12, 2, 6))]}


def test_two_and_four_bit_grey_is_read_as_its_values() -> None:
    """Pillow multiplies them to fill 8 bits; a file of 2 bits is written by hand, for Pillow writes none."""
    import struct
    import zlib

    from sandbox.layouts.maskfolders import _step

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0))
    file = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\x1b")) + chunk(b"IEND", b"")
    with Image.open(io.BytesIO(file)) as image:
        assert (np.asarray(image.convert("L")) // _step(file)).tolist() == [[0, 1, 2, 3]]
