"""Cancel means cancelled at the provider: every way of asking, in every stage, in processes that are really stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.journal.records import OperationOutcome, OperationRecord, OperationState
from sandbox.server import SandboxServer
from tests.fault.conftest import CLASSES, quiet_detector
from tests.fault.processes import Watcher
from tests.fault.workbench import STAGES
from tests.waiting import eventually

BY_HAND = {
    "mode": "manual",
    "model": "uploaded",
    "steps": [{"status": "queued"}, {"status": "running", "epochs": 10, "for_looks": 2}, {"status": "completed"}],
}
"""A training that goes on when the test says so."""
NOTICE_S = 5.0
"""Longest time in which a flow notices that Prefect wants it cancelled, or that it was sent a signal."""
PROMPT_S = 10.0
"""Longest time from there until the provider has cancelled the run."""
HELD_S = 60.0
"""How long an answer is held back from a process that does not live to read it."""
FLAG = "--cancel-on-interrupt"
RESULT_S = 200.0
"""Longest wait for what a cell came to, on a busy machine."""
AT_ONCE = 8
"""Processes that run at the same time."""


@dataclass(frozen=True)
class Cell:
    """One way of cancelling, in one stage."""

    way: str
    stage: str
    flag: bool = False
    ignored: str = ""

    def __str__(self) -> str:
        """Return its name."""
        return "-".join(filter(None, [self.way, "flag" if self.flag else "", self.stage, self.ignored]))


@dataclass(frozen=True)
class Seen:
    """What one cell came to."""

    code: int
    said: str
    state: str
    message: str
    record: OperationRecord | None
    held: int
    bill: dict[str, Any]
    after_s: float
    cancels: int

    @property
    def run(self) -> dict[str, Any]:
        """The one run on the bill."""
        (only,) = self.bill["runs"]
        return dict(only)

    @property
    def last_line(self) -> str:
        """The last thing the process said."""
        return self.said.strip().splitlines()[-1]


ENDED = (
    Cell("cli", "running"),
    Cell("api", "create"),
    Cell("api", "queued"),
    Cell("int", "create", flag=True),
    Cell("int", "running", flag=True),
    Cell("term", "queued", flag=True),
    Cell("term", "running", flag=True),
)
"""The paid run is cancelled."""
KEPT = (Cell("int", "create"), Cell("int", "running"), Cell("term", "running"))
"""The paid run goes on, and the process says how to come back to it."""
NOTHING = (Cell("api", "before"), Cell("int", "before", flag=True), Cell("term", "before"))
"""There is no paid run, and none is begun."""
COLLECTING = (Cell("int", "collecting", flag=True), Cell("term", "collecting"))
"""The run has completed: it is paid for, and its model stays where it is."""
IGNORED = (Cell("int", "running", flag=True, ignored="refused"), Cell("term", "running", flag=True, ignored="deaf"))
"""The provider does not cancel."""
CELLS = (*ENDED, *KEPT, *NOTHING, *COLLECTING, *IGNORED, Cell("api", "collecting"))


@pytest.fixture(scope="module")
def table(
    sandbox: SandboxServer, prefect_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Cell], Seen]]:
    """Play all cells at the same time; yields a function that waits for one."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        played: dict[Cell, Future[Seen]] = {
            cell: pool.submit(_play, cell, _watcher(sandbox, prefect_server, tmp_path_factory.mktemp("cell")))
            for cell in sorted(CELLS, key=lambda cell: cell.ignored, reverse=True)  # the longest first
        }
        yield lambda cell: played[cell].result(RESULT_S)


def _watcher(sandbox: SandboxServer, api: str, folder: Path) -> Watcher:
    # Pre-charged, in the dialect that counts in credits, so that a cancel gives something back.
    account = sandbox.new_account(engine="scripted", dialect="v1", billing="credits", script=BY_HAND)
    watcher = Watcher(account, api, folder)
    account.add_dataset(watcher.dataset, count=8, size=64)
    account.upload_model(quiet_detector(), classes=",".join(CLASSES), architecture="yolox-s", side=64)
    return watcher


def _play(cell: Cell, watcher: Watcher) -> Seen:
    try:
        _reach(cell, watcher)
        return _cancel(cell, watcher)
    finally:
        watcher.end()


def _reach(cell: Cell, watcher: Watcher) -> None:
    """Start the process and bring it to the stage."""
    account, held_s = watcher.account, 3.0 if cell.way == "api" else HELD_S
    stalls = {"before": ("find", "before"), "create": ("create", "after"), "collecting": ("bytes", "before")}
    if cell.stage in stalls:
        (method, path), moment = STAGES[stalls[cell.stage][0]], stalls[cell.stage][1]
        account.fault("stall", method=method, path=path, stage=moment, seconds=held_s, times=None)
    watcher.start(*([FLAG] if cell.flag else []))
    if cell.stage in {"running", "collecting"}:
        watcher.until(lambda: account.bill()["runs"], "a run")
        account.advance(watcher.run()["id"], ticks=2 if cell.stage == "running" else 3)
    if cell.stage in stalls:
        watcher.until(lambda: account.faults()[-1]["hits"], "the answer that is held back")
    else:
        watcher.until(lambda: f"training: {cell.stage}" in watcher.said, cell.stage)
    if cell.ignored:
        method, path = STAGES["cancel"]
        with account.http() as client:
            as_it_is = client.get(f"/training/{watcher.run()['id']}").raise_for_status().text
        answer = {"status": 200, "body": as_it_is} if cell.ignored == "deaf" else {"status": 500}
        account.fault("status", method=method, path=path, times=None, **answer)


def _cancel(cell: Cell, watcher: Watcher) -> Seen:
    """Cancel, and tell what came of it."""
    began = time.monotonic()
    if cell.way == "api":
        watcher.cancel()
    elif cell.way == "cli":
        command = [sys.executable, "-m", "prefect", "flow-run", "cancel", watcher.flow_run_id]
        subprocess.run(command, env={**os.environ, "PREFECT_API_URL": watcher.api}, check=True, capture_output=True)
        began = time.monotonic()
    else:
        watcher.signal(signal.SIGINT if cell.way == "int" else signal.SIGTERM)
    if cell in ENDED:
        eventually(lambda: watcher.account.bill()["active_runs"] == 0, f"{cell}: {watcher.said}", pause_s=0.2)
    after_s = time.monotonic() - began
    code = watcher.wait()
    state, message = watcher.state()
    return Seen(
        code=code,
        said=watcher.said,
        state=state,
        message=message,
        record=watcher.record(),
        held=watcher.held("credits"),
        bill=watcher.account.bill(),
        after_s=after_s,
        cancels=sum(entry["path"].endswith("/cancel") for entry in watcher.account.requests()),
    )


@pytest.mark.parametrize("cell", ENDED, ids=str)
def test_the_paid_run_is_cancelled(cell: Cell, table: Callable[[Cell], Seen]) -> None:
    """Within seconds, with its refund; the journal knows that it was asked for and seen, and holds what was billed."""
    seen = table(cell)
    assert (seen.bill["started_runs"], seen.run["status"]) == (1, "cancelled"), seen.said
    assert seen.after_s < NOTICE_S + PROMPT_S, seen.said
    assert seen.run["charged"] > 0
    assert seen.run["refunded"] > 0
    record = seen.record
    assert record is not None
    assert (record.state, record.outcome) == (OperationState.CLOSED, OperationOutcome.CANCELLED), seen.said
    assert record.cancel_asked_at_s is not None
    assert record.cancel_confirmed_at_s is not None
    assert record.cancel_asked_at_s <= record.cancel_confirmed_at_s
    assert record.billed == seen.held == seen.bill["net"]
    wanted = {"api": (6, "Cancelled"), "cli": (6, "Cancelled"), "int": (130, "Crashed"), "term": (-15, "Crashed")}
    assert (seen.code, seen.state) == wanted[cell.way], seen.said
    if cell.flag:
        assert "has ended at the provider: cancelled" in seen.last_line


@pytest.mark.parametrize("cell", KEPT, ids=str)
def test_an_interrupted_process_leaves_the_run_and_says_how_to_come_back(
    cell: Cell, table: Callable[[Cell], Seen]
) -> None:
    """Not asked to cancel, it does not: the last line names the operation, which stays open with its budget held."""
    seen = table(cell)
    assert (seen.bill["active_runs"], seen.cancels) == (1, 0), seen.said
    assert seen.code == (130 if cell.way == "int" else -15)
    record = seen.record
    assert record is not None
    assert f"--operation {record.operation_id}" in seen.last_line, seen.said
    assert record.state is (OperationState.INTENT if cell.stage == "create" else OperationState.CREATED)
    assert record.cancel_asked_at_s is None
    assert record.price is not None
    assert seen.held == record.price.amount


@pytest.mark.parametrize("cell", NOTHING, ids=str)
def test_nothing_is_begun_for_one_who_has_cancelled(cell: Cell, table: Callable[[Cell], Seen]) -> None:
    """Cancelled before the create was sent: no run on the bill, nothing in the journal, nothing held."""
    seen = table(cell)
    assert (seen.bill["started_runs"], seen.record, seen.held) == (0, None, 0), seen.said
    if cell.way == "api":
        assert (seen.code, seen.state) == (6, "Cancelled"), seen.said
        assert "cancelled before training" in seen.message
    else:
        assert "nothing is billed" in seen.last_line


@pytest.mark.parametrize("cell", COLLECTING, ids=str)
def test_a_run_that_has_completed_is_there_to_come_back_to(cell: Cell, table: Callable[[Cell], Seen]) -> None:
    """Stopped while its model was fetched: nothing to cancel, so nothing is; paid for, and the way back is named."""
    seen = table(cell)
    assert (seen.run["status"], seen.cancels) == ("completed", 0), seen.said
    record = seen.record
    assert record is not None
    assert record.state is OperationState.TERMINAL
    assert f"--operation {record.operation_id}" in seen.last_line, seen.said


def test_no_model_is_promoted_for_a_cancelled_flow_run(table: Callable[[Cell], Seen]) -> None:
    """Cancelled while the model was fetched: the flow run is, the training cannot be, and the way back is named."""
    seen = table(Cell("api", "collecting"))
    assert (seen.run["status"], seen.cancels) == ("completed", 0), seen.said
    assert (seen.code, seen.state) == (6, "Cancelled"), seen.said
    record = seen.record
    assert record is not None
    assert record.state is OperationState.TERMINAL
    assert "paid for" in seen.message
    assert f"--operation {record.operation_id}" in seen.message


@pytest.mark.parametrize("cell", IGNORED, ids=str)
def test_a_cancel_that_does_not_work_is_said_last_and_loudly(cell: Cell, table: Callable[[Cell], Seen]) -> None:
    """Refused, or accepted without effect, for as long as a process may take to leave: it is billed, and it says so."""
    seen = table(cell)
    assert (seen.bill["active_runs"], seen.cancels > 0) == (1, True)
    record = seen.record
    assert record is not None
    assert (record.state, record.cancel_confirmed_at_s) == (OperationState.CREATED, None)
    assert record.cancel_asked_at_s is not None
    said = "could not be cancelled" if cell.ignored == "refused" else "the cancel was accepted, the run still reads"
    assert said in seen.last_line, seen.said
    assert "billed" in seen.last_line
    assert f"--operation {record.operation_id}" in seen.last_line


def test_the_same_command_again_goes_on_with_the_run(
    sandbox: SandboxServer, prefect_server: str, tmp_path: Path
) -> None:
    """Interrupted with Ctrl-C and started again as it was: one run on the bill, and its model accepted."""
    watcher = _watcher(sandbox, prefect_server, tmp_path)
    try:
        _reach(Cell("int", "running"), watcher)
        watcher.signal(signal.SIGINT)
        assert watcher.wait() == 130
        watcher.start()
        watcher.until(lambda: "training adopted: " in watcher.said, "the run that goes on")
        watcher.account.advance(watcher.run()["id"])
        assert watcher.wait() == 0, watcher.said
    finally:
        watcher.end()
    assert watcher.account.bill()["started_runs"] == 1
