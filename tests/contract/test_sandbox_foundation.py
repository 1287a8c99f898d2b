"""What the vendors of the sandbox share: paths and keys, documents, scripts, child processes, the bill."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from sqlalchemy import Connection, select

from sandbox import billing, documents, lifecycle
from sandbox.accounts import PUBLIC_KEY, Account, create_account, reset_account
from sandbox.childjobs import ChildJobs, Job, JobError
from sandbox.client import SandboxAccount
from sandbox.clock import ManualClock
from sandbox.core import Sandbox, open_sandbox, put_bytes
from sandbox.lifecycle import Outcome, Scene
from sandbox.server import SandboxServer
from sandbox.settings import AccountSettings
from sandbox.store import Row, first, ledger
from sandbox.upkeep import sweep
from sandbox.vendors import dialect_of

KIND = "replicate.training"
STEPS = [{"status": "queued", "for_s": 1}, {"status": "running", "for_s": 4}, {"status": "completed"}]


@pytest.fixture
def clock() -> ManualClock:
    """A clock that the test moves."""
    return ManualClock()


@pytest.fixture
def sandbox(tmp_path: Path, clock: ManualClock) -> Iterator[Sandbox]:
    """A sandbox without a server."""
    opened = open_sandbox(tmp_path, clock)
    yield opened
    opened.store.close()


@dataclass
class Recorder:
    """A kind of scripted training that costs seven and remembers its moves."""

    endings: frozenset[str] = frozenset({"aborted"})
    moves: list[tuple[str, float]] = field(default_factory=list)
    broken: bool = False

    def end(self, scene: Scene) -> Outcome:
        """End with the script's word."""
        if self.broken:
            raise OSError("disk full")
        return Outcome(scene.position.step.status, {"made": True}, 7)

    def moved(self, scene: Scene) -> None:
        """Remember the new status and when it was reached."""
        self.moves.append((scene.row["status"], scene.at_s))


def _add(sandbox: Sandbox, account: Account, id: str = "t1", **data: Any) -> Row:
    status, data = lifecycle.first_status(account), {**lifecycle.engine_data(account), **data}
    with sandbox.store.write() as tx:
        return documents.add(tx, account, KIND, id=id, data=data, status=status, at_s=sandbox.clock.now_s())


def _now(sandbox: Sandbox, row: Row) -> Row:
    with sandbox.store.read() as tx:
        return documents.reload(tx, row)


def _bill(sandbox: Sandbox, account: Account) -> dict[str, Any]:
    with sandbox.store.read() as tx:
        return billing.bill(tx, account)


@pytest.mark.parametrize(
    ("path", "vendor"),
    [
        ("/v1/trainings", "replicate"),
        ("/delivery/a/b", "replicate"),
        ("/api/ping", "photogpt"),
        ("/api/v1/developer/credits/balance", "pictograph"),
        ("/", "bluesight"),
        ("/files/file-1", "bluesight"),
        ("/filesystem", "pictograph"),
        ("/storage/a/b", "pictograph"),
    ],
)
def test_a_path_belongs_to_one_vendor(path: str, vendor: str) -> None:
    """Who answers is told from the path alone."""
    assert dialect_of(path).name == vendor


def test_each_vendor_reads_the_key_its_own_way(server: SandboxServer) -> None:
    """A key in another vendor's header is none; Bluesight's callers without one share an account."""
    account = server.new_account()
    bearer = {"Authorization": f"Bearer {account.api_key}"}

    def status(path: str, headers: dict[str, str] | None = None) -> int:
        return httpx.get(server.url + path, headers=headers, trust_env=False).status_code

    assert status("/v1/nothing") == status("/v1/nothing", {"X-API-Key": account.api_key}) == 401
    assert status("/v1/nothing", bearer) == status("/v1/nothing", {"Authorization": f"Token {account.api_key}"}) == 404
    assert status("/api/nothing", {"User-Agent": "tests"}) == 401
    assert status("/models/none/at/all") == status("/models/none/at/all", bearer) == 404
    shared = SandboxAccount(server.url, PUBLIC_KEY).requests()
    assert [row["path"] for row in shared] == ["/models/none/at/all"]
    mine = [row["headers"].get("authorization", "") for row in account.requests()]
    assert len(mine) == 3
    assert not any(account.api_key in text for text in mine)


def test_an_upload_arrives_whole_and_is_not_logged(server: SandboxServer) -> None:
    """Of a file the request log keeps what it is and how long, never its bytes."""
    account = server.new_account()
    content = bytes(range(256)) * 5_000
    headers = {"Authorization": f"Bearer {account.api_key}"}
    httpx.post(f"{server.url}/v1/nothing", files={"content": content}, headers=headers, trust_env=False)
    (row,) = account.requests()
    assert row["body"].startswith("(multipart/form-data, 1280")


def test_a_script_moves_a_document_and_bills_it_once(sandbox: Sandbox, clock: ManualClock) -> None:
    """Each stretch is reached at its exact time; looking again at what ended changes and costs nothing."""
    account = create_account(sandbox, AccountSettings(engine="scripted", script={"steps": STEPS}))
    row, kind, began_s = _add(sandbox, account), Recorder(), clock.now_s()
    for seconds in (0, 2, 8, 1):
        clock.advance(seconds)
        lifecycle.settle(sandbox, account, {KIND: kind})
    ended = _now(sandbox, row)
    assert kind.moves == [("running", began_s + 1), ("completed", began_s + 5)]
    assert (ended["started_at"], ended["completed_at"], ended["charged"]) == (began_s + 1, began_s + 5, 7)
    assert (ended["data"]["made"], ended["data"]["engine"]) == (True, "scripted")
    bill = _bill(sandbox, account)
    assert (bill["started_runs"], bill["active_runs"], bill["paid_runs"], bill["net"]) == (1, 0, 1, 7)
    assert bill["runs"][0]["vendor"] == "replicate"


def test_a_word_of_the_kind_s_own_ends_a_document(sandbox: Sandbox) -> None:
    """A word that a kind calls an ending is one; one it does not know lasts."""
    kind = Recorder()
    for word, is_ended in (("aborted", True), ("paused", False)):
        account = create_account(sandbox, AccountSettings(engine="scripted", script={"steps": [{"status": word}]}))
        row = _add(sandbox, account)
        lifecycle.settle(sandbox, account, {KIND: kind})
        assert (_now(sandbox, row)["status"], _now(sandbox, row)["completed_at"] is not None) == (word, is_ended)


def test_an_end_that_cannot_be_made_is_a_failure(sandbox: Sandbox) -> None:
    """What a dialect raises while it makes the weights fails that training, and no request."""
    script = {"steps": [{"status": "completed"}]}
    account = create_account(sandbox, AccountSettings(engine="scripted", script=script))
    row = _add(sandbox, account)
    lifecycle.settle(sandbox, account, {KIND: Recorder(broken=True)})
    ended = _now(sandbox, row)
    assert (ended["status"], ended["charged"]) == ("failed", 0)
    assert "OSError: disk full" in ended["data"]["error"]


def test_looks_and_the_hand_move_documents(sandbox: Sandbox) -> None:
    """A look moves what is scripted by looks alone; the control API's ticks move either."""
    for mode, ticks in (("looks", 1), ("manual", 0)):
        account = create_account(sandbox, AccountSettings(engine="scripted", script={"mode": mode, "steps": STEPS}))
        row = _add(sandbox, account)
        with sandbox.store.write() as tx:
            lifecycle.look(tx, [row])
        assert _now(sandbox, row)["ticks"] == ticks


def test_a_reset_and_a_sweep_take_what_nobody_owns(sandbox: Sandbox) -> None:
    """Files of documents stay through a sweep, others go; a reset takes both, and the bill is empty again."""
    account = create_account(sandbox, AccountSettings(engine="scripted"))
    _add(sandbox, account)
    mine, stray = (sandbox.object_path(account.id, "replicate", id, "w") for id in ("t1", "t0"))
    for path in (mine, stray):
        put_bytes(path, b"x")
    sweep(sandbox)
    assert (mine.exists(), stray.exists()) == (True, False)
    reset_account(sandbox, account)
    assert not mine.exists()
    assert _bill(sandbox, account)["started_runs"] == 0


CHILD = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
print("began", flush=True)
seconds = json.loads((folder / "input.json").read_text())["seconds"]
time.sleep(seconds)
if seconds >= 0.1:
    (folder / "result.json").write_text(json.dumps({"status": "completed"}))
"""


@dataclass
class Trainings:
    """A kind of real training: a small Python program."""

    on_restart: Literal["again", "strand"] = "again"

    def prepare(self, job: Job) -> None:
        """Write how long it takes."""
        if job.row["data"]["seconds"] < 0:
            raise JobError("seconds is negative")
        (job.folder / "input.json").write_text(json.dumps({"seconds": job.row["data"]["seconds"]}))

    def argv(self, job: Job) -> Sequence[str]:
        """Run it."""
        return [sys.executable, "-c", CHILD, str(job.folder)]

    def watch(self, tx: Connection, job: Job) -> None:
        """Keep its words."""
        documents.change(tx, job.row, data={"logs": job.log()})

    def collect(self, tx: Connection, job: Job, result: Mapping[str, Any]) -> Outcome:
        """Say what it said."""
        told = {"logs": job.log(), "error": result.get("error"), "ran_s": result.get("seconds")}
        return Outcome(result["status"], told, 3)


@pytest.fixture
def make_jobs(sandbox: Sandbox) -> Iterator[Callable[..., ChildJobs]]:
    """Give a function that follows real trainings as a server does."""
    made: list[ChildJobs] = []

    def make(**choices: Any) -> ChildJobs:
        made.append(ChildJobs(sandbox, {KIND: Trainings(**choices)}))
        return made[-1]

    yield make
    for jobs in made:
        jobs.stop()


def _until(jobs: ChildJobs, sandbox: Sandbox, row: Row, reached: Callable[[Row], bool]) -> Row:
    deadline_s = time.monotonic() + 30
    while not reached(_now(sandbox, row)):
        assert time.monotonic() < deadline_s, _now(sandbox, row)
        jobs.tick()
        time.sleep(0.02)
    return _now(sandbox, row)


def _is_ended(row: Row) -> bool:
    return row["completed_at"] is not None


def _has_logs(row: Row) -> bool:
    return "began" in row["data"].get("logs", "")


def test_a_child_trains_and_is_paid_for(sandbox: Sandbox, make_jobs: Callable[..., ChildJobs]) -> None:
    """One child at a time; its result ends the document, its charge is booked, its folder goes."""
    account, jobs = create_account(sandbox, AccountSettings()), make_jobs()
    rows = [_add(sandbox, account, id, seconds=0.3) for id in ("t1", "t2")]
    jobs.tick()
    assert (jobs.is_busy, _now(sandbox, rows[1])["data"].get("starts")) == (True, None)
    ended = [_until(jobs, sandbox, row, _is_ended) for row in rows]
    assert [(row["status"], row["charged"], row["data"]["logs"]) for row in ended] == [("completed", 3, "began\n")] * 2
    assert list(sandbox.jobs.iterdir()) == []
    with sandbox.store.read() as tx:
        entry = first(tx, select(ledger).where(ledger.c.run_id == "t1"))
    assert entry is not None
    assert entry["amount"] == -3


def test_what_cannot_begin_or_ends_without_a_word_fails(sandbox: Sandbox, make_jobs: Callable[..., ChildJobs]) -> None:
    """The reason is the dialect's own, or the end of what the child printed; the time it ran is known."""
    account, jobs = create_account(sandbox, AccountSettings()), make_jobs()
    refused, silent = _add(sandbox, account, "t1", seconds=-1), _add(sandbox, account, "t2", seconds=0)
    assert _until(jobs, sandbox, refused, _is_ended)["data"]["error"] == "seconds is negative"
    ended = _until(jobs, sandbox, silent, _is_ended)["data"]
    assert "no result: began" in ended["error"]
    assert 0 < ended["ran_s"] < 30


def test_a_document_that_ends_otherwise_takes_its_child_with_it(
    sandbox: Sandbox, make_jobs: Callable[..., ChildJobs]
) -> None:
    """A cancelled training's child is gone after the next tick, and its slot is free."""
    account, jobs = create_account(sandbox, AccountSettings()), make_jobs()
    row = _add(sandbox, account, seconds=60)
    row = _until(jobs, sandbox, row, _has_logs)
    with sandbox.store.write() as tx:
        lifecycle.end(tx, account, row, Outcome("cancelled"), at_s=sandbox.clock.now_s())
    (child,) = jobs._children.values()
    jobs.tick()
    assert (child.process.poll(), jobs.is_busy) == (-signal.SIGKILL, False)
    assert _now(sandbox, row)["status"] == "cancelled"


@pytest.mark.parametrize("on_restart", ["again", "strand"])
def test_a_server_that_ended_leaves_its_training_to_the_next(
    on_restart: str, sandbox: Sandbox, make_jobs: Callable[..., ChildJobs]
) -> None:
    """The next server runs it again from the start, or leaves it standing, as the vendor does."""
    account, jobs = create_account(sandbox, AccountSettings()), make_jobs()
    row = _add(sandbox, account, seconds=60)
    _until(jobs, sandbox, row, _has_logs)
    jobs.stop()
    later = make_jobs(on_restart=on_restart)
    later.tick()
    data = _now(sandbox, row)["data"]
    assert (later.is_busy, data["starts"], data.get("stranded", False)) == (
        (True, 1, False) if on_restart == "again" else (False, 1, True)
    )
    assert later.has_work() is (on_restart == "again")


def test_a_child_ends_with_a_server_that_was_killed(tmp_path: Path) -> None:
    """The guard ends what it guards as soon as its parent is gone."""
    program = (
        "import sys, time, subprocess, os\n"
        "from pathlib import Path\n"
        "from sandbox.childjobs import _spawn\n"
        "child = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'\n"
        "_spawn(Path(sys.argv[1]), [sys.executable, '-c', child])\n"
        "while not (Path(sys.argv[1]) / 'log.txt').read_text().strip(): time.sleep(0.02)\n"
        "os._exit(0)\n"
    )
    import subprocess

    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=30)
    pid, deadline_s = int((tmp_path / "log.txt").read_text().split()[0]), time.monotonic() + 10
    while _is_alive(pid):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.is_file() or status.read_text().rpartition(")")[2].split()[0] != "Z"
