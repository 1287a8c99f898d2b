"""Bluesight's training jobs: made, cancelled as far as that goes, and shown in the vendor's words."""

from typing import Any

from sqlalchemy import Connection, select

from sandbox import documents, lifecycle
from sandbox.accounts import Account
from sandbox.bluesight.files import new_name
from sandbox.core import Sandbox
from sandbox.jobfolder import JobFolder
from sandbox.lifecycle import Outcome
from sandbox.store import Row, every
from sandbox.store import documents as table

JOB = "bluesight.job"
FIRST = "initializing"
_ORDER = (FIRST, "queued", "downloading_files", "validating_files", "running")
_WORDS = {"pending": FIRST, "completed": "succeeded"}


def add_job(sandbox: Sandbox, tx: Connection, account: Account, order: dict[str, Any]) -> Row:
    """Take an order; whether its file exists is not looked at."""
    data = {**order, **lifecycle.engine_data(account)}
    status, at_s = lifecycle.first_status(account), sandbox.clock.now_s()
    return documents.add(tx, account, JOB, id=new_name("trainingjob-"), data=data, status=status, at_s=at_s)


def cancel(sandbox: Sandbox, tx: Connection, account: Account, row: Row) -> Row:
    """Mark a job as cancelled, which its next step overwrites, or end it, by setting."""
    at_s = sandbox.clock.now_s()
    if account.settings.bluesight.cancel == "final":
        return lifecycle.end(tx, account, row, Outcome("cancelled"), at_s=at_s)
    mark = {"cancelled_while": _word(sandbox, account, row), "cancelled_at": at_s}
    return documents.change(tx, row, data=mark)


def status_of(sandbox: Sandbox, account: Account, row: Row) -> str:
    """Return the word a job shows now."""
    word = _word(sandbox, account, row)
    return "cancelled" if row["data"].get("cancelled_while") == word else word


def is_finished(status: str) -> bool:
    """Whether a job with this word refuses to be cancelled."""
    return status in ("succeeded", "failed", "cancelled")


def finished_at_s(row: Row) -> float | None:
    """Return when a job ended, or else when somebody last asked for that."""
    found: float | None = row["completed_at"] or row["data"].get("cancelled_at")
    return found


def is_holding_up(sandbox: Sandbox, account: Account) -> bool:
    """Whether a job of this account trains just now and, by setting, lets nobody else be answered meanwhile."""
    whose = account.settings.bluesight.blocks_while_training
    if whose == "never":
        return False
    mine = select(table).where(table.c.account_id == account.id, table.c.kind == JOB)
    with sandbox.store.read() as tx:
        rows = every(tx, mine.where(table.c.completed_at.is_(None)))
    return any(_trains(sandbox, row, whose) for row in rows)


def _trains(sandbox: Sandbox, row: Row, whose: str) -> bool:
    if not lifecycle.is_scripted(row):
        # A child holds its folder as long as it lives: a job that a server before this one left behind holds up nobody.
        return row["data"].get("phase") == "running" and JobFolder(sandbox.jobs / documents.job_name(row)).is_taken
    if whose != "always" or lifecycle.script_of(row).mode == "looks":
        return False
    return lifecycle.position(sandbox, row).step.status == "running"


def _word(sandbox: Sandbox, account: Account, row: Row) -> str:
    """Return the vendor's word for where a job is, a cancel left out."""
    word, settings = _natural_word(sandbox, account, row), account.settings.bluesight
    if word not in settings.missed_statuses:
        return word
    before = [other for other in _ORDER[: _ORDER.index(word)] if other not in settings.missed_statuses]
    return next(other for other in reversed(before) if other != "queued" or settings.shows_queued)


def _natural_word(sandbox: Sandbox, account: Account, row: Row) -> str:
    status = str(row["status"])
    if row["completed_at"] is not None:
        return _WORDS.get(status, status)
    if not lifecycle.is_scripted(row):
        if row["data"].get("phase"):
            return str(row["data"]["phase"])
        return "queued" if account.settings.bluesight.shows_queued else FIRST
    if status != "queued":
        return _WORDS.get(status, status)
    if account.settings.bluesight.shows_queued:
        return "queued"
    return "downloading_files" if lifecycle.position(sandbox, row).fraction < 0.5 else "validating_files"
