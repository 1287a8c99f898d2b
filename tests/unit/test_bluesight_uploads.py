"""Training data on its way to Bluesight: uploaded once, remembered at once, checked on arrival."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx
import pytest

from pipeline.errors import ConfigurationError, ProviderError, ProviderUnavailableError, TransportError
from pipeline.models import TrainPlan
from tests.notes import MemoryNotes
from tests.unit.scripted_bluesight import (
    EXPORT,
    WELCOME,
    Answer,
    Api,
    api,
    file_in,
    file_row,
    ok,
    plan,
    refused,
    storing,
)

TILES = b"\x89HDF\r\n\x1a\n" + b"tiles" * 999
UNSEEN = b"\x89HDF\r\n\x1a\n" + b"unseen"


@pytest.fixture
def both(tmp_path: Path) -> TrainPlan:
    """A plan with a training file and a validation file."""
    (tmp_path / "tiles.h5").write_bytes(TILES)
    (tmp_path / "val.h5").write_bytes(UNSEEN)
    return plan(tmp_path, validation=str(tmp_path / "val.h5"), task="segmentation", num_classes=3)


def _server(**more: Answer | list[Answer]) -> Api:
    return api({"POST /files": storing(), "GET /": WELCOME, **more})


def _noted(file_id: str, content: bytes) -> dict[str, str]:
    return {"id": file_id, "sha256": hashlib.sha256(content).hexdigest()}


def test_an_order_names_uploads_and_nothing_else(both: TrainPlan) -> None:
    """The body is what the API takes: ids of both files, the task, the one hyperparameter there is."""
    server = _server()
    assert server.provider.order(both, EXPORT, MemoryNotes()) == {
        "task": "segmentation",
        "training_file": "file-00000001",
        "validation_file": "file-00000002",
        "hyperparameters": {"num_classes": 3},
    }


def test_what_was_not_asked_for_is_null(tmp_path: Path) -> None:
    """Without validation file and number of classes there is nothing to send of them."""
    (tmp_path / "tiles.h5").write_bytes(TILES)
    order = _server().provider.order(plan(tmp_path), EXPORT, MemoryNotes())
    assert (order["validation_file"], order["hyperparameters"]) == (None, None)


def test_files_arrive_byte_for_byte_under_names_that_tell_nothing(both: TrainPlan) -> None:
    """One part named file; its name is the run's, not the one it has here; the answer may take half an hour."""
    server = _server()
    server.provider.order(both, EXPORT, MemoryNotes())
    uploads = [request for request in server.asked if request.method == "POST"]
    assert [file_in(request) for request in uploads] == [TILES, UNSEEN]
    heads = [request.content.partition(b"\r\n\r\n")[0].decode() for request in uploads]
    assert 'name="file"' in heads[0]
    assert f'filename="{both.run_name}.h5"' in heads[0]
    assert f'filename="{both.run_name}-validation.h5"' in heads[1]
    assert server.read_timeouts()[:2] == [1800.0, 1800.0]


def test_each_upload_is_noted_right_after_it(both: TrainPlan) -> None:
    """When the second upload fails, the first one is remembered already, and only the second is sent again."""
    notes, store = MemoryNotes(), storing()
    failing: list[Answer] = [store, *[refused(500, "Failed to upload file: OSError no")] * 4]
    with pytest.raises(ProviderUnavailableError):
        _server(**{"POST /files": failing}).provider.order(both, EXPORT, notes)
    assert notes.read() == {"files": {"dataset": _noted("file-00000001", TILES)}}
    server = _server(**{"POST /files": store, "GET /files/file-00000001": ok(file_row(len(TILES), 1))})
    order = server.provider.order(both, EXPORT, notes)
    assert (order["training_file"], order["validation_file"]) == ("file-00000001", "file-00000002")
    assert server.lines() == ["GET /files/file-00000001", "POST /files", "GET /"]
    assert notes.read()["files"] == {
        "dataset": _noted("file-00000001", TILES),
        "validation": _noted("file-00000002", UNSEEN),
    }


def test_a_file_that_changed_since_is_uploaded_again(tmp_path: Path) -> None:
    """The note is about bytes, not about a name."""
    (tmp_path / "tiles.h5").write_bytes(TILES)
    notes = MemoryNotes([{"files": {"dataset": _noted("file-old", b"other")}, "creates_sent": 1}])
    server = _server()
    assert server.provider.order(plan(tmp_path), EXPORT, notes)["training_file"] == "file-00000001"
    assert server.lines() == ["POST /files", "GET /"]
    assert notes.read() == {"files": {"dataset": _noted("file-00000001", TILES)}, "creates_sent": 1}


def test_an_upload_that_is_gone_is_repeated(tmp_path: Path) -> None:
    """How long the provider keeps files is not known: a note of one that it denies is not believed."""
    (tmp_path / "tiles.h5").write_bytes(TILES)
    notes = MemoryNotes([{"files": {"dataset": _noted("file-old", TILES)}}])
    server = _server(**{"GET /files/file-old": refused(404, "File not found")})
    assert server.provider.order(plan(tmp_path), EXPORT, notes)["training_file"] == "file-00000001"


def test_a_new_attempt_uploads_anew(tmp_path: Path) -> None:
    """Notes are an attempt's own: after a job that met a damaged copy, the next one gets another upload."""
    (tmp_path / "tiles.h5").write_bytes(TILES)
    server = _server()
    first = server.provider.order(plan(tmp_path), EXPORT, MemoryNotes())
    again = server.provider.order(plan(tmp_path), EXPORT, MemoryNotes())
    assert (first["training_file"], again["training_file"]) == ("file-00000001", "file-00000002")


def test_an_upload_that_arrived_in_part_is_not_trained_on(tmp_path: Path) -> None:
    """The size in the answer is compared, and nothing is noted."""
    (tmp_path / "tiles.h5").write_bytes(TILES)
    notes = MemoryNotes()
    with pytest.raises(TransportError, match=f"has {len(TILES)} bytes, 7 of them arrived"):
        _server(**{"POST /files": ok(file_row(7))}).provider.order(plan(tmp_path), EXPORT, notes)
    assert notes.written == []


def test_a_size_that_is_not_known_yet_is_asked_for(tmp_path: Path) -> None:
    """An upload without a size is incomplete; it may be complete a moment later."""
    (tmp_path / "tiles.h5").write_bytes(TILES)
    routes: dict[str, Answer | list[Answer]] = {"POST /files": ok(file_row(None))}
    complete = _server(**routes, **{"GET /files/file-00000000": ok(file_row(len(TILES)))})
    assert complete.provider.order(plan(tmp_path), EXPORT, MemoryNotes())["training_file"] == "file-00000000"
    incomplete = _server(**routes, **{"GET /files/file-00000000": ok(file_row(None))})
    with pytest.raises(TransportError, match="None of them arrived"):
        incomplete.provider.order(plan(tmp_path), EXPORT, MemoryNotes())


@pytest.mark.parametrize("first", [httpx.ReadTimeout("x"), httpx.ConnectError("x"), refused(400, "OSError: disk")])
def test_an_upload_is_sent_again_whatever_happened(tmp_path: Path, first: Answer) -> None:
    """A second copy costs nothing, and a failed upload leaves nothing unknown that matters."""
    (tmp_path / "tiles.h5").write_bytes(TILES)
    server = _server(**{"POST /files": [first, storing()]})
    assert server.provider.order(plan(tmp_path), EXPORT, MemoryNotes())["training_file"] == "file-00000001"
    with pytest.raises(ProviderError) as caught:
        _server(**{"POST /files": first}).provider.order(plan(tmp_path), EXPORT, MemoryNotes())
    assert not caught.value.context.outcome_unknown


@pytest.mark.parametrize("role", ["dataset", "validation"])
def test_a_missing_file_is_named_with_its_field(tmp_path: Path, role: str) -> None:
    """Nothing is uploaded for it."""
    (tmp_path / "tiles.h5").write_bytes(TILES)
    asked = plan(tmp_path, **{role: str(tmp_path / "gone.h5")})
    with pytest.raises(ConfigurationError, match=r"gone\.h5' cannot be read \(No such file") as caught:
        _server().provider.order(asked, EXPORT, MemoryNotes())
    assert caught.value.context.field == role


def test_an_order_waits_for_the_server_before_anything_is_at_stake(tmp_path: Path) -> None:
    """The last question waits as long as a training may last; its silence leaves nothing unknown."""
    (tmp_path / "tiles.h5").write_bytes(TILES)
    server = _server(**{"GET /": httpx.ReadTimeout("x")})
    with pytest.raises(TransportError) as caught:
        server.provider.order(plan(tmp_path), EXPORT, MemoryNotes())
    assert not caught.value.context.outcome_unknown
    assert server.lines() == ["POST /files", "GET /"]
    assert server.read_timeouts()[-1] == 7200.0
