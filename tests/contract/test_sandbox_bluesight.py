"""The emulated Bluesight API on the wire: files, errors, bodies, models and inference; jobs are scripted here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sandbox.accounts import PUBLIC_KEY
from sandbox.client import SandboxAccount
from sandbox.server import SandboxServer
from tests.contract.bluesight_accounts import Bluesight, bluesight, images, tile_file

pytest.importorskip("h5py")
AT_ONCE = {"steps": [{"status": "completed"}]}
TEXT, JSON = "text/plain; charset=utf-8", "application/json"


@pytest.fixture
def api(server: SandboxServer) -> Iterator[Bluesight]:
    """An account whose jobs succeed at once."""
    with bluesight(server, scripted=AT_ONCE) as account:
        yield account


def trained(api: Bluesight, **order: Any) -> str:
    """Return the id of a model."""
    task = order.get("task", "classification")
    job = api.job(api.create(api.upload(tile_file(task)), **order))
    assert job["status"] == "succeeded", job
    return str(job["trained_model"])


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/files", 405, "POST"),
        ("GET", "/training/jobs", 405, "POST"),
        ("GET", "/inference", 405, "POST"),
        ("GET", "/models", 404, None),
        ("GET", "/models/model-12345678/download", 404, None),
        ("GET", "/files/file-12345678/content", 404, None),
        ("POST", "/embeddings/img", 404, None),
        ("GET", "/health", 404, None),
    ],
)
def test_what_is_not_there(api: Bluesight, method: str, path: str, status: int, allow: str | None) -> None:
    """There are no lists and no downloads; unknown paths and methods answer JSON that says so."""
    answer = api.http.request(method, path)
    assert (answer.status_code, answer.headers["content-type"], answer.headers.get("allow")) == (status, JSON, allow)
    assert answer.content == {404: b'{"detail":"Not Found"}', 405: b'{"detail":"Method Not Allowed"}'}[status]


def test_a_trailing_slash_is_led_away(api: Bluesight) -> None:
    """/training/jobs/ answers 307 to the path without it."""
    answer = api.http.post("/training/jobs/", json={})
    assert (answer.status_code, answer.headers["location"].endswith("/training/jobs")) == (307, True)


def test_the_root_and_the_description(api: Bluesight) -> None:
    """The root welcomes; the OpenAPI document has no security, and announces the 422 that is never sent."""
    assert "Welcome to Bluesight API!" in api.http.get("/").json()["message"]
    document = api.http.get("/openapi.json").json()
    assert (document["openapi"], document["info"]) == ("3.1.0", {"title": "FastAPI", "version": "0.1.0"})
    assert "security" not in json.dumps(document)
    assert "422" in document["paths"]["/training/jobs"]["post"]["responses"]
    assert set(document["paths"]["/training/jobs/{job_id}"]) == {"get", "delete"}


@pytest.mark.parametrize(
    ("path", "what"),
    [("/files/file-00000000", "File"), ("/training/jobs/trainingjob-0", "Training job"), ("/models/m", "Model")],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_unknown_ids(api: Bluesight, method: str, path: str, what: str) -> None:
    """404 in JSON that says it is plain text, with a space after the colon."""
    answer = api.http.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (404, TEXT)
    assert answer.text == '{"detail": "' + what + ' not found"}'


def test_files(api: Bluesight) -> None:
    """Any bytes are taken, the same ones twice are two files; fields come in the vendor's order."""
    sent = {"file": ("a b.h5", b"no tiles", "application/octet-stream")}
    first, second = (api.http.post("/files", files=sent, data={"purpose": "x"}).json() for _ in range(2))
    assert list(first) == ["filename", "bytes", "id", "created_at"]
    assert (first["filename"], first["bytes"], type(first["created_at"])) == ("a b.h5", 8, int)
    assert first["id"] != second["id"]
    assert (len(first["id"]), first["id"][:5]) == (13, "file-")
    path = f"/files/{first['id']}"
    assert api.http.get(path).json() == first
    assert api.http.delete(path).json() == first
    assert api.http.get(path).status_code == 404
    assert api.http.get(f"/files/{second['id']}").json() == second


WRONG_ORDERS: list[tuple[Any, str]] = [
    ({"training_file": "f"}, "[{'type': 'missing', 'loc': ('body', 'task'), "),
    ({"task": "classification"}, "[{'type': 'missing', 'loc': ('body', 'training_file'), "),
    ({"task": "detection", "training_file": "f"}, "[{'type': 'enum', 'loc': ('body', 'task'), "),
    ({"task": "classification", "training_file": 7}, "[{'type': 'string_type', 'loc': ('body', 'training_file'), "),
    (
        {"task": "segmentation", "training_file": "f", "hyperparameters": {"num_classes": "many"}},
        "[{'type': 'int_parsing', 'loc': ('body', 'hyperparameters', 'num_classes'), ",
    ),
]


@pytest.mark.parametrize(("body", "begins"), WRONG_ORDERS)
def test_a_wrong_order_is_a_400(api: Bluesight, body: Any, begins: str) -> None:
    """Validation answers 400, its detail one string with Python's own repr, and makes no job."""
    answer = api.http.post("/training/jobs", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, TEXT)
    assert answer.json()["detail"].startswith("RequestValidationError: " + begins)
    assert api.control.bill()["started_runs"] == 0


@pytest.mark.parametrize("sent", [{"json": {}}, {"data": {"file": "text"}}, {"files": {"other": ("x", b"x")}}])
def test_an_upload_without_a_file_is_a_400(api: Bluesight, sent: dict[str, Any]) -> None:
    """The part must be called file and have a filename."""
    answer = api.http.post("/files", **sent)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("RequestValidationError: [{'type': '")


def test_an_order_is_echoed(api: Bluesight) -> None:
    """The create answer says initializing; unknown keys are gone, nulls are there, in the vendor's order."""
    body = {"task": "segmentation", "training_file": "f", "hyperparameters": {"num_classes": 3, "epochs": 9}, "x": 1}
    answer = api.http.post("/training/jobs", json=body, headers={"Idempotency-Key": "k"})
    view = answer.json()
    assert (answer.status_code, list(view)[:5]) == (
        200,
        ["task", "training_file", "validation_file", "hyperparameters", "id"],
    )
    assert list(view)[5:] == ["created_at", "finished_at", "status", "error", "trained_model"]
    assert (view["task"], view["hyperparameters"], view["validation_file"]) == (
        "segmentation",
        {"num_classes": 3},
        None,
    )
    assert (view["status"], view["finished_at"], view["error"], view["trained_model"]) == (
        "initializing",
        None,
        None,
        None,
    )
    assert (view["id"][:12], len(view["id"])) == ("trainingjob-", 20)
    again = api.http.post("/training/jobs", json=body, headers={"Idempotency-Key": "k"}).json()
    assert again["id"] != view["id"]
    assert api.control.bill()["started_runs"] == 2


def test_hyperparameters_need_not_be_echoed(server: SandboxServer) -> None:
    """By setting they show as null, and are used all the same."""
    with bluesight(server, scripted=AT_ONCE, echoes_hyperparameters=False) as api:
        file_id = api.upload(tile_file("segmentation"))
        job = api.job(api.create(file_id, task="segmentation", hyperparameters={"num_classes": 3}))
        assert (job["hyperparameters"], job["status"]) == (None, "succeeded")


def test_models(api: Bluesight) -> None:
    """A model shows task, id, time and size; removed, it is gone."""
    name = trained(api)
    view = api.http.get(f"/models/{name}").json()
    assert list(view) == ["task", "id", "created_at", "bytes"]
    assert (view["task"], view["id"], view["bytes"] > 100) == ("classification", name, True)
    assert api.http.delete(f"/models/{name}").json() == view
    assert api.http.get(f"/models/{name}").status_code == 404
    assert api.infer(name, images()[0]).status_code == 400


def test_older_model_ids_hold_a_colon(server: SandboxServer) -> None:
    """model:<task>-xxxxxxxx works in a path as it is and encoded."""
    with bluesight(server, scripted=AT_ONCE, model_ids="with_task") as api:
        name = trained(api)
        assert name.startswith("model:classification-")
        for path in (name, name.replace(":", "%3A")):
            assert api.http.get(f"/models/{path}").json()["id"] == name
        assert api.infer(name, images()[0]).is_success


def test_a_new_model_may_be_late(server: SandboxServer) -> None:
    """By setting a model that a job has named is not found for a while."""
    with bluesight(server, scripted=AT_ONCE, model_delay_s=3600) as api:
        name = trained(api)
        assert api.http.get(f"/models/{name}").status_code == 404
        api.control.configure(bluesight={"model_delay_s": 0})
        assert api.http.get(f"/models/{name}").is_success


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_inference(api: Bluesight, task: Any) -> None:
    """Labels alone: one a tile, or one a pixel; nearly all of them right on tiles the model has not seen."""
    name = trained(api, task=task, hyperparameters={"num_classes": 3})
    tiles, labels = images(task)
    answer = api.infer(name, tiles)
    assert list(answer.json()) == ["labels"]
    if task == "classification":
        assert answer.json()["labels"] == labels
    else:
        pairs = [
            (a, b)
            for found, known in zip(answer.json()["labels"], labels, strict=True)
            for row in zip(found, known, strict=True)
            for a, b in zip(*row, strict=True)
        ]
        assert len(pairs) == 4 * 16 * 16
        assert sum(a == b for a, b in pairs) > 0.95 * len(pairs)


def test_an_unknown_model_is_missing_in_two_ways(api: Bluesight) -> None:
    """The first call fails in storage with 400, the same call again answers 404."""
    tiles, _ = images(count=1)
    first, second = (api.infer("model-00000000", tiles) for _ in range(2))
    assert (first.status_code, first.headers["content-type"]) == (400, TEXT)
    assert first.json()["detail"].startswith("RuntimeError: ")
    assert first.json()["detail"].endswith("Object not found")
    assert (second.status_code, second.text) == (404, '{"detail": "Model not found"}')


SQUARE = [[[0.5] * 8] * 8]
WRONG_IMAGES: list[tuple[dict[str, Any], str]] = [
    ({"gsd": None}, "'float_type', 'loc': ('body', 'images', 0, 'gsd')"),
    ({"pixels": "AAAA"}, "'list_type', 'loc': ('body', 'images', 0, 'pixels')"),
    ({"pixels": [[[0.5] * 12] * 12]}, "not divisible by 8: 12"),
    ({"pixels": [[[0.5] * 16] * 8]}, "Height != Width: 8 != 16"),
    ({"pixels": [[[0.5] * 8] * 7 + [[0.5] * 9]]}, "(bands, height, width)"),
    ({"pixels": [[["x"] * 8] * 8]}, "'float_parsing'"),
    ({"pixels": []}, "(bands, height, width)"),
    ({"bands": ["red", "nir"]}, "2 bands are named, pixels has 1"),
    ({"platform": "spot-6"}, "'enum', 'loc': ('body', 'images', 0, 'platform')"),
]


@pytest.mark.parametrize(("change", "words"), WRONG_IMAGES)
def test_wrong_images_are_a_400(api: Bluesight, change: dict[str, Any], words: str) -> None:
    """Pixels are nested lists, square, a multiple of eight; the words are those of validation."""
    image = {"gsd": 10, "bands": ["red"], "pixels": SQUARE, **change}
    answer = api.infer("model-00000000", [image])
    assert (answer.status_code, answer.headers["content-type"]) == (400, TEXT)
    assert answer.json()["detail"].startswith("RequestValidationError: ")
    assert words in answer.json()["detail"]


def test_images_that_the_model_cannot_read_are_a_400(api: Bluesight) -> None:
    """A missing band is no validation error; one call's maps share bands and shape."""
    name = trained(api, task="segmentation", hyperparameters={"num_classes": 3})
    tiles, _ = images("segmentation")
    small, _ = images("segmentation", count=1, side=8)
    red = {"gsd": 10, "bands": ["red"], "pixels": SQUARE}
    for wrong in ([red], [tiles[0], small[0]], [tiles[0], {**tiles[1], "gsd": 30}]):
        answer = api.infer(name, wrong)
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith("ValueError: ")


def test_classification_may_be_broken(server: SandboxServer) -> None:
    """By setting its inference answers 400, no validation error; segmentation works on."""
    with bluesight(server, scripted=AT_ONCE, classification_inference="broken") as api:
        broken = api.infer(trained(api), images()[0])
        assert broken.status_code == 400
        assert not broken.json()["detail"].startswith("RequestValidationError")
        order = {"task": "segmentation", "hyperparameters": {"num_classes": 3}}
        assert api.infer(trained(api, **order), images("segmentation")[0]).is_success


def test_storage_may_be_broken(server: SandboxServer) -> None:
    """By setting uploads and deletions answer 500 and change nothing."""
    with bluesight(server, scripted=AT_ONCE) as api:
        name, file_id = trained(api), api.upload()
        api.control.configure(bluesight={"storage": "broken"})
        tries = [api.http.post("/files", files={"file": ("x", b"x")}), api.http.delete(f"/files/{file_id}")]
        for answer, what in zip(
            [*tries, api.http.delete(f"/models/{name}")], ("upload", "delete", "delete"), strict=True
        ):
            assert (answer.status_code, answer.headers["content-type"]) == (500, TEXT)
            assert answer.json()["detail"].startswith(f"Failed to {what} ")
        assert api.http.get(f"/models/{name}").is_success
        assert api.http.get(f"/files/{file_id}").is_success


def test_nobody_needs_a_key(server: SandboxServer) -> None:
    """Without a key, with an unknown one or another scheme callers share one account; a known key has its own."""
    upload = {"files": {"file": ("x", b"x")}}
    with bluesight(server) as own, httpx.Client(base_url=server.url, trust_env=False) as anybody:
        shared = anybody.post("/files", **upload).json()["id"]
        for header in ("Bearer nobody", "Basic eA==", ""):
            headers = {"Authorization": header} if header else {}
            assert anybody.get(f"/files/{shared}", headers=headers).is_success
        assert own.http.get(f"/files/{shared}").status_code == 404
        assert anybody.get(f"/files/{own.upload(b'x')}").status_code == 404
    seen = SandboxAccount(server.url, PUBLIC_KEY).requests()
    assert [row["path"] for row in seen if row["method"] == "POST"] == ["/files"]


def test_faults_strike_here_too(api: Bluesight) -> None:
    """A fault after the effect leaves a job nobody knows the id of; one before leaves none."""
    file_id = api.upload()
    api.control.fault("status", path="/training/jobs", method="POST", status=502, stage="after")
    with pytest.raises(httpx.HTTPStatusError, match="502"):
        api.create(file_id)
    assert api.control.bill()["started_runs"] == 1
    api.control.fault("status", path="/training/jobs", method="POST", status=502)
    with pytest.raises(httpx.HTTPStatusError, match="502"):
        api.create(file_id)
    assert api.control.bill()["started_runs"] == 1
