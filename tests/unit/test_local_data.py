"""Local training data in the words of an export."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.data.local_data import portraits_as_export, tiles_as_export
from pipeline.data.portraits import inspect_portraits
from pipeline.data.tiles import inspect_tiles
from pipeline.errors import ExportRejectedError
from pipeline.models import ExportReport, ExportStatus
from tests.unit.portrait_folders import fill
from tests.unit.tile_files import make_tiles, write_tiles


def test_tiles_are_told_as_an_export(tmp_path: Path) -> None:
    """Identity is the file's own, classes come most frequent first, and the value survives being stored."""
    tiles = make_tiles(7, "segmentation")
    tiles["label"] = 2
    tiles["label"][0, 0, :3] = 1
    tiles["pixels"][3] = float("nan")
    path = write_tiles(tmp_path / "fields.h5", tiles)
    found = inspect_tiles(path, task="segmentation", num_classes=3)
    report = tiles_as_export(found, "fields.h5")
    export = report.export
    assert (export.id, export.name, export.dataset) == (found.sha256[:16], "fields.h5", "fields.h5")
    assert (export.status, export.provider_status) == (ExportStatus.COMPLETED, "local")
    assert (export.image_count, export.annotation_count, export.size_bytes) == (7, 7, path.stat().st_size)
    assert export.include_images
    assert [(count.name, count.images, count.objects) for count in report.classes] == [("2", 7, 445), ("1", 1, 3)]
    assert [finding.code for finding in report.findings] == ["pixels_not_finite"]
    assert (report.content_fingerprint, report.samples) == (found.content_fingerprint, ())
    assert ExportReport.model_validate_json(report.model_dump_json()) == report


def test_every_reason_is_in_the_refusal(tmp_path: Path) -> None:
    """The sentence holds each error, no warning, and the request's field."""
    tiles = make_tiles(5)
    tiles["label"] = 8
    tiles["gsd"][2] = 20
    tiles["pixels"][3] = float("nan")
    path = write_tiles(tmp_path / "fields.h5", tiles)
    found = inspect_tiles(path, task="classification", num_classes=3, role="validation")
    with pytest.raises(ExportRejectedError) as caught:
        tiles_as_export(found, "fields.h5")
    message = str(caught.value)
    assert message.startswith("validation 'fields.h5' cannot be trained on: field ")
    errors = [finding.message for finding in found.findings if finding.severity.value == "error"]
    assert len(errors) > 2
    assert message.endswith(": " + "; ".join(errors))
    assert "NaN" not in message
    assert caught.value.context.field == "validation"


def test_unread_tiles_are_told_as_far_as_they_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the reader the counts are unknown, not zero."""
    path = write_tiles(tmp_path / "fields.h5", make_tiles())
    monkeypatch.setitem(sys.modules, "h5py", None)
    found = inspect_tiles(path, task="classification", num_classes=None)
    report = tiles_as_export(found, "fields.h5")
    assert (report.export.image_count, report.export.annotation_count, report.classes) == (None, None, ())
    assert [finding.code for finding in report.findings] == ["content_unchecked"]


def test_pictures_of_a_person_are_told_as_an_export(tmp_path: Path) -> None:
    """Identity is that of the pictures; no label, no name of a file."""
    found = inspect_portraits(fill(tmp_path / "anna"))
    report = portraits_as_export(found, "portraits")
    export = report.export
    assert (export.id, export.name, export.dataset) == (found.content_fingerprint[:16], "portraits", "portraits")
    assert (export.status, export.provider_status) == (ExportStatus.COMPLETED, "local")
    assert (export.image_count, export.annotation_count, export.size_bytes) == (12, None, found.total_bytes)
    assert (report.classes, report.samples, report.findings) == ((), (), ())
    assert report.content_fingerprint == found.content_fingerprint
    assert "anna" not in report.model_dump_json()


def test_pictures_that_cannot_be_trained_on_are_refused(tmp_path: Path) -> None:
    """Every reason is in the sentence, by number."""
    folder = fill(tmp_path / "anna", 11)
    (folder / "anna-03.jpg").write_bytes(b"")
    with pytest.raises(
        ExportRejectedError, match=r"^dataset 'portraits' cannot be trained on: .*11.*; picture 3 "
    ) as e:
        portraits_as_export(inspect_portraits(folder), "portraits")
    assert e.value.context.field == "dataset"
    assert "anna" not in str(e.value)
