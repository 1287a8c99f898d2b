"""The request that costs money: whatever happens to it or to its answer, one operation is one paid run."""

from __future__ import annotations

import threading
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline.models import TrainingRun, TrainPlan
from providers.pictograph.adapter import PictographProvider
from tests.fault.workbench import CLOSE, GARBAGE, RESET, STALL, TRUNCATE, Ended, Fault, Workbench, status

ATTEMPTS = 4
"""More creates than one try of the stage sends, so that the stage itself is run again."""


@dataclass(frozen=True)
class Row:
    """What happens to the create, and how many requests and adopted runs that makes."""

    name: str
    fault: Fault
    creates: int
    adopted: bool


ROWS = (
    Row("refused-500", status(500), creates=2, adopted=False),
    Row("refused-429", status(429, retry_after="3"), creates=2, adopted=False),
    Row("reset-before", RESET, creates=2, adopted=False),
    Row("lost-500", status(500).lost(), creates=1, adopted=True),
    Row("lost-502", status(502).lost(), creates=1, adopted=True),
    Row("lost-503", status(503).lost(), creates=1, adopted=True),
    Row("lost-408", status(408).lost(), creates=1, adopted=True),
    Row("lost-reset", RESET.lost(), creates=1, adopted=True),
    Row("lost-close", CLOSE.lost(), creates=1, adopted=True),
    Row("lost-stall", STALL.lost(), creates=1, adopted=True),
    Row("lost-truncated", TRUNCATE, creates=1, adopted=True),
    Row("lost-garbage", GARBAGE.lost(), creates=1, adopted=True),
    Row("lost-500-always", status(500).lost(None), creates=1, adopted=True),
    Row("lost-reset-always", RESET.lost(None), creates=1, adopted=True),
    Row("lost-truncated-always", TRUNCATE.but(times=None), creates=1, adopted=True),
    Row("never-arrived", RESET.but(times=ATTEMPTS), creates=ATTEMPTS + 1, adopted=False),
    Row("refused-for-a-while", status(503, times=ATTEMPTS), creates=ATTEMPTS + 1, adopted=False),
)


def keys(bench: Workbench) -> set[str]:
    """Return the different idempotency keys the creates carried."""
    return {entry["headers"].get("idempotency-key", "") for entry in bench.sent("create")}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_one_operation_is_one_paid_run(bench: Workbench, row: Row) -> None:
    """Refused, lost, unreadable or never arrived: the stage ends with the run, and the books show exactly one."""
    bench.break_stage("create", [row.fault])
    ended = bench.run(wait="none")
    assert bench.started() == 1
    assert ended.state == "Submitted", ended.message
    assert len(bench.sent("create")) == row.creates
    assert len(keys(bench)) == 1
    assert "" not in keys(bench)
    assert ended.report.run is not None
    assert ended.report.run.adopted is row.adopted
    assert [run["id"] for run in bench.account.bill()["runs"]] == [ended.report.run.handle.run_id]


def test_a_create_that_never_arrives_is_said_to_be_unknown_and_a_rerun_pays_once(bench: Workbench) -> None:
    """Nothing was created, nobody could know: the report says so, and the same operation creates exactly one run."""
    bench.break_stage("create", [RESET], times=None)
    first = bench.run(wait="none", operation="night-1")
    assert (first.state, first.report.outcome_unknown, bench.started()) == ("Failed", True, 0)
    assert "run the same operation again" in first.message
    bench.account.clear_faults()
    second = bench.run(wait="none", operation="night-1")
    assert (second.state, bench.started(), len(keys(bench))) == ("Submitted", 1, 1)


def test_a_paid_run_that_cannot_even_be_looked_up_is_taken_over_by_a_rerun(bench: Workbench) -> None:
    """Create answered by resets and the list down: reported as unknown, never as free; the rerun collects the run."""
    bench.break_stage("create", [RESET.lost(None)])
    bench.break_stage("find", [status(503)], times=None, skip=2)
    first = bench.run(operation="night-1")
    assert (first.state, bench.started()) == ("Failed", 1)
    assert first.report.outcome_unknown, "a paid run exists, the report must not say that nothing was spent"
    bench.account.clear_faults()
    second = bench.run(operation="night-1")
    assert (second.state, bench.started()) == ("Completed", 1), second.message
    assert second.report.run is not None
    assert second.report.run.adopted


def test_the_same_operation_again_takes_its_run_over(bench: Workbench) -> None:
    """Submitted, then run again with the same id: no second create, the first run's model is accepted."""
    first = bench.run(wait="none", operation="night-1")
    second = bench.run(operation="night-1")
    assert (first.state, second.state, bench.started()) == ("Submitted", "Completed", 1), second.message
    assert len(bench.sent("create")) == 1
    assert second.report.run is not None
    assert first.report.run is not None
    assert second.report.run.handle == first.report.run.handle


def test_another_operation_pays_for_another_run(bench: Workbench) -> None:
    """Telling operations apart is what the key is for: two nights are two runs."""
    bench.run(wait="none", operation="night-1")
    bench.run(wait="none", operation="night-2")
    assert (bench.started(), len(keys(bench))) == (2, 2)


def test_two_flows_at_the_same_operation_pay_once(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have looked before either has created: the journal lets one of them send, the other one says who has it."""
    looked = threading.Barrier(2)
    find_run = PictographProvider.find_run

    def look_together(provider: PictographProvider, plan: TrainPlan, order: Any = None) -> TrainingRun | None:
        found = find_run(provider, plan, order)
        looked.wait(60)
        return found

    monkeypatch.setattr(PictographProvider, "find_run", look_together)
    ended: list[Ended] = []

    def go() -> None:
        ended.append(bench.run(wait="none", operation="night-1"))

    threads = [threading.Thread(target=copy_context().run, args=(go,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert bench.started() == 1
    assert sorted(end.state for end in ended) == ["Skipped", "Submitted"]
    assert len(bench.sent("create")) == 1
    (skipped,) = (end for end in ended if end.state == "Skipped")
    assert "'night-1' is being carried out by flow run" in skipped.message


@pytest.mark.parametrize(
    ("code", "state", "outcome"),
    [(402, "OverBudget", "over_budget"), (403, "Failed", "failed"), (422, "Failed", "failed")],
)
def test_a_create_that_is_refused_is_not_sent_again(bench: Workbench, code: int, state: str, outcome: str) -> None:
    """A refusal is final: one request, the provider's status in the message, nothing paid."""
    bench.break_stage("create", [status(code)], times=None)
    ended = bench.run()
    assert (ended.state, ended.report.outcome.value, bench.started()) == (state, outcome, 0)
    assert len(bench.sent("create")) == 1
    assert f"HTTP {code}" in ended.message
    assert not ended.report.outcome_unknown
