"""Collecting the model: the bytes are the bytes, a bad file never replaces a good one, and nothing is paid again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from tests.fault.conftest import quiet_detector
from tests.fault.workbench import (
    BITFLIP,
    CLOSE,
    GARBAGE,
    RESET,
    STALL,
    TRUNCATE,
    Fault,
    Workbench,
    leftovers,
    status,
)

NIGHT = "night-1"
NOT_READY = "{\"detail\": \"Model status is 'training'; only 'ready' models can be downloaded.\"}"


def test_a_transfer_that_breaks_in_the_middle_is_resumed(bench: Workbench) -> None:
    """Reset, hang-up, silence and a short body in mid-file: each time the rest is asked for, nothing twice."""
    breaks = [
        fault.but(after_bytes=at) for at, fault in ((4000, RESET), (3000, CLOSE), (2000, STALL), (1000, TRUNCATE))
    ]
    bench.break_stage("bytes", breaks)
    ended = bench.run()
    assert (ended.state, bench.started(), bench.hits()) == ("Completed", 1, [1, 1, 1, 1]), ended.message
    ranges = [entry["headers"].get("range") for entry in bench.sent("bytes")]
    assert ranges == [None, "bytes=4000-", "bytes=7000-", "bytes=9000-", "bytes=10000-"]
    assert ended.report.artifact is not None
    assert ended.report.artifact.sha256 == hashlib.sha256(quiet_detector()).hexdigest()


def test_a_bit_that_flips_once_is_cured_by_a_second_transfer(bench: Workbench) -> None:
    """The digest does not match: transferred again, and the file in place is the provider's to the bit."""
    target = bench.good_model(NIGHT)
    bench.break_stage("bytes", [BITFLIP])
    ended = bench.run(operation=NIGHT)
    assert (ended.state, bench.started(), bench.hits()) == ("Completed", 1, [1]), ended.message
    assert target.read_bytes() == quiet_detector()
    assert leftovers(bench.output_dir) == []


@pytest.mark.parametrize("header", ["goog", "content-md5", "etag-md5"])
def test_a_bit_that_always_flips_never_replaces_a_good_model(make_bench: Callable[..., Workbench], header: str) -> None:
    """Wherever the storage puts its digest: failed, the good file untouched, nothing left over, a rerun collects."""
    bench = make_bench(hash_headers=header)
    target = bench.good_model(NIGHT)
    good = target.read_bytes()
    bench.break_stage("bytes", [BITFLIP], times=None)
    first = bench.run(operation=NIGHT)
    assert (first.state, first.report.outcome.value, bench.started()) == ("Failed", "failed", 1)
    assert "'candidate.onnx' is damaged: md5" in first.message
    assert target.read_bytes() == good
    assert leftovers(bench.output_dir) == []
    bench.account.clear_faults()
    second = bench.run(operation=NIGHT)
    assert (second.state, bench.started()) == ("Completed", 1), second.message
    assert target.read_bytes() == quiet_detector()


STAYING = (
    ("bytes", status(503), "the transfer broke"),
    ("bytes", TRUNCATE.but(after_bytes=0), "the transfer broke"),
    ("bytes", status(404), "HTTP 404"),
    ("bytes", status(403), "refused the signed address"),
    ("mint", status(503), "models.download"),
    ("mint", status(404), "are missing at the provider"),
    ("mint", GARBAGE, "models.download"),
    ("mint", status(400, body=NOT_READY), "only 'ready' models can be downloaded"),
    ("mint", status(409, body=NOT_READY), "only 'ready' models can be downloaded"),
    ("model", status(503), "models.get"),
    ("model", status(404), "models.get"),
    ("model", GARBAGE, "models.get"),
)


@pytest.mark.parametrize(("stage", "fault", "said"), STAYING, ids=[f"{row[0]}-{row[1].name}" for row in STAYING])
def test_a_paid_model_that_cannot_be_had_leaves_the_good_one_alone(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, stage: str, fault: Fault, said: str
) -> None:
    """Whatever keeps the model away: failed with the reason, the good file untouched, and not one request to pay."""
    monkeypatch.setenv("PICTOGRAPH_MAX_RETRIES", "1")
    target = bench.good_model(NIGHT)
    good = target.read_bytes()
    bench.break_stage(stage, [fault], times=None)
    ended = bench.run(operation=NIGHT)
    assert (ended.state, bench.started(), len(bench.sent("create"))) == ("Failed", 1, 1)
    assert said in ended.message
    assert target.read_bytes() == good
    assert leftovers(bench.output_dir) == []


@pytest.mark.parametrize("stage", ["model", "mint", "bytes"])
def test_a_rerun_collects_what_an_earlier_run_could_not(bench: Workbench, stage: str) -> None:
    """Paid for, but not collected: the same operation ends with the model and pays nothing."""
    bench.break_stage(stage, [status(404)], times=None)
    first = bench.run(operation=NIGHT)
    bench.account.clear_faults()
    second = bench.run(operation=NIGHT)
    assert (first.state, second.state, bench.started()) == ("Failed", "Completed", 1), second.message


@pytest.mark.parametrize("code", [400, 409])
def test_a_model_that_is_not_ready_yet_is_waited_for(bench: Workbench, code: int) -> None:
    """The run is completed, the model is ready a moment later: asked again instead of given up."""
    bench.break_stage("mint", [status(code, body=NOT_READY, times=2)])
    ended = bench.run()
    assert (ended.state, bench.started(), bench.hits()) == ("Completed", 1, [2]), ended.message


def test_a_signed_address_that_has_expired_is_asked_for_anew(bench: Workbench) -> None:
    """Refused once by the storage: a fresh address is minted and the model comes."""
    bench.break_stage("bytes", [status(403)])
    ended = bench.run()
    assert (ended.state, bench.started(), len(bench.sent("mint"))) == ("Completed", 1, 2), ended.message
