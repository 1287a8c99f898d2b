"""Pictures for the smoke test: opened before anything is paid for, and labelled with their own labels."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.data import archive, pictures, samples
from pipeline.data.exports import inspect_archive
from pipeline.data.pairing import Label, pair_labels
from pipeline.errors import ExportRejectedError
from pipeline.models import ExportReport
from tests.unit.conftest import annotation, make_archive, make_export, make_plan, picture_bytes

Write = Callable[[dict[str, Any]], Path]
SIX = tuple(annotation(f"{number}.png", "stop") for number in range(6))
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"


def _inspect(path: Path, **request: Any) -> ExportReport:
    return inspect_archive(path, make_export(), make_plan(**request), path.parent / "samples")


def _message(report: ExportReport, code: str) -> str:
    return next((finding.message for finding in report.findings if finding.code == code), "")


def _gif(side: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (9, 99, 200)).save(buffer, "GIF")
    return buffer.getvalue()


class TestUsable:
    """Every sample can be opened."""

    @pytest.mark.parametrize("content", [b"", b"<html>", picture_bytes("x")[:200], EPS], ids=range(4))
    def test_the_next_usable_picture_is_taken(self, content: bytes, archive_file: Write) -> None:
        """A picture that does not decode is passed over, named, and leaves nothing behind."""
        entries = {**make_archive(*SIX), "images/0.png": content}
        path = archive_file(entries)
        report = _inspect(path, samples=3)
        kept = [sample.path.read_bytes() for sample in report.samples]
        assert kept == [picture_bytes(f"{n}.png") for n in (1, 2, 3)]
        assert "1 pictures cannot be opened, such as 'images/0.png'" in _message(report, "unusable_pictures")
        assert {file.name for file in (path.parent / "samples").iterdir()} == {f"sample-{n:02d}.png" for n in range(3)}

    @pytest.mark.parametrize(
        "entries",
        [
            {**make_archive(*SIX, pictures=[]), **{f"images/{n}.png": b"no picture" for n in range(6)}},
            {**make_archive(*SIX, pictures=[]), **{f"images/{n}.heic": b"no picture" for n in range(6)}},
            {f"data/{n}.tiff": b"no picture" for n in range(6)},
            {"labels.csv": b"a,b"},
        ],
        ids=["damaged", "absent", "unknown layout", "no picture"],
    )
    def test_no_usable_picture_is_a_refusal(self, entries: dict[str, Any], archive_file: Write) -> None:
        """A model that cannot be tried cannot be accepted: that is said before it is paid for."""
        with pytest.raises(ExportRejectedError, match="no picture the model could be tried on"):
            _inspect(archive_file(entries))

    def test_an_annotated_file_is_a_picture_whatever_it_is_called(self, archive_file: Write) -> None:
        """A suffix we do not know, but a content we can open: it counts and is kept, under a suffix of ours."""
        labels = [annotation(f"{number}.gif", "stop") for number in range(6)]
        entries = {**make_archive(*labels), **{f"images/{n}.gif": _gif(20 + n) for n in range(6)}}
        report = _inspect(archive_file(entries), samples=2)
        assert report.findings == ()
        assert [sample.path.name for sample in report.samples] == ["sample-00.picture", "sample-01.picture"]
        assert report.samples[0].path.read_bytes() == _gif(20)

    def test_a_picture_of_too_many_pixels_is_no_sample(
        self, archive_file: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A small file that unpacks to gigabytes is not opened."""
        monkeypatch.setattr(pictures, "MAX_PIXELS", 64 * 64)
        entries = {**make_archive(*SIX), "images/0.png": picture_bytes("0.png", side=65)}
        report = _inspect(archive_file(entries))
        assert (len(report.samples), "65x65 pixels" in _message(report, "unusable_pictures")) == (5, True)

    def test_trying_ends(self, archive_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder of a million broken pictures is not opened to its end."""
        monkeypatch.setattr(samples, "MAX_UNUSABLE", 3)
        with pytest.raises(ExportRejectedError, match="none of 3 tried"):
            _inspect(archive_file({f"{n}.png": b"no picture" for n in range(9)}))


class TestTheRightPicture:
    """Labels of one picture are never shown on another."""

    def test_pictures_of_the_same_name_keep_their_own_labels(self, archive_file: Write) -> None:
        """``train/001.png`` and ``val/001.png`` are two pictures with labels of their own, both counted."""
        entries: dict[str, Any] = {}
        for folder, name in (("train", "stop"), ("val", "yield"), ("test", "limit")):
            _, document = annotation("001.png", *[name] * 5, split=folder)
            entries[f"annotations/{folder}/001.json"] = document
            entries[f"images/{folder}/001.png"] = picture_bytes(folder)
        report = _inspect(archive_file(entries))
        kept = {sample.boxes[0].name: sample.path.read_bytes() for sample in report.samples}
        assert kept == {n: picture_bytes(f) for f, n in (("train", "stop"), ("val", "yield"), ("test", "limit"))}
        assert "the archive holds 3" in _message(report, "count_differs")

    def test_what_cannot_be_told_apart_is_left_out(self, archive_file: Write) -> None:
        """An annotation that fits two pictures equally well is named, and neither picture is a sample."""
        name, document = annotation("001.png", "yield")
        twins = {"a/001.png": picture_bytes("a"), "b/001.png": picture_bytes("b"), name: document}
        report = _inspect(archive_file({**make_archive(*SIX), **twins}), samples=64)
        assert [sample.boxes[0].name for sample in report.samples] == ["stop"] * 6
        assert "annotations/001.png.json" in _message(report, "ambiguous_pictures")
        assert "missing_pictures" not in {finding.code for finding in report.findings}
        assert {count.name for count in report.classes} == {"stop", "yield"}

    @pytest.mark.parametrize(
        ("source", "file_name", "found", "picture"),
        [
            ("annotations/1.json", "1.jpg", ["images/1.jpg"], "images/1.jpg"),
            ("annotations/1.json", "1.jpg", ["images/1.jpg", "masks/1.jpg"], "images/1.jpg"),
            ("x/annotations/1.json", "1.jpg", ["x/images/1.jpg", "x/masks/1.jpg", "1.jpg"], "x/images/1.jpg"),
            ("annotations/1.json", "val/1.jpg", ["images/train/1.jpg", "images/val/1.jpg"], "images/val/1.jpg"),
            ("annotations/1.json", "val\\1.jpg", ["images/train/1.jpg", "images/val/1.jpg"], "images/val/1.jpg"),
            ("annotations/val/1.json", "1.jpg", ["images/train/1.jpg", "images/val/1.jpg"], "images/val/1.jpg"),
            ("val/annotations/1.json", "1.jpg", ["train/images/1.jpg", "val/images/1.jpg"], "val/images/1.jpg"),
            ("annotations/val/1.json", "val/1.jpg", ["val/1.jpg", "masks/val/1.jpg"], "val/1.jpg"),
            ("annotations/1.json", "far/away/1.jpg", ["images/1.jpg"], "images/1.jpg"),
            ("annotations/1.json", "1.jpg", ["a/1.jpg", "b/1.jpg"], None),
            ("annotations/1.json", "1.jpg", ["images/2.jpg"], None),
            ("annotations/1.json", "", ["images/1.jpg"], None),
        ],
    )
    def test_the_longest_common_end_decides(
        self, source: str, file_name: str, found: list[str], picture: str | None
    ) -> None:
        """Of the annotation's own path and the name it gives, whatever order the archive has."""
        for order in (found, found[::-1]):
            paired = pair_labels([Label(source, file_name)], order)
            assert [label.picture for label in paired.labels] == [picture]
            assert bool(paired.ambiguous) == (picture is None and found == ["a/1.jpg", "b/1.jpg"])

    def test_one_picture_has_one_set_of_labels(self) -> None:
        """The closer annotation gets it and the other's picture is missing; as close, neither does."""
        near, far = Label("annotations/val/1.json", "1.jpg"), Label("annotations/train/1.json", "1.jpg")
        paired = pair_labels([far, near], ["val/1.jpg"])
        assert ([label.picture for label in paired.labels], paired.ambiguous) == ([None, "val/1.jpg"], ())
        paired = pair_labels([far, near], ["1.jpg"])
        assert [label.picture for label in paired.labels] == [None, None]
        assert paired.ambiguous == (far.source, near.source)

    def test_a_path_without_end_costs_nothing(self) -> None:
        """Twenty thousand folders in a row are compared by their last few."""
        deep = "a/" * 20_000 + "1.jpg"
        assert pair_labels([Label("annotations/1.json", deep)], [deep, "b/1.jpg"]).labels[0].picture == deep


class TestMuch:
    """Annotations are read up to a total."""

    @pytest.mark.parametrize(("limit", "value"), [("MAX_ANNOTATION_FILES", 5), ("MAX_ANNOTATION_BYTES", 1300)])
    def test_too_many_annotations_are_read_in_part(
        self, limit: str, value: int, archive_file: Write, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The rest is counted, and a class that was not seen is no longer a reason to refuse."""
        labels = [annotation(f"{number}.png", "stop") for number in range(20)]
        entries = make_archive(*labels)
        assert len(str(labels[0][1])) * 4 < 1300 < len(str(labels[0][1])) * 9
        monkeypatch.setattr(archive, limit, value)
        report = _inspect(archive_file(entries), class_filter=("stop", "yield"))
        read = report.classes[0].images
        assert 4 <= read <= 9
        assert f"{20 - read} annotation files were not read" in _message(report, "annotations_unread")
        assert "'yield'" in _message(report, "unknown_class")
        whole = [annotation(f"{number}.png", "stop") for number in range(4)]
        with pytest.raises(ExportRejectedError, match="'yield'"):
            _inspect(archive_file(make_archive(*whole)), class_filter=("stop", "yield"))
