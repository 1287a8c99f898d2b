"""What preparing a PhotoGPT training finds out of order when it comes back, and puts right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.errors import (
    UnexpectedResponseError,
)
from tests.notes import MemoryNotes
from tests.unit.scripted_photogpt import EXPORT, DyingNotes, Server, make_folder, make_plan, nok


def _order(server: Server, home: Path, notes: MemoryNotes | None = None, **request: Any) -> dict[str, Any]:
    plan = make_plan(make_folder(home), **request)
    return dict(server.provider.order(plan, EXPORT, notes or MemoryNotes()))


def test_pictures_nobody_knows_are_removed(tmp_path: Path) -> None:
    """More than one unknown picture: none of them can be told from a duplicate."""
    server, notes = Server(), DyingNotes(10)
    with pytest.raises(KeyboardInterrupt):
        _order(server, tmp_path, notes)
    server.pictures["m1"] += ["stray1", "stray2"]
    order = _order(server, tmp_path, notes)
    assert sorted(server.pictures["m1"]) == sorted(order["images"])
    assert server.count("DELETE /images/stray[12]") == 2


def test_a_picture_that_was_removed_there_is_uploaded_again(tmp_path: Path) -> None:
    """What was noted counts only as long as it is there."""
    server, notes = Server(), DyingNotes(20)
    with pytest.raises(KeyboardInterrupt):
        _order(server, tmp_path, notes)
    server.pictures["m1"].pop(0)
    order = _order(server, tmp_path, notes)
    assert sorted(server.pictures["m1"]) == sorted(order["images"])
    assert len(order["images"]) == 12


def test_a_picture_that_was_exchanged_meanwhile_is_exchanged_there(tmp_path: Path) -> None:
    """The file that lies here now is trained on, under whatever name."""
    server, notes = Server(), DyingNotes(20)
    with pytest.raises(KeyboardInterrupt):
        _order(server, tmp_path, notes)
    gone = server.pictures["m1"][0]
    folder = make_folder(tmp_path)
    (folder / "secret-00.png").write_bytes((folder / "secret-01.png").read_bytes() + b"another")
    order: dict[str, Any] = dict(server.provider.order(make_plan(folder), EXPORT, notes))
    assert gone not in server.pictures["m1"]
    assert sorted(server.pictures["m1"]) == sorted(order["images"])


@pytest.mark.parametrize("refusal", [nok(405), nok(403)])
def test_where_pictures_cannot_be_removed_a_new_model_is_made(
    tmp_path: Path, refusal: httpx.Response, caplog: pytest.LogCaptureFixture
) -> None:
    """The route is not sure to exist; the log says that the old model stays."""
    server, notes = Server(faults={"DELETE .*": [refusal]}), DyingNotes(10)
    with pytest.raises(KeyboardInterrupt):
        _order(server, tmp_path, notes)
    server.pictures["m1"] += ["stray1", "stray2"]
    order = _order(server, tmp_path, notes)
    assert order["model_id"] == "m2"
    assert server.pictures["m2"] == order["images"]
    assert "starting over with a new model" in caplog.text


def test_a_removal_that_does_nothing_is_noticed(tmp_path: Path) -> None:
    """A 404 may be the route's: the next look tells, and a training with a stray picture is not triggered."""
    server, notes = Server(faults={"DELETE .*": [nok(404)] * 2}), DyingNotes(10)
    with pytest.raises(KeyboardInterrupt):
        _order(server, tmp_path, notes)
    server.pictures["m1"] += ["stray1", "stray2"]
    assert _order(server, tmp_path, notes)["model_id"] == "m2"


def test_a_removal_is_looked_after_even_when_nothing_is_missing(tmp_path: Path) -> None:
    """All pictures are there and one too many: it is gone, or the model is not trained."""
    server, notes = Server(faults={"DELETE .*": [nok(404)]}), DyingNotes(28, after=True)
    with pytest.raises(KeyboardInterrupt):
        _order(server, tmp_path, notes)
    server.pictures["m1"].append("stray")
    assert _order(server, tmp_path, notes)["model_id"] == "m2"


def test_an_upload_that_arrives_late_is_not_trained_on_twice(tmp_path: Path) -> None:
    """Its answer was lost, it was sent again, and then the first one shows: one of them is removed."""
    server = Server(faults={"POST /images/upload": [httpx.ReadTimeout("x")]})
    listed = server.list_images

    def list_images(request: httpx.Request, model_id: str) -> httpx.Response:
        if server.count("POST /images/upload") == 13 and server.count("DELETE .*") == 0:
            server.pictures[model_id].append("late")
        return listed(request, model_id)

    server.images_hook = list_images
    order = _order(server, tmp_path)
    assert "late" not in server.pictures["m1"]
    assert sorted(server.pictures["m1"]) == sorted(order["images"])
    assert server.count("DELETE /images/late") == 1


@pytest.mark.parametrize("status", ["deleted", "failed", None])
def test_a_model_that_is_gone_is_replaced(tmp_path: Path, status: str | None) -> None:
    """Whether it is not there any more or says so."""
    server, notes = Server(), DyingNotes(10)
    with pytest.raises(KeyboardInterrupt):
        _order(server, tmp_path, notes)
    if status is None:
        del server.models["m1"]
    else:
        server.models["m1"]["status"] = status
    order = _order(server, tmp_path, notes)
    assert order["model_id"] == "m2"
    assert len(order["images"]) == 12


def test_a_model_that_trains_already_is_left_alone(tmp_path: Path) -> None:
    """Somebody triggered it by hand: nothing is uploaded into it any more."""
    server, notes = Server(), DyingNotes(10)
    with pytest.raises(KeyboardInterrupt):
        _order(server, tmp_path, notes)
    server.models["m1"]["status"] = "training"
    sent = server.count("POST .*")
    assert _order(server, tmp_path, notes)["model_id"] == "m1"
    assert server.count("POST .*") == sent


def test_what_cannot_be_repaired_twice_is_an_error(tmp_path: Path) -> None:
    """Two models that do not keep their pictures are not followed by a third."""
    server = Server()
    for number in (1, 2):
        server.pictures[f"m{number}"] = ["stray1", "stray2"]
    server.faults["DELETE .*"] = [nok(405)] * 2
    with pytest.raises(UnexpectedResponseError, match="second model"):
        _order(server, tmp_path)
    assert len(server.models) == 2
