"""The sweep at every provider: what failed unnoticed is closed with its bill, and no run in doubt is a stranger's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.journal.ownership import is_gone, this_process
from pipeline.journal.records import OperationOutcome, OperationRecord
from pipeline.models import Outcome
from providers.connect import open_journal
from sandbox.server import SandboxServer
from tests.databases import look as ask
from tests.fault.test_sweep import cancel_flow_run, newest_table, record_of, sweep
from tests.fault.vendors import BLUESIGHT, PHOTOGPT, REPLICATE, SCRIPT, Vendor, open_vendor_bench
from tests.fault.workbench import Workbench

FAILS = {**SCRIPT, "mode": "manual", "steps": [{"status": "running", "epochs": 5}, {"status": "failed"}]}
"""A training that goes on until it is told to fail."""
PROVIDERS = (None, REPLICATE, BLUESIGHT, PHOTOGPT)
"""None is Pictograph, whose bench is every other test's."""
Open = Callable[[Vendor | None], Workbench]


@pytest.fixture
def open_bench(
    make_bench: Callable[..., Workbench], sandbox: SandboxServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Open:
    """Return a function that opens an account whose trainings fail when they are told to, and a sweep without waits."""
    import tasks.sweeping

    def make(vendor: Vendor | None) -> Workbench:
        made = make_bench(script=FAILS)
        if vendor is not None:
            made = open_vendor_bench(vendor, sandbox, tmp_path, monkeypatch, script=FAILS)
        monkeypatch.setattr(tasks.sweeping, "time", made.clock)
        return made

    return make


def submit(bench: Workbench, name: str = "left") -> OperationRecord:
    """Start a training by a flow run that leaves it to itself."""
    ended = bench.run(wait="none", operation=name)
    assert ended.report.outcome is Outcome.SUBMITTED, ended.message
    return record_of(name)


def names(vendor: Vendor | None) -> str:
    """Return a provider's name."""
    return vendor.name if vendor is not None else "pictograph"


@pytest.mark.parametrize("vendor", PROVIDERS, ids=names)
def test_what_failed_unnoticed_is_closed_with_its_bill(open_bench: Open, vendor: Vendor | None) -> None:
    """Found without its provider being named; its row is closed, and what was held is what it cost."""
    bench = open_bench(vendor)
    record = submit(bench)
    (run,) = bench.account.bill()["runs"]
    bench.account.advance(run["id"], 2)
    state = sweep()
    assert state.is_completed(), state.message
    assert f"at {names(vendor)} 1 ended: close" in state.message
    row = newest_table()[str(record.run_id)]
    assert (row["class"], row["provider"], row["action"]) == ("ended", names(vendor), "close")
    closed = record_of("left")
    assert closed.outcome is OperationOutcome.FAILED
    (bill,) = bench.account.bill()["runs"]
    if record.price is not None:
        assert closed.billed == bill["charged"] - bill.get("refunded", 0)
        assert vendor is not REPLICATE or closed.billed > 0
    assert "1 ended" not in sweep().message


def test_what_the_sweep_cancels_at_replicate_is_billed(open_bench: Open) -> None:
    """Its flow run was cancelled; the time it ran is known, and what was held for it is free again."""
    bench = open_bench(REPLICATE)
    record = submit(bench)
    cancel_flow_run(record.flow_run_id)
    assert sweep(provider="replicate").message == "at replicate 1 cancel unconfirmed: cancel"
    (bill,) = bench.account.bill()["runs"]
    closed = record_of("left")
    assert (closed.outcome, closed.billed) == (OperationOutcome.CANCELLED, bill["charged"])
    assert record.price is not None
    assert closed.billed != record.price.amount


def test_a_create_in_doubt_at_replicate_is_not_ended_as_a_strangers(open_bench: Open, tmp_path: Path) -> None:
    """Its runs have no names: the one a living flow run is about to write down is ours, another one is a stranger's."""
    bench = open_bench(REPLICATE)
    ours = submit(bench)
    submit_by_hand(tmp_path, submit(bench, "stranger"))
    ask(
        str(tmp_path / "journal.db"),
        "UPDATE operations SET state = 'intent', handle = NULL, run_id = NULL WHERE operation_id = 'left'",
    )
    with closing(open_journal()) as journal:
        journal.claim(ours.key, this_process(str(ours.flow_run_id)), 9e9, is_gone)
    state = sweep(provider="replicate", unknown_runs="cancel")
    assert state.message == "at replicate 1 watched: nothing, 1 unknown to us: cancel"
    statuses = {run["id"]: run["status"] for run in bench.account.bill()["runs"]}
    assert statuses.pop(str(ours.run_id)) == "running"
    assert set(statuses.values()) == {"cancelled"}


def submit_by_hand(folder: Path, record: OperationRecord) -> None:
    """Make the journal forget a training, as if it had been started at the provider."""
    for table in ("operations", "reservations"):
        ask(str(folder / "journal.db"), f"DELETE FROM {table} WHERE key = '{record.key}'")  # noqa: S608 - ours


def test_every_account_is_swept_although_one_cannot_be(open_bench: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """PhotoGPT answers nothing but 401: that is told, in the table as well, and Replicate's training is closed."""
    bench = open_bench(REPLICATE)
    record = submit(bench)
    bench.account.advance(str(record.run_id), 2)
    bench.account.fault("status", status=401, method="GET", path="^/api/", times=None)
    state = sweep()
    assert (state.name, state.is_failed()) == ("NotDone", True)
    assert "at replicate 1 ended: close" in state.message
    assert "at photogpt nothing could be looked after" in state.message
    assert record_of("left").outcome is OperationOutcome.FAILED
    assert newest_table()[""]["class"] == "not_swept"
