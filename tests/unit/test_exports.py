"""Exports: what is waited for, what is refused, what is remarked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.data import archive
from pipeline.data.exports import await_export, check_export
from pipeline.errors import (
    AuthenticationError,
    ConfigurationError,
    ErrorContext,
    ExportNotReadyError,
    ExportRejectedError,
    NotFoundError,
    PermissionDeniedError,
    ProviderUnavailableError,
)
from pipeline.models import ClassCount, Export, ExportStatus, LabelledBox, Severity
from tests.unit.archives import FIVE, SIX, Write, codes, inspect, splits
from tests.unit.conftest import (
    FakeClock,
    FakeProvider,
    Script,
    annotation,
    make_archive,
    make_export,
    make_plan,
    picture_bytes,
)

PENDING = make_export(status=ExportStatus.PENDING, provider_status="pending")


def wait_for_export(clock: FakeClock, first: Export, *looks: Any) -> Export:
    """Wait for an export that looks like this, look by look."""
    provider = FakeProvider(find_or_create_export=Script(first), get_export=Script(*looks))
    return await_export(provider, make_plan(), clock)  # type: ignore[arg-type]


class TestWaiting:
    """The export is waited for like anything else."""

    def test_a_finished_export_is_not_looked_at_again(self, clock: FakeClock) -> None:
        """No request and no second is spent on it."""
        assert wait_for_export(clock, make_export()) == make_export()
        assert clock.slept == []

    def test_an_export_is_waited_for(self, clock: FakeClock) -> None:
        """Unknown words and failed looks do not end the wait."""
        odd = make_export(status=ExportStatus.UNKNOWN, provider_status="zipping")
        assert wait_for_export(clock, PENDING, odd, ProviderUnavailableError("503"), make_export()) == make_export()

    def test_a_failed_export_is_handed_on(self, clock: FakeClock) -> None:
        """Judging it is the next step's work."""
        failed = make_export(status=ExportStatus.FAILED)
        assert wait_for_export(clock, PENDING, failed) == failed

    def test_patience_ends(self, clock: FakeClock) -> None:
        """At the profile's deadline the last word is reported, and nothing was spent."""
        with pytest.raises(ExportNotReadyError, match="still 'processing' after 300 s"):
            wait_for_export(clock, PENDING, make_export(status=ExportStatus.PROCESSING, provider_status="processing"))

    def test_an_export_that_vanishes_is_no_lost_training(self, clock: FakeClock) -> None:
        """The error is the export's own kind."""
        with pytest.raises(ExportRejectedError, match="gone at the provider"):
            wait_for_export(clock, PENDING, NotFoundError("404"))

    def test_a_refused_key_comes_through(self, clock: FakeClock) -> None:
        """It is not taken for a slow export."""
        with pytest.raises(AuthenticationError):
            wait_for_export(clock, PENDING, AuthenticationError("401"))

    def test_a_key_that_may_not_export_is_a_matter_of_configuration(self, clock: FakeClock) -> None:
        """A viewer's key ends the run as a wrong one does: before anything is spent, naming the field."""
        context = ErrorContext(operation="exports.create", status_code=403)
        provider: Any = FakeProvider(find_or_create_export=Script(PermissionDeniedError("viewers read", context)))
        with pytest.raises(ConfigurationError, match="viewers read") as caught:
            await_export(provider, make_plan(), clock)
        assert (caught.value.context.field, caught.value.context.status_code) == ("credentials", 403)


class TestFacts:
    """What the provider's own facts rule out."""

    @pytest.mark.parametrize(
        ("facts", "reason"),
        [
            ({"status": ExportStatus.FAILED, "error_message": "disk gone"}, "disk gone"),
            ({"status": ExportStatus.FAILED}, "no reason given"),
            ({"image_count": 0}, "holds no image"),
            ({"image_count": 4}, "holds 4 images, Pictograph needs at least 5"),
            ({"annotation_count": 0}, "holds no label"),
            ({"include_images": False}, "without the image files"),
        ],
    )
    def test_what_cannot_be_trained_on_is_refused(self, facts: dict[str, Any], reason: str) -> None:
        """Each with its reason, the export's name, and the field to change."""
        with pytest.raises(ExportRejectedError, match=reason) as caught:
            check_export(make_export(**facts), make_plan())
        assert "'export-1'" in str(caught.value)
        assert caught.value.context.field == "export"

    @pytest.mark.parametrize("facts", [{}, {"image_count": 5}, {"image_count": None, "annotation_count": None}])
    def test_what_may_be_fine_passes(self, facts: dict[str, Any]) -> None:
        """The minimum is enough, and a figure that is not known is no reason."""
        check_export(make_export(**facts), make_plan())

    def test_classification_needs_no_objects(self) -> None:
        """Its labels are tags, which the annotation count does not count."""
        check_export(make_export(annotation_count=0), make_plan(pipeline="classification"))

    def test_the_filters_are_named_where_they_may_be_the_reason(self) -> None:
        """A fresh export names its filters; an existing one cannot be filtered."""
        with pytest.raises(ExportRejectedError, match=r"status_filter='review' and class_filter=\['stop'\]"):
            check_export(make_export(image_count=0), make_plan(status_filter="review", class_filter=("stop",)))
        with pytest.raises(ExportRejectedError, match="make a new export of 'road-signs'"):
            check_export(make_export(image_count=0), make_plan(export="mine"))


class TestContent:
    """What the archive itself says."""

    def test_a_good_archive_is_counted(self, archive_file: Write) -> None:
        """Classes with pictures and objects, most frequent first, and nothing to remark."""
        labels = [annotation(f"{number}.png", "stop", "stop", "yield") for number in range(6)]
        report = inspect(archive_file(make_archive(*labels)))
        assert report.classes == (
            ClassCount(name="stop", images=6, objects=12),
            ClassCount(name="yield", images=6, objects=6),
        )
        assert report.findings == ()
        assert report.samples[0].boxes[0] == LabelledBox(name="stop", box=(1, 2, 30, 40))

    def test_classification_counts_tags(self, archive_file: Write) -> None:
        """Boxes are not its labels."""
        labels = [annotation(f"{n}.png", "box", tags=("day" if n % 2 else "night",)) for n in range(10)]
        report = inspect(archive_file(make_archive(*labels)), make_export(image_count=10), pipeline="classification")
        assert {count.name: count.images for count in report.classes} == {"day": 5, "night": 5}
        assert report.samples[0].tags

    @pytest.mark.parametrize(
        ("labels", "request_fields", "reason"),
        [
            ([annotation(f"{n}.png") for n in range(6)], {}, "no label is left"),
            ([annotation(f"{n}.png") for n in range(6)], {"class_filter": ("stop",)}, r"class_filter=\['stop'\]"),
            (SIX, {"class_filter": ("stop", "stpo")}, r"names 'stpo'.*labelled are \['stop', 'yield'\]"),
            ([annotation(f"{n}.png", tags=("day",)) for n in range(6)], {"pipeline": "classification"}, "two classes"),
        ],
    )
    def test_content_that_gives_no_model_is_refused(
        self, labels: list[Any], request_fields: dict[str, Any], reason: str, archive_file: Write
    ) -> None:
        """No label, a filter that leaves nothing, a class that does not exist, one class to tell apart from none."""
        with pytest.raises(ExportRejectedError, match=reason):
            inspect(archive_file(make_archive(*labels)), **request_fields)

    def test_a_class_on_just_enough_pictures_is_not_rare(self, archive_file: Write) -> None:
        """The provider's minimum is enough, and other JSON files are not taken for annotations."""
        entries = {**make_archive(*FIVE), "dataset.json": {"classes": []}, "annotations/readme.txt": b"hello"}
        report = inspect(archive_file(entries), make_export(image_count=5))
        assert report.findings == ()

    def test_an_unknown_layout_is_a_warning(self, archive_file: Write) -> None:
        """The layout is not published: not knowing it must not stop a training that would work."""
        report = inspect(
            archive_file({f"data/{n}.png": picture_bytes(str(n)) for n in range(6)} | {"labels.csv": b"a,b"})
        )
        assert codes(report) == {"unknown_layout"}
        assert (report.classes, len(report.samples)) == ((), 6)
        assert report.samples[0].boxes == ()

    def test_annotations_of_another_layout_are_a_warning(self, archive_file: Write) -> None:
        """Files in the right place but of another form are no reason to refuse either."""
        entries = {f"annotations/{n}.json": {"picture": f"{n}.png"} for n in range(6)}
        report = inspect(archive_file(entries | {f"images/{n}.png": picture_bytes(str(n)) for n in range(6)}))
        assert codes(report) == {"unknown_layout", "unreadable_annotation"}
        assert len(report.samples) == 6

    @pytest.mark.parametrize(
        "document",
        [
            b"{",
            b"\xff\xfe",
            b"[" * 100_000,
            [],
            {"image": None},
            {"image": {"file_name": "9.png"}, "annotations": 3},
            {"image": {"file_name": "9.png"}, "annotations": [{"name": "a", "bounding_box": {"x": 1}}]},
            {"image": {"file_name": "9.png"}, "annotations": [{"bounding_box": dict.fromkeys("xywh", 1)}]},
            {
                "image": {"file_name": "9.png"},
                "annotations": [{"name": "a", "bounding_box": dict.fromkeys("xywh", "k")}],
            },
            {
                "image": {"file_name": "9.png"},
                "annotations": [{"name": "a", "bounding_box": dict.fromkeys("xywh", 10**400)}],
            },
            {
                "image": {"file_name": "9.png"},
                "annotations": [{"name": "a", "bounding_box": dict.fromkeys("xywh", float("nan"))}],
            },
        ],
        ids=range(11),
    )
    def test_one_unreadable_file_is_a_warning(self, document: Any, archive_file: Write) -> None:
        """Whatever is wrong with one picture's labels, the others count."""
        report = inspect(archive_file({**make_archive(*SIX), "annotations/9.json": document}))
        assert codes(report) == {"unreadable_annotation"}
        assert "annotations/9.json" in report.findings[0].message
        assert len(report.classes) == 2

    @pytest.mark.parametrize("split", [5, ["test"], {"a": 1}])
    def test_a_split_that_is_no_word_is_ignored(self, split: Any, archive_file: Write) -> None:
        """The picture counts like one without a split."""
        name, document = annotation("9.png", "stop", split=split)
        report = inspect(archive_file(make_archive(*SIX, (name, document))), samples=7)
        assert splits(report) == [None] * 7

    def test_nulls_are_empty_lists(self, archive_file: Write) -> None:
        """A picture with ``null`` for its labels is a picture without labels."""
        name, document = annotation("9.png")
        report = inspect(archive_file(make_archive(*SIX, (name, document | {"tags": None, "annotations": None}))))
        assert "unlabelled_pictures" in codes(report)

    def test_remarks_do_not_stop_the_run(self, archive_file: Write) -> None:
        """Missing pictures, bare pictures, rare classes and differing counts are told, and no more than told."""
        labels = [*SIX, annotation("bare.png"), annotation("gone.png", "rare")]
        pictures = [f"{n}.png" for n in range(6)] + ["bare.png"]
        report = inspect(archive_file(make_archive(*labels, pictures=pictures)), make_export(image_count=8))
        assert codes(report) == {"missing_pictures", "unlabelled_pictures", "rare_class", "count_differs"}
        assert all(finding.severity is not Severity.ERROR for finding in report.findings)
        assert "'gone.png'" in next(f.message for f in report.findings if f.code == "missing_pictures")
        assert {box.name for sample in report.samples for box in sample.boxes} == {"stop", "yield"}

    def test_an_annotation_too_large_is_not_read(self, archive_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that claims to be an annotation cannot fill the memory."""
        monkeypatch.setattr(archive, "MAX_SIDE_FILE_BYTES", 400)
        edge = {"image": {"file_name": "8.png"}, "tags": ["x"]}
        edge["tags"] = ["x" * (401 - len(json.dumps(edge)))]
        assert len(json.dumps(edge)) == 400
        small = inspect(archive_file({**make_archive(*FIVE), "annotations/8.json": edge}))
        assert "unreadable_annotation" not in codes(small)
        big = {"image": {"file_name": "9.png"}, "tags": ["x" * 500]}
        report = inspect(archive_file({**make_archive(*FIVE), "annotations/9.json": big}))
        assert "unreadable_annotation" in codes(report)


def test_a_polygon_without_a_box_is_given_its_own(archive_file: Write) -> None:
    """Its corners decide; a folder in front of the picture's name does not hide the picture."""
    name, document = annotation("a.png")
    corners = [{"x": 4, "y": 6}, {"x": 10, "y": 2}, {"x": 7, "y": 9}]
    document["annotations"] = [{"id": "1", "name": "stop", "type": "polygon", "polygon": {"paths": [corners]}}]
    document["image"]["file_name"] = "batch/a.png"
    report = inspect(archive_file({name: document, "images/batch/a.png": picture_bytes("a")}))
    assert report.samples[0].boxes[0].box == (4, 2, 6, 7)
    assert "missing_pictures" not in codes(report)
