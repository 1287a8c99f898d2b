"""A run ends once, whoever says so first: the books of the sandbox, without a server."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import billing, runs
from sandbox.accounts import Account, create_account
from sandbox.clock import ManualClock
from sandbox.core import Sandbox, open_sandbox
from sandbox.modelstore import Trained
from sandbox.settings import AccountSettings
from sandbox.store import Row

TRAINED = Trained(b"weights", "net", ("a",), {"mAP": 1.0}, {"training": {}}, gpu_minutes=10)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox whose clock stands still."""
    opened = open_sandbox(tmp_path, ManualClock())
    yield opened
    opened.store.close()


def started(sandbox: Sandbox, unit: Any) -> tuple[Account, Row]:
    """Return an account and a run of 25 planned minutes."""
    account = create_account(sandbox, AccountSettings(billing=unit, engine="scripted"), balance=10_000_000)
    source = {"id": "x", "name": "ds"}
    order = runs.Order(source, source, "r", "yolox", "a10g", 50, {"epochs": 50})
    with sandbox.store.write() as tx:
        return account, runs.create_run(sandbox, tx, account, order)


def end(sandbox: Sandbox, account: Account, run: Row, how: str) -> dict[str, Any]:
    """End the run in one of three ways and return the bill."""
    with sandbox.store.write() as tx:
        if how == "complete":
            runs.complete(sandbox, tx, account, run, TRAINED, 1.0)
        elif how == "fail":
            runs.fail(sandbox, tx, account, run, "broken", at_s=1.0)
        else:
            runs.cancel(tx, account, run, at_s=1.0)
        return billing.bill(tx, account)


@pytest.mark.parametrize("unit", ["credits", "micro_usd"])
@pytest.mark.parametrize("first", ["complete", "fail", "cancel"])
@pytest.mark.parametrize("second", ["complete", "fail", "cancel"])
def test_a_run_ends_once(sandbox: Sandbox, unit: str, first: str, second: str) -> None:
    """What comes second changes neither the state nor the money of the run."""
    account, run = started(sandbox, unit)
    bill = end(sandbox, account, run, first)
    assert end(sandbox, account, run, second) == bill
    assert bill["runs"][0]["status"] == {"complete": "completed", "fail": "failed", "cancel": "cancelled"}[first]


@pytest.mark.parametrize(
    ("unit", "how", "charged", "refunded"),
    [
        ("credits", "complete", 250, 150),
        ("credits", "fail", 250, 250),
        ("credits", "cancel", 250, 250),
        ("micro_usd", "complete", 229_170, 0),
        ("micro_usd", "fail", 0, 0),
        ("micro_usd", "cancel", 0, 0),
    ],
)
def test_the_books_of_an_ended_run(sandbox: Sandbox, unit: str, how: str, charged: int, refunded: int) -> None:
    """Charges and refunds are those of the billing model, and the balance is their sum."""
    account, run = started(sandbox, unit)
    bill = end(sandbox, account, run, how)
    assert (bill["charged"], bill["refunded"]) == (charged, refunded)
    assert bill["balance"] == 10_000_000 - charged + refunded


def test_nothing_is_kept_of_a_transaction_that_fails(sandbox: Sandbox) -> None:
    """An error after the charge takes the charge and the run back."""
    account = create_account(sandbox, AccountSettings(billing="credits"), balance=1000)
    source = {"id": "x", "name": "ds"}
    order = runs.Order(source, source, "r", "yolox", "a10g", 50, {})
    with contextlib.suppress(InterruptedError), sandbox.store.write() as tx:
        runs.create_run(sandbox, tx, account, order)
        assert billing.balance_of(tx, account) == 750
        raise InterruptedError
    with sandbox.store.read() as tx:
        assert billing.bill(tx, account) | {"runs": []} == {
            "unit": "credits",
            "started_runs": 0,
            "active_runs": 0,
            "paid_runs": 0,
            "charged": 0,
            "refunded": 0,
            "net": 0,
            "balance": 1000,
            "runs": [],
        }
