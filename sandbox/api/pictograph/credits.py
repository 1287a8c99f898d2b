"""Credits: balance, ledger, estimates and the spend by operation."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from sqlalchemy import func, select

from sandbox.api.pictograph.call import Call, Offset, Viewer
from sandbox.api.pictograph.dialect import V2_ONLY, DialectRoute
from sandbox.api.pictograph.errors import ApiError
from sandbox.api.pictograph.views import entry_view
from sandbox.billing import balance_of, entries_of_runs, period_spend, spend_by_operation, spendable
from sandbox.clock import iso
from sandbox.prices import MICRO_USD_PER_CREDIT, find_price
from sandbox.settings import DEFAULT_BALANCE
from sandbox.store import every, ledger

router = APIRouter(prefix="/credits", route_class=DialectRoute)
_RANGES_S = {"day": 24 * 3600, "week": 7 * 24 * 3600, "month": 30 * 24 * 3600, "all": float("inf")}


@router.get("/balance")
def balance(call: Viewer) -> dict[str, Any]:
    """Answer what is left, in the fields of the caller's dialect."""
    with call.sandbox.store.read() as tx:
        left, spent = balance_of(tx, call.account), period_spend(tx, call.account, call.now_s)
        newest = select(ledger).where(*entries_of_runs(call.account)).order_by(ledger.c.seq.desc())
        recent = [entry_view(entry) for entry in every(tx, newest.limit(20))]
    body: dict[str, Any] = {"recent_history": recent, "credits_reset_at": iso(call.now_s + _RANGES_S["month"])}
    body |= {"credits_remaining": _whole(call, left)}
    body |= {"credits_monthly_allowance": _whole(call, DEFAULT_BALANCE[call.account.settings.billing])}
    return body if call.account.settings.dialect == "v1" else body | _micro_balance(call, left, spent)


def _micro_balance(call: Call, left: int, spent: int) -> dict[str, Any]:
    budget = call.account.settings.budget_micro_usd
    over = _micro(call, max(0, -left))
    return {
        "included_allowance_micro_usd": _micro(call, DEFAULT_BALANCE[call.account.settings.billing]),
        "included_remaining_micro_usd": _micro(call, max(0, left)),
        "budget_micro_usd": budget,
        "period_spend_micro_usd": _micro(call, spent),
        "period_overage_micro_usd": over,
        "budget_remaining_micro_usd": max(0, budget - over),
        "period_start": iso(call.now_s - _RANGES_S["month"]),
    }


@router.get("/history")
def history(call: Viewer, limit: Annotated[int, Query(ge=1, le=100)] = 50, offset: Offset = 0) -> dict[str, Any]:
    """Answer the ledger, newest first."""
    query = select(ledger).where(ledger.c.account_id == call.account.id).order_by(ledger.c.seq.desc())
    with call.sandbox.store.read() as tx:
        entries = [entry_view(entry) for entry in every(tx, query.limit(limit).offset(offset))]
        total = tx.execute(select(func.count()).where(ledger.c.account_id == call.account.id)).scalar_one()
    body: dict[str, Any] = {"entries": entries}
    if call.account.settings.dialect != "v1":
        more = offset + len(entries) < total
        body["pagination"] = {"limit": limit, "offset": offset, "total": total, "has_more": more}
    return body


@router.get("/estimate")
def estimate(call: Viewer, operation: str, quantity: Annotated[int, Query(ge=1)] = 1) -> dict[str, Any]:
    """Answer the price of an operation and whether the balance covers it now."""
    price = find_price(call.account.settings, operation)
    if price is None:
        raise ApiError(400, f"Unknown operation: {operation}")
    total = price.total(quantity)
    with call.sandbox.store.read() as tx:
        left = spendable(tx, call.account)
    body: dict[str, Any] = {
        "operation": operation,
        "unit": price.unit,
        "quantity": quantity,
        "sufficient": left >= total,
    }
    body |= {"credits_per_unit": _price(call, price.per_unit), "total_credits": _price(call, total)}
    body |= {"credits_remaining": _whole(call, left), "minimum": _price(call, price.minimum)}
    if call.account.settings.dialect != "v1" or call.account.settings.billing == "micro_usd":
        body |= {"micro_usd_per_unit": _micro(call, price.per_unit), "total_micro_usd": _micro(call, total)}
        body |= {"remaining_micro_usd": _micro(call, left)}
    return body


@router.get("/usage-by-operation", openapi_extra=V2_ONLY)
def usage_by_operation(
    call: Viewer, window: Annotated[Literal["day", "week", "month", "all"], Query(alias="range")] = "month"
) -> dict[str, Any]:
    """Answer what trainings cost in a window by operation, refunds taken off, the largest first."""
    since_s = call.now_s - _RANGES_S[window]
    with call.sandbox.store.read() as tx:
        spent = spend_by_operation(tx, call.account, since_s)
    rows = [(entry.operation, _micro(call, entry.amount), entry.charges) for entry in spent]
    operations = [{"operation": name, "total_micro_usd": total, "event_count": count} for name, total, count in rows]
    return {
        "range": window,
        "since": None if window == "all" else iso(since_s),
        "operations": operations,
        "total_micro_usd": sum(row[1] for row in rows),
        "total_events": sum(row[2] for row in rows),
    }


def _micro(call: Call, amount: int) -> int:
    return amount if call.account.settings.billing == "micro_usd" else amount * MICRO_USD_PER_CREDIT


def _whole(call: Call, amount: int) -> int:
    """Return what is there in whole credits, rounded down: nothing is promised that cannot be spent."""
    return amount if call.account.settings.billing == "credits" else amount // MICRO_USD_PER_CREDIT


def _price(call: Call, amount: int) -> int:
    """Return a price in whole credits, rounded up: nothing that costs money reads as free."""
    return amount if call.account.settings.billing == "credits" else -(-amount // MICRO_USD_PER_CREDIT)
