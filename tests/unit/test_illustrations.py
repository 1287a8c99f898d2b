"""The report's pictures: the loss curve, the sheet of predictions, and where both are found."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from PIL import Image

from pipeline.models import CurvePoint
from pipeline.report.contactsheet import MOST, contact_sheet
from pipeline.report.curve import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw_curve
from pipeline.report.illustrations import data_uri

SVG = "{http://www.w3.org/2000/svg}"


def points(*pairs: tuple[int, float]) -> tuple[CurvePoint, ...]:
    """Return points of a curve."""
    return tuple(CurvePoint(epoch=epoch, loss=loss) for epoch, loss in pairs)


def line_of(svg: str) -> list[tuple[float, float]]:
    """Return the corners of the line a document draws."""
    drawn = Xml.fromstring(svg).find(f"{SVG}polyline")  # noqa: S314 -- our own document
    assert drawn is not None
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in drawn.attrib["points"].split())]


class TestCurve:
    """What the loss did, as a picture."""

    def test_epochs_keep_their_distance(self) -> None:
        """A look that came late is drawn late: the axis is epochs, not looks."""
        (x1, y1), (x2, y2), (x3, y3) = line_of(draw_curve(points((1, 4.0), (2, 2.0), (11, 0.0))))
        assert (x1, x3) == (LEFT, WIDTH - RIGHT)
        assert x2 - x1 == pytest.approx((x3 - x1) / 10, abs=0.1)
        assert (y1, y2, y3) == (TOP, (TOP + HEIGHT - BOTTOM) / 2, HEIGHT - BOTTOM)

    def test_figures_are_plain(self) -> None:
        """Tiny and huge losses are written without an exponent, and the last epoch is named."""
        svg = draw_curve(points((1, 0.00001234), (200, 123456.0)))
        figures = re.findall(r">([^<>]+)</text>", svg)
        assert {"0.0000123", "123000", "1", "200"} <= set(figures)

    def test_the_picture_fits_the_screen_however_long_the_training(self) -> None:
        """Thousands of epochs make one line without dots, far below a megabyte."""
        svg = draw_curve(points(*((n, 1 / n) for n in range(1, 5001))))
        assert "<circle" not in svg
        assert len(svg) < 100_000

    @pytest.mark.parametrize("seen", [(), ((1, 1.0),), ((1, 1.0), (2, float("nan"))), ((3, 1.0), (3, 2.0))])
    def test_too_little_is_no_curve(self, seen: tuple[tuple[int, float], ...]) -> None:
        """Two epochs with a loss are needed."""
        assert draw_curve(points(*seen)) == ""

    def test_a_flat_loss_is_drawn(self) -> None:
        """Equal losses divide by nothing."""
        assert len({y for _, y in line_of(draw_curve(points((1, 0.5), (2, 0.5))))}) == 1


def test_the_sheet_holds_every_picture_up_to_a_limit(tmp_path: Path) -> None:
    """Three in a row, each in its place; more than a dozen would be too heavy to show."""
    for number in range(MOST + 3):
        Image.new("RGB", (384, 400), (10 * number, 0, 0)).save(tmp_path / f"{number:02}.png")
    pictures = sorted(tmp_path.iterdir())
    with (
        Image.open(io.BytesIO(contact_sheet(pictures[:4]))) as four,
        Image.open(io.BytesIO(contact_sheet(pictures))) as all_of_them,
    ):
        assert four.width == all_of_them.width > 700
        assert all_of_them.height == pytest.approx(2 * four.height, abs=8)
        red = four.getpixel((four.width // 2, 50))
        assert isinstance(red, tuple)
        assert red[0] == pytest.approx(10, abs=4)
    with pytest.raises(ValueError, match="one picture or more"):
        contact_sheet([])


def test_an_address_carries_its_content() -> None:
    """What is put in comes out."""
    head, body = data_uri(b"\x00\xff", "image/jpeg").split(",")
    assert (head, base64.b64decode(body)) == ("data:image/jpeg;base64", b"\x00\xff")
