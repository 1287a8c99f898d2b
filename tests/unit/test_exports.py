"""Exports: what is refused, what is remarked, and which pictures are kept."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import exports
from pipeline.errors import (
    AuthenticationError,
    ExportNotReadyError,
    ExportRejectedError,
    NotFoundError,
    OutputPathError,
    PipelineError,
    ProviderUnavailableError,
)
from pipeline.exports import await_export, check_export, inspect_archive
from pipeline.models import ClassCount, Export, ExportReport, ExportStatus, LabelledBox, Severity
from tests.unit.conftest import (
    FakeClock,
    FakeProvider,
    Script,
    annotation,
    make_archive,
    make_export,
    make_plan,
    make_zip,
)

Write = Callable[[dict[str, Any]], Path]
PENDING = make_export(status=ExportStatus.PENDING, provider_status="pending")
FIVE = tuple(annotation(f"{number}.png", "a") for number in range(5))
SIX = tuple(annotation(f"{number}.png", "stop", "yield") for number in range(6))


def _await(clock: FakeClock, first: Export, *looks: Any) -> Export:
    provider = FakeProvider(find_or_create_export=Script(first), get_export=Script(*looks))
    return await_export(provider, make_plan(), clock)  # type: ignore[arg-type]


def _inspect(archive: Path, export: Export | None = None, **request: Any) -> ExportReport:
    return inspect_archive(archive, export or make_export(), make_plan(**request), archive.parent / "samples")


def _codes(report: ExportReport) -> set[str]:
    return {finding.code for finding in report.findings}


def _split_of(report: ExportReport) -> list[str | None]:
    return [sample.split for sample in report.samples]


class TestWaiting:
    """The export is waited for like anything else."""

    def test_a_finished_export_is_not_looked_at_again(self, clock: FakeClock) -> None:
        """No request and no second is spent on it."""
        assert _await(clock, make_export()) == make_export()
        assert clock.slept == []

    def test_an_export_is_waited_for(self, clock: FakeClock) -> None:
        """Unknown words and failed looks do not end the wait."""
        odd = make_export(status=ExportStatus.UNKNOWN, provider_status="zipping")
        assert _await(clock, PENDING, odd, ProviderUnavailableError("503"), make_export()) == make_export()

    def test_a_failed_export_is_handed_on(self, clock: FakeClock) -> None:
        """Judging it is the next step's work."""
        failed = make_export(status=ExportStatus.FAILED)
        assert _await(clock, PENDING, failed) == failed

    def test_patience_ends(self, clock: FakeClock) -> None:
        """At the profile's deadline the last word is reported, and nothing was spent."""
        with pytest.raises(ExportNotReadyError, match="still 'processing' after 300 s"):
            _await(clock, PENDING, make_export(status=ExportStatus.PROCESSING, provider_status="processing"))

    def test_an_export_that_vanishes_is_no_lost_training(self, clock: FakeClock) -> None:
        """The error is the export's own kind."""
        with pytest.raises(ExportRejectedError, match="gone at the provider"):
            _await(clock, PENDING, NotFoundError("404"))

    def test_a_refused_key_comes_through(self, clock: FakeClock) -> None:
        """It is not taken for a slow export."""
        with pytest.raises(AuthenticationError):
            _await(clock, PENDING, AuthenticationError("401"))


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
        report = _inspect(archive_file(make_archive(*labels)))
        assert report.classes == (
            ClassCount(name="stop", images=6, objects=12),
            ClassCount(name="yield", images=6, objects=6),
        )
        assert report.findings == ()
        assert report.samples[0].boxes[0] == LabelledBox(name="stop", box=(1, 2, 30, 40))

    def test_classification_counts_tags(self, archive_file: Write) -> None:
        """Boxes are not its labels."""
        labels = [annotation(f"{n}.png", "box", tags=("day" if n % 2 else "night",)) for n in range(10)]
        report = _inspect(archive_file(make_archive(*labels)), make_export(image_count=10), pipeline="classification")
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
            _inspect(archive_file(make_archive(*labels)), **request_fields)

    def test_a_class_on_just_enough_pictures_is_not_rare(self, archive_file: Write) -> None:
        """The provider's minimum is enough, and other JSON files are not taken for annotations."""
        entries = {**make_archive(*FIVE), "dataset.json": {"classes": []}, "annotations/readme.txt": b"hello"}
        report = _inspect(archive_file(entries), make_export(image_count=5))
        assert report.findings == ()

    def test_an_unknown_layout_is_a_warning(self, archive_file: Write) -> None:
        """The layout is not published: not knowing it must not stop a training that would work."""
        report = _inspect(archive_file({f"data/{n}.png": b"pixels" for n in range(6)} | {"labels.csv": b"a,b"}))
        assert _codes(report) == {"unknown_layout"}
        assert (report.classes, len(report.samples)) == ((), 6)
        assert report.samples[0].boxes == ()

    def test_annotations_of_another_layout_are_a_warning(self, archive_file: Write) -> None:
        """Files in the right place but of another form are no reason to refuse either."""
        entries = {f"annotations/{n}.json": {"picture": f"{n}.png"} for n in range(6)}
        report = _inspect(archive_file(entries | {f"images/{n}.png": b"pixels" for n in range(6)}))
        assert _codes(report) == {"unknown_layout", "unreadable_annotation"}
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
        report = _inspect(archive_file({**make_archive(*SIX), "annotations/9.json": document}))
        assert _codes(report) == {"unreadable_annotation"}
        assert "annotations/9.json" in report.findings[0].message
        assert len(report.classes) == 2

    @pytest.mark.parametrize("split", [5, ["test"], {"a": 1}])
    def test_a_split_that_is_no_word_is_ignored(self, split: Any, archive_file: Write) -> None:
        """The picture counts like one without a split."""
        name, document = annotation("9.png", "stop", split=split)
        report = _inspect(archive_file(make_archive(*SIX, (name, document))), samples=7)
        assert _split_of(report) == [None] * 7

    def test_nulls_are_empty_lists(self, archive_file: Write) -> None:
        """A picture with ``null`` for its labels is a picture without labels."""
        name, document = annotation("9.png")
        report = _inspect(archive_file(make_archive(*SIX, (name, document | {"tags": None, "annotations": None}))))
        assert "unlabelled_pictures" in _codes(report)

    def test_remarks_do_not_stop_the_run(self, archive_file: Write) -> None:
        """Missing pictures, bare pictures, rare classes and differing counts are told, and no more than told."""
        labels = [*SIX, annotation("bare.png"), annotation("gone.png", "rare")]
        pictures = [f"{n}.png" for n in range(6)] + ["bare.png"]
        report = _inspect(archive_file(make_archive(*labels, pictures=pictures)), make_export(image_count=8))
        assert _codes(report) == {"missing_pictures", "unlabelled_pictures", "rare_class", "count_differs"}
        assert all(finding.severity is not Severity.ERROR for finding in report.findings)
        assert "'gone.png'" in next(f.message for f in report.findings if f.code == "missing_pictures")
        assert all(sample.boxes != labels[-1] for sample in report.samples)

    def test_an_annotation_too_large_is_not_read(self, archive_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that claims to be an annotation cannot fill the memory."""
        monkeypatch.setattr(exports, "MAX_SIDE_FILE_BYTES", 400)
        edge = {"image": {"file_name": "8.png"}, "tags": ["x"]}
        edge["tags"] = ["x" * (401 - len(json.dumps(edge)))]
        assert len(json.dumps(edge)) == 400
        small = _inspect(archive_file({**make_archive(*FIVE), "annotations/8.json": edge}))
        assert "unreadable_annotation" not in _codes(small)
        big = {"image": {"file_name": "9.png"}, "tags": ["x" * 500]}
        report = _inspect(archive_file({**make_archive(*FIVE), "annotations/9.json": big}))
        assert "unreadable_annotation" in _codes(report)


def test_a_polygon_without_a_box_is_given_its_own(archive_file: Write) -> None:
    """Its corners decide; a folder in front of the picture's name does not hide the picture."""
    name, document = annotation("a.png")
    corners = [{"x": 4, "y": 6}, {"x": 10, "y": 2}, {"x": 7, "y": 9}]
    document["annotations"] = [{"id": "1", "name": "stop", "type": "polygon", "polygon": {"paths": [corners]}}]
    document["image"]["file_name"] = "batch/a.png"
    report = _inspect(archive_file({name: document, "images/batch/a.png": b"pixels"}))
    assert report.samples[0].boxes[0].box == (4, 2, 6, 7)
    assert "missing_pictures" not in _codes(report)


def _end_of(archive: Path) -> type[PipelineError] | None:
    try:
        _inspect(archive)
    except PipelineError as error:
        return type(error)
    return None


class TestDamage:
    """Archives that cannot be read."""

    @pytest.mark.parametrize("content", [b"", b"not a ZIP", b"<html>sign in</html>", b"PK\x05\x06" + bytes(10)])
    def test_what_is_no_archive_is_refused(self, content: bytes, tmp_path: Path) -> None:
        """An error page saved under the archive's name is noticed."""
        (tmp_path / "export.zip").write_bytes(content)
        with pytest.raises(ExportRejectedError, match="not a readable ZIP"):
            _inspect(tmp_path / "export.zip")

    def test_a_truncated_archive_is_refused(self, tmp_path: Path) -> None:
        """Half a file is not half an export."""
        whole = make_zip(make_archive(*SIX))
        (tmp_path / "export.zip").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ExportRejectedError, match="not a readable ZIP"):
            _inspect(tmp_path / "export.zip")

    def test_an_encrypted_archive_is_refused(self, tmp_path: Path) -> None:
        """We have no password to give."""
        whole = bytearray(make_zip(make_archive(*SIX)))
        for signature, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
            at = whole.find(signature)
            while at >= 0:
                whole[at + offset] |= 1
                at = whole.find(signature, at + 1)
        (tmp_path / "export.zip").write_bytes(whole)
        with pytest.raises(ExportRejectedError, match="encrypted"):
            _inspect(tmp_path / "export.zip")

    def test_damage_never_escapes_as_a_foreign_error(self, tmp_path: Path) -> None:
        """Wherever bytes are flipped, there is a report or a refusal."""
        whole = make_zip(make_archive(*SIX))
        dice = random.Random(7)  # noqa: S311 - not for secrets
        path, ends = tmp_path / "export.zip", []
        for _ in range(300):
            damaged = bytearray(whole)
            for _ in range(dice.choice((1, 1, 4))):
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
            path.write_bytes(damaged)
            ends.append(_end_of(path))
        assert set(ends) == {None, ExportRejectedError}
        assert ends.count(ExportRejectedError) > 150


class TestSamples:
    """Which pictures the model will be tried on."""

    def test_pictures_the_model_never_saw_come_first(self, archive_file: Write) -> None:
        """Test before val before unknown before train, whatever their order in the archive."""
        labels = [
            annotation(f"{n}.png", "stop", split=split)
            for n, split in enumerate(["train", "train", None, "val", "test", "test"])
        ]
        archive = archive_file(make_archive(*labels))
        assert _split_of(_inspect(archive, samples=1)) == ["test"]
        assert _split_of(_inspect(archive, samples=5)) == ["test", "test", "val", None, "train"]

    def test_the_choice_does_not_depend_on_the_archives_order(self, archive_file: Write) -> None:
        """The same content packed again is tried on the same pictures."""
        entries = make_archive(*SIX)
        chosen = [_inspect(archive_file(e), samples=2).samples for e in (entries, dict(reversed(entries.items())))]
        assert chosen[0] == chosen[1]

    def test_every_class_gets_its_turn(self, archive_file: Write) -> None:
        """A rare class is not crowded out by a frequent one."""
        names = ["stop"] * 9 + ["yield", "limit"]
        labels = [annotation(f"{n:02d}.png", name, split="test") for n, name in enumerate(names)]
        report = _inspect(archive_file(make_archive(*labels)), samples=3)
        assert {sample.boxes[0].name for sample in report.samples} == {"stop", "yield", "limit"}

    def test_labelled_pictures_come_before_bare_ones(self, archive_file: Write) -> None:
        """Agreement can only be judged where there is a label."""
        labels = [annotation("a.png"), *(annotation(f"b{n}.png", "stop") for n in range(5))]
        assert all(sample.boxes for sample in _inspect(archive_file(make_archive(*labels)), samples=5).samples)

    def test_samples_are_the_archives_bytes(self, archive_file: Write) -> None:
        """What is kept is what was sent, under names of our own, no more than asked for."""
        report = _inspect(archive_file(make_archive(*SIX)), samples=2)
        assert [sample.path.name for sample in report.samples] == ["sample-00.png", "sample-01.png"]
        assert [sample.path.read_bytes() for sample in report.samples] == [b"pixels of 0.png", b"pixels of 1.png"]

    def test_huge_pictures_are_left_out(self, archive_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        """A picture that cannot be handled is not kept for the test."""
        monkeypatch.setattr(exports, "MAX_PICTURE_BYTES", 20)
        entries = make_archive(*SIX)
        entries["images/0.png"], entries["images/1.png"] = b"x" * 21, b"x" * 20
        assert len(_inspect(archive_file(entries)).samples) == 5

    @pytest.mark.parametrize("name", ["../../evil.png", "/tmp/evil.png", "..\\evil.png", "a/../../../evil.png"])  # noqa: S108
    def test_names_in_the_archive_decide_nothing_about_where_we_write(
        self, name: str, archive_file: Write, tmp_path: Path
    ) -> None:
        """Everything written lies in the sample folder, under our own names."""
        hostile = {f"annotations/{name}.json": annotation(name, "stop")[1], name: b"evil", f"images/{name}": b"evil"}
        archive = archive_file({**hostile, **make_archive(*SIX)})
        _inspect(archive, samples=64)
        written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
        assert written - {"export.zip"} <= {f"samples/sample-{n:02d}.png" for n in range(64)}
        assert not Path("/tmp/evil.png").exists()  # noqa: S108

    def test_a_sample_folder_that_cannot_be_written_is_named(self, archive_file: Write, tmp_path: Path) -> None:
        """It is the disk's fault, not the export's."""
        (tmp_path / "samples").write_bytes(b"a file")
        with pytest.raises(OutputPathError, match="samples"):
            _inspect(archive_file(make_archive(*SIX)))

    def test_a_disk_that_fills_up_is_named(self, archive_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        """Room that vanishes while samples are kept is not called a damaged archive."""
        archive = archive_file(make_archive(*SIX))

        def full(path: Path, data: bytes) -> int:
            if data:
                raise OSError(28, "No space left on device")
            return path.open("wb").close() or 0

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputPathError, match="No space left"):
            _inspect(archive)


class TestFingerprint:
    """The identity of the content."""

    @staticmethod
    def _of(tmp_path: Path, entries: dict[str, Any], **zip_options: Any) -> str:
        path = tmp_path / "export.zip"
        path.write_bytes(make_zip(entries, **zip_options))
        return _inspect(path).content_fingerprint

    def test_order_and_times_do_not_matter(self, tmp_path: Path) -> None:
        """The same content packed again is the same content."""
        entries = make_archive(*SIX)
        turned = dict(reversed(entries.items()))
        assert self._of(tmp_path, entries) == self._of(tmp_path, turned, date=(2026, 5, 6, 7, 8, 10))

    def test_ids_do_not_matter(self, tmp_path: Path) -> None:
        """The provider may number things anew."""
        renumbered = json.loads(json.dumps(make_archive(*SIX[:5], pictures=[])))
        for document in renumbered.values():
            document["image"]["id"] = "other"
            for box in document["annotations"]:
                box["id"] = "other"
            document["annotations"].reverse()
        assert self._of(tmp_path, {**make_archive(*SIX), **renumbered}) == self._of(tmp_path, make_archive(*SIX))

    @pytest.mark.parametrize(
        "change",
        [
            {"images/0.png": b"other pixels"},
            {"images/new.png": b"pixels"},
            dict([annotation("0.png", "stop", "limit")]),
            dict([annotation("0.png", "stop")]),
            dict([annotation("0.png", "stop", "yield", tags=("night",))]),
        ],
        ids=["pixels", "picture", "class", "label", "tag"],
    )
    def test_content_matters(self, change: dict[str, Any], tmp_path: Path) -> None:
        """Other pixels, pictures or labels are another content."""
        entries = make_archive(*SIX)
        assert self._of(tmp_path, {**entries, **change}) != self._of(tmp_path, entries)


def test_the_archives_of_these_tests_are_archives(archive_file: Write) -> None:
    """The fixtures mean what they say: one entry for each label and each picture."""
    with zipfile.ZipFile(archive_file(make_archive(*SIX))) as opened:
        assert len(opened.namelist()) == 12
        assert opened.testzip() is None
