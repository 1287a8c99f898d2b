"""Pictures of every kind at every step they meet: import, the dataset's ZIP, an export of it, the trainer's decode."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sandbox.datasets import MAX_PIXELS, DataError, count_frames, decode, image_size
from sandbox.exportzip import read_export, write_export
from sandbox.layouts.reading import read_data
from tests.unit.own_data import encoded, grey, picture, refusal, write

H, W = 10, 20
RAMP = np.arange(H * W).reshape(H, W)
ORIENTATION = 0x0112


def trained_on(tmp_path: Path, name: str, content: bytes) -> NDArray[np.float32]:
    """Import a picture, write it into an export, read that back and return what the trainer sees, (h, w, 3)."""
    (image,) = read_data(write(tmp_path / "data", {f"cat/{name}": content})).images
    write_export(tmp_path / "e.zip", dataset="d", export="e", images=[image], include_images=True)
    (exported,) = read_export(tmp_path / "e.zip")
    assert exported.content == content
    seen = np.asarray(decode(exported.name, exported.content), np.float32)
    assert seen.shape == (exported.height, exported.width, 3)
    return seen


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_cut_off(tmp_path: Path, kind: str) -> None:
    """0 is black, 65535 is white, and what is between stays between."""
    values = (RAMP * (65535 / RAMP.max())).astype(np.uint16)
    seen = trained_on(tmp_path, f"a.{kind.lower()}", encoded(Image.fromarray(values), kind))
    assert np.abs(seen - values[..., None] / 257).max() <= 0.5
    assert (seen.min(), seen.max()) == (0, 255)


def test_16_bit_grey_of_the_other_byte_order_is_the_same() -> None:
    """A big-endian TIFF, as microscopes write it."""
    values = (RAMP * 300).astype(">u2")
    strip = values.tobytes()
    tags = [(256, 3, W), (257, 3, H), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 3, H)]
    tags.append((279, 4, len(strip)))
    rows = b"".join(
        struct.pack(">HHI", t, k, 1) + struct.pack(">HH" if k == 3 else ">I", *([v, 0][: 5 - k])) for t, k, v in tags
    )
    file = struct.pack(">2sHI", b"MM", 42, 8 + len(strip)) + strip + struct.pack(">H", len(tags)) + rows + bytes(4)
    assert np.abs(np.asarray(decode("a.tif", file))[..., 0] - values.astype(float) / 257).max() <= 0.5


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("grey.png", Image.fromarray(RAMP.astype(np.uint8))),
        ("alpha.png", Image.merge("RGBA", [Image.fromarray(RAMP.astype(np.uint8))] * 4)),
        ("grey-alpha.png", Image.merge("LA", [Image.fromarray(RAMP.astype(np.uint8))] * 2)),
        ("alpha.tif", Image.merge("RGBA", [Image.fromarray(RAMP.astype(np.uint8))] * 4)),
    ],
)
def test_grey_and_transparency_become_their_stored_colours(tmp_path: Path, name: str, image: Image.Image) -> None:
    """Nothing is blended with a background that inference would not see."""
    kind = "TIFF" if name.endswith("tif") else "PNG"
    assert (trained_on(tmp_path, name, encoded(image, kind)) == RAMP[..., None]).all()


@pytest.mark.parametrize("transparency", [b"\x00\x80\xff" + b"\xff" * 253, 3])
def test_a_palette_with_transparency_is_its_colours(tmp_path: Path, transparency: bytes | int) -> None:
    """No warning on the way: in the tests one would be an error."""
    image = Image.fromarray(RAMP.astype(np.uint8))
    image.putpalette([value for k in range(256) for value in (k, 255 - k, 7)])
    seen = trained_on(tmp_path, "a.png", encoded(image, transparency=transparency))
    assert (seen == np.stack([RAMP, 255 - RAMP, np.full_like(RAMP, 7)], 2)).all()


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    """A print shop's JPEG: pure cyan is blue-green, not its negative."""
    seen = trained_on(tmp_path, "a.jpg", encoded(Image.new("CMYK", (W, H), (255, 0, 0, 0)), "JPEG", quality=95))
    assert np.abs(seen - (0, 255, 255)).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_turned_pictures_are_upright_and_so_are_their_boxes(tmp_path: Path, kind: str, orientation: int) -> None:
    """A white block lies, in the trainer's picture, where a YOLO label of the upright picture says it does."""
    upright = np.zeros((64, 96), np.uint8)
    upright[8:24, 16:56] = 255
    undo: dict[int, Any] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](upright)))
    content = encoded(stored.convert("RGB"), kind, exif=exif)
    name = f"a.{kind.lower()}"
    label = f"0 {36 / 96} {16 / 64} {40 / 96} {16 / 64}"
    write(tmp_path, {f"images/{name}": content, "labels/a.txt": label, "classes.txt": "block"})
    (image,) = read_data(tmp_path).images
    assert (image.width, image.height) == image_size(name, content) == decode(name, content).size == (96, 64)
    assert image.shapes[0].box == pytest.approx((16, 8, 40, 16))
    seen = np.array(decode(image.name, image.content))
    assert seen[10:22, 18:54].min() > 200
    seen[6:26, 14:58] = 0
    assert seen.max() < 60


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "'bad.jpg' is empty (0 bytes): replace or remove the file"),
        (b"not a picture at all", "'bad.jpg' cannot be read (it is no JPEG, PNG, BMP, WebP, TIFF or GIF)"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "'bad.jpg' cannot be read"),
        (picture(200, 200, "JPEG", quality=95)[:900], "'bad.jpg' is truncated or damaged"),
        (picture(200, 200)[:-60], "'bad.jpg' is truncated or damaged"),
        (picture(200, 200, "TIFF")[:-60], "'bad.jpg' is truncated or damaged"),
        (picture(200, 200, "WEBP")[:-20], "'bad.jpg' is truncated or damaged"),
        (encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), "'bad.jpg' has 32-bit pixels"),
        (encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF"), "'bad.jpg' has 32-bit pixels"),
    ],
)
def test_broken_pictures_are_named_at_import_and_in_training(tmp_path: Path, content: bytes, reason: str) -> None:
    """Half a file whose header is whole costs no training; an export that was damaged later says the same."""
    said = refusal(write(tmp_path, {"cat/good.png": picture(), "cat/bad.jpg": content}))
    assert reason.removeprefix("'bad.jpg'") in said
    assert "bad.jpg'" in said
    with pytest.raises(DataError) as caught:
        decode("bad.jpg", content)
    assert reason in str(caught.value)


def test_damaged_pictures_are_named_together(tmp_path: Path) -> None:
    """Five at a time, and how many more: not one import for each."""
    damaged = picture(200, 200, "JPEG", quality=95)[:900]
    said = refusal(write(tmp_path, {f"cat/{k}.jpg": damaged for k in range(7)}))
    assert [f"'{k}.jpg'" in said for k in range(7)] == [True] * 5 + [False] * 2
    assert said.endswith("; and 2 more")


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "PNG", "GIF"])
def test_of_several_frames_the_first_is_used_and_said_to_be(tmp_path: Path, kind: str) -> None:
    """Animations and documents of many pages; a GIF that is called .png too."""
    frames = [Image.new("RGB", (W, H), colour) for colour in ("white", "black", "blue")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    name = "a.png" if kind == "GIF" else f"a.{kind.lower()}"
    assert count_frames(name, content) == 3
    assert trained_on(tmp_path, name, content).min() >= 254
    assert read_data(tmp_path / "data").notices == (f"several frames, of which the first is used: 1 images ('{name}')",)


@pytest.mark.parametrize("size", [(7, 40), (40, 7), (1, 1)])
def test_a_very_small_jpeg_is_a_picture(tmp_path: Path, size: tuple[int, int]) -> None:
    """Its pixels are read in an eighth of its size, which is one at the least."""
    content = encoded(Image.new("RGB", size, "white"), "JPEG")
    assert count_frames("a.jpg", content) == 1
    assert trained_on(tmp_path, "a.jpg", content).min() >= 254


def test_a_phones_preview_is_no_second_frame(tmp_path: Path) -> None:
    """A JPEG that carries its own preview is a photograph like any other."""
    preview = Image.new("RGB", (5, 5))
    content = encoded(Image.new("RGB", (W, H), "white"), "MPO", save_all=True, append_images=[preview])
    assert trained_on(tmp_path, "a.jpg", content).min() >= 254
    assert read_data(tmp_path / "data").notices == ()


@pytest.mark.parametrize("side", [9_500, 60_000])
def test_a_huge_picture_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    """A few bytes that would unpack to gigabytes are not unpacked, at import and in training."""
    assert side * side > MAX_PIXELS
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    bomb += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    assert "bomb.png'" in refusal(write(tmp_path, {"cat/bomb.png": bomb}))
    for step in (decode, image_size, count_frames):
        with pytest.raises(DataError, match=r"'bomb\.png'.*pixels"):
            step("bomb.png", bomb)


def test_formats_that_are_not_read_are_reported(tmp_path: Path) -> None:
    """A phone's HEIC lies beside the others: passed over, and said to be."""
    read = read_data(write(tmp_path, {"cat/a.png": grey(RAMP), "cat/b.heic": b"x"}))
    assert [image.name for image in read.images] == ["a.png"]
    assert "1 files ('cat/b.heic')" in read.notices[0]
