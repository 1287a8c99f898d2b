"""Trainings kept as documents: what they begin with, where a script has brought them, and how they end, once.

The status of a document is the script's neutral word (pending, queued, running, completed, failed, cancelled) or any
other word a script holds; each dialect says it in its own.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

from sqlalchemy import Connection, select

from sandbox import billing, documents
from sandbox.accounts import Account
from sandbox.core import Sandbox
from sandbox.script import Position, first_running, locate
from sandbox.settings import TERMINAL, Script
from sandbox.store import Row, every
from sandbox.store import documents as table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a training ended: the word, what to keep of it, and what it costs in the account's unit."""

    status: str
    data: Mapping[str, Any] = field(default_factory=dict)
    charge: int = 0


@dataclass(frozen=True)
class Scene:
    """A scripted training at one point of its script, inside the transaction that moves it there."""

    sandbox: Sandbox
    tx: Connection
    account: Account
    row: Row
    position: Position
    at_s: float
    """When that point was reached: exact in mode "time", the present otherwise."""

    @property
    def script(self) -> Script:
        """The script the training began with."""
        return script_of(self.row)


class Scripted(Protocol):
    """What a dialect does for one kind of scripted training."""

    @property
    def endings(self) -> frozenset[str]:
        """Words of scripts that end a training besides completed, failed and cancelled."""
        ...

    def end(self, scene: Scene) -> Outcome:
        """Make what the training leaves behind and say how it ended; what it raises becomes a failed training."""
        ...

    def moved(self, scene: Scene) -> None:
        """Take note that the training has another status than before; `scene.row` is the new row."""
        ...


@runtime_checkable
class Prepared(Protocol):
    """What takes its time before a training can be moved, and is therefore done outside any transaction."""

    def prepared(self, sandbox: Sandbox, account: Account, row: Row, word: str) -> Scripted:
        """Return what moves this training to the step of this word."""
        ...


def engine_data(account: Account) -> dict[str, Any]:
    """Return what the data of a new training must hold for the account's engine to move it."""
    settings = account.settings
    script = settings.script.model_dump(mode="json") if settings.engine == "scripted" else None
    return {"engine": settings.engine, "script": script}


def first_status(account: Account) -> str:
    """Return the status a new training begins with; one that ends at once still ends through settle()."""
    settings = account.settings
    word = settings.script.steps[0].status if settings.engine == "scripted" else "pending"
    return "pending" if word in TERMINAL else word


def is_scripted(row: Row) -> bool:
    """Whether a script moves this document."""
    return row["data"].get("script") is not None


def script_of(row: Row) -> Script:
    """Return the script a document began with."""
    return _parsed(json.dumps(row["data"]["script"]))


@lru_cache(maxsize=256)
def _parsed(text: str) -> Script:
    return Script.model_validate_json(text)


def position(sandbox: Sandbox, row: Row) -> Position:
    """Return where a scripted document stands in its script, whether or not it ended otherwise."""
    script = script_of(row)
    if script.mode != "time":
        return locate(script, float(row["ticks"]))
    return locate(script, float((sandbox.clock.now_s() - row["created_at"]) * script.speed))


def instant_s(sandbox: Sandbox, row: Row, at: float) -> float:
    """Return when a point of a document's script was reached: exact for time, the present for looks."""
    script, now_s = script_of(row), sandbox.clock.now_s()
    return min(now_s, float(row["created_at"]) + at / script.speed) if script.mode == "time" else now_s


def settle(sandbox: Sandbox, account: Account, kinds: Mapping[str, Scripted]) -> None:
    """Bring every open scripted document of these kinds to where its script stands now."""
    open_rows = select(table).where(table.c.account_id == account.id, table.c.kind.in_(tuple(kinds)))
    with sandbox.store.read() as tx:
        rows = every(tx, open_rows.where(table.c.completed_at.is_(None)).order_by(table.c.seq))
    moved = [row for row in rows if is_scripted(row) and _changes(sandbox, row, kinds[row["kind"]])]
    if not moved:
        return
    ways = [_way(sandbox, account, row, kinds[row["kind"]]) for row in moved]
    with sandbox.store.write() as tx:
        for row, (word, way) in zip(moved, ways, strict=True):
            fresh = documents.reload(tx, row)
            now = position(sandbox, fresh)
            if now.step.status == word:  # otherwise it was prepared for another step: next time
                _move(Scene(sandbox, tx, account, fresh, now, instant_s(sandbox, fresh, now.entered_at)), way)


def _way(sandbox: Sandbox, account: Account, row: Row, kind: Scripted) -> tuple[str, Scripted]:
    """Return where a document stands, and what moves it there."""
    word = position(sandbox, row).step.status
    return word, kind.prepared(sandbox, account, row, word) if isinstance(kind, Prepared) else kind


def _changes(sandbox: Sandbox, row: Row, kind: Scripted) -> bool:
    word = position(sandbox, row).step.status
    return word != row["status"] or word in TERMINAL | kind.endings


def _move(scene: Scene, kind: Scripted) -> None:
    tx, account, row, now = scene.tx, scene.account, scene.row, scene.position
    if row["completed_at"] is not None:
        return
    started = first_running(scene.script)
    if row["started_at"] is None and started is not None and started <= now.entered_at:
        row = documents.change(tx, row, started_at=instant_s(scene.sandbox, row, started))
    if now.step.status in TERMINAL | kind.endings:
        row = end(tx, account, row, _outcome(replace(scene, row=row), kind), at_s=scene.at_s)
    else:
        row = documents.change(tx, row, status=now.step.status)
    kind.moved(replace(scene, row=row))


def _outcome(scene: Scene, kind: Scripted) -> Outcome:
    """Return how a training ended; the weights are whatever somebody uploaded: no error of theirs reaches a request."""
    try:
        with scene.tx.begin_nested():
            return kind.end(scene)
    except Exception as error:  # see above
        logger.exception("the end of %s %s cannot be made", scene.row["kind"], scene.row["id"])
        return Outcome("failed", {"error": f"the scripted training cannot end: {type(error).__name__}: {error}"})


def end(tx: Connection, account: Account, row: Row, outcome: Outcome, *, at_s: float) -> Row:
    """End a document, charge it and return it; one that ended before stays as it is, and costs nothing more."""
    now = documents.reload(tx, row)
    if now["completed_at"] is not None:
        return now
    if outcome.charge:
        now = billing.charge_document(tx, account, now, outcome.charge, at_s=at_s)
    return documents.change(tx, now, status=outcome.status, data=dict(outcome.data), completed_at=at_s)


def begin(tx: Connection, row: Row, *, at_s: float, status: str = "running") -> Row:
    """Mark the moment a training starts to train; again, or after its end, is harmless."""
    now = documents.reload(tx, row)
    if now["started_at"] is not None or now["completed_at"] is not None:
        return now
    return documents.change(tx, now, status=status, started_at=at_s)


def look(tx: Connection, shown: Sequence[Row]) -> None:
    """Count one look at each of these documents; it moves the ones scripted by looks, after this answer."""
    for row in shown:
        if is_scripted(row) and row["data"]["script"]["mode"] == "looks":
            documents.tick(tx, row)
