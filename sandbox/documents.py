"""What the vendors without tables of their own keep: one row a thing, its particulars as JSON.

Bytes that belong to a document lie on disk at `sandbox.object_path(account.id, vendor, document id, name)`, where
`vendor` is the part of the kind before the dot; a folder there whose name is no document's id is swept away.
"""

from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from sandbox.accounts import Account
from sandbox.store import Row, documents, every, first

TRAINING_KINDS = ("replicate.training", "bluesight.job", "photogpt.training")
"""Kinds that are trainings: what the bill counts as runs and the control API moves on."""


def add(
    tx: Connection, account: Account, kind: str, *, id: str, data: dict[str, Any], at_s: float, **columns: Any
) -> Row:
    """Add a document and return it; `columns` are parent, name, status and charged, where it has them.

    Raises:
        sqlalchemy.exc.IntegrityError: The account has one of this kind and id.
    """
    values = {"account_id": account.id, "kind": kind, "id": id, "data": data, "created_at": at_s, **columns}
    tx.execute(insert(documents).values(values))
    return _known(find(tx, account, kind, id), id)


def find(tx: Connection, account: Account, kind: str, id: str) -> Row | None:
    """Return a document by its id."""
    mine = (documents.c.account_id == account.id, documents.c.kind == kind)
    return first(tx, select(documents).where(*mine, documents.c.id == id))


def find_training(tx: Connection, account: Account, id: str) -> Row | None:
    """Return a training of any vendor by its id."""
    mine = (documents.c.account_id == account.id, documents.c.kind.in_(TRAINING_KINDS))
    return first(tx, select(documents).where(*mine, documents.c.id == id))


def listed(  # noqa: PLR0913 - a list has that many filters
    tx: Connection,
    account: Account,
    kind: str,
    *,
    parent: str | None = None,
    newest_first: bool = True,
    before_seq: int | None = None,
    limit: int | None = None,
) -> list[Row]:
    """Return documents of a kind in the order they were made; `before_seq` leaves that one and newer ones out."""
    query = select(documents).where(documents.c.account_id == account.id, documents.c.kind == kind)
    if parent is not None:
        query = query.where(documents.c.parent == parent)
    if before_seq is not None:
        query = query.where(documents.c.seq < before_seq)
    query = query.order_by(documents.c.seq.desc() if newest_first else documents.c.seq)
    return every(tx, query if limit is None else query.limit(limit))


def reload(tx: Connection, row: Row) -> Row:
    """Return a document as it is now.

    Raises:
        LookupError: It was removed meanwhile.
    """
    return _known(first(tx, select(documents).where(documents.c.seq == row["seq"])), row["id"])


def change(tx: Connection, row: Row, **columns: Any) -> Row:
    """Change columns of a document and return it; `data` is merged into what is there, key by key.

    Raises:
        LookupError: It was removed meanwhile.
    """
    now = reload(tx, row)
    if "data" in columns:
        columns["data"] = {**now["data"], **columns["data"]}
    tx.execute(update(documents).where(documents.c.seq == row["seq"]).values(**columns))
    return {**now, **columns}


def tick(tx: Connection, row: Row, ticks: int = 1) -> None:
    """Count looks at a document, or steps it is moved on by hand."""
    tx.execute(update(documents).where(documents.c.seq == row["seq"]).values(ticks=documents.c.ticks + ticks))


def remove(tx: Connection, row: Row) -> None:
    """Forget a document; the caller removes its files."""
    tx.execute(delete(documents).where(documents.c.seq == row["seq"]))


def job_name(row: Row) -> str:
    """Return the name of a document's job folder: unlike an id, it is no other account's."""
    return f"document-{row['seq']}"


def open_real(tx: Connection) -> list[Row]:
    """Return the trainings of all accounts that a child process of this machine is to run, the oldest first."""
    waiting = select(documents).where(documents.c.completed_at.is_(None), documents.c.kind.in_(TRAINING_KINDS))
    rows = every(tx, waiting.order_by(documents.c.seq))
    return [row for row in rows if row["data"].get("engine") == "real"]


def _known(row: Row | None, id: str) -> Row:
    if row is None:
        raise LookupError(f"document {id!r} does not exist any more")
    return row
