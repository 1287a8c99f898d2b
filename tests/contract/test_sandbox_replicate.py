"""Replicate's trainings on the wire: forms, states, money, pages and the quirks that can be switched."""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import httpx
import onnxruntime
import pytest

from sandbox.clock import ManualClock
from sandbox.exportzip import write_export
from sandbox.replicate.models import TRAINER, TRAINER_VERSION
from sandbox.roadsigns import road_signs
from sandbox.server import SandboxServer
from tests.contract.replicate_accounts import DESTINATION, NO_DATA, Opened, opened

Open = Callable[..., Opened]
BAR = re.compile(r"^\s*(\d+)%\s*\|.+?\|\s*(\d+)/(\d+)")


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    """The time of the sandbox, moved by the tests alone."""
    return ManualClock()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, clock: ManualClock) -> Iterator[SandboxServer]:
    """A sandbox for the tests of this file."""
    with SandboxServer(tmp_path_factory.mktemp("home"), clock) as running:
        yield running


@pytest.fixture
def open_account(server: SandboxServer) -> Iterator[Open]:
    """Give a function that opens an account."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(opened(server, **settings))


def test_the_answer_of_a_create_is_small(open_account: Open) -> None:
    """It has nine fields, nine digits of a second, links to /predictions/ and empty logs."""
    answer = open_account().train()
    fields = ["created_at", "error", "id", "input", "logs", "model", "status", "urls", "version"]
    assert sorted(answer) == fields
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", answer["created_at"])
    assert re.fullmatch(r"[0-9a-z]{26}", answer["id"])
    assert (answer["status"], answer["logs"], answer["version"]) == ("starting", "", TRAINER_VERSION)
    assert answer["urls"]["get"].endswith(f"/v1/predictions/{answer['id']}")


def test_a_training_from_begin_to_end(open_account: Open, clock: ManualClock) -> None:
    """States, growing logs with bars, instants, weights that run, metrics and the bill belong together."""
    mine = open_account()
    started = mine.train()
    first = mine.training(started)
    assert (first["status"], first["logs"], first["output"], first["started_at"]) == ("starting", None, None, None)
    assert first["created_at"] != started["created_at"]
    assert len(first["created_at"]) == len("2027-01-15T08:00:00.000000Z")
    clock.advance(30)
    half = mine.training(started)
    assert (half["status"], half["metrics"], half["source"], half["data_removed"]) == ("processing", {}, "api", False)
    assert half["urls"]["get"].endswith(f"/v1/trainings/{started['id']}")
    bars = [match.groups() for line in half["logs"].splitlines() if (match := BAR.match(line))]
    assert bars == [("0", "0", "4"), ("25", "1", "4"), ("50", "2", "4")]
    clock.advance(30)
    done = mine.training(started)
    assert done["logs"].startswith(half["logs"])
    assert (done["status"], done["metrics"]) == ("succeeded", {"predict_time": 40.0, "total_time": 50.0})
    assert done["model"] == TRAINER
    (version,) = mine.get(f"/v1/models/{DESTINATION}/versions")["results"]
    assert done["output"]["version"] == f"{DESTINATION}:{version['id']}"
    assert re.fullmatch(r"[0-9a-f]{64}", version["id"])
    bill = mine.account.bill()
    assert (bill["started_runs"], bill["paid_runs"], bill["net"], bill["active_runs"]) == (1, 1, 40 * 225, 0)
    assert bill["runs"][0]["id"] == started["id"]


@pytest.mark.parametrize("form", ["tar", "tar.gz", "zip", "onnx", "no_onnx"])
def test_every_form_of_weights(open_account: Open, clock: ManualClock, form: str) -> None:
    """The weights need no token, are what the settings say, and have the classes of the uploaded data."""
    mine = open_account(replicate={"weights": form})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("empty", b"")
    started = mine.train({"train_data": mine.upload(content.getvalue())["urls"]["get"]})
    clock.advance(60)
    weights = httpx.get(mine.training(started)["output"]["weights"], trust_env=False).content
    files = {"model.onnx": weights} if form == "onnx" else _files(weights)
    assert ("model.onnx" in files) is (form != "no_onnx")
    if form != "no_onnx":
        session = onnxruntime.InferenceSession(files["model.onnx"], providers=["CPUExecutionProvider"])
        assert session.get_outputs()[0].shape == [1, 1]
    assert mine.http.get(f"/delivery/other/{started['id']}/trained_model.tar").status_code == 404


def _files(packed: bytes) -> dict[str, bytes]:
    if zipfile.is_zipfile(io.BytesIO(packed)):
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        parts = {member.name: tar.extractfile(member) for member in tar}
        return {name: part.read() for name, part in parts.items() if part}


def test_classes_come_from_the_data(open_account: Open, clock: ManualClock, tmp_path: Any) -> None:
    """A scripted training names the classes that the uploaded export has."""
    mine, path = open_account(), tmp_path / "export.zip"
    write_export(path, dataset="d", export="e", images=road_signs(6, size=64), include_images=True)
    started = mine.train({"train_data": mine.upload(path.read_bytes())["urls"]["get"], "pipeline": "yolox"})
    clock.advance(60)
    config = _files(httpx.get(mine.training(started)["output"]["weights"], trust_env=False).content)["config.json"]
    assert b'"parking"' in config
    assert b'"yolox"' in config


def test_cancelling(open_account: Open, clock: ManualClock) -> None:
    """At once it costs nothing, later the time it ran; again, and after an end, nothing changes."""
    mine = open_account()
    started = mine.train()
    answer = mine.http.post(f"/v1/trainings/{started['id']}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")
    assert answer.json()["metrics"]["predict_time"] == 3e-06
    later = mine.train()
    clock.advance(20)
    stopped = mine.http.post(f"/v1/predictions/{later['id']}/cancel").json()
    assert (stopped["status"], stopped["metrics"]["predict_time"]) == ("canceled", 10.0)
    clock.advance(60)
    assert mine.http.post(f"/v1/trainings/{later['id']}/cancel").json() == mine.training(later)
    assert mine.training(later)["logs"] == stopped["logs"]
    assert [run["charged"] for run in mine.account.bill()["runs"]] == [0, 10 * 225]


def test_the_list(open_account: Open) -> None:
    """Pages of a hundred, newest first, without logs; links are absolute and their cursor is opaque."""
    mine = open_account()
    ids = [mine.train()["id"] for _ in range(102)]
    first = mine.get("/v1/trainings")
    assert [row["id"] for row in first["results"]] == ids[:1:-1]
    assert first["previous"] is None
    assert "logs" not in first["results"][0]
    assert first["results"][0]["input"]["train_data"] == NO_DATA
    assert urlsplit(first["next"]).netloc == urlsplit(mine.account.url).netloc
    second = mine.get(first["next"])
    assert ([row["id"] for row in second["results"]], second["next"]) == (ids[1::-1], None)
    assert mine.get(second["previous"])["results"][0]["id"] == ids[-1]
    assert mine.http.get("/v1/trainings?cursor=nonsense").status_code == 404


def test_links_to_another_host(open_account: Open) -> None:
    """By setting the next page lies elsewhere, which a client must not send its token to."""
    mine = open_account(replicate={"page_size": 1, "next_base_url": "http://elsewhere.invalid"})
    for _ in range(2):
        mine.train()
    assert mine.get("/v1/trainings")["next"].startswith("http://elsewhere.invalid/v1/trainings?cursor=")


def test_what_is_not_found_yet(open_account: Open, clock: ManualClock) -> None:
    """By setting a new training answers 404 for a while and is in no list."""
    mine = open_account(replicate={"hidden_s": 5})
    started = mine.train()
    assert mine.http.get(f"/v1/trainings/{started['id']}").status_code == 404
    assert mine.get("/v1/trainings")["results"] == []
    clock.advance(5)
    assert mine.training(started)["id"] == mine.get("/v1/trainings")["results"][0]["id"] == started["id"]


def test_a_training_among_predictions_for_half_an_hour(open_account: Open, clock: ManualClock) -> None:
    """The address that a create answers works, and stops working while the training goes on."""
    mine = open_account(script={"steps": [{"status": "queued", "for_s": 7200}]})
    started = mine.train()
    path = urlsplit(started["urls"]["get"]).path
    assert mine.get(path)["status"] == "starting"
    clock.advance(1800)
    assert mine.http.get(path).status_code == 404
    assert mine.training(started)["status"] == "starting"


def test_another_version_than_was_asked_for(open_account: Open) -> None:
    """By setting the training names a version of the trainer that nobody asked for, the same one each time."""
    mine = open_account(replicate={"substituted_version": True})
    started = mine.train()
    assert started["version"] != TRAINER_VERSION
    assert mine.training(started)["version"] == started["version"]


def test_a_failure_after_complete_logs(open_account: Open, clock: ManualClock) -> None:
    """By setting the trainer is through and the provider makes nothing of it."""
    mine = open_account(replicate={"package_fails": True})
    started = mine.train()
    clock.advance(60)
    done = mine.training(started)
    assert (done["status"], done["output"]) == ("failed", None)
    assert done["error"] == "Failed to create trained image after successful training run"
    assert "Packing weights" in done["logs"]
    assert mine.get(f"/v1/models/{DESTINATION}/versions")["results"] == []


@pytest.mark.parametrize(
    ("word", "shown", "is_over"),
    [("failed", "failed", True), ("aborted", "aborted", True), ("cancelled", "canceled", True), ("odd", "odd", False)],
)
def test_other_ends(open_account: Open, clock: ManualClock, word: str, shown: str, is_over: bool) -> None:
    """Failed says why; aborted is free and over; a word that nobody knows lasts."""
    steps = [{"status": "queued", "for_s": 1}, {"status": word, "error_message": "E1001 out of memory"}]
    mine = open_account(script={"steps": steps})
    started = mine.train()
    clock.advance(2)
    seen = mine.training(started)
    assert (seen["status"], seen["completed_at"] is not None) == (shown, is_over)
    assert seen["error"] == ("E1001 out of memory" if word == "failed" else None)
    assert mine.account.bill()["net"] == 0
    assert mine.account.bill()["active_runs"] == (not is_over)


@pytest.mark.parametrize(
    ("given", "word"),
    [({"train_data": None}, "field required"), ({"epochs": "many"}, "integer"), ({"pipeline": "none"}, "permitted")],
)
def test_a_bad_input_fails_the_training_not_the_request(open_account: Open, given: dict[str, Any], word: str) -> None:
    """The create answers 201 and starting; the next read says failed, and why."""
    mine = open_account()
    started = mine.train(given)
    seen = mine.training(started)
    assert (started["status"], seen["status"], seen["started_at"]) == ("starting", "failed", None)
    assert seen["error"].startswith("Prediction input failed validation: ")
    assert word in seen["error"]


def test_data_is_not_kept_for_ever(open_account: Open, clock: ManualClock) -> None:
    """An hour after its end a training has lost input, output, logs and weights; the version stays."""
    mine = open_account()
    started = mine.train()
    clock.advance(60)
    weights = mine.training(started)["output"]["weights"]
    clock.advance(3600)
    seen = mine.training(started)
    assert [seen[key] for key in ("input", "output", "logs", "data_removed")] == [{}, None, None, True]
    assert seen["status"] == "succeeded"
    assert httpx.get(weights, trust_env=False).status_code == 404
    assert len(mine.get(f"/v1/models/{DESTINATION}/versions")["results"]) == 1


@pytest.mark.parametrize("form", ["url", "list"])
def test_outputs_of_other_forms(open_account: Open, clock: ManualClock, form: str) -> None:
    """By setting the output is the weights' address alone, or a list."""
    mine = open_account(replicate={"output": form})
    started = mine.train()
    clock.advance(60)
    output = mine.training(started)["output"]
    assert isinstance(output, str if form == "url" else list)


def test_scripts_by_looks_and_by_hand(open_account: Open) -> None:
    """A look or the control API moves a training; each step stands for a second on the bill."""
    steps = [{"status": "queued"}, {"status": "running", "for_looks": 2}, {"status": "completed"}]
    mine = open_account(script={"mode": "looks", "steps": steps})
    started = mine.train()
    seen = [mine.training(started)["status"] for _ in range(4)]
    assert seen == ["starting", "processing", "processing", "succeeded"]
    by_hand = open_account(script={"mode": "manual", "steps": steps})
    moved = by_hand.train()
    assert by_hand.account.advance(moved["id"], 3)["status"] == "completed"
    assert by_hand.training(moved)["metrics"]["predict_time"] == 3.0
    assert by_hand.account.bill()["net"] == 3 * 225


def test_a_deleted_destination(open_account: Open, clock: ManualClock) -> None:
    """A training whose destination is gone at its end fails as one that cannot be packaged."""
    mine = open_account()
    started = mine.train()
    assert mine.http.delete(f"/v1/models/{DESTINATION}").status_code == 204
    clock.advance(60)
    assert mine.training(started)["error"].startswith("Failed to create trained image")
