"""Models and their weights through the Pictograph adapter."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from pipeline.errors import (
    ConflictError,
    NotFoundError,
    ProviderError,
    UnexpectedResponseError,
)
from pipeline.models import (
    ModelFacts,
    ModelTask,
)
from providers.pictograph.wire import RunWire, read_classes
from tests.unit.scripted_pictograph import (
    EXPORT,
    Answer,
    api,
    model_row,
    ok,
    refused,
    run_row,
)


@pytest.mark.parametrize(
    ("mapping", "names"),
    [
        ({"classes": ["stop", "yield"]}, ("stop", "yield")),
        ({"class_names": ["stop", "yield"]}, ("stop", "yield")),
        ({"classes": [{"name": "stop"}, {"name": "yield"}]}, ("stop", "yield")),
        ({"1": "yield", "10": "ten", "0": "stop", "2": "two"}, ("stop", "yield", "two", "ten")),
        (["stop"], ("stop",)),
        (None, ()),
        ({}, ()),
        ("?", ()),
    ],
)
def test_class_names_come_in_label_order(mapping: Any, names: tuple[str, ...]) -> None:
    """Both published forms, and their near relatives, give the same tuple; keys sort as numbers."""
    assert read_classes(mapping) == names


def test_a_completed_runs_model() -> None:
    """The model is found by the id in the run and described in the pipeline's words."""
    run = RunWire.model_validate(run_row(status="completed", model_id="m1")).to_value()
    facts = api({"GET /models/m1": ok({"model": model_row()})}).provider.get_model(run)
    assert (facts.task, facts.classes, facts.status) == (ModelTask.OBJECT_DETECTION, ("stop", "yield"), "ready")
    assert facts.metrics == {"mAP": 0.5}


def test_a_run_without_a_model_is_not_found() -> None:
    """No model id is an error that names the run, before any request."""
    with pytest.raises(NotFoundError, match="'n'"):
        api({}).provider.get_model(RunWire.model_validate(run_row(status="completed")).to_value())


def test_a_model_of_an_unknown_type_is_unexpected() -> None:
    """A task the pipeline cannot read is refused by its name, while listing still shows it."""
    row = model_row(model_type="keypoint_detection")
    server = api({"GET /models/m1": ok({"data": row}), "GET /models/": ok({"data": [row]})})
    run = RunWire.model_validate(run_row(model_id="m1")).to_value()
    with pytest.raises(UnexpectedResponseError, match="keypoint_detection"):
        server.provider.get_model(run)
    assert server.provider.models.list(name="signs")[0].model_type == "keypoint_detection"
    assert server.lines()[-1] == "GET /models/?limit=50&offset=0&name=signs"


def test_versions_and_files_are_read() -> None:
    """The manifest of a model's versions and files is typed."""
    version = {"version_id": "v1", "version_number": 2, "is_current": True, "status": "ready", "precision": "fp16"}
    weights = {"version_id": "v1", "name": "model.onnx", "kind": "weights", "format": "onnx", "size_bytes": 7}
    server = api({
        "GET /models/m1/versions": ok({"data": [version]}),
        "GET /models/m1/files": ok({"data": {"versions": [version], "files": [weights], "pinned_version_id": None}}),
    })  # fmt: skip
    models = server.provider.models
    assert (models.versions("m1")[0].number, models.versions("m1")[0].is_current) == (2, True)
    assert (models.files("m1")[0].name, models.files("m1")[0].size_bytes) == ("model.onnx", 7)


def test_deleting_twice_because_of_a_lost_answer_is_a_success() -> None:
    """404 after an attempt whose answer was lost means that attempt worked; a plain 404 is an error."""
    lost: list[Answer] = [httpx.ReadError("x"), refused(404)]
    api({"DELETE /models/m1": lost}).provider.models.delete("m1")
    with pytest.raises(NotFoundError):
        api({"DELETE /models/m1": refused(404)}).provider.models.delete("m1")


FACTS = ModelFacts(model_id="m1", name="signs", status="ready", task=ModelTask.OBJECT_DETECTION)


@pytest.mark.parametrize("status", ["training", "failed", "archived", "resting"])
def test_only_a_ready_model_is_opened(status: str) -> None:
    """The status is read afresh; anything but ready is a conflict naming it, and no URL is minted."""
    server = api({"GET /models/m1": ok({"data": model_row(status=status)})})
    with pytest.raises(ConflictError, match=status), server.provider.open_model(FACTS):
        pass
    assert server.lines() == ["GET /models/m1"]


@pytest.mark.parametrize(("status", "error"), [(400, ConflictError), (409, ConflictError), (404, NotFoundError)])
def test_a_refused_download_is_explained(status: int, error: type[ProviderError]) -> None:
    """400 and 409 both mean not downloadable, 404 that the weights are missing; the model is named."""
    server = api({"GET /models/m1": ok({"data": model_row()}), "GET /models/m1/download": refused(status, "why")})
    with pytest.raises(error, match=r"'signs'.*why"), server.provider.open_model(FACTS):
        pass


@pytest.mark.parametrize("envelope", ["data", None])
def test_weights_are_read_from_the_signed_url_without_the_key(envelope: str | None) -> None:
    """The minted URL of either era is read by a client that does not know the key."""
    minted = {"download_url": "https://bucket.example/w?X-Goog-Signature=s"}
    server = api({
        "GET /models/m1": ok({"data": model_row()}),
        "GET /models/m1/download": ok({envelope: minted} if envelope else minted),
        "GET /w": httpx.Response(200, stream=httpx.ByteStream(b"weights"), headers={"Content-Length": "7"}),
    })  # fmt: skip
    with server.provider.open_model(FACTS) as stream:
        assert (b"".join(stream.chunks), stream.facts.size_bytes) == (b"weights", 7)
    storage = server.asked[-1]
    assert storage.url.host == "bucket.example"
    assert "X-API-Key" not in storage.headers
    assert "pk_live_key" not in str(storage.headers.raw)
    assert server.lines()[1] == "GET /models/m1/download?format=onnx"


@pytest.mark.parametrize(("status", "era"), [(400, "data"), (409, "data"), (400, "exports")])
def test_an_unfinished_export_is_a_conflict(status: int, era: str) -> None:
    """An archive asked for too early is a conflict in both eras, not a bad request."""
    path = "/exports/ex%201/download" if era == "data" else "/exports/road-signs/ex%201/download"
    server = api({"GET /datasets/": ok({"data" if era == "data" else "datasets": []}), f"GET {path}": refused(status)})
    with pytest.raises(ConflictError), server.provider.open_export(EXPORT):
        pass
