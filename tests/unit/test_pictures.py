"""Reading, resampling and drawing pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.pictures import PictureError, bounded_size, letterbox, read_picture, resize_bilinear
from pipeline.models import LabelledBox, Prediction, SamplePicture
from pipeline.smoke.overlays import BAND_COLOUR, MIN_WIDTH, PALETTE, TRUTH_COLOUR, Overlay, draw_overlay


def test_pictures_are_read_upright_in_rgb(tmp_path: Path) -> None:
    """A picture stored on its side is turned as its EXIF note says."""
    stored = Image.new("RGB", (20, 10), (255, 0, 0))
    exif = stored.getexif()
    exif[0x0112] = 6
    stored.save(tmp_path / "side.jpg", exif=exif)
    picture = read_picture(tmp_path / "side.jpg")
    assert picture.shape == (20, 10, 3)
    assert picture[5, 5, 0] > 240
    assert picture[5, 5, 2] < 15


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    """Grey, transparent and palette pictures are brought to three channels."""
    suffix = "tiff" if mode == "CMYK" else "png"
    Image.new(mode, (8, 6)).save(tmp_path / f"p.{suffix}")
    assert read_picture(tmp_path / f"p.{suffix}").shape == (6, 8, 3)


@pytest.mark.parametrize("content", [b"", b"<html>no</html>", b"\x89PNG\r\n\x1a\n broken"])
def test_a_damaged_picture_is_named(tmp_path: Path, content: bytes) -> None:
    """The error says which picture it was."""
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(PictureError, match=r"'bad\.png'"):
        read_picture(tmp_path / "bad.png")


def test_a_truncated_picture_is_refused(tmp_path: Path) -> None:
    """Half a file is not quietly filled with grey."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 50, 3), dtype=np.uint8)).save(tmp_path / "p.png")
    data = (tmp_path / "p.png").read_bytes()
    (tmp_path / "p.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(PictureError):
        read_picture(tmp_path / "p.png")


def test_resizing_interpolates_between_pixel_centres() -> None:
    """Doubling [0, 10] gives quarter points, with the edges repeated."""
    assert resize_bilinear(np.array([[0.0, 10.0]]), (1, 4))[0].tolist() == [0.0, 2.5, 7.5, 10.0]


def test_shrinking_does_not_smooth() -> None:
    """Like the provider's decoder, shrinking by four looks at two neighbours only."""
    row = np.zeros((1, 8), np.uint8)
    row[0, 1] = 100
    assert resize_bilinear(row, (1, 2))[0].tolist() == [50.0, 0.0]


def test_letterbox_keeps_at_least_one_pixel() -> None:
    """A sliver 1000 pixels wide and 1 high still leaves a row."""
    fed = letterbox(np.full((1, 1000, 3), 9, np.uint8), (32, 32))
    assert (fed[0, :, 0] == 9).all()
    assert (fed[0, :, 1] == 114).all()


def test_sizes_are_bounded_in_proportion() -> None:
    """Large sizes shrink, small ones stay, nothing becomes zero."""
    assert bounded_size((4000, 2000), 640) == (640, 320)
    assert bounded_size((30, 20), 640) == (30, 20)
    assert bounded_size((10000, 1), 640) == (640, 1)


def draw(tmp_path: Path, size: tuple[int, int], predictions: tuple[Prediction, ...], **more: object) -> np.ndarray:
    """Draw on a black picture and read the result."""
    Image.new("RGB", size).save(tmp_path / "in.png")
    boxes = (LabelledBox(name="a", box=(10, 10, 20, 20)),)
    sample = SamplePicture(path=tmp_path / "in.png", boxes=boxes)
    overlay = Overlay(sample, predictions, more.get("masks", ()), ("a", "b"), "found 1 of 1")  # type: ignore[arg-type]
    draw_overlay(overlay, tmp_path / "out.png")
    return read_picture(tmp_path / "out.png")


def count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Count pixels of exactly this colour."""
    return int((picture == colour).all(axis=2).sum())


def test_small_pictures_are_enlarged_and_show_both_boxes(tmp_path: Path) -> None:
    """A 64 pixel picture is drawn at 384, with prediction, label, and the caption's band."""
    seen = Prediction(name="b", confidence=0.9, box=(30, 30, 20, 20))
    picture = draw(tmp_path, (64, 48), (seen,))
    assert picture.shape[1] == MIN_WIDTH
    assert picture.shape[0] > 48 * 6
    assert count(picture, PALETTE[1]) > 4 * 20 * 6
    # One pixel thin, less what the name's plate covers.
    assert 400 < count(picture, TRUTH_COLOUR) <= 4 * 121
    assert tuple(picture[-1, -1]) == BAND_COLOUR


def test_boxes_outside_the_picture_are_cut_to_it(tmp_path: Path) -> None:
    """A box reaching far outside, or lying there altogether, is drawn at the border without an error."""
    wild = (
        Prediction(name="a", confidence=0.9, box=(-1e9, -1e9, 2e9, 2e9)),
        Prediction(name="b", confidence=0.8, box=(1e6, 1e6, 5, 5)),
    )
    picture = draw(tmp_path, (400, 300), wild)
    assert picture.shape[1] == 400
    assert tuple(picture[150, 0]) == PALETTE[0]


def test_masks_are_tinted(tmp_path: Path) -> None:
    """Where the mask is set the picture takes the class's colour, elsewhere it stays."""
    mask = np.zeros((20, 20), np.bool_)
    mask[10:] = True
    seen = Prediction(name="a", confidence=0.9, box=(0, 0, 400, 400))
    picture = draw(tmp_path, (400, 400), (seen,), masks=(mask,))
    assert picture[300, 200].sum() > 60
    assert picture[100, 200].sum() == 0


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (2600, 2000)])
def test_overlays_stay_of_a_sensible_size(tmp_path: Path, size: tuple[int, int]) -> None:
    """Slivers and huge pictures give neither a giant nor an empty image."""
    picture = draw(tmp_path, size, ())
    assert 1 <= picture.shape[1] <= 1280
    assert picture.shape[0] <= 4300


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_is_scaled(suffix: str, tmp_path: Path) -> None:
    """Half of the range is half grey, not white: what a trainer that scales has seen."""
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)).save(path)
    assert read_picture(path)[0].tolist() == [[0, 0, 0], [128, 128, 128], [255, 255, 255]]


def test_a_palette_with_transparency_shows_its_colours(tmp_path: Path) -> None:
    """Transparency is dropped without a warning, and the colour below it shows."""
    path = tmp_path / "palette.png"
    palette = Image.new("P", (1, 1))
    palette.putpalette([200, 10, 20])
    palette.save(path, transparency=bytes([0]))
    assert read_picture(path)[0, 0].tolist() == [200, 10, 20]
