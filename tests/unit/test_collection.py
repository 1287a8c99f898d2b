"""Collection: the bytes are the bytes, and a bad file never takes a good one's place."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.download import collection
from pipeline.download.collection import CANDIDATE_NAME, CollectedFile, check_output_dir, collect, promote
from pipeline.errors import (
    ArtifactTooLargeError,
    DigestMismatchError,
    DownloadError,
    ErrorContext,
    NotFoundError,
    OutputPathError,
    PipelineError,
    ProviderUnavailableError,
    TransportError,
)
from pipeline.models import ModelArtifact, ModelFacts, ModelTask
from pipeline.provider import ByteStream, ResumePoint
from tests.unit.conftest import FakeClock, FakeStorage, Transfer

CONTENT = bytes(range(256)) * 4
BROKEN = TransportError("connection reset")
DAMAGED = CONTENT[:500] + b"\x00" + CONTENT[501:]


def _collect(storage: FakeStorage, folder: Path, clock: FakeClock, max_bytes: int = 10_000) -> CollectedFile:
    return collect(storage.open, folder / "model.onnx", max_bytes=max_bytes, clock=clock)


def _refused(storage: FakeStorage, folder: Path, kind: type[PipelineError], **limits: Any) -> PipelineError:
    """Collect over an existing good file, expect the refusal, and that nothing has changed on the disk."""
    good = folder / "model.onnx"
    good.write_bytes(b"the last good model")
    with pytest.raises(kind) as caught:
        _collect(storage, folder, FakeClock(), **limits)
    assert good.read_bytes() == b"the last good model"
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]
    return caught.value


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Any:
    """Whatever happens, no hashing thread outlives its transfer."""
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name == "hashing"] == []


@pytest.mark.parametrize("chunk", [1, 7, 1024, 5000])
def test_a_file_arrives_as_it_was_sent(chunk: int, tmp_path: Path, clock: FakeClock) -> None:
    """Content, size and both digests are hashlib's, however the bytes were cut; only the file is left."""
    file = _collect(FakeStorage(CONTENT, chunk=chunk), tmp_path, clock)
    assert file.path.read_bytes() == CONTENT
    assert file == CollectedFile(
        path=tmp_path / "model.onnx",
        size_bytes=len(CONTENT),
        md5=hashlib.md5(CONTENT, usedforsecurity=False).hexdigest(),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        verified_by=("size", "md5 (x-goog-hash)"),
        resumed=0,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_new_file_replaces_the_old_one(tmp_path: Path, clock: FakeClock) -> None:
    """Once verified, it takes the place in one step; folders are made as needed."""
    folder = tmp_path / "runs" / "one"
    _collect(FakeStorage(b"old"), folder, clock)
    assert _collect(FakeStorage(CONTENT), folder, clock).path.read_bytes() == CONTENT


def test_a_broken_transfer_is_resumed_where_it_stopped(tmp_path: Path, clock: FakeClock) -> None:
    """The second request asks for the rest of the same version, and no byte comes twice."""
    storage = FakeStorage(CONTENT, Transfer(stop_at=300, error=BROKEN), Transfer(stop_at=301, error=BROKEN), Transfer())
    file = _collect(storage, tmp_path, clock)
    assert storage.asked == [None, ResumePoint(300, '"v1"'), ResumePoint(301, '"v1"')]
    assert (file.path.read_bytes(), file.resumed) == (CONTENT, 2)
    assert file.sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_a_digest_announced_once_is_kept_over_a_resume(tmp_path: Path) -> None:
    """An answer to a range request that announces less does not weaken the check."""
    bare = Transfer(changes={"digests": {}, "digest_source": None, "size_bytes": None}, content=DAMAGED)
    storage = FakeStorage(CONTENT, Transfer(stop_at=300, error=BROKEN), bare, Transfer(stop_at=300, error=BROKEN), bare)
    error = _refused(storage, tmp_path, DigestMismatchError)
    assert "x-goog-hash" in str(error)


def test_an_ignored_range_starts_over(tmp_path: Path, clock: FakeClock) -> None:
    """A whole file sent again replaces the part held, it is not appended to it."""
    storage = FakeStorage(CONTENT, Transfer(stop_at=300, error=BROKEN), Transfer(ignore_range=True))
    assert _collect(storage, tmp_path, clock).path.read_bytes() == CONTENT


@pytest.mark.parametrize("ignore_range", [True, False])
def test_a_file_that_changes_in_mid_transfer_starts_over(ignore_range: bool, tmp_path: Path, clock: FakeClock) -> None:
    """Halves of two versions are never joined, whether the storage starts over itself or sends the new rest."""
    new = bytes(reversed(CONTENT))
    first = {"size_bytes": 2048, "digests": {"md5": "0" * 32, "sha256": "0" * 64}, "etag": '"v0"'}
    storage = FakeStorage(
        new, Transfer(stop_at=300, error=BROKEN, changes=first), Transfer(ignore_range=ignore_range), Transfer()
    )
    file = _collect(storage, tmp_path, clock)
    assert file.path.read_bytes() == new
    assert file.sha256 == hashlib.sha256(new).hexdigest()
    assert file.verified_by == ("size", "md5 (x-goog-hash)")


def test_a_shorter_version_leaves_no_tail_of_the_longer_one(tmp_path: Path, clock: FakeClock) -> None:
    """What was held of the file before is cut off, not written over."""
    storage = FakeStorage(
        CONTENT[:200],
        Transfer(
            stop_at=300, content=CONTENT, error=BROKEN, changes={"etag": '"v0"', "size_bytes": 1024, "digests": {}}
        ),
        Transfer(ignore_range=True),
    )
    assert _collect(storage, tmp_path, clock).path.read_bytes() == CONTENT[:200]


def test_a_transfer_that_never_gets_further_is_given_up(tmp_path: Path) -> None:
    """Attempts that bring nothing new are counted; the message says how far it came."""
    storage = FakeStorage(CONTENT, Transfer(stop_at=300, error=BROKEN), Transfer(refuse=BROKEN))
    assert "300 of 1024 bytes" in str(_refused(storage, tmp_path, DownloadError))
    assert len(storage.asked) == 1 + collection.FRUITLESS_ATTEMPTS


@pytest.mark.parametrize("ignore_range", [True, False])
def test_starting_over_again_and_again_is_no_progress(ignore_range: bool, tmp_path: Path) -> None:
    """A storage that restarts the file on every attempt does not keep us for ever."""
    versions = [
        Transfer(stop_at=300, error=BROKEN, ignore_range=ignore_range, changes={"etag": f'"v{number}"'})
        for number in range(50)
    ]
    storage = FakeStorage(CONTENT, *versions)
    _refused(storage, tmp_path, DownloadError)
    assert len(storage.asked) < 20


def test_slow_progress_is_progress(tmp_path: Path, clock: FakeClock) -> None:
    """A connection that breaks every few bytes still brings the file in the end."""
    stops = [Transfer(stop_at=stop, error=BROKEN) for stop in range(50, 1024, 50)]
    assert _collect(FakeStorage(CONTENT, *stops, Transfer()), tmp_path, clock).resumed == len(stops)


def test_new_attempts_wait_and_respect_the_server(tmp_path: Path, clock: FakeClock) -> None:
    """The pause doubles while nothing comes; Retry-After is the least."""
    slow = ProviderUnavailableError("503", ErrorContext(retry_after_s=30))
    storage = FakeStorage(CONTENT, Transfer(refuse=BROKEN), Transfer(refuse=BROKEN), Transfer(refuse=slow), Transfer())
    _collect(storage, tmp_path, clock)
    assert clock.slept == [2, 4, 30]


def test_a_storages_delay_of_a_day_is_not_slept(tmp_path: Path, clock: FakeClock) -> None:
    """Two minutes at most, then it is asked again."""
    slow = ProviderUnavailableError("503", ErrorContext(retry_after_s=86_400))
    _collect(FakeStorage(CONTENT, Transfer(refuse=slow), Transfer()), tmp_path, clock)
    assert clock.slept == [120]


class Slow(FakeStorage):
    """A storage that takes its time over every chunk."""

    def __init__(self, clock: FakeClock, seconds: float, *transfers: Transfer) -> None:
        super().__init__(CONTENT, *transfers, chunk=1)
        self.clock = clock
        self.seconds = seconds

    @contextmanager
    def open(self, resume: ResumePoint | None) -> Iterator[ByteStream]:
        """Answer as the storage does, slowly."""
        with super().open(resume) as stream:
            yield ByteStream(stream.facts, self._slowly(stream.chunks))

    def _slowly(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.clock.now += self.seconds
            yield chunk


def test_a_transfer_that_hardly_moves_is_given_up(tmp_path: Path, clock: FakeClock) -> None:
    """A byte every half minute keeps every connection alive for ever: after ten minutes of it we say no."""
    with pytest.raises(DownloadError, match="20 bytes in the last 600 s"):
        _collect(Slow(clock, 30), tmp_path, clock)
    assert clock.now - 1000 == 600
    assert list(tmp_path.iterdir()) == []


def test_breaking_off_now_and_then_is_no_way_around_it(tmp_path: Path, clock: FakeClock) -> None:
    """The pauses between attempts count: a byte an attempt is no transfer either."""
    pause = ProviderUnavailableError("503", ErrorContext(retry_after_s=100))
    drops = [Transfer(stop_at=stop, error=pause) for stop in range(1, 1024)]
    with pytest.raises(DownloadError, match="too slow to end"):
        _collect(FakeStorage(CONTENT, *drops), tmp_path, clock)
    assert 600 <= clock.now - 1000 <= 800


def test_a_slow_transfer_that_moves_is_borne(tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stretch is judged by itself, and the speed it must have is enough."""
    monkeypatch.setattr(collection, "SLOW_BYTES_PER_S", 0.5)
    assert _collect(Slow(clock, 2), tmp_path, clock).size_bytes == len(CONTENT)
    assert clock.now - 1000 > 3 * collection.SLOW_S
    stalling = Slow(clock, 2.5)
    with pytest.raises(DownloadError, match="too slow"):
        _collect(stalling, tmp_path, clock)


def test_a_permanent_refusal_is_passed_on_at_once(tmp_path: Path) -> None:
    """A file that is not there is not asked for again."""
    storage = FakeStorage(CONTENT, Transfer(refuse=NotFoundError("404")))
    _refused(storage, tmp_path, NotFoundError)
    assert len(storage.asked) == 1


def test_a_short_file_is_refused(tmp_path: Path) -> None:
    """An end that looks clean but comes too early is not an end."""
    assert "1000 of 1024 bytes" in str(_refused(FakeStorage(CONTENT, Transfer(stop_at=1000)), tmp_path, DownloadError))


@pytest.mark.parametrize("size", [None, 0])
def test_an_empty_file_is_refused(size: int | None, tmp_path: Path) -> None:
    """No bytes are no model, whatever was announced."""
    storage = FakeStorage(b"", Transfer(changes={"size_bytes": size, "digests": {}}))
    assert "empty" in str(_refused(storage, tmp_path, DownloadError))


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_wrong_bytes_twice_are_refused(algorithm: str, tmp_path: Path) -> None:
    """The whole file is fetched once more, then the mismatch is reported with both digests."""
    announced = "ab" * (16 if algorithm == "md5" else 32)
    storage = FakeStorage(CONTENT, Transfer(changes={"digests": {algorithm: announced}}))
    assert announced in str(_refused(storage, tmp_path, DigestMismatchError))
    assert storage.asked == [None, None]


def test_one_flipped_bit_on_the_way_is_repaired(tmp_path: Path, clock: FakeClock) -> None:
    """Wrong once, then right: the right bytes are kept."""
    file = _collect(FakeStorage(CONTENT, Transfer(content=DAMAGED), Transfer()), tmp_path, clock)
    assert (file.path.read_bytes(), file.resumed) == (CONTENT, 1)


def test_digests_are_compared_whatever_their_case(tmp_path: Path, clock: FakeClock) -> None:
    """Upper-case hex is the same digest; algorithms we do not know are not claimed as checked."""
    digests = {"sha256": hashlib.sha256(CONTENT).hexdigest().upper(), "crc32c": "AAAAAA=="}
    storage = FakeStorage(CONTENT, Transfer(changes={"digests": digests, "digest_source": "x-checksum"}))
    assert _collect(storage, tmp_path, clock).verified_by == ("size", "sha256 (x-checksum)")


def test_nothing_announced_is_nothing_claimed(tmp_path: Path, clock: FakeClock) -> None:
    """Without size and digest the file is taken, and the record says that nothing was compared."""
    storage = FakeStorage(CONTENT, Transfer(changes={"size_bytes": None, "digests": {}, "etag": None}))
    assert _collect(storage, tmp_path, clock).verified_by == ()


@pytest.mark.parametrize(("size", "read"), [(len(CONTENT), False), (None, True)])
def test_too_large_a_file_is_refused(size: int | None, read: bool, tmp_path: Path) -> None:
    """Announced, it is not even read; unannounced, reading stops at the limit."""
    taken: list[bytes] = []

    class Watched(FakeStorage):
        def _chunks(self, *args: Any) -> Any:
            for chunk in super()._chunks(*args):
                taken.append(chunk)
                yield chunk

    storage = Watched(CONTENT, Transfer(changes={"size_bytes": size}))
    error = _refused(storage, tmp_path, ArtifactTooLargeError, max_bytes=100)
    assert error.context.field == "max_model_bytes"
    assert (len(b"".join(taken)) > 100) is read
    assert len(b"".join(taken)) < 120


def test_the_limits_own_field_is_named(tmp_path: Path, clock: FakeClock) -> None:
    """Whoever collects an export is not sent to the limit of models."""
    with pytest.raises(ArtifactTooLargeError, match="raise max_export_bytes if") as caught:
        collect(FakeStorage(CONTENT).open, tmp_path / "e.zip", max_bytes=9, clock=clock, limit_field="max_export_bytes")
    assert caught.value.context.field == "max_export_bytes"


def test_a_file_of_exactly_the_limit_is_taken(tmp_path: Path, clock: FakeClock) -> None:
    """The limit is the last size allowed."""
    assert _collect(FakeStorage(CONTENT), tmp_path, clock, max_bytes=len(CONTENT)).size_bytes == len(CONTENT)


def test_no_room_is_found_out_before_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is asked first; the message names both figures."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2000, 1000, 1000))
    error = _refused(FakeStorage(CONTENT), tmp_path, ArtifactTooLargeError)
    assert "1024 bytes" in str(error)
    assert "1000 free" in str(error)


def test_a_resumed_transfer_needs_room_for_the_rest_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """What is already on the disk is not asked for twice; exactly enough is enough."""
    free = iter([1024, 724])
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2000, 0, next(free)))
    storage = FakeStorage(CONTENT, Transfer(stop_at=300, error=BROKEN), Transfer())
    assert _collect(storage, tmp_path, clock).size_bytes == len(CONTENT)


def test_a_disk_that_fills_up_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room that vanishes on the way ends in one of our errors, with the earlier file in place."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(collection.os, "fsync", full)
    assert "No space left" in str(_refused(FakeStorage(CONTENT), tmp_path, OutputPathError))


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_folder_that_cannot_be_written_is_named(below: str, tmp_path: Path, clock: FakeClock) -> None:
    """A file in the folder's place is refused before anything is asked of the storage."""
    taken = tmp_path / "taken"
    taken.write_bytes(b"a file")
    storage = FakeStorage(CONTENT)
    with pytest.raises(OutputPathError, match="taken") as caught:
        _collect(storage, taken / below, clock)
    assert caught.value.context.field == "output_dir"
    assert storage.asked == []
    assert taken.read_bytes() == b"a file"


def test_a_folder_in_the_files_place_is_named(tmp_path: Path, clock: FakeClock) -> None:
    """The last step can fail too, and leaves nothing behind."""
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(OutputPathError, match=r"model\.onnx"):
        _collect(FakeStorage(CONTENT), tmp_path, clock)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(1), RuntimeError("bug")], ids=repr)
def test_an_interrupted_transfer_leaves_nothing_behind(stop: Any, tmp_path: Path, clock: FakeClock) -> None:
    """Ctrl-C in the middle of a file takes the part file with it."""
    with pytest.raises(type(stop)):
        _collect(FakeStorage(CONTENT, Transfer(stop_at=300, error=stop)), tmp_path, clock)
    assert list(tmp_path.iterdir()) == []


def test_checking_a_folder_makes_it_and_leaves_it_empty(tmp_path: Path) -> None:
    """The probe is taken away again."""
    check_output_dir(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def _candidate(folder: Path) -> ModelArtifact:
    path = folder / CANDIDATE_NAME
    path.write_bytes(CONTENT)
    facts = ModelFacts(model_id="m1", name="net", status="ready", task=ModelTask.OBJECT_DETECTION)
    sha256, md5 = hashlib.sha256(CONTENT).hexdigest(), hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    return ModelArtifact(path=path, size_bytes=len(CONTENT), md5=md5, sha256=sha256, verified_by=(), model=facts)


@pytest.mark.parametrize("earlier", [None, b"the last good model"])
def test_an_accepted_candidate_takes_the_models_place(earlier: bytes | None, tmp_path: Path) -> None:
    """In one step, with nothing left beside it; everything known of it but its path stays as it was."""
    if earlier is not None:
        (tmp_path / "model.onnx").write_bytes(earlier)
    candidate = _candidate(tmp_path)
    accepted = promote(candidate)
    assert accepted == candidate.model_copy(update={"path": tmp_path / "model.onnx"})
    assert accepted.path.read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_candidate_that_cannot_be_moved_changes_nothing(tmp_path: Path) -> None:
    """The error names the place, and the candidate is still there."""
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(OutputPathError, match=r"model\.onnx"):
        promote(_candidate(tmp_path))
    assert (tmp_path / CANDIDATE_NAME).read_bytes() == CONTENT
