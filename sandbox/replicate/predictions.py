"""Predictions of the emulated Replicate API: a trained version run on a picture, after its model has booted."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

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
from sandbox.store import Row


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
    """Add a prediction; it runs when somebody looks, or the background does for its webhook."""
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


def settle(sandbox: Sandbox, account: Account, row: Row) -> Row:
    """Bring a prediction to where it stands now, running its model when it is due, and return it."""
    now_s, starts_s = sandbox.clock.now_s(), row["created_at"] + row["data"]["boot_s"]
    if row["completed_at"] is not None:
        return row
    limit_s = row["data"]["cancel_after_s"]
    if limit_s is not None and row["created_at"] + limit_s < min(starts_s, now_s):
        with sandbox.store.write() as tx:
            return lifecycle.end(tx, account, row, Outcome("aborted", {"seconds": 0.0}), at_s=now_s)
    if now_s < starts_s:
        return row
    with sandbox.store.write() as tx:
        row = lifecycle.begin(tx, row, at_s=starts_s)
    outcome = _outcome(sandbox, account, row)  # outside any transaction: a network takes its time
    with sandbox.store.write() as tx:
        return lifecycle.end(tx, account, row, outcome, at_s=sandbox.clock.now_s())


def cancel(sandbox: Sandbox, tx: Connection, account: Account, row: Row) -> Row:
    """End a prediction at its owner's wish; one that ended before stays as it is."""
    now_s = sandbox.clock.now_s()
    seconds = 0.0 if row["started_at"] is None else now_s - row["started_at"]
    charge = cost(account, row["data"]["hardware"], seconds)
    return lifecycle.end(tx, account, row, Outcome("cancelled", {"seconds": seconds}, charge), at_s=now_s)


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
