"""Training runs: making one, moving it through its states, ending it exactly once."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from sandbox import billing, modelstore
from sandbox.accounts import Account
from sandbox.catalog import notify
from sandbox.core import Sandbox, new_id
from sandbox.modelstore import Trained
from sandbox.prices import minute_price, planned_minutes
from sandbox.settings import TERMINAL
from sandbox.store import Row, exports, first, runs


@dataclass(frozen=True)
class Order:
    """A training that passed every check."""

    dataset: Row
    export: Row
    name: str
    pipeline_type: str
    gpu_type: str
    epochs: int
    config: dict[str, Any]
    version_of_model_id: str | None = None


def create_run(sandbox: Sandbox, tx: Connection, account: Account, order: Order) -> Row:
    """Add the run and take what has to be paid in advance, in the caller's transaction."""
    settings = account.settings
    scripted = settings.engine == "scripted"
    run: dict[str, Any] = {
        "id": new_id(),
        "account_id": account.id,
        "dataset_id": order.dataset["id"],
        "dataset_name": order.dataset["name"],
        "export_id": order.export["id"],
        "name": order.name,
        "pipeline_type": order.pipeline_type,
        "gpu_type": order.gpu_type,
        "config": order.config,
        "engine": settings.engine,
        "script": settings.script.model_dump(mode="json") if scripted else None,
        "ticks": 0,
        "status": settings.script.steps[0].status if scripted else "pending",
        "progress": 0,
        "current_epoch": 0,
        "total_epochs": order.epochs,
        "metrics": {},
        "version_of_model_id": order.version_of_model_id,
        "planned_minutes": planned_minutes(settings, order.epochs, order.gpu_type),
        "unit": settings.billing,
        "minute_price": minute_price(settings, order.gpu_type),
        "charged": 0,
        "refunded": 0,
        "created_at": sandbox.clock.now_s(),
    }
    if run["status"] in TERMINAL:
        run["status"] = "pending"  # a script that ends at once still ends through settle()
    run["charged"] = billing.charge_start(tx, account, run)
    tx.execute(insert(runs).values(run))
    return reload(tx, run["id"])


def reload(tx: Connection, run_id: str) -> Row:
    """Return a run as it is now.

    Raises:
        LookupError: There is no such run.
    """
    row = first(tx, select(runs).where(runs.c.id == run_id))
    if row is None:
        raise LookupError(f"run {run_id!r} does not exist")
    return row


def find_run(tx: Connection, account: Account, ref: str) -> Row | None:
    """Return a run by id, or the most recent one of a name."""
    owned = select(runs).where(runs.c.account_id == account.id).order_by(runs.c.seq.desc())
    visible = owned.where(runs.c.pipeline_type.in_(visible_pipelines(account)))
    return first(tx, visible.where(runs.c.id == ref)) or first(tx, visible.where(runs.c.name == ref))


def visible_pipelines(account: Account) -> tuple[str, ...]:
    """Return the pipelines this account's clients can read; runs of others are not shown to them."""
    return account.settings.accepted_pipelines


def observe(tx: Connection, run: Row, **values: Any) -> None:
    """Record what a run looks like now; a run that ended stays as it is."""
    tx.execute(update(runs).where(runs.c.id == run["id"], runs.c.completed_at.is_(None)).values(**values))


def begin(tx: Connection, account: Account, run: Row, *, at_s: float) -> Row:
    """Mark the moment a run starts to train; again, or after its end, is harmless."""
    run = reload(tx, run["id"])
    if run["started_at"] is not None or run["completed_at"] is not None:
        return run
    observe(tx, run, started_at=at_s, draft_model_id=modelstore.draft(tx, account, run, at_s=at_s))
    return reload(tx, run["id"])


def complete(sandbox: Sandbox, tx: Connection, account: Account, run: Row, trained: Trained, at_s: float) -> None:
    """End a run with its model and bill it; a run that ended before stays as it is."""
    run = reload(tx, run["id"])
    if run["completed_at"] is not None:
        return
    run = begin(tx, account, run, at_s=at_s)
    export = first(tx, select(exports.c.name).where(exports.c.id == run["export_id"]))
    model_id = modelstore.publish(sandbox, tx, run, trained, export["name"] if export else "", at_s=at_s)
    money = billing.settle_end(tx, account, run, trained.gpu_minutes, at_s=at_s)
    observe(
        tx,
        run,
        status="completed",
        progress=100,
        current_epoch=run["total_epochs"] or 0,
        eta_seconds=0,
        metrics=trained.metrics,
        training_minutes=trained.gpu_minutes,
        model_id=model_id,
        completed_at=at_s,
        **money,
    )
    notify(tx, account.id, "training_complete", run["name"], {"training_run_id": run["id"]}, at_s=at_s)


def fail(tx: Connection, account: Account, run: Row, message: str, *, at_s: float) -> None:
    """End a run without a model; it costs nothing."""
    if _end(tx, account, run, "failed", minutes=0, at_s=at_s, error_message=message):
        notify(tx, account.id, "training_failed", run["name"], {"training_run_id": run["id"]}, at_s=at_s)


def cancel(tx: Connection, account: Account, run: Row, *, at_s: float) -> Row:
    """End a run at its owner's wish: pre-charged runs pay for the share they used, others nothing."""
    share = (run["current_epoch"] / run["total_epochs"]) if run["total_epochs"] else 0.0
    minutes = int(run["planned_minutes"] * min(1.0, share) + 0.999) if run["charged"] else 0
    _end(tx, account, run, "cancelled", minutes=minutes, at_s=at_s)
    return reload(tx, run["id"])


def _end(tx: Connection, account: Account, run: Row, status: str, *, minutes: int, at_s: float, **values: Any) -> bool:
    run = reload(tx, run["id"])
    if run["completed_at"] is not None:
        return False
    money = billing.settle_end(tx, account, run, minutes, at_s=at_s)
    modelstore.abandon(tx, run, at_s=at_s)
    observe(tx, run, status=status, completed_at=at_s, eta_seconds=None, training_minutes=minutes, **values, **money)
    return True
