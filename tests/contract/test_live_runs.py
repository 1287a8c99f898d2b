"""Every run of an account that has not ended, in as few requests as each dialect allows."""

from __future__ import annotations

import pytest

from pipeline.models import RunStatus
from sandbox.server import SandboxServer
from tests.contract.pictograph_accounts import DATASET, DIALECTS, ENDLESS, Account, NewAccount
from tests.many_runs import copy_run


@pytest.fixture
def new_account(new_account: NewAccount) -> NewAccount:
    """Give a function that opens an account whose runs go on until somebody moves them."""
    return lambda **settings: new_account(**{"script": ENDLESS, **settings})


def start(account: Account, count: int) -> list[str]:
    """Start runs and return their ids."""
    export = account.export(account.plan())
    body = {"dataset_name": DATASET, "export_name": export.name, "pipeline_type": "yolox", "gpu_type": "a10g"}
    with account.control.http() as http:
        made = [
            http.post("/training/", json={**body, "name": f"run-{number}", "config": {}}).raise_for_status().json()
            for number in range(count)
        ]
    return [str((run.get("data") or run["training_run"])["id"]) for run in made]


def test_a_thousand_live_runs_are_seen_with_eleven_requests(new_account: NewAccount, server: SandboxServer) -> None:
    """All of them, none twice; the sandbox's own log counts the requests."""
    account = new_account()
    (first,) = start(account, 1)
    started = [first, *copy_run(server.home, first, 999)]
    before = len(account.control.requests())
    found = account.provider.live_runs()
    assert sorted(run.handle.run_id for run in found) == sorted(started)
    assert len(account.control.requests()) - before <= 11


@pytest.mark.parametrize("dialect", DIALECTS)
def test_only_what_goes_on_is_live(new_account: NewAccount, dialect: str) -> None:
    """Queued and running ones with name, pipeline and status; a cancelled one is not among them; exports neither."""
    account = new_account(**DIALECTS[dialect])
    queued, running, ended = start(account, 3)
    account.control.advance(running)
    account.provider.cancel_run(next(run.handle for run in account.provider.live_runs() if run.handle.run_id == ended))
    found = {run.handle.run_id: run for run in account.provider.live_runs()}
    assert {run_id: run.status for run_id, run in found.items()} == {
        queued: RunStatus.QUEUED,
        running: RunStatus.RUNNING,
    }
    assert (found[queued].handle.name, found[queued].pipeline, found[queued].gpu) == ("run-0", "yolox", "a10g")
    assert found[queued].created_at is not None


@pytest.mark.parametrize(("dialect", "requests"), [("v1 credits", 1 + 4), ("v2", 1)])
def test_an_older_server_is_asked_for_each_status(new_account: NewAccount, dialect: str, requests: int) -> None:
    """Where there is no list of jobs: one miss, then a page a status and one more to see that there is no more."""
    account = new_account(**DIALECTS[dialect])
    (live,) = start(account, 1)
    before = len(account.control.requests())
    assert [run.handle.run_id for run in account.provider.live_runs()] == [live]
    assert len(account.control.requests()) - before == requests


def test_what_has_ended_since_hides_nothing(new_account: NewAccount, server: SandboxServer) -> None:
    """The list's thousand are those that go on: a long training is not pushed out of it by a thousand short ones."""
    account = new_account()
    (live, ended) = start(account, 2)
    account.provider.cancel_run(next(run.handle for run in account.provider.live_runs() if run.handle.run_id == ended))
    copy_run(server.home, ended, 1000)
    assert [run.handle.run_id for run in account.provider.live_runs()] == [live]
