"""Trying a Bluesight model where it is: the tiles it is asked about, and what its answers are worth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest

from pipeline.errors import InferenceError, OutputCheckError, ProviderUnavailableError, TransportError
from pipeline.models import ClassCount, ExportReport, RunStatus, TrainingRun
from tests.unit.scripted_bluesight import EXPORT, HANDLE, INVALID, MODEL, Answer, Api, api, ok, plan, refused
from tests.unit.tile_files import BANDS, SIDE, make_tiles, write_tiles

ASK = "POST /inference"
RUN = TrainingRun(handle=HANDLE, status=RunStatus.COMPLETED, provider_status="succeeded", model_id=MODEL)
KINDS = tuple(ClassCount(name=str(label), images=2, objects=2) for label in range(3))
CHECKED = ExportReport(export=EXPORT, classes=KINDS, findings=(), content_fingerprint="f", samples=())
MISSING = refused(404, "Model not found")
BROKEN = refused(400, "TypeError: argument should be a bytes-like object or ASCII string, not 'list'")


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Six tiles for a classifier, labelled 0, 1, 2, 0, 1, 2."""
    return write_tiles(tmp_path / "tiles.h5", make_tiles())


def _true_labels(path: Path) -> Callable[[httpx.Request], httpx.Response]:
    """Return a model that knows the labels by the pixels."""
    with h5py.File(path) as file:
        known = {np.float32(tile["pixels"][0, 0, 0]).item(): tile["label"].tolist() for tile in file["data"][:]}

    def answer(request: httpx.Request) -> httpx.Response:
        images = Api({}, [request]).bodies(ASK)[0]["images"]
        return ok({"labels": [known[np.float32(image["pixels"][0][0][0]).item()] for image in images]})

    return answer


def _wrong(labels: Any) -> httpx.Response:
    return ok({"labels": labels})


def _try(server: Api, folder: Path, export: ExportReport | None = CHECKED, **request: Any) -> Any:
    return server.provider.hosted_inference(plan(folder, **request), RUN, export)


def test_a_model_that_knows_its_tiles_agrees_with_all_of_them(tmp_path: Path, tiles: Path) -> None:
    """Tiles of three labels, two a call, each sent as the file has it; nothing is unclear."""
    server = api({ASK: _true_labels(tiles)})
    report = _try(server, tmp_path, samples=3)
    assert (report.model_id, report.asked, report.answered, report.agreement) == (MODEL, 3, 3, 1.0)
    assert report.inconclusive is None
    assert [finding.code for finding in report.findings] == ["asked_about_dataset"]
    bodies = server.bodies(ASK)
    assert [len(body["images"]) for body in bodies] == [2, 1]
    assert {body["model"] for body in bodies} == {MODEL}
    assert server.read_timeouts() == [300.0, 300.0]
    image = bodies[0]["images"][0]
    assert image.keys() == {"gsd", "bands", "pixels", "platform", "point", "timestamp"}
    assert (image["gsd"], image["platform"], image["timestamp"]) == (10.0, "sentinel-2-l2a", 1_700_000_000)
    assert image["bands"] == [name.decode() for name in BANDS]
    with h5py.File(tiles) as file:
        assert np.array_equal(np.asarray(image["pixels"], np.float32), file["data"][0]["pixels"])


def test_what_is_not_known_of_a_tile_is_not_sent(tmp_path: Path) -> None:
    """Zeros in the file mean unknown; in a request they would be a place in the ocean in 1970."""
    samples = make_tiles()
    samples["point"], samples["timestamp"], samples["platform"] = 0, 0, b""
    server = api({ASK: _true_labels(write_tiles(tmp_path / "tiles.h5", samples))})
    _try(server, tmp_path)
    assert server.bodies(ASK)[0]["images"][0].keys() == {"gsd", "bands", "pixels"}


def test_the_share_of_right_labels_is_told(tmp_path: Path, tiles: Path) -> None:
    """One of two tiles, which carry the labels 0 and 1."""
    assert _try(api({ASK: _wrong([0, 2])}), tmp_path).agreement == 0.5


def test_masks_are_compared_pixel_by_pixel(tmp_path: Path) -> None:
    """A tile that is right in three quarters of its pixels and one that is right everywhere are seven eighths."""
    masks = np.zeros((2, SIDE, SIDE), np.int64)
    masks[0, : SIDE // 2, : SIDE // 2] = 2
    truth = np.zeros((2, SIDE, SIDE), np.int64)
    write_tiles(tmp_path / "tiles.h5", _masked(truth))
    report = _try(api({ASK: _wrong(masks.tolist())}), tmp_path, task="segmentation", num_classes=3)
    assert (report.answered, report.agreement) == (2, 0.875)


def _masked(truth: Any) -> Any:
    samples = make_tiles(len(truth), "segmentation")
    samples["label"] = truth
    return samples


def test_a_model_is_tried_on_tiles_it_has_not_seen_where_there_are_any(tmp_path: Path, tiles: Path) -> None:
    """The validation file comes first; where it is gone, the training file serves."""
    _ = tiles
    unseen = write_tiles(tmp_path / "val.h5", make_tiles(2))
    report = _try(api({ASK: _true_labels(unseen)}), tmp_path, validation=str(unseen))
    assert [finding.code for finding in report.findings] == ["asked_about_validation"]
    unseen.unlink()
    report = _try(api({ASK: _true_labels(tiles)}), tmp_path, validation=str(unseen))
    assert [finding.code for finding in report.findings] == ["asked_about_dataset"]


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ([0], "1 answers for 2 tiles"),
        ([0, 1, 1], "3 answers for 2 tiles"),
        ([0, 1.0], "something else than whole numbers"),
        ([0, True], "something else than whole numbers"),
        ([0, None], "something else than whole numbers"),
        ([0, "1"], "something else than whole numbers"),
        ([0, [1]], r"with the shape \(1,\), \(\) was expected"),
        ([0, 3], r"labels it cannot have learned: \[3\]"),
        ([0, -1], r"labels it cannot have learned: \[-1\]"),
    ],
)
def test_an_answer_that_is_no_label_is_refused(tmp_path: Path, tiles: Path, labels: Any, why: str) -> None:
    """Number, kind and range of the labels are checked before anything is compared."""
    _ = tiles
    with pytest.raises(OutputCheckError, match=why):
        _try(api({ASK: _wrong(labels)}), tmp_path)


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        ([[0] * SIDE] * (SIDE - 1), "with the shape"),
        (0, "with the shape"),
        ([[0] * SIDE] * (SIDE - 1) + [[0]], "rows of different lengths"),
        ([[0.5] * SIDE] * SIDE, "something else than whole numbers"),
        ([[3] * SIDE] * SIDE, "cannot have learned"),
    ],
)
def test_an_answer_that_is_no_mask_is_refused(tmp_path: Path, mask: Any, why: str) -> None:
    """A mask has the tile's size and the labels 0 to num_classes - 1."""
    write_tiles(tmp_path / "tiles.h5", _masked(np.zeros((1, SIDE, SIDE), np.int64)))
    with pytest.raises(OutputCheckError, match=why):
        _try(api({ASK: _wrong([mask])}), tmp_path, task="segmentation", num_classes=3)


def test_a_mask_may_show_a_class_that_no_tile_shows(tmp_path: Path) -> None:
    """What segmentation can answer is decided by the number of classes, not by which of them are labelled."""
    write_tiles(tmp_path / "tiles.h5", _masked(np.zeros((1, SIDE, SIDE), np.int64)))
    report = _try(api({ASK: _wrong([[[3] * SIDE] * SIDE])}), tmp_path, task="segmentation", num_classes=4)
    assert (report.answered, report.agreement) == (1, 0.0)


def test_tiles_of_one_call_are_alike(tmp_path: Path) -> None:
    """The server reads bands and resolution of the first for all: a tile of another kind has a call of its own."""
    samples = make_tiles(3)
    samples["gsd"] = (10.0, 20.0, 10.0)
    server = api({ASK: _true_labels(write_tiles(tmp_path / "tiles.h5", samples))})
    assert _try(server, tmp_path, samples=3).agreement == 1.0
    assert [[image["gsd"] for image in body["images"]] for body in server.bodies(ASK)] == [[10.0, 10.0], [20.0]]


def test_the_range_comes_from_the_request_where_the_data_was_not_read(tmp_path: Path, tiles: Path) -> None:
    """Without either, any whole number passes, and the report says so."""
    _ = tiles
    with pytest.raises(OutputCheckError, match="cannot have learned"):
        _try(api({ASK: _wrong([0, 9])}), tmp_path, None, num_classes=3)
    report = _try(api({ASK: _wrong([0, 9])}), tmp_path, None)
    assert [finding.code for finding in report.findings] == ["asked_about_dataset", "labels_unchecked"]
    assert report.agreement == 0.5


@pytest.mark.parametrize("first", [MISSING, refused(400, "RuntimeError: Object not found"), BROKEN])
def test_a_fresh_model_is_asked_twice(tmp_path: Path, tiles: Path, first: Answer) -> None:
    """It may be a moment before the model that was just made is at hand."""
    server = api({ASK: [first, _true_labels(tiles)]})
    assert _try(server, tmp_path).agreement == 1.0
    assert len(server.asked) == 2
    assert server.slept == [5.0]


def test_a_model_that_stays_away_is_an_error(tmp_path: Path, tiles: Path) -> None:
    """An unknown model fails one way the first time and is not found the second."""
    _ = tiles
    answers: list[Answer] = [refused(400, "RuntimeError: Object not found"), MISSING]
    with pytest.raises(InferenceError, match="is not there, although its job succeeded"):
        _try(api({ASK: answers}), tmp_path)


def test_a_server_that_cannot_ask_any_classifier_says_nothing_of_this_one(tmp_path: Path, tiles: Path) -> None:
    """The vendor's server was like that for months."""
    _ = tiles
    report = _try(api({ASK: BROKEN}), tmp_path)
    assert (report.inconclusive or "").startswith("hosted inference unavailable: ")
    assert (report.asked, report.answered, report.agreement) == (2, 0, None)


def test_trouble_with_a_segmentation_model_may_pass(tmp_path: Path) -> None:
    """It is no verdict on the model, and not known to last either."""
    write_tiles(tmp_path / "tiles.h5", _masked(np.zeros((1, SIDE, SIDE), np.int64)))
    with pytest.raises(ProviderUnavailableError):
        _try(api({ASK: BROKEN}), tmp_path, task="segmentation", num_classes=3)


def test_refused_tiles_say_nothing_of_the_model(tmp_path: Path, tiles: Path) -> None:
    """The request was never handed to it; asking again would not help."""
    _ = tiles
    server = api({ASK: INVALID})
    assert (_try(server, tmp_path).inconclusive or "").startswith("the server refuses the tiles: ")
    assert len(server.asked) == 1


def test_silence_is_left_to_whoever_asks_again(tmp_path: Path, tiles: Path) -> None:
    """The server may be training."""
    _ = tiles
    server = api({ASK: httpx.ReadTimeout("x")})
    with pytest.raises(TransportError):
        _try(server, tmp_path)
    assert len(server.asked) == 1


def test_without_local_data_nothing_can_be_asked(tmp_path: Path) -> None:
    """A run that was taken over on another machine is not refused for that."""
    server = api({})
    report = _try(server, tmp_path)
    assert (report.inconclusive or "").startswith("there are no tiles to ask about: dataset ")
    assert (report.asked, server.asked) == (0, [])


def test_data_that_cannot_be_read_any_more_is_no_verdict(tmp_path: Path) -> None:
    """What lies there now need not be what the model was made of."""
    (tmp_path / "tiles.h5").write_bytes(b"something else")
    assert "not an HDF5 file" in (_try(api({}), tmp_path).inconclusive or "")


def test_without_a_reader_of_tiles_nothing_can_be_asked(
    tmp_path: Path, tiles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason names what to install."""
    _ = tiles
    monkeypatch.setattr("pipeline.data.tiles.has_h5py", lambda: False)
    assert "h5py" in (_try(api({}), tmp_path).inconclusive or "")


def test_labels_of_another_kind_are_not_compared(tmp_path: Path) -> None:
    """Where a file of masks lies in the place of labels, the answers are checked all the same."""
    write_tiles(tmp_path / "tiles.h5", _masked(np.zeros((2, SIDE, SIDE), np.int64)))
    report = _try(api({ASK: _wrong([0, 1])}), tmp_path)
    assert (report.answered, report.agreement) == (report.asked, None)


def test_a_run_without_a_model_has_nothing_to_try(tmp_path: Path, tiles: Path) -> None:
    """Nothing is asked."""
    _ = tiles
    server = api({})
    with pytest.raises(InferenceError, match="names no model"):
        server.provider.hosted_inference(plan(tmp_path), RUN.model_copy(update={"model_id": None}), CHECKED)
    assert server.asked == []
