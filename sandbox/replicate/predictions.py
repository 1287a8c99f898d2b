"""Predictions of the emulated Replicate API: a trained version run on a picture, after its model has booted."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from sqlalchemy import Connection, select

from sandbox import documents, lifecycle
from sandbox.accounts import Account
from sandbox.core import Sandbox
from sandbox.datasets import DataError
from sandbox.lifecycle import Outcome
from sandbox.replicate.inference import predict
from sandbox.replicate.inputs import InputError, fetch
from sandbox.replicate.prices import cost
from sandbox.replicate.trainings import WAITING
from sandbox.replicate.weights import CONFIG_FILE, MODEL_FILE
from sandbox.replicate.words import PREDICTION, new_run_id
from sandbox.store import Row, every
from sandbox.store import documents as table

_TURNS = WeakValueDictionary[tuple[Path, int], threading.Lock]()
_TURNS_LOCK = threading.Lock()


@dataclass(frozen=True)
class Wish:
    """A prediction that passed every check of its create."""

    model: str
    version: Row
    hardware: str
    given: dict[str, Any]
    base_url: str
    webhook: str | None
    events: tuple[str, ...]
    cancel_after_s: float | None


def create(sandbox: Sandbox, tx: Connection, account: Account, wish: Wish) -> Row:
    """Add a prediction; it runs at its account's next request or bill, or when its webhook is due."""
    data = {
        "model": wish.model,
        "version": wish.version["id"],
        "input": wish.given,
        "base_url": wish.base_url,
        "webhook": wish.webhook,
        "events": list(wish.events),
        "hardware": wish.hardware,
        "boot_s": account.settings.replicate.boot_s,
        "cancel_after_s": wish.cancel_after_s,
    }
    about: dict[str, Any] = {"name": wish.model, "status": "queued", "parent": WAITING if wish.webhook else None}
    return documents.add(tx, account, PREDICTION, id=new_run_id(), data=data, at_s=sandbox.clock.now_s(), **about)


def settle_open(sandbox: Sandbox, account: Account) -> None:
    """Bring every open prediction of an account to where it stands now: it runs, and is paid for, unread or not."""
    mine = select(table).where(table.c.account_id == account.id, table.c.kind == PREDICTION)
    with sandbox.store.read() as tx:
        rows = every(tx, mine.where(table.c.completed_at.is_(None)).order_by(table.c.seq))
    for row in rows:
        with suppress(LookupError):  # the account was reset meanwhile
            settle(sandbox, account, row, waits=False)


def settle(sandbox: Sandbox, account: Account, row: Row, *, waits: bool = True) -> Row:
    """Bring a prediction to where it stands now, running its model when it is due, and return it.

    One that another thread is running is waited for, or else returned as it is.
    """
    now_s, starts_s = sandbox.clock.now_s(), row["created_at"] + row["data"]["boot_s"]
    if row["completed_at"] is not None:
        return row
    limit_s = row["data"]["cancel_after_s"]
    if limit_s is not None and row["created_at"] + limit_s < min(starts_s, now_s):
        with sandbox.store.write() as tx:
            gone_s = row["created_at"] + limit_s
            return lifecycle.end(tx, account, row, Outcome("aborted", {"seconds": 0.0}), at_s=gone_s)
    if now_s < starts_s:
        return row
    with _turn(sandbox, row, waits) as is_ours:
        if is_ours:
            return _run(sandbox, account, row, starts_s)
    with sandbox.store.read() as tx:
        return documents.reload(tx, row)


@contextmanager
def _turn(sandbox: Sandbox, row: Row, waits: bool) -> Iterator[bool]:
    """Keep other threads from running a prediction, and yield whether it is this one's turn to."""
    with _TURNS_LOCK:
        turn = _TURNS.setdefault((sandbox.home, row["seq"]), threading.Lock())
    is_ours = turn.acquire(blocking=waits)
    try:
        yield is_ours
    finally:
        if is_ours:
            turn.release()


def _run(sandbox: Sandbox, account: Account, row: Row, starts_s: float) -> Row:
    with sandbox.store.write() as tx:
        row = lifecycle.begin(tx, row, at_s=starts_s)
    if row["completed_at"] is not None:
        return row
    outcome = _outcome(sandbox, account, row)  # outside any transaction: a network takes its time
    ended_s = min(sandbox.clock.now_s(), starts_s + outcome.data["seconds"])
    with sandbox.store.write() as tx:
        return lifecycle.end(tx, account, row, outcome, at_s=ended_s)


def cancel(sandbox: Sandbox, tx: Connection, account: Account, row: Row) -> Row:
    """End a prediction at its owner's wish, the boot so far billed too; one that ended before stays as it is."""
    now_s = sandbox.clock.now_s()
    ran_s = 0.0 if row["started_at"] is None else now_s - row["started_at"]
    charge = cost(account, row["data"]["hardware"], now_s - row["created_at"])
    return lifecycle.end(tx, account, row, Outcome("cancelled", {"seconds": ran_s}, charge), at_s=now_s)


def _outcome(sandbox: Sandbox, account: Account, row: Row) -> Outcome:
    began_s, given = time.perf_counter(), row["data"]["input"]
    model, config = (
        sandbox.object_path(account.id, "replicate", row["data"]["version"], name) for name in (MODEL_FILE, CONFIG_FILE)
    )
    data: dict[str, Any] = {"logs": ""}
    status = "completed"
    try:
        content = fetch(sandbox, account, given["image"])
        data["output"] = predict(model, config, content, float(given.get("confidence", 0.5)))
    except (InputError, DataError, OSError) as error:
        status, data["error"] = "failed", str(error)
    except Exception as error:  # the model is whatever somebody uploaded
        status, data["error"] = "failed", f"{type(error).__name__}: {error}"
    data["seconds"] = time.perf_counter() - began_s
    billed_s = row["data"]["boot_s"] + data["seconds"]
    return Outcome(status, data, cost(account, row["data"]["hardware"], billed_s))
