"""Identity models: making and finding them, and the word their status is told with."""

from typing import Any

from sqlalchemy import Connection, select

from sandbox import documents
from sandbox.accounts import Account
from sandbox.photogpt.errors import PhotogptError, not_found
from sandbox.photogpt.ids import time_ordered_id
from sandbox.photogpt.jobs import TRAINING
from sandbox.store import Row, first
from sandbox.store import documents as table

MODEL, IMAGE = "photogpt.model", "photogpt.image"
HIDDEN = "hidden"
"""Status of a generated picture that is not to be seen yet."""
_WORDS = {"pending": "new", "queued": "training", "running": "training", "completed": "ready"}


def add_model(tx: Connection, account: Account, about: dict[str, Any], *, at_s: float) -> Row:
    """Add an untrained model."""
    data = {"about": about, "updated_at": at_s}
    made = {"name": about.get("name"), "status": "new"}
    return documents.add(tx, account, MODEL, id=time_ordered_id(at_s), data=data, at_s=at_s, **made)


def owned(tx: Connection, account: Account, kind: str, ref: str) -> Row:
    """Return a model or image of the account.

    Raises:
        PhotogptError: There is none, or it is another account's, or the model was deleted and such ones are gone.
    """
    row = documents.find(tx, account, kind, ref)
    unseen = (HIDDEN, "deleted") if account.settings.photogpt.deleted_models == "gone" else (HIDDEN,)
    if row is not None and row["status"] not in unseen:
        return row
    others = select(table.c.id).where(table.c.kind == kind, table.c.id == ref, table.c.account_id != account.id)
    if account.settings.photogpt.foreign_status == 403 and first(tx, others) is not None:
        raise PhotogptError(403, "you do not have access to it")
    raise not_found(kind.rpartition(".")[2])


def living(tx: Connection, account: Account, ref: str) -> Row:
    """Return a model of the account that was not deleted.

    Raises:
        PhotogptError: There is none.
    """
    model = owned(tx, account, MODEL, ref)
    if model["status"] == "deleted":
        raise not_found("model")
    return model


def latest_training(tx: Connection, account: Account, model: Row) -> Row | None:
    """Return the newest training of a model."""
    return next(iter(documents.listed(tx, account, TRAINING, parent=model["id"], limit=1)), None)


def status_of(account: Account, model: Row, training: Row | None) -> str:
    """Return the word a model's status is told with, from its newest training."""
    if model["status"] == "deleted" or training is None:
        return str(model["status"])
    word = str(training["status"])
    return account.settings.photogpt.failed_training if word == "failed" else _WORDS.get(word, word)


def is_training(training: Row | None) -> bool:
    """Whether a model's newest training is under way."""
    return training is not None and training["completed_at"] is None
