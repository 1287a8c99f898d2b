"""The emulated PhotoGPT API: generation with a trained model, upscaling, presets, and what they cost."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from sandbox.server import SandboxServer
from tests.contract.photogpt_calls import AT_ONCE, QUICK, SMALL, NewCaller, callers, fetched, upload


@pytest.fixture
def new_caller(server: SandboxServer) -> Iterator[NewCaller]:
    """Give a function that opens an account with these settings of PhotoGPT."""
    with callers(server) as make:
        yield make


def test_a_generation_is_queued_runs_and_shows_images(new_caller: NewCaller) -> None:
    """Nothing of its images can be seen before it succeeds; then they have the size that was asked."""
    caller = new_caller(AT_ONCE, generation_mode="looks")
    ref = caller.trained()
    path = f"/models/{ref}/images?imageType=output"
    job = caller.ask("POST", "/images/generation", json={"modelID": ref, **SMALL, "numImages": 2})["jobId"]
    seen = []
    for _ in range(3):
        known = len(caller.ask("GET", path))
        detail = caller.ask("GET", f"/jobs/{job}")
        seen.append((known, detail["status"], len(detail["images"])))
    assert seen == [(0, "queued", 0), (0, "running", 0), (2, "success", 2)]
    assert detail["modelId"] == ref
    assert [image["type"] for image in detail["images"]] == ["output"] * 2
    for image in detail["images"]:
        answer = fetched(image["url"])
        assert answer.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(answer.content)).size == (96, 64)
        assert caller.ask("GET", f"/images/{image['id']}") == image


def test_a_seed_repeats_a_generation(new_caller: NewCaller) -> None:
    """The same pictures, size and seed give the same bytes; without a seed they differ; each costs ten credits."""
    caller = new_caller(AT_ONCE, **QUICK)
    ref = caller.trained()
    pictures = [fetched(caller.generate(ref)["images"][0]["url"]).content for _ in range(2)]
    assert pictures[0] == pictures[1]
    several = {fetched(image["url"]).content for image in caller.generate(ref, numImages=4)["images"]}
    assert pictures[0] in several
    assert len(several) > 1
    others = {fetched(caller.generate(ref, seed=None)["images"][0]["url"]).content for _ in range(4)}
    assert len(others) > 1
    bill = caller.account.bill()
    assert (bill["net"], [line["charged"] for line in bill["others"]]) == (600, [10] * 2 + [40] + [10] * 4)


def test_an_input_picture_is_the_ground_of_a_generation(new_caller: NewCaller) -> None:
    """An auxiliary picture of another colour shows in the image; an unknown one is refused."""
    caller = new_caller(AT_ONCE, **QUICK)
    ref = caller.trained()
    kept = io.BytesIO()
    Image.new("RGB", (24, 24), (0, 255, 0)).save(kept, "PNG")
    green = caller.ask("POST", "/images/upload", **upload(ref, kept.getvalue(), "auxiliaryType"))["id"]

    def brightest(**changes: Any) -> int:
        content = fetched(caller.generate(ref, **changes)["images"][0]["url"]).content
        shade = Image.open(io.BytesIO(content)).convert("RGB").getpixel((40, 20))
        assert isinstance(shade, tuple)
        return int(shade[1])

    assert brightest() == 90
    assert brightest(inputImageId=green) > 150
    body = {"modelID": ref, **SMALL, "inputImageId": "nothing"}
    assert caller.refused("POST", "/images/generation", json=body)[0] == 404


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"modelID": "nanobanana"}, 404),
        ({"modelID": None}, 400),
        ({"prompt": " "}, 400),
        ({"prompt": "a Weapon, please"}, 400),
        ({"preset": "unknown"}, 400),
        ({"width": 8}, 400),
        ({"height": 4096}, 400),
        ({"numImages": 5}, 400),
        ({"numImages": 0}, 400),
    ],
    ids=str,
)
def test_a_generation_outside_the_rules_is_refused(new_caller: NewCaller, change: dict[str, Any], status: int) -> None:
    """Nothing is charged and no job begins."""
    caller = new_caller(AT_ONCE, refused_words=["weapon"])
    body = {"modelID": caller.trained(), **SMALL, **change}
    assert caller.refused("POST", "/images/generation", json=body)[0] == status
    assert (len(caller.ask("GET", "/jobs")["jobs"]), caller.account.bill()["net"]) == (1, 500)


def test_a_generation_needs_a_model_that_is_ready_and_credits(new_caller: NewCaller) -> None:
    """An untrained model answers 400, an empty balance as set; no picture stays behind."""
    caller = new_caller(AT_ONCE, balance=519, **QUICK)
    fresh = caller.model(12)
    assert caller.refused("POST", "/images/generation", json={"modelID": fresh, **SMALL})[0] == 400
    ref = caller.trained()
    body = {"modelID": ref, **SMALL}
    assert caller.refused("POST", "/images/generation", json={**body, "numImages": 2})[0] == 402
    assert caller.generate(ref)["status"] == "success"
    assert caller.refused("POST", "/images/generation", json=body) == (402, "insufficient credits")
    assert (caller.account.bill()["balance"], caller.kept()) == (9, 12 + 12 + 1)


def test_a_failed_generation_gives_its_credits_back(new_caller: NewCaller) -> None:
    """It says why, shows no image and costs nothing in the end."""
    caller = new_caller(AT_ONCE, generation_error="no face found", **QUICK)
    ref = caller.trained()
    detail = caller.generate(ref)
    assert (detail["status"], detail["error"], detail["images"]) == ("failed", "no face found", [])
    assert caller.ask("GET", f"/models/{ref}/images?imageType=output") == []
    assert (caller.account.bill()["net"], caller.kept()) == (500, 12)


@pytest.mark.parametrize("ending", ["completed", "failed"])
def test_a_model_deleted_during_a_generation_fails_it(new_caller: NewCaller, ending: str) -> None:
    """The job says so at once and costs nothing, whatever it would have come to; another model's goes on."""
    error = "no face found" if ending == "failed" else None
    caller = new_caller(AT_ONCE, generation_mode="looks", generation_error=error)
    ref, other = caller.trained(), caller.trained()
    jobs = [caller.ask("POST", "/images/generation", json={"modelID": one, **SMALL})["jobId"] for one in (ref, other)]
    caller.ask("DELETE", f"/models/{ref}")
    for _ in range(3):
        detail = caller.ask("GET", f"/jobs/{jobs[0]}")
        assert (detail["status"], detail["error"], detail["images"]) == ("failed", "the model was deleted", [])
    assert caller.ask("GET", f"/jobs/{jobs[1]}")["status"] == "queued"
    bill = caller.account.bill()
    lines = {line["id"]: (line["charged"], line["refunded"]) for line in bill["others"]}
    assert (lines, bill["net"]) == ({jobs[0]: (10, 10), jobs[1]: (10, 0)}, 1010)


def test_upscaling_doubles_a_picture_and_its_original_knows(new_caller: NewCaller) -> None:
    """The job shows the larger one, the original names it; what cannot be decoded is refused."""
    caller = new_caller(AT_ONCE, **QUICK)
    ref = caller.trained()
    origin = caller.generate(ref)["images"][0]
    job = caller.ask("POST", "/images/upscaling", json={"imageID": origin["id"]})["jobId"]
    (large,) = caller.ask("GET", f"/jobs/{job}")["images"]
    assert Image.open(io.BytesIO(fetched(large["url"]).content)).size == (192, 128)
    again = caller.ask("GET", f"/images/{origin['id']}")
    assert (again["upscaledImageID"], again["upscaledImageURL"]) == (large["id"], large["url"])
    heic = upload(ref, b"\x00\x00\x00\x18ftypheic" + bytes(30), "auxiliaryType")
    unread = caller.ask("POST", "/images/upload", **heic)["id"]
    assert caller.refused("POST", "/images/upscaling", json={"imageID": unread})[0] == 400
    assert caller.refused("POST", "/images/upscaling", json={"imageID": "none"})[0] == 404


def test_presets_are_words_a_generation_takes(new_caller: NewCaller) -> None:
    """Each of them stands in for a prompt."""
    caller = new_caller(AT_ONCE, **QUICK)
    ref = caller.trained()
    (first, *_) = caller.ask("GET", "/presets")
    assert caller.generate(ref, prompt="", preset=first)["status"] == "success"
