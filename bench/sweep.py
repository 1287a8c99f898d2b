"""One look at a thousand live trainings: requests and time, beside looking at each of them.

The sandbox is a process of its own; its runs are copies of one that goes on for ever, and the journal knows them all.
Measured are the list of what is live, the same joined with the journal's open operations and judged, and the looks one
by one that a loop for each training would make. Without Prefect: its part is one call for each two hundred flow runs.
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from pipeline.provider_requests import PictographRequest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import describe_machine, isolate, parse_quick, running_sandbox

if TYPE_CHECKING:
    from pipeline.journal.store import Journal
    from pipeline.models import TrainingRun
    from providers.pictograph.adapter import PictographProvider
    from sandbox.client import SandboxAccount

RUNS = 1000
"""Live trainings."""
MOST_REQUESTS = 11
"""Requests they may take."""
ONE_BY_ONE = 100
"""Trainings looked at one by one; a thousand would take ten times as long."""
ENDLESS = {"mode": "manual", "steps": [{"status": "queued"}, {"status": "running"}]}


def main() -> int:
    """Measure, print, and return 1 when what is needed is missed."""
    times = 3 if parse_quick(__doc__) else 9
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="bench-sweep-", ignore_cleanup_errors=True) as folder:
        isolate(Path(folder))
        print(describe_machine("httpx", "sqlalchemy"))
        with opened(Path(folder)) as (account, provider, journal):
            return _measure(account, provider, journal, times)


@contextmanager
def opened(folder: Path) -> Iterator[tuple[SandboxAccount, PictographProvider, Journal]]:
    """Serve a sandbox with a thousand live runs that a journal knows."""
    from pydantic import SecretStr

    from pipeline.journal.store import Journal
    from providers.calls import ClientOptions
    from providers.pictograph.adapter import PictographProvider
    from providers.pictograph.profile import pictograph_profile
    from sandbox.client import new_account
    from tests.many_runs import copy_run
    from tests.waiting import eventually

    with running_sandbox(folder) as url:
        account = new_account(url, engine="scripted", script=ENDLESS, rate_limit=100_000)
        account.add_dataset("ds", count=8)
        with account.http() as http:
            http.post("/exports/", json={"dataset_name": "ds", "name": "e", "include_images": True}).raise_for_status()
            eventually(lambda: http.get("/exports/e?dataset=ds").json()["data"]["status"] == "completed", "the export")
            body = {"dataset_name": "ds", "export_name": "e", "pipeline_type": "yolox", "gpu_type": "a10g"}
            made = http.post("/training/", json={**body, "name": "run", "config": {}}).raise_for_status().json()
        copy_run(folder / "data", made["data"]["id"], RUNS - 1)
        options = ClientOptions(base_url=url)
        with (
            closing(
                PictographProvider(SecretStr(account.api_key), options, pictograph_profile(sandbox=True))
            ) as provider,
            closing(Journal(str(folder / "journal.db"))) as journal,
        ):
            _write_down(journal, provider)
            yield account, provider, journal


def _write_down(journal: Journal, provider: PictographProvider) -> None:
    from pipeline.journal.ownership import this_process
    from pipeline.journal.store import Intent
    from pipeline.models import Operation
    from pipeline.start.planning import resolve_plan

    request = PictographRequest(dataset="ds", sandbox=True)
    for number, run in enumerate(provider.live_runs()):
        plan = resolve_plan(request, provider.profile, Operation(id=f"op-{number}"))
        intent = Intent(plan, provider.account, {}, None, this_process(f"flow-{number}"), owner_until_s=0.0)
        journal.adopt(intent, run.handle)


def _measure(account: SandboxAccount, provider: PictographProvider, journal: Journal, times: int) -> int:
    from pipeline.sweep.surveying import look_around
    from pipeline.sweep.sweeping import SweepClass, Watch

    def judge() -> int:
        found = look_around(journal, provider, lambda _: {}, Watch(time.time(), lambda _: True))
        assert {item.sort for item in found} == {SweepClass.FLOW_GONE}
        return len(found)

    def look_at_each() -> int:
        return sum(provider.get_run(run.handle) is not None for run in listed[:ONE_BY_ONE])

    listed: tuple[TrainingRun, ...] = provider.live_runs()
    requests = _requests(account, lambda: len(provider.live_runs()))
    in_all = _requests(account, judge)
    for name, work in (("listed", lambda: len(provider.live_runs())), ("listed, joined and judged", judge)):
        print(f"{name:<28} {RUNS} trainings: {_seconds(work, times)}")
    print(f"{'looked at one by one':<28} {ONE_BY_ONE} trainings: {_seconds(look_at_each, times)}")
    met = requests <= MOST_REQUESTS and in_all <= MOST_REQUESTS
    print(f"requests: {requests} for the list, {in_all} for the whole; one by one {RUNS}")
    print(f"needed: at most {MOST_REQUESTS}: {'met' if met else 'MISSED'}")
    return 0 if met else 1


def _requests(account: SandboxAccount, work: Callable[[], int]) -> int:
    """Return how many requests the account made for it, by the sandbox's own log."""
    everything = {"limit": 100_000}
    before = len(account.control("GET", "/requests", params=everything)["requests"])
    assert work() == RUNS
    return len(account.control("GET", "/requests", params=everything)["requests"]) - before


def _seconds(work: Callable[[], int], times: int) -> str:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return f"{median(took):.2f} s ({min(took):.2f} to {max(took):.2f})"


if __name__ == "__main__":
    sys.exit(main())
