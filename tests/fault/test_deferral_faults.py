"""A deferred flow run comes back with patience, decides at its deadline, and ends what it was told to end."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.states import Cancelling

from pipeline.journal.records import OperationOutcome, OperationRecord
from pipeline.models import Outcome
from tasks.interruption import end_paid_run
from tasks.journal import opened_journal
from tests.fault.deployed import DeployedRun, deploy
from tests.fault.workbench import RESET, Workbench, status

AWAITING = "AwaitingTraining"
STEPS = [{"status": "running", "epochs": 5, "for_looks": 2}, {"status": "completed"}]
"""A training that ends when it is told to."""


@pytest.fixture
def bench(make_bench: Callable[..., Workbench]) -> Workbench:
    """An account whose trainings move on only when they are advanced."""
    return make_bench(script={"mode": "manual", "model": "uploaded", "steps": STEPS})


def record_of(run: DeployedRun) -> OperationRecord:
    """Return what the journal holds for a flow run."""
    with opened_journal() as journal:
        found = journal.of_flow_run(str(run.id))
    assert found is not None
    return found


def finish(bench: Workbench, run: DeployedRun) -> None:
    """Let the training of a flow run complete."""
    bench.account.advance(str(record_of(run).run_id), ticks=2)


def deferred(bench: Workbench, **request: Any) -> DeployedRun:
    """Return a flow run that has created its training and left."""
    run = deploy(bench, wait="defer", **request)
    assert run.carry_out() == AWAITING
    return run


def test_it_leaves_and_comes_back_to_the_same_training(bench: Workbench) -> None:
    """Left: nobody holds the operation. Back: one look and nothing else. Ended: accepted, one training paid."""
    run = deferred(bench)
    assert (record_of(run).owner, record_of(run).state) == (None, "created")
    before = len(bench.account.requests())
    assert run.come_back() == AWAITING
    assert [entry["path"] for entry in bench.account.requests()[before:]] == [bench.sent("look")[-1]["path"]]
    finish(bench, run)
    assert run.come_back() == "Completed"
    assert run.report is not None
    assert run.report.outcome is Outcome.ACCEPTED
    assert run.report.export is not None
    assert run.report.cost is not None
    assert bench.started() == 1
    assert not record_of(run).state.is_open
    assert run.facts().run_count == 3
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
        shown = [made.type for made in client.read_artifacts(artifact_filter=wanted)]
    assert shown.count("progress") == 1


def test_failing_looks_are_borne(bench: Workbench) -> None:
    """A provider that is down at every look costs patience, not the run; a refused key has its grace."""
    run = deferred(bench)
    faults = [status(503, times=None), RESET.but(times=None), status(401, times=3)]
    for fault in faults:
        bench.break_stage("look", [fault])
        bench.break_stage("account", [status(503, times=None)])
        assert run.come_back() == AWAITING
        bench.account.clear_faults()
    finish(bench, run)
    assert run.come_back() == "Completed"
    assert bench.started() == 1


def test_a_run_the_provider_has_lost_ends_it(bench: Workbench) -> None:
    """Unknown for longer than the grace: the flow run fails and says so, instead of coming back for hours."""
    run = deferred(bench)
    bench.break_stage("look", [status(404, times=None)])
    assert run.come_back() == "Failed"
    assert run.report is not None
    assert "does not know the job any more" in run.report.message


def test_the_deadline_passes_while_deferred(bench: Workbench) -> None:
    """Keep: TimedOut, the training goes on; coming back begins a new watch and ends with the model."""
    run = deferred(bench, deadline_s=1000)
    bench.clock.sleep(1001)
    sleeps = len(bench.clock.sleeps)
    assert run.come_back() == "TimedOut"
    assert bench.clock.sleeps[sleeps:] == []
    assert run.report is not None
    assert run.report.watched is not None
    assert run.report.watched.watched_s > 1000
    assert "no end after 1000 s" in run.report.message
    assert bench.active() == 1
    assert run.come_back() == AWAITING
    finish(bench, run)
    assert run.come_back() == "Completed"
    assert bench.started() == 1


def test_cancel_at_the_deadline(bench: Workbench) -> None:
    """The training is ended at the provider, and nothing is billed any more."""
    run = deferred(bench, deadline_s=1000, on_deadline="cancel")
    bench.clock.sleep(1001)
    assert run.come_back() == "Cancelled"
    assert bench.active() == 0
    assert not record_of(run).state.is_open


def test_what_a_cancelled_flow_run_leaves_behind_can_be_ended(bench: Workbench) -> None:
    """Prefect cancels a deferred flow run without a word; by its id the paid run is found and ended."""
    run = deferred(bench)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Cancelling())
    assert run.state in {"Cancelled", "Cancelling"}
    assert bench.active() == 1
    assert "has ended at the provider" in end_paid_run(record_of(run))
    assert bench.active() == 0
    assert not record_of(run).state.is_open


def test_another_flow_run_does_not_take_a_deferred_training(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its flow run is not gone: who asks for the same is skipped and told whose it is; once it is, it is taken over."""
    run = deferred(bench)
    assert deploy(bench, wait="defer").carry_out() == "Skipped"
    ended = bench.run()
    assert ended.state == "Skipped"
    assert f"carried out by flow run {run.id}" in ended.message
    monkeypatch.setattr("tasks.deferral.LATE_S", -3600.0)  # nobody has brought it back for an hour
    finish(bench, run)
    assert bench.run().state == "Completed"
    assert run.come_back() == "Completed"
    assert bench.started() == 1


def test_near_the_cap_a_process_stays(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cost would pass the cap before the next look: it is watched from there on, and ended in time."""
    run = deferred(bench, budget_usd=5.0, gpu_minutes=2)
    bench.account.advance(str(record_of(run).run_id), ticks=1)
    for module in ("tasks.deferral", "tasks.polling"):
        monkeypatch.setattr(f"{module}.utc_now", lambda: datetime.fromtimestamp(bench.clock.time(), UTC))
    bench.clock.sleep(3600)
    assert run.come_back() == AWAITING
    bench.clock.sleep(5 * 3600)
    assert run.come_back() == "OverBudget"
    assert bench.active() == 0


def test_without_a_deployment_it_is_refused(bench: Workbench) -> None:
    """Before anything is spent, with exit code 2, and the field named."""
    assert bench.command("--wait", "defer") == 2
    assert bench.started() == 0
    refused = bench.run(wait="defer")
    assert (refused.state, refused.report.outcome) == ("InvalidRequest", Outcome.USAGE)
    assert "wait='defer'" in refused.message


@pytest.mark.parametrize(
    ("name", "state", "started"),
    [(AWAITING, "Failed", 1), ("AwaitingRetry", AWAITING, 2)],
    ids=["by-itself", "retried"],
)
def test_only_a_person_starts_a_second_training(bench: Workbench, name: str, state: str, started: int) -> None:
    """Its training failed while it was away, and a sweep has closed the row: coming back by itself pays nothing."""
    run = deferred(bench)
    with opened_journal() as journal:
        journal.ended(record_of(run).key, OperationOutcome.FAILED, "CUDA error: no kernel image")
    run.bring_forward(name)
    assert (run.carry_out(), bench.started()) == (state, started)
    if run.report is not None:
        assert "no kernel image" in run.report.message


def test_a_journal_that_is_away_is_waited_for(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever cannot read what is paid for leaves again, and goes on with it when it is back."""
    run = deferred(bench)
    here = os.environ["TRAIN_PIPELINE_JOURNAL"]
    (tmp_path / "broken.db").write_bytes(b"no database at all, and long enough to be seen as none" * 40)
    monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", str(tmp_path / "broken.db"))
    assert run.come_back() == AWAITING
    monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", here)
    finish(bench, run)
    assert (run.come_back(), bench.started()) == ("Completed", 1)
