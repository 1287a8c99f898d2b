"""Moving money: balances, the ledger, what a run is charged and what comes back."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from sandbox.accounts import Account
from sandbox.core import new_id
from sandbox.documents import TRAINING_KINDS, change
from sandbox.prices import minute_price
from sandbox.store import Row, accounts, documents, every, ledger, runs

CHARGE_PREFIX, REFUND_PREFIX = "training_", "training_refund_"
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
    """Take the pre-charge of a new run, when it is billed that way, and return it."""
    if run["unit"] != "credits":
        return 0
    amount = int(run["minute_price"] * run["planned_minutes"])
    post(tx, account, CHARGE_PREFIX + run["gpu_type"], -amount, at_s=run["created_at"], run_id=run["id"])
    return amount


def settle_end(tx: Connection, account: Account, run: Row, minutes: int, *, at_s: float) -> dict[str, int]:
    """Bill an ended run for the minutes it is to pay, at the price it began with, and return its money columns.

    Pre-charged runs get the rest back, whatever the minutes; runs billed on success are charged now.
    """
    gpu_type = run["gpu_type"]
    due = int(run["minute_price"] * minutes)
    if run["charged"]:
        back = max(0, run["charged"] - due)
        if back:
            post(tx, account, REFUND_PREFIX + gpu_type, back, at_s=at_s, run_id=run["id"])
        return {"refunded": back}
    if due and run["unit"] == "micro_usd":
        post(tx, account, CHARGE_PREFIX + gpu_type, -due, at_s=at_s, run_id=run["id"])
        return {"charged": due}
    return {}


def charge_document(tx: Connection, account: Account, row: Row, amount: int, *, at_s: float) -> Row:
    """Take what a document costs, in the account's unit, and return it with the charge on it."""
    post(tx, account, CHARGE_PREFIX + row["kind"], -amount, at_s=at_s, run_id=row["id"])
    return change(tx, row, charged=row["charged"] + amount)


def refund_document(tx: Connection, account: Account, row: Row, amount: int, *, at_s: float) -> Row:
    """Give back a part of what a document cost and return it with the refund on it."""
    post(tx, account, REFUND_PREFIX + row["kind"], amount, at_s=at_s, run_id=row["id"])
    return change(tx, row, refunded=row["refunded"] + amount)


def bill(tx: Connection, account: Account) -> dict[str, Any]:
    """Return every started run with its money, and the totals: what a test of double payment reads.

    `runs` are the trainings of every vendor; `others` is what else was paid for, such as hosted inference.
    """
    kept = every(tx, select(documents).where(documents.c.account_id == account.id).order_by(documents.c.seq))
    trainings = [row for row in kept if row["kind"] in TRAINING_KINDS]
    others = [row for row in kept if row["charged"] and row["kind"] not in TRAINING_KINDS]
    rows = [*every(tx, select(runs).where(runs.c.account_id == account.id).order_by(runs.c.seq)), *trainings]
    charged, refunded = (sum(row[column] for row in [*rows, *others]) for column in ("charged", "refunded"))
    return {
        "unit": account.settings.billing,
        "started_runs": len(rows),
        "active_runs": sum(row["completed_at"] is None for row in rows),
        "paid_runs": sum(row["charged"] > row["refunded"] for row in rows),
        "charged": charged,
        "refunded": refunded,
        "net": charged - refunded,
        "balance": balance_of(tx, account),
        "runs": [_line(row) for row in rows],
        "others": [_line(row) for row in others],
    }


def _line(row: Row) -> dict[str, Any]:
    """Return one line of a bill; what a vendor's documents do not know is left out of theirs."""
    line = {key: row[key] for key in ("id", "name", "status", "charged", "refunded")}
    if "kind" in row:
        vendor, _, what = row["kind"].partition(".")
        return {**line, "vendor": vendor, "what": what}
    about = {key: row[key] for key in ("dataset_name", "pipeline_type", "gpu_type")}
    return {**line, **about, "vendor": "pictograph", "what": "training", "minutes": row["training_minutes"]}


def period_spend(tx: Connection, account: Account, now_s: float) -> int:
    """Return what runs cost in the last thirty days, refunds taken off, in the account's unit."""
    query = select(func.coalesce(func.sum(ledger.c.amount), 0)).where(*_of_trainings(account, now_s - _PERIOD_S))
    return -int(tx.execute(query).scalar_one())


@dataclass(frozen=True)
class Spend:
    """What one operation cost: charges less refunds, and how many charges there were."""

    operation: str
    amount: int
    charges: int


def spend_by_operation(tx: Connection, account: Account, since_s: float) -> list[Spend]:
    """Return what runs cost by operation, the largest first; a refund counts against the operation it refunds."""
    query = select(ledger.c.operation, ledger.c.amount).where(*_of_trainings(account, since_s))
    amounts, charges = Counter[str](), Counter[str]()
    for slug, amount in tx.execute(query):
        operation = str(slug).replace(REFUND_PREFIX, CHARGE_PREFIX)
        amounts[operation] -= amount
        charges[operation] += amount < 0
    return [Spend(operation, amount, charges[operation]) for operation, amount in amounts.most_common()]


def entries_of_runs(account: Account) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of ledger entries that Pictograph knows: all but those of other vendors' documents."""
    # Their operations end in a kind, which has a dot in it; the names of GPUs have none.
    foreign = (ledger.c.operation.like(f"{prefix}%.%") for prefix in (CHARGE_PREFIX, REFUND_PREFIX))
    return (ledger.c.account_id == account.id, *(~condition for condition in foreign))


def _of_trainings(account: Account, since_s: float) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of ledger entries that are spending: a balance that was set or topped up is none."""
    return (
        *entries_of_runs(account),
        ledger.c.created_at > since_s,
        ledger.c.operation.like(f"{CHARGE_PREFIX}%"),
    )
