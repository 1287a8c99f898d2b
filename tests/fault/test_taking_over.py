"""Taking over a run that is paid for: collected as what it is, judged only where it was tried, never paid again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.download.collection import CANDIDATE_NAME, MODEL_NAME
from pipeline.errors import ConfigurationError, ErrorContext
from pipeline.journal.ownership import this_process
from pipeline.journal.records import OperationOutcome, OperationRecord, OperationState
from pipeline.models import Outcome
from providers.connect import open_journal
from sandbox.server import SandboxServer
from tests.databases import look
from tests.fault.deployed import deploy
from tests.fault.test_deferral_faults import AWAITING, STEPS
from tests.fault.test_spending import LARGE
from tests.fault.vendors import REPLICATE, open_vendor_bench
from tests.fault.workbench import GARBAGE, Ended, Fault, Workbench, hurry, status

FAILING = {"mode": "looks", "steps": [{"status": "running"}, {"status": "failed", "error_message": "CUDA error"}]}


def record_of(ended: Ended) -> OperationRecord:
    """Return what the journal holds for an operation."""
    with closing(open_journal()) as journal:
        record = journal.latest(ended.report.operation_id, sandbox=True)
    assert record is not None
    return record


def close(ended: Ended, outcome: OperationOutcome) -> str:
    """Close the attempt of a run behind the program's back, and return the run's id."""
    record = record_of(ended)
    with closing(open_journal()) as journal:
        journal.ended(record.key, outcome, "over")
    return str(record.run_id)


# -- what it was trained on cannot be read ----------------------------------------------------------------------------

PASSING: tuple[tuple[str, Fault], ...] = (
    ("export-bytes", status(503)),
    ("export-mint", status(503)),
    ("export-mint", status(401)),
    ("export-mint", status(403)),
    ("export-get", GARBAGE),
)


@pytest.mark.parametrize(("stage", "fault"), PASSING, ids=[f"{stage}-{fault.name}" for stage, fault in PASSING])
def test_a_model_is_not_judged_by_a_fault_of_the_storage(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, stage: str, fault: Fault
) -> None:
    """Its pictures cannot be had now: the attempt stays open, the way back is told, and the next one is accepted."""
    monkeypatch.setenv("PICTOGRAPH_MAX_RETRIES", "0")
    hurry("export", monkeypatch, deadline_s=10.0)
    bench.run(wait="none")
    bench.break_stage(stage, [fault], times=None)
    second = bench.run()
    assert record_of(second).state.is_open, second.message
    assert second.state in {"Failed", "InvalidRequest"}
    assert f"--operation {second.report.operation_id}" in second.message
    bench.account.clear_faults()
    third = bench.run()
    assert (third.state, third.report.operation_id) == ("Completed", second.report.operation_id), third.message
    assert bench.started() == 1


def test_a_model_whose_data_is_gone_for_good_is_left_untried(
    sandbox: SandboxServer, prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can try it any more: collected as a candidate, not refused, and what was paid for is closed."""
    assert prefect_api
    bench = open_vendor_bench(REPLICATE, sandbox, tmp_path, monkeypatch)
    bench.run(wait="none")
    Path(bench.fields["dataset"]).unlink()
    ended = bench.run()
    assert (ended.state, ended.report.outcome) == ("Untried", Outcome.UNTRIED), ended.message
    assert "there is no picture of its training data to run the model on; dataset=" in ended.message
    assert record_of(ended).outcome is OperationOutcome.UNTRIED
    assert ended.report.artifact is not None
    assert ended.report.artifact.path.name == CANDIDATE_NAME
    assert not list(bench.output_dir.rglob(MODEL_NAME))
    assert bench.started() == 1


def test_a_machine_that_cannot_try_a_model_does_not_refuse_it(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk is full: the attempt stays open for another machine, or for a tidier one."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.smoke.inference._start_and_wait", full)
        first = bench.run()
    assert (first.state, record_of(first).state) == ("Failed", OperationState.TERMINAL), first.message
    assert "is the disk full?" in first.message
    assert bench.run().state == "Completed"
    assert bench.started() == 1


@pytest.mark.parametrize("stage", ["export-create", "export-bytes"])
def test_one_404_does_not_make_data_gone(bench: Workbench, stage: str) -> None:
    """Something on the way denied it once: a second look shows it, and the model is tried."""
    bench.run(wait="none")
    bench.break_stage(stage, [status(404)])
    ended = bench.run()
    assert (ended.state, bench.started()) == ("Completed", 1), ended.message


def test_data_is_not_compared_with_those_of_a_model_that_nobody_could_try(bench: Workbench) -> None:
    """Its export was gone when it was collected: a night later the same data are trained on."""
    bench.run(wait="none", if_changed=True)
    bench.break_stage("export-bytes", [status(404)], times=None)
    untried = bench.run(if_changed=True)
    assert (untried.state, record_of(untried).outcome) == ("Untried", OperationOutcome.UNTRIED), untried.message
    bench.account.clear_faults()
    ended = bench.run(if_changed=True)
    assert (ended.state, bench.started()) == ("Completed", 2), ended.message


def test_a_file_that_cannot_be_read_now_is_not_gone(
    sandbox: SandboxServer, prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk or a share has trouble: the attempt stays open, and the next one tries the model."""
    assert prefect_api
    bench = open_vendor_bench(REPLICATE, sandbox, tmp_path, monkeypatch)
    bench.run(wait="none")

    def fail(*_: object) -> None:
        raise ConfigurationError("cannot be read (Input/output error)", ErrorContext(field="dataset"))

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.data.training_data._digest", fail)
        first = bench.run()
    assert record_of(first).state.is_open, first.message
    assert (bench.run().state, bench.started()) == ("Completed", 1)


# -- who names a run wants that one -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome", [OperationOutcome.LOST, OperationOutcome.FAILED, OperationOutcome.CANCELLED, OperationOutcome.REFUSED]
)
def test_a_run_that_was_given_up_and_goes_on_is_taken_back(bench: Workbench, outcome: OperationOutcome) -> None:
    """The journal has closed it, its provider shows it: it is collected, and no other one is paid for."""
    first = bench.run(wait="none")
    run_id = close(first, outcome)
    ended = bench.run(adopt=run_id)
    assert (ended.state, bench.started()) == ("Completed", 1), ended.message
    record = record_of(first)
    assert (record.attempt, record.outcome, record.owner) == (1, OperationOutcome.ACCEPTED, None)
    assert record.billed == bench.account.bill()["net"]


def test_a_deferred_flow_run_takes_it_back_as_well(make_bench: Callable[..., Workbench]) -> None:
    """It asks the provider before it leaves for the first time, and holds the row when it comes back."""
    bench = make_bench(script={"mode": "manual", "model": "uploaded", "steps": STEPS})
    first = bench.run(wait="none")
    run_id = close(first, OperationOutcome.LOST)
    run = deploy(bench, wait="defer", adopt=run_id)
    assert run.carry_out() == AWAITING
    assert (record_of(first).state, record_of(first).flow_run_id) == (OperationState.CREATED, str(run.id))
    bench.account.advance(run_id, ticks=2)
    assert (run.come_back(), bench.started()) == ("Completed", 1)


def test_a_run_that_failed_is_not_followed_by_another_when_it_is_named(
    make_bench: Callable[..., Workbench],
) -> None:
    """It ends as it did; the operation's own name is what begins another attempt."""
    bench = make_bench(script=FAILING)
    first = bench.run()
    run_id = str(record_of(first).run_id)
    ended = bench.run(adopt=run_id)
    assert (ended.state, bench.started()) == ("Failed", 1), ended.message
    assert "CUDA error" in ended.message
    assert record_of(first).outcome is OperationOutcome.FAILED


def test_a_run_that_is_gone_is_not_opened_again(bench: Workbench) -> None:
    """Its provider denies it still: refused by its name, the journal as it was."""
    first = bench.run(wait="none")
    run_id = close(first, OperationOutcome.LOST)
    bench.break_stage("look", [status(404)], times=None)
    ended = bench.run(adopt=run_id)
    assert (ended.state, bench.started()) == ("InvalidRequest", 1), ended.message
    assert record_of(first).outcome is OperationOutcome.LOST


def test_a_model_that_was_judged_is_collected_again(bench: Workbench) -> None:
    """Named by its run as by its operation: nothing is paid, and the verdict in the journal stands."""
    first = bench.run()
    ended = bench.run(adopt=str(record_of(first).run_id))
    assert (ended.state, bench.started()) == ("Completed", 1), ended.message
    assert record_of(first).outcome is OperationOutcome.ACCEPTED


def test_a_run_that_a_larger_one_followed_leads_to_that(bench: Workbench) -> None:
    """It did not fit and a larger attempt is open: whoever names the first goes on with the second, when it is free."""
    first = bench.run(**LARGE)
    run_id, operation = str(record_of(first).run_id), first.report.operation_id
    second = bench.run(**LARGE, gpu="a100", operation=operation, wait="none")
    assert (record_of(second).attempt, bench.started()) == (2, 2), second.message
    with closing(open_journal()) as journal:
        owner = this_process("another-flow-run")
        journal.claim(record_of(second).key, owner, 9e9, lambda _: True)
    busy = bench.run(**LARGE, gpu="a100", adopt=run_id)
    assert busy.state == "Skipped", busy.message
    with closing(open_journal()) as journal:
        journal.release(record_of(second).key, owner)
    ended = bench.run(**LARGE, gpu="a100", adopt=run_id)
    assert (ended.state, ended.report.run and ended.report.run.handle.run_id) == ("Completed", record_of(second).run_id)
    assert bench.started() == 2


# -- a provider that denies a run for a moment ------------------------------------------------------------------------


@pytest.fixture
def aged(bench: Workbench) -> tuple[Workbench, Ended]:
    """A training that was begun two days ago and has been left to itself."""
    first = bench.run(wait="none")
    look(str(bench.output_dir.parent / "journal.db"), "UPDATE operations SET created_at_s = created_at_s - 172800")
    return bench, first


def test_a_minute_of_404_does_not_lose_an_old_run(aged: tuple[Workbench, Ended]) -> None:
    """However long ago it was begun: the same command comes back to it and pays nothing again."""
    bench, first = aged
    bench.break_stage("look", [status(404)], times=None)
    denied = bench.run()
    assert denied.state == "Failed"
    record = record_of(first)
    assert record.state.is_open
    assert record.missing_since_s is not None
    bench.account.clear_faults()
    assert bench.run().state == "Completed"
    assert (bench.started(), record_of(first).missing_since_s) == (1, None)


def test_a_watch_that_shows_the_run_forgets_that_it_was_denied(aged: tuple[Workbench, Ended]) -> None:
    """Denied two days ago and seen since: the next minute of 404 is the first one."""
    bench, first = aged
    bench.account.configure(script={"mode": "manual", "model": "uploaded", "steps": [{"status": "running"}]})
    with closing(open_journal()) as journal:
        journal.denied(record_of(first).key)
    path = str(bench.output_dir.parent / "journal.db")
    look(path, "UPDATE operations SET missing_since_s = missing_since_s - 172800")
    bench.break_stage("look", [status(404)], skip=2, times=None)
    denied = bench.run()
    assert "does not know the job any more" in denied.message
    assert record_of(first).state.is_open


# -- an operation is what it was begun as -----------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["operation", "adopt"])
def test_a_model_is_not_collected_as_that_of_another_data_set(bench: Workbench, by: str) -> None:
    """Named by its operation or its run, with an export of the other data set at hand: refused, and still there."""
    bench.account.add_dataset("other", count=8, size=64)
    other = bench.run(dataset="other")
    first = bench.run(wait="none")
    named: dict[str, Any] = {by: first.report.operation_id if by == "operation" else record_of(first).run_id}
    assert other.report.plan is not None
    refused = bench.run(dataset="other", export=other.report.plan.export_name, **named)
    assert (refused.state, bench.started()) == ("InvalidRequest", 2), refused.message
    assert "dataset='ds', not with 'other'" in refused.message
    assert record_of(first).state.is_open
    assert bench.run().state == "Completed"
    assert bench.started() == 2
