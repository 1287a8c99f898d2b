"""One fault at a time at Replicate, Bluesight and PhotoGPT: the flow ends as it should, with one training on the bill.

At Bluesight, where a create without an answer cannot be looked up, the flow stops there instead, and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.commandline import EXIT_CODES
from pipeline.download.collection import CANDIDATE_NAME, MODEL_NAME
from sandbox.server import SandboxServer
from tests.fault.vendors import (
    BLUESIGHT,
    PHOTOGPT,
    PICTURES,
    REPLICATE,
    SCRIPT,
    Vendor,
    VendorBench,
    open_vendor_bench,
    shows,
)
from tests.fault.workbench import (
    BREAKS,
    GARBAGE,
    PASSING,
    RESET,
    STALL,
    TRUNCATE,
    Fault,
    leftovers,
    status,
)

RETRIES = str(len(PASSING) + 4)
"""Enough for every fault in a row, and for a pause of the machine that is taken for one."""
Make = Callable[..., VendorBench]
EACH = pytest.mark.parametrize("vendor", [BLUESIGHT, PHOTOGPT, REPLICATE], ids=str)


@pytest.fixture
def make(sandbox: SandboxServer, prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that opens an account of a provider, with the flow before it."""
    assert prefect_api

    def open_one(vendor: Vendor, **settings: Any) -> VendorBench:
        return open_vendor_bench(vendor, sandbox, tmp_path, monkeypatch, **settings)

    return open_one


@dataclass(frozen=True)
class Row:
    """What happens to the create, and how many requests and trainings that makes."""

    vendor: Vendor
    fault: Fault
    creates: int
    runs: int = 1
    state: str = "Submitted"
    unknown: str = "stop"

    def __str__(self) -> str:
        """Return its name."""
        return f"{self.vendor}-{named(self.fault)}" + ("-repeat" if self.unknown == "repeat" else "")


def named(fault: Fault) -> str:
    """Return what a fault is called."""
    return f"{fault.name}-lost" if fault.rule.get("stage") == "after" else fault.name


STOPPED = {"creates": 1, "state": "Failed"}
ROWS = (
    Row(BLUESIGHT, status(429), creates=2),
    Row(BLUESIGHT, status(500), runs=0, **STOPPED),
    Row(BLUESIGHT, RESET.lost(), **STOPPED),
    Row(BLUESIGHT, GARBAGE.lost(), **STOPPED),
    Row(BLUESIGHT, STALL.lost(), creates=2, runs=2, unknown="repeat"),
    Row(PHOTOGPT, status(429, times=2), creates=3),
    Row(PHOTOGPT, RESET, creates=2),
    Row(PHOTOGPT, STALL.lost(), creates=1),
    Row(PHOTOGPT, GARBAGE.lost(), creates=1),
    Row(REPLICATE, status(429, times=2), creates=3),
    Row(REPLICATE, RESET, creates=2),
    Row(REPLICATE, status(503).lost(), creates=1),
    Row(REPLICATE, TRUNCATE, creates=1),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_create_is_carried_out_once_or_stopped(make: Make, row: Row) -> None:
    """Refused, lost, unreadable or never arrived: one training, or at Bluesight the word that nobody knows."""
    bench = make(row.vendor)
    bench.break_stage("create", [row.fault])
    asked = {"on_unknown_create": row.unknown} if row.vendor is BLUESIGHT else {}
    ended = bench.run(wait="none", **asked)
    assert (ended.state, bench.started(), len(bench.sent("create"))) == (row.state, row.runs, row.creates), (
        ended.message
    )
    assert bench.hits() == [row.fault.rule.get("times", 1)]
    stopped = row.state == "Failed"
    assert ended.report.outcome_unknown is stopped
    assert not stopped or shows(ended.message, "--adopt ID", "on_unknown_create=repeat"), ended.message
    assert len(bench.sent("upload")) == (PICTURES if row.vendor is PHOTOGPT else 1)


@pytest.mark.parametrize(("vendor", "code"), [(BLUESIGHT, 400), (PHOTOGPT, 402), (REPLICATE, 402)], ids=str)
def test_a_create_that_is_refused_is_not_sent_again(make: Make, vendor: Vendor, code: int) -> None:
    """One request, nothing started, and what to do next; what is certain is not called unknown."""
    bench = make(vendor)
    body = {"body": "RequestValidationError: no"} if vendor is BLUESIGHT else {}  # as only a refusal begins there
    bench.break_stage("create", [status(code, **body)], times=None)
    ended = bench.run()
    assert (ended.report.outcome_unknown, bench.started(), len(bench.sent("create"))) == (False, 0, 1), ended.message
    assert ended.state == ("OverBudget" if code == 402 else "Failed"), ended.message
    assert shows(ended.message, "Next:"), ended.message


@EACH
def test_an_upload_outlives_faults_that_pass(make: Make, vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten faults in a row, some with the upload made: the data is there once as far as the training goes."""
    monkeypatch.setenv(f"{vendor.name.upper()}_MAX_RETRIES", RETRIES)
    bench = make(vendor)
    faults = [*PASSING, RESET.lost(), TRUNCATE]
    bench.break_stage("upload", faults)
    ended = bench.run(wait="none")
    assert (ended.state, bench.started()) == ("Submitted", 1), ended.message
    assert bench.hits() == [1] * len(faults)


ODD = ("warming_up", "Provisioning GPU")
"""Words for a status that nobody has heard of."""


@EACH
def test_a_watch_outlives_faults_and_words_nobody_knows(make: Make, vendor: Vendor) -> None:
    """Failed looks of every kind and unknown words are borne, and what the training made is collected."""
    words: list[dict[str, Any]] = [{"status": word, "for_looks": 3} for word in (*ODD, "running", "completed")]
    bench = make(vendor, script={**SCRIPT, "steps": words})
    hollow = Fault("hollow", "body", {"body": '{"status": "OK", "result": {}}'})
    faults = [*PASSING, GARBAGE, hollow, status(404, times=2), status(401), status(418)]
    bench.break_stage("look", faults, skip=vendor is PHOTOGPT)  # which looks at the model before it triggers
    ended = bench.run()
    assert (ended.state, bench.started()) == ("Untried" if vendor is PHOTOGPT else "Completed", 1), ended.message
    assert bench.hits() == [fault.rule.get("times", 1) for fault in faults]
    assert leftovers(bench.output_dir) == []


@EACH
def test_a_failed_training_says_why(make: Make, vendor: Vendor) -> None:
    """The provider's own sentence is the message; nothing is collected, one run on the bill."""
    steps = [{"status": "running"}, {"status": "failed", "error_message": "loss is NaN at epoch 3"}]
    bench = make(vendor, script={**SCRIPT, "steps": steps})
    ended = bench.run()
    assert (ended.state, EXIT_CODES[ended.report.outcome]) == ("Failed", 1)
    assert "loss is NaN at epoch 3" in ended.message
    assert (bench.started(), bench.active()) == (1, 0)


def test_weights_arrive_through_faults_that_pass(make: Make) -> None:
    """Replicate's archive is taken up where it broke off, and its ONNX accepted."""
    bench = make(REPLICATE)
    bench.break_stage("bytes", BREAKS)
    ended = bench.run()
    assert (ended.state, bench.hits(), bench.started()) == ("Completed", [1] * len(BREAKS), 1), ended.message
    assert leftovers(bench.output_dir) == []


def test_tiles_are_asked_about_again(make: Make) -> None:
    """Bluesight's inference is free: the stage is run again, and the training is not."""
    bench = make(BLUESIGHT)
    bench.break_stage("try", [status(503), RESET.lost()])
    ended = bench.run()
    assert (ended.state, bench.hits(), bench.started()) == ("Completed", [1, 1], 1), ended.message


def test_a_model_that_cannot_be_tried_now_is_tried_by_a_rerun(make: Make) -> None:
    """Refused for good, the flow fails and names the way back, on which nothing is trained or uploaded again."""
    bench = make(BLUESIGHT)
    bench.break_stage("try", [status(503)], times=None)
    first = bench.run(operation="night-1")
    assert (first.state, first.report.outcome_unknown) == ("Failed", False)
    assert "--operation night-1" in first.message
    bench.account.clear_faults()
    second = bench.run(operation="night-1")
    assert (second.state, bench.started(), len(bench.sent("upload"))) == ("Completed", 1, 1), second.message


@pytest.mark.parametrize("fault", [RESET, RESET.lost(), GARBAGE.lost()], ids=named)
def test_a_picture_is_never_billed_twice(make: Make, fault: Fault) -> None:
    """PhotoGPT's trial picture: looked for after a lost answer, and one at most on the bill."""
    bench = make(PHOTOGPT)
    bench.break_stage("try", [fault])
    ended = bench.run(smoke=True)
    made = 0 if fault.rule.get("stage") is None else 1
    assert bench.account.bill()["net"] == 500 + 10 * made
    assert (ended.state, bench.started()) == ("Completed" if made else "Untried", 1), ended.message


@pytest.mark.parametrize(
    ("vendor", "settings", "asked"),
    [
        (BLUESIGHT, {"bluesight": {"classification_inference": "broken"}}, {}),
        (PHOTOGPT, {"photogpt": {"refused_words": ["portrait"]}}, {"smoke": True}),
    ],
    ids=str,
)
def test_a_model_that_cannot_be_asked_is_not_called_accepted(
    make: Make, monkeypatch: pytest.MonkeyPatch, vendor: Vendor, settings: dict[str, Any], asked: dict[str, Any]
) -> None:
    """Trained and paid for, not tried: said so, and no failure."""
    monkeypatch.setattr("providers.bluesight.inference._FRESH_WAIT_S", 0.01)
    bench = make(vendor, **settings)
    ended = bench.run(**asked)
    assert (ended.state, EXIT_CODES[ended.report.outcome], bench.started()) == ("Untried", 0, 1), ended.message
    assert "it was not tried" in ended.message


def test_a_model_that_nobody_was_to_try_stays_a_candidate(make: Make) -> None:
    """It is collected and verified, and takes nobody's place."""
    ended = make(REPLICATE).run(smoke="none")
    assert ended.state == "Untried", ended.message
    assert ended.report.artifact is not None
    assert ended.report.artifact.path.name == CANDIDATE_NAME
    assert not (ended.report.artifact.path.parent / MODEL_NAME).exists()


def test_a_model_that_must_run_here_and_cannot_is_rejected(make: Make) -> None:
    """Weights without an ONNX are no model where one was asked for; the hosted version is not asked in its place."""
    bench = make(REPLICATE, replicate={"weights": "no_onnx"})
    ended = bench.run(smoke="onnx")
    assert (ended.state, bench.account.bill()["others"]) == ("Rejected", []), ended.message
    assert "no ONNX model" in ended.message


def test_a_version_is_asked_where_there_is_no_onnx(make: Make) -> None:
    """Replicate without an ONNX among its weights: the hosted version answers about every sample, and bills each."""
    bench = make(REPLICATE, replicate={"weights": "no_onnx"})
    ended = bench.run()
    assert (ended.state, bench.started()) == ("Completed", 1), ended.message
    assert ended.report.hosted is not None
    assert len(bench.account.bill()["others"]) == ended.report.hosted.asked


@pytest.mark.parametrize("fault", [status(503), RESET.lost()], ids=named)
def test_a_prediction_that_fails_is_not_paid_for_again(make: Make, fault: Fault) -> None:
    """Nobody can tell whether it was made, and the others are billed: the trial says what it learned and ends."""
    bench = make(REPLICATE, replicate={"weights": "no_onnx"})
    bench.break_stage("try", [fault])
    ended = bench.run()
    assert (ended.state, bench.hits(), bench.started()) == ("Untried", [1], 1), ended.message
    assert "it was not tried" in ended.message
    made = fault.rule.get("stage") == "after"
    assert len(bench.account.bill()["others"]) == made
