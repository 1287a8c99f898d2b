"""Moving money: balances, the ledger, what a run is charged and what comes back."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from sandbox.accounts import Account
from sandbox.core import new_id
from sandbox.prices import minute_price
from sandbox.store import Row, accounts, every, ledger, runs

_PERIOD_S = 30 * 24 * 3600


@dataclass(frozen=True)
class Shortage:
    """A start that the account cannot pay: what is needed and what is there, in its unit."""

    required: int
    remaining: int


def balance_of(tx: Connection, account: Account) -> int:
    """Return the account's balance in its unit; negative when overage was used."""
    return int(tx.execute(select(accounts.c.balance).where(accounts.c.id == account.id)).scalar_one())


def spendable(tx: Connection, account: Account) -> int:
    """Return what may still be spent: the balance and, when billing in micro-USD, the overage budget."""
    budget = account.settings.budget_micro_usd if account.settings.billing == "micro_usd" else 0
    return max(0, balance_of(tx, account) + budget)


def post(
    tx: Connection, account: Account, operation: str, amount: int, *, at_s: float, run_id: str | None = None
) -> None:
    """Write one ledger entry and move the balance: negative amounts are charges, positive ones refunds or top-ups."""
    balance = balance_of(tx, account) + amount
    tx.execute(update(accounts).where(accounts.c.id == account.id).values(balance=balance))
    tx.execute(
        insert(ledger).values(
            id=new_id(),
            account_id=account.id,
            run_id=run_id,
            operation=operation,
            amount=amount,
            balance_after=balance,
            description=None if run_id is None else f"training run {run_id}",
            created_at=at_s,
        )
    )


def start_price(account: Account, gpu_type: str, minutes: int) -> int:
    """Return what a start needs: the whole plan when pre-charged, the minimum balance otherwise."""
    if account.settings.billing == "credits":
        return minute_price(account.settings, gpu_type) * minutes
    return account.settings.min_start_micro_usd


def shortage(tx: Connection, account: Account, gpu_type: str, minutes: int) -> Shortage | None:
    """Return what is missing to start a run, or None when it may start."""
    required, remaining = start_price(account, gpu_type, minutes), spendable(tx, account)
    return Shortage(required, remaining) if remaining < required else None


def charge_start(tx: Connection, account: Account, run: Row) -> int:
    """Take the pre-charge of a new run, when the account is billed that way, and return it."""
    if account.settings.billing != "credits":
        return 0
    amount = start_price(account, run["gpu_type"], run["planned_minutes"])
    post(tx, account, f"training_{run['gpu_type']}", -amount, at_s=run["created_at"], run_id=run["id"])
    return amount


def settle_end(tx: Connection, account: Account, run: Row, minutes: int, *, at_s: float) -> dict[str, int]:
    """Bill an ended run for the minutes it is to pay and return its money columns.

    Pre-charged runs get the rest back, whatever the minutes; runs billed on success are charged now.
    """
    gpu_type = run["gpu_type"]
    due = minute_price(account.settings, gpu_type) * minutes
    if run["charged"]:
        back = max(0, run["charged"] - due)
        if back:
            post(tx, account, f"training_refund_{gpu_type}", back, at_s=at_s, run_id=run["id"])
        return {"refunded": back}
    if due and account.settings.billing == "micro_usd":
        post(tx, account, f"training_{gpu_type}", -due, at_s=at_s, run_id=run["id"])
        return {"charged": due}
    return {}


def bill(tx: Connection, account: Account) -> dict[str, Any]:
    """Return every started run with its money, and the totals: what a test of double payment reads."""
    rows = every(tx, select(runs).where(runs.c.account_id == account.id).order_by(runs.c.seq))
    columns = ("id", "name", "dataset_name", "pipeline_type", "gpu_type", "status", "charged", "refunded")
    lines = [{**{key: row[key] for key in columns}, "minutes": row["training_minutes"]} for row in rows]
    charged, refunded = sum(row["charged"] for row in rows), sum(row["refunded"] for row in rows)
    return {
        "unit": account.settings.billing,
        "started_runs": len(rows),
        "active_runs": sum(row["completed_at"] is None for row in rows),
        "paid_runs": sum(row["charged"] > 0 for row in rows),
        "charged": charged,
        "refunded": refunded,
        "net": charged - refunded,
        "balance": balance_of(tx, account),
        "runs": lines,
    }


def period_spend(tx: Connection, account: Account, now_s: float) -> int:
    """Return the net spend of the last thirty days in the account's unit."""
    query = select(func.coalesce(func.sum(ledger.c.amount), 0)).where(
        ledger.c.account_id == account.id, ledger.c.created_at > now_s - _PERIOD_S, ledger.c.operation.like("training%")
    )
    return -int(tx.execute(query).scalar_one())
