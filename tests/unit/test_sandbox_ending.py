"""A run ends once, whoever says so first: the books of the sandbox, without a server."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox import billing, runs
from sandbox.accounts import Account, AccountConflictError, change_settings, create_account
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
            runs.fail(tx, account, run, "broken", at_s=1.0)
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
            "others": [],
        }


def test_a_price_change_does_not_reach_runs_that_began(sandbox: Sandbox) -> None:
    """A run is settled at the price it was started at: what came back is what was left of what was taken."""
    account, run = started(sandbox, "credits")
    with sandbox.store.write() as tx:
        dearer = change_settings(tx, account, {"prices_per_minute": {"a10g": 99}})
    assert (end(sandbox, dearer, run, "complete")["charged"], run["charged"]) == (250, 250)
    with sandbox.store.read() as tx:
        assert billing.bill(tx, dearer)["refunded"] == 150


@pytest.mark.parametrize("unit", ["credits", "micro_usd"])
def test_the_unit_of_the_books_is_fixed_by_their_first_entry(sandbox: Sandbox, unit: str) -> None:
    """An account that began a run, charged or not, keeps its billing model; every other setting can be changed."""
    account, _ = started(sandbox, unit)
    other = "credits" if unit == "micro_usd" else "micro_usd"
    with sandbox.store.write() as tx:
        with pytest.raises(AccountConflictError, match=f"books are in {unit}: reset"):
            change_settings(tx, account, {"billing": other})
        assert change_settings(tx, account, {"billing": unit, "role": "viewer"}).settings.role == "viewer"


def test_an_unused_account_may_change_its_unit(sandbox: Sandbox) -> None:
    """Nothing was counted yet; a balance that was set by hand is an entry."""
    account = create_account(sandbox, AccountSettings())
    with sandbox.store.write() as tx:
        account = change_settings(tx, account, {"billing": "credits"})
        billing.post(tx, account, "top_up", 5, at_s=1.0)
        with pytest.raises(AccountConflictError):
            change_settings(tx, account, {"billing": "micro_usd"})


@pytest.mark.parametrize(("how", "paid"), [("complete", 1), ("fail", 0), ("cancel", 0)])
def test_a_run_that_got_everything_back_is_not_paid(sandbox: Sandbox, how: str, paid: int) -> None:
    """What counts is what was kept, not what was taken for a while."""
    account, run = started(sandbox, "credits")
    assert end(sandbox, account, run, how)["paid_runs"] == paid


def test_spending_is_what_trainings_cost_less_what_came_back(sandbox: Sandbox) -> None:
    """A lowered balance is no spending, and a refund counts against the operation it refunds."""
    account, run = started(sandbox, "credits")
    end(sandbox, account, run, "complete")
    with sandbox.store.write() as tx:
        billing.post(tx, account, "top_up", -1000, at_s=sandbox.clock.now_s())
        assert billing.spend_by_operation(tx, account, 0.0) == [billing.Spend("training_a10g", 100, 1)]
        assert billing.period_spend(tx, account, 10.0) == 100
