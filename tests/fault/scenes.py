"""One user each: an account, a journal and a folder of their own, and always the same command."""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.journal.store import Journal
from pipeline.models import RunReport
from sandbox.client import SandboxAccount
from sandbox.server import SandboxServer
from tests.fault.conftest import CLASSES, SCRIPT, quiet_detector
from tests.fault.forks import Order, Running, ended_in_any_case
from tests.fault.workbench import DATASET, STAGES, STALL_S, leftovers

WRITE_S = 1.0
"""Longer than a write into the journal takes: milliseconds, unless disk or processor are busy."""
WRITE_CPU_S = 0.2
"""More of a processor than one needs, busy or not."""
WRITES = {
    "note": "INSERT ON preparations",
    "intent": "INSERT ON operations",
    "claim": "UPDATE OF owner ON operations WHEN NEW.owner IS NOT NULL",
    "handle": "UPDATE OF handle ON operations",
    "end": "UPDATE OF state ON operations WHEN NEW.state = 'terminal'",
    "charge": "UPDATE ON reservations",
    "verdict": "UPDATE OF outcome ON operations",
}
"""What is written into the journal, by what it is about."""
LOST = {"stage": "after"}
"""The request has its effect, its answer is lost."""
ENDLESS = """
CREATE VIEW endless AS WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers)
SELECT n FROM numbers
"""
_numbers = itertools.count(1)


class Left(NamedTuple):
    """What a process leaves behind."""

    state: str | None
    """How far the journal says it got."""
    runs: int
    """Paid runs on the bill."""


@dataclass(frozen=True)
class Scene:
    """One account, and everything that is kept on this side of it."""

    account: SandboxAccount
    api: str
    folder: Path

    @property
    def journal(self) -> Path:
        """Where the journal is."""
        return self.folder / "journal.db"

    @property
    def stages(self) -> Mapping[str, tuple[str, str]]:
        """Every request of the command, by the stage that makes it: method, and what its path matches."""
        return STAGES

    @property
    def asked(self) -> tuple[str, ...]:
        """What the command asks for."""
        return ("--dataset", DATASET, "--samples", "2", "--min-agreement", "0")

    @property
    def is_priced(self) -> bool:
        """Whether a price is known before a run is paid for, so that something is held for it."""
        return True

    def order(self, *arguments: str) -> Order:
        """Return the command, which is the same every time, with further arguments."""
        environment = {
            "TRAIN_PIPELINE_SANDBOX_URL": self.account.url,
            "TRAIN_PIPELINE_SANDBOX_KEY": self.account.api_key,
            "TRAIN_PIPELINE_JOURNAL": str(self.journal),
        }
        said = self.folder / f"said-{next(_numbers)}"
        always = (*self.asked, "--sandbox", "--json", "--poll-interval-s", "0.5")
        return Order((*always, *arguments), environment, self.api, self.folder, said)

    def die(self, at: str, *arguments: str, **rule: Any) -> None:
        """Start the command and kill it: at a held request, in a hanging write of the journal, or in its smoke test."""
        if at in WRITES:
            with self.hung_in(at), ended_in_any_case(self.start(*arguments)) as running:
                running.until(lambda: self.hangs(running), f"writing its {at}")
                running.kill()
            return
        holding = self.holding(at, **rule) if at in self.stages else nullcontext()
        with holding, ended_in_any_case(self.start(*arguments)) as running:
            if at in self.stages:
                running.until(self.has_struck, f"its request {at}")
            else:
                running.until(lambda: running.has_child("pipeline.smoke.inference_child"), "its smoke test")
            if rule == LOST:
                running.until(lambda: self.has_made(at), f"the effect of its {at}")
            if "after_bytes" in rule:
                running.until(self.is_downloading, "the first bytes")
            running.kill()

    def start(self, *arguments: str) -> Running:
        """Start the command."""
        return Running(self.order(*arguments))

    def hold(self, where: str, **rule: Any) -> None:
        """Hold requests of a stage back, one unless the rule says otherwise."""
        method, path = self.stages[where]
        self.account.fault("stall", **{"method": method, "path": path, "seconds": STALL_S, **rule})

    @contextmanager
    def holding(self, where: str, **rule: Any) -> Iterator[None]:
        """Hold requests of a stage back for a while."""
        self.hold(where, **rule)
        yield
        self.account.clear_faults()

    def strikes(self) -> int:
        """Return how many requests were held back."""
        return sum(fault["hits"] for fault in self.account.faults())

    def has_struck(self) -> bool:
        """Tell whether the held request has arrived."""
        return self.strikes() > 0

    def has_made(self, what: str) -> bool:
        """Tell whether a create whose answer is held back has made its run, or its export."""
        if what == "create":
            return bool(self.account.bill()["runs"])
        with self.account.http() as http:
            return bool(http.get("/exports/").raise_for_status().json()["exports"])

    def sent(self, where: str) -> list[dict[str, Any]]:
        """Return the requests a stage made."""
        method, path = self.stages[where]
        log = self.account.requests()
        return [entry for entry in log if entry["method"] == method and re.search(path, entry["path"])]

    def is_downloading(self) -> bool:
        """Tell whether a part of a file has arrived."""
        return bool(leftovers(self.folder))

    def operations(self) -> list[dict[str, Any]]:
        """Return the journal's rows with what is held for each."""
        if not self.journal.exists():
            return []
        with closing(sqlite3.connect(self.journal, timeout=30)) as opened:
            opened.row_factory = sqlite3.Row
            rows = opened.execute(
                "SELECT * FROM operations o LEFT JOIN reservations r USING (key) ORDER BY created_at_s"
            )
            found = [dict(row) for row in rows]
            held = opened.execute("SELECT count(*) AS n FROM reservations").fetchone()["n"]
            assert held == (len(found) if self.is_priced else 0)  # where there is a price, one comes with the other
            return found

    def left(self) -> Left:
        """Return what the first attempt has come to, and what is on the bill."""
        rows = self.operations()
        return Left(rows[0]["state"] if rows else None, int(self.account.bill()["started_runs"]))

    @contextmanager
    def hung_in(self, write: str) -> Iterator[None]:
        """Make whoever gets to this write into the journal hang in it, before it is committed."""
        Journal(str(self.journal)).close()
        change, _, when = WRITES[write].partition(" WHEN ")
        condition = f"WHEN {when}" if when else ""
        body = "BEGIN SELECT count(*) FROM endless; END"
        self._change(ENDLESS, f"CREATE TRIGGER hang BEFORE {change} {condition} {body}")
        yield
        self._change("DROP TRIGGER hang", "DROP VIEW endless")

    def _change(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.journal, timeout=30, isolation_level=None)) as opened:
            for statement in statements:
                opened.execute(statement)

    def hangs(self, running: Running) -> bool:
        """Tell whether a command is at work in the middle of a write into the journal for longer than any takes."""
        before_s = running.cpu_s
        with closing(sqlite3.connect(self.journal, timeout=WRITE_S, isolation_level=None)) as opened:
            try:
                opened.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:  # a write that waits for a slow disk needs no processor
                return running.cpu_s - before_s > WRITE_CPU_S
            opened.execute("ROLLBACK")
            return False

    def reports(self) -> list[RunReport]:
        """Return the reports of all runs."""
        found = sorted(self.folder.rglob("report.json"))
        return [RunReport.model_validate_json(path.read_text(encoding="utf-8")) for path in found]

    def models(self) -> list[bytes]:
        """Return every accepted model."""
        return [path.read_bytes() for path in self.folder.rglob("model.onnx")]

    def assert_collected(self, *, runs: int = 1) -> None:
        """Fail unless so many runs were paid, each collected, accepted, closed and settled."""
        bill = self.account.bill()
        counted = {name: bill[name] for name in ("started_runs", "paid_runs", "active_runs")}
        assert counted == {"started_runs": runs, "paid_runs": runs, "active_runs": 0}
        rows = self.operations()
        assert [(row["state"], row["outcome"]) for row in rows] == [("collected", "accepted")] * runs
        assert sorted(row["run_id"] for row in rows) == sorted(run["id"] for run in bill["runs"])
        assert [row["owner"] for row in rows] == [None] * runs
        assert [bool(row["settled"]) for row in rows] == [True] * runs
        assert sum(row["amount"] for row in rows) == bill["net"] > 0
        assert [row["billed"] for row in rows] == [row["amount"] for row in rows]
        assert [report.outcome.value for report in self.reports()] == ["accepted"] * runs
        assert self.models() == [quiet_detector()] * runs


def open_scene(sandbox: SandboxServer, api: str, folder: Path, **settings: Any) -> Scene:
    """Open an account of a sandbox, a small data set and a folder."""
    return furnish(sandbox.new_account(**{"engine": "scripted", "script": SCRIPT, **settings}), api, folder)


def furnish(account: SandboxAccount, api: str, folder: Path) -> Scene:
    """Give an account a small data set and a model, and its user a folder."""
    account.add_dataset(DATASET, count=8, size=64)
    account.upload_model(quiet_detector(), classes=",".join(CLASSES), architecture="yolox-s", side=64)
    folder.mkdir(parents=True)
    return Scene(account, api, folder)
