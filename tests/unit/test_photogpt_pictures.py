"""Pictures are known by their content, and the stand-in is made from the model's own."""

import io
import zlib

import pytest
from PIL import Image

from sandbox.photogpt.composition import _readable, enlarged, stand_in
from sandbox.photogpt.pictures import Format, NoPictureError, decoded, picture_format

HEIC = b"\x00\x00\x00\x18ftypheic" + bytes(12)
RED, BLUE = (200, 0, 0), (0, 0, 200)


def picture(colour: tuple[int, int, int] = RED, kind: str = "PNG", side: int = 40) -> bytes:
    """Return a plain picture."""
    kept = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(kept, kind)
    return kept.getvalue()


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_a_format_is_known_by_content(kind: Format) -> None:
    """Each readable format is told from the others."""
    assert picture_format(picture(kind=kind.upper())) == kind


def test_heic_is_known_by_its_brand_alone() -> None:
    """A HEIC file is accepted, another file of the same container is not."""
    assert picture_format(HEIC) == "heic"
    with pytest.raises(NoPictureError):
        picture_format(HEIC.replace(b"ftypheic", b"ftypisom"))


@pytest.mark.parametrize("content", [b"", b"text", picture(kind="GIF"), picture(kind="BMP"), picture(kind="AVIF")])
def test_what_is_no_picture_of_a_known_format_is_refused(content: bytes) -> None:
    """Text, nothing, and formats outside the list are refused."""
    with pytest.raises(NoPictureError, match="send jpg, jpeg, webp, png or heic"):
        picture_format(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_that_breaks_off_in_its_header_is_refused(kind: str) -> None:
    """A signature alone makes no picture."""
    with pytest.raises(NoPictureError, match="undamaged"):
        picture_format(picture(kind=kind)[:13])


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    """A few bytes that claim 400 million pixels are no reason to take up the memory."""
    header = bytearray(picture())
    header[16:24] = (20_000).to_bytes(4) * 2
    # The checksum has to fit again.
    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4)
    with pytest.raises(NoPictureError):
        picture_format(bytes(header))


def test_large_pictures_are_refused_and_never_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kilobytes of 49 megapixels are not kept, and where they are kept already nobody decodes them."""
    kept = io.BytesIO()
    Image.new("1", (7000, 7000)).save(kept, "PNG")
    assert len(kept.getvalue()) < 20_000
    with pytest.raises(NoPictureError, match="no more than 40 megapixels"):
        picture_format(kept.getvalue())
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("unpacked"))
    assert decoded(kept.getvalue()) is None


@pytest.mark.parametrize(("shape", "kind"), [((900, 700), "PNG"), ((3000, 20), "PNG"), ((640, 640), "WEBP")])
def test_a_composition_holds_no_picture_larger_than_itself(shape: tuple[int, int], kind: str) -> None:
    """Nine large uploads take no more memory than nine of the size that was asked for."""
    kept = io.BytesIO()
    Image.new("RGB", shape, RED).save(kept, kind)
    held = list(_readable([kept.getvalue()] * 3 + [picture(side=9)], (96, 64)))
    assert [one.size for one in held] == [(96, 64)] * 3 + [(9, 9)]


@pytest.mark.parametrize("size", [(512, 512), (256, 100), (64, 64), (7, 5)])
def test_the_stand_in_has_the_size_that_was_asked(size: tuple[int, int]) -> None:
    """Width and height are kept, odd and small ones too."""
    made = decoded(stand_in([picture()] * 3, size, 0))
    assert made is not None
    assert made.size == size


def test_the_stand_in_is_made_of_the_pictures_and_says_what_it_is() -> None:
    """One colour in, the same colour out above the band; the band is black with bright letters."""
    made = decoded(stand_in([picture(RED)] * 4, (256, 256), 0))
    assert made is not None
    assert made.getpixel((128, 60)) == RED
    band = made.crop((0, 240, 256, 256)).convert("L").histogram()
    assert band[0] > 1000
    assert sum(band[200:]) > 50


def test_every_picture_is_seen() -> None:
    """Two pictures both leave their colour in the image."""
    made = decoded(stand_in([picture(RED), picture(BLUE)], (200, 100), 0))
    assert made is not None
    left, right = made.getpixel((30, 30)), made.getpixel((170, 30))
    assert left != right


def test_a_seed_repeats_and_another_one_differs() -> None:
    """The same request gives the same bytes."""
    pictures = [picture((20 * number, 0, 0)) for number in range(10)]
    assert stand_in(pictures, (96, 96), 5) == stand_in(pictures, (96, 96), 5)
    assert len({stand_in(pictures, (96, 96), seed) for seed in range(4)}) > 1


def test_pictures_that_cannot_be_decoded_are_left_out() -> None:
    """HEIC and damaged ones do not stop an image from being made, all of them damaged neither."""
    assert stand_in([HEIC, picture(RED)], (64, 64), 1) == stand_in([picture(RED)], (64, 64), 1)
    torn = picture(kind="JPEG", side=400)[:700]
    assert decoded(stand_in([HEIC, torn], (64, 64), 1)) is not None


def test_enlarging_multiplies_both_sides() -> None:
    """An upscaled picture has twice the width and height; one that is unreadable or too large has none."""
    made = decoded(enlarged(picture(side=30), 2) or b"")
    assert made is not None
    assert made.size == (60, 60)
    assert enlarged(HEIC, 2) is None
    assert enlarged(picture(side=2050), 2) is None
