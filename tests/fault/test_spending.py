"""Money over several runs: the open is gone on with, the too large tried larger, the unchanged left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.journal.records import OperationOutcome, OperationState
from pipeline.journal.store import Journal
from pipeline.models import Outcome
from tests.fault.workbench import DATASET, Workbench
from tests.waiting import eventually

LARGE = {"config": {"image_size": 1280, "batch_size": 16, "epochs": 2}}
"""More than the smallest tier holds, and no more than the middle one."""


def _journal(bench: Workbench) -> Journal:
    return Journal(str(bench.output_dir.parent / "journal.db"))


def _started_by_hand(bench: Workbench) -> str:
    """Start a training as somebody would without this program; returns its id."""
    export = {"dataset_name": DATASET, "name": "by-hand", "export_format": "pictograph", "include_images": True}
    order = {"dataset_name": DATASET, "export_name": "by-hand", "pipeline_type": "yolox", "gpu_type": "a10g"}
    with bench.account.http() as http:
        http.post("/exports/", json=export).raise_for_status()

        def built() -> bool:
            (row,) = http.get("/exports/", params={"dataset_name": DATASET}).raise_for_status().json()["exports"]
            return bool(row["status"] == "completed")

        eventually(built)
        made = http.post("/training/", json={**order, "name": "by-hand", "config": {}}).raise_for_status().json()
    return str(made["training_run"]["id"])


def test_the_same_command_goes_on_with_what_is_open(bench: Workbench) -> None:
    """Nobody has to remember an operation: the second run collects what the first one started, for the same money."""
    first = bench.run(wait="none")
    second = bench.run()
    assert (first.state, second.state, bench.started()) == ("Submitted", "Completed", 1)
    assert second.report.run is not None
    assert second.report.run.adopted
    assert second.report.operation_id == first.report.operation_id
    record = _journal(bench).latest(first.report.operation_id, sandbox=True)
    assert record is not None
    assert (record.state, record.outcome) == (OperationState.COLLECTED, OperationOutcome.ACCEPTED)
    assert record.billed == bench.account.bill()["net"]


def test_an_accepted_training_is_over(bench: Workbench) -> None:
    """The night after, the same command trains anew."""
    assert [bench.run().state for _ in range(2)] == ["Completed", "Completed"]
    assert bench.started() == 2


@pytest.mark.parametrize(
    ("policy", "state", "started"), [("new", "Submitted", 2), ("fail", "InvalidRequest", 1)], ids=["new", "fail"]
)
def test_a_second_training_is_a_decision(bench: Workbench, policy: Any, state: str, started: int) -> None:
    """Whoever wants another one says so; whoever wants none gets the open one's name."""
    first = bench.run(wait="none")
    second = bench.run(wait="none", on_open_run=policy)
    assert (second.state, bench.started()) == (state, started)
    if policy == "fail":
        assert first.report.operation_id in second.message


def test_a_failed_attempt_is_followed_by_a_new_one(bench: Workbench) -> None:
    """The same operation asked for again trains again under another key: the failed run is not read for ever."""
    bench.account.configure(script={"mode": "looks", "steps": [{"status": "running"}, {"status": "failed"}]})
    first = bench.run(operation="night-1")
    bench.account.configure(script={"mode": "looks", "model": "uploaded", "steps": [{"status": "completed"}]})
    second = bench.run(operation="night-1")
    assert (first.report.outcome, second.report.outcome) == (Outcome.FAILED, Outcome.ACCEPTED)
    assert first.report.plan is not None
    assert second.report.plan is not None
    assert (first.report.plan.operation.attempt, second.report.plan.operation.attempt) == (1, 2)
    assert bench.started() == 2


def test_a_run_started_by_hand_is_taken_over(bench: Workbench) -> None:
    """It is watched, collected and accepted like one of ours, and its journal row is closed; nothing new is paid."""
    run_id = _started_by_hand(bench)
    ended = bench.run(adopt=run_id)
    assert (ended.state, bench.started()) == ("Completed", 1)
    assert ended.report.run is not None
    assert ended.report.run.handle.run_id == run_id
    record = _journal(bench).of_run("pictograph", run_id)
    assert record is not None
    assert record.outcome is OperationOutcome.ACCEPTED


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"adopt": "00000000-0000-4000-8000-000000000000"}, "adopt"), ({"pipeline": "classification"}, "pipeline")],
    ids=["unknown", "other-pipeline"],
)
def test_what_cannot_be_taken_over_is_named(bench: Workbench, changes: dict[str, Any], field: str) -> None:
    """A run that does not exist, or trains something else, is refused before anything is done."""
    ended = bench.run(**{"adopt": _started_by_hand(bench), **changes})
    assert (ended.state, bench.started()) == ("InvalidRequest", 1)
    assert field in ended.message


def test_nothing_is_trained_when_nothing_changed(bench: Workbench) -> None:
    """The second night says so and costs nothing; other hyperparameters are a change."""
    assert bench.run(config={"epochs": 2}).state == "Completed"
    skipped = bench.run(config={"epochs": 2}, if_changed=True)
    assert (skipped.state, skipped.report.outcome, bench.started()) == ("Skipped", Outcome.SKIPPED, 1)
    assert "nothing changed since" in skipped.message
    assert bench.run(config={"epochs": 3}, if_changed=True).state == "Completed"
    assert bench.started() == 2


def test_a_run_too_large_for_its_gpu_is_tried_on_the_next_one(bench: Workbench) -> None:
    """One operation, a second attempt on a larger tier; the failed one costs nothing."""
    ended = bench.run(**LARGE, on_out_of_memory="larger_gpu")
    assert ended.state == "Completed", ended.message
    bill = bench.account.bill()
    assert [(run["gpu_type"], run["status"]) for run in bill["runs"]] == [("a10g", "failed"), ("a100", "completed")]
    assert (bill["paid_runs"], ended.report.plan.operation.attempt) == (1, 2)  # type: ignore[union-attr]
    assert ended.report.cost is not None
    assert ended.report.cost.gpu == "a100"


def test_half_the_batch_fits(bench: Workbench) -> None:
    """The other way out, on the same tier."""
    ended = bench.run(**LARGE, on_out_of_memory="half_batch")
    assert ended.state == "Completed", ended.message
    assert {run["gpu_type"] for run in bench.account.bill()["runs"]} == {"a10g"}
    assert ended.report.plan is not None
    assert ended.report.plan.request.config.batch_size == 8


def test_the_larger_gpu_must_fit_the_budget(bench: Workbench) -> None:
    """A fallback is no way around the cap: the larger tier is priced first."""
    price = bench.run(**LARGE, wait="none", on_open_run="new").report.cost
    assert price is not None
    cap = price.total.amount * 1.2 / 1_000_000
    before = bench.started()
    ended = bench.run(**LARGE, on_out_of_memory="larger_gpu", budget_usd=cap, on_open_run="new", dataset=DATASET)
    assert (ended.state, bench.started() - before) == ("OverBudget", 1)
    assert "above budget_usd" in ended.message


def test_without_a_fallback_the_run_has_failed(bench: Workbench) -> None:
    """A larger GPU costs more: nobody gets one without having asked."""
    ended = bench.run(**LARGE)
    assert (ended.state, bench.started()) == ("Failed", 1)
    assert "out of memory" in ended.message


def test_the_days_cap_counts_what_others_hold(make_bench: Callable[..., Workbench], monkeypatch: Any) -> None:
    """Two trainings fit under the day's cap, the third is refused with what is left, and nothing of it is sent."""
    bench = make_bench()
    first = bench.run(wait="none", on_open_run="new")
    assert first.report.cost is not None
    price = first.report.cost.total.amount / 1_000_000
    monkeypatch.setenv("TRAIN_PIPELINE_DAY_CAP_USD", str(price * 2.5))
    assert bench.run(wait="none", on_open_run="new").state == "Submitted"
    third = bench.run(wait="none", on_open_run="new")
    assert (third.state, bench.started(), len(bench.sent("create"))) == ("OverBudget", 2, 2)
    assert "is left" in third.message
    monkeypatch.delenv("TRAIN_PIPELINE_DAY_CAP_USD")
    assert bench.run().state == "Completed"  # goes on with an open one
