"""Archives: damaged ones, hostile ones, which pictures are kept, and what identifies the content."""

from __future__ import annotations

import json
import random
import zipfile
from pathlib import Path
from typing import Any

import pytest

from pipeline.data import samples
from pipeline.errors import (
    ExportRejectedError,
    OutputPathError,
    PipelineError,
)
from tests.unit.archives import SIX, Write, inspect, splits
from tests.unit.conftest import (
    annotation,
    make_archive,
    make_zip,
    picture_bytes,
    picture_files,
)

EVIL = picture_bytes("evil")


def _end_of(archive: Path) -> type[PipelineError] | None:
    try:
        inspect(archive)
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
            inspect(tmp_path / "export.zip")

    def test_a_truncated_archive_is_refused(self, tmp_path: Path) -> None:
        """Half a file is not half an export."""
        whole = make_zip(make_archive(*SIX))
        (tmp_path / "export.zip").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ExportRejectedError, match="not a readable ZIP"):
            inspect(tmp_path / "export.zip")

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
            inspect(tmp_path / "export.zip")

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
        assert splits(inspect(archive, samples=1)) == ["test"]
        assert splits(inspect(archive, samples=5)) == ["test", "test", "val", None, "train"]

    def test_the_choice_does_not_depend_on_the_archives_order(self, archive_file: Write) -> None:
        """The same content packed again is tried on the same pictures."""
        entries = make_archive(*SIX)
        chosen = [inspect(archive_file(e), samples=2).samples for e in (entries, dict(reversed(entries.items())))]
        assert chosen[0] == chosen[1]

    def test_every_class_gets_its_turn(self, archive_file: Write) -> None:
        """A rare class is not crowded out by a frequent one."""
        names = ["stop"] * 9 + ["yield", "limit"]
        labels = [annotation(f"{n:02d}.png", name, split="test") for n, name in enumerate(names)]
        report = inspect(archive_file(make_archive(*labels)), samples=3)
        assert {sample.boxes[0].name for sample in report.samples} == {"stop", "yield", "limit"}

    def test_labelled_pictures_come_before_bare_ones(self, archive_file: Write) -> None:
        """Agreement can only be judged where there is a label."""
        labels = [annotation("a.png"), *(annotation(f"b{n}.png", "stop") for n in range(5))]
        assert all(sample.boxes for sample in inspect(archive_file(make_archive(*labels)), samples=5).samples)

    def test_samples_are_the_archives_bytes(self, archive_file: Write) -> None:
        """What is kept is what was sent, under names of our own, no more than asked for."""
        report = inspect(archive_file(make_archive(*SIX)), samples=2)
        assert [sample.path.name for sample in report.samples] == ["sample-00.png", "sample-01.png"]
        assert [sample.path.read_bytes() for sample in report.samples] == [picture_bytes(f"{n}.png") for n in range(2)]

    def test_huge_pictures_are_left_out(self, archive_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        """A picture that cannot be handled is not kept for the test."""
        entries = make_archive(*SIX, pictures=[f"{n}.png" for n in range(1, 6)])
        monkeypatch.setattr(samples, "MAX_PICTURE_BYTES", max(map(len, picture_files(entries))))
        entries["images/0.png"] = picture_bytes("0.png", side=80)
        assert len(inspect(archive_file(entries)).samples) == 5

    @pytest.mark.parametrize("name", ["../../evil.png", "/tmp/evil.png", "..\\evil.png", "a/../../../evil.png"])  # noqa: S108
    def test_names_in_the_archive_decide_nothing_about_where_we_write(
        self, name: str, archive_file: Write, tmp_path: Path
    ) -> None:
        """Everything written lies in the sample folder, under our own names."""
        hostile = {f"annotations/{name}.json": annotation(name, "stop")[1], name: EVIL, f"images/{name}": EVIL}
        archive = archive_file({**hostile, **make_archive(*SIX)})
        inspect(archive, samples=64)
        written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
        assert written - {"export.zip"} <= {f"samples/sample-{n:02d}.png" for n in range(64)}
        assert not Path("/tmp/evil.png").exists()  # noqa: S108

    def test_a_sample_folder_that_cannot_be_written_is_named(self, archive_file: Write, tmp_path: Path) -> None:
        """It is the disk's fault, not the export's."""
        (tmp_path / "samples").write_bytes(b"a file")
        with pytest.raises(OutputPathError, match="samples"):
            inspect(archive_file(make_archive(*SIX)))

    def test_a_disk_that_fills_up_is_named(self, archive_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        """Room that vanishes while samples are kept is not called a damaged archive."""
        archive = archive_file(make_archive(*SIX))

        def full(path: Path, data: bytes) -> int:
            if data:
                raise OSError(28, "No space left on device")
            return path.open("wb").close() or 0

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputPathError, match="No space left"):
            inspect(archive)


class TestFingerprint:
    """The identity of the content."""

    @staticmethod
    def _of(tmp_path: Path, entries: dict[str, Any], **zip_options: Any) -> str:
        path = tmp_path / "export.zip"
        path.write_bytes(make_zip(entries, **zip_options))
        return inspect(path).content_fingerprint

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
