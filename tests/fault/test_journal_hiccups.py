"""The journal is away for the moment in which a training was made: where nobody can ask for it, it must not be lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import JournalError
from pipeline.journal.records import OperationRecord
from pipeline.journal.store import Journal
from providers.connect import open_journal
from sandbox.server import SandboxServer
from tests.fault.deployed import deploy
from tests.fault.test_deferral_faults import AWAITING, STEPS
from tests.fault.vendors import BLUESIGHT, VendorBench, open_vendor_bench


@pytest.fixture
def make(
    sandbox: SandboxServer, prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., VendorBench]:
    """Return a function that opens an account of a provider that has no list of runs, with the flow before it."""
    assert prefect_api

    def open_one(**settings: Any) -> VendorBench:
        return open_vendor_bench(BLUESIGHT, sandbox, tmp_path, monkeypatch, **settings)

    return open_one


def be_away(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let writing a handle down fail, so many times."""
    created, left = Journal.created, [times]

    def fail(journal: Journal, *known: Any) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise JournalError("the journal could not be read or written (database is locked)")
        created(journal, *known)

    monkeypatch.setattr(Journal, "created", fail)


def only_record() -> OperationRecord:
    """Return the attempt that is open."""
    with closing(open_journal()) as journal:
        (record,) = journal.open_operations()
    return record


def test_the_run_is_written_down_before_it_is_left(
    make: Callable[..., VendorBench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look writes what the create could not: the deferred flow run comes back to its run by the handle."""
    bench = make(script={"mode": "manual", "steps": STEPS})
    be_away(monkeypatch, times=1)
    run = deploy(bench, wait="defer")
    assert run.carry_out() == AWAITING
    run_id = only_record().run_id
    assert run_id is not None
    bench.account.advance(run_id, ticks=2)
    assert run.come_back() == "Completed"
    assert bench.started() == 1


def test_a_run_nobody_else_knows_is_not_left(
    make: Callable[..., VendorBench], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The journal is still away when it would be deferred: this process stays and collects the model."""
    bench = make()
    be_away(monkeypatch, times=2)
    run = deploy(bench, wait="defer")
    assert run.carry_out() == "Completed"
    assert (bench.started(), run.facts().run_count) == (1, 1)
    assert "this process stays, not to lose it" in caplog.text


def test_a_run_that_is_left_to_itself_is_written_down_at_the_end(
    make: Callable[..., VendorBench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks at it: the flow run's last word to the journal is its handle, and the same command finds it."""
    bench = make()
    be_away(monkeypatch, times=1)
    assert bench.run(wait="none").state == "Submitted"
    assert only_record().handle is not None
    assert bench.run().state == "Completed"
    assert bench.started() == 1
