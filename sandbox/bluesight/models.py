"""Bluesight's models: made by jobs, asked for labels, removed."""

import shutil
from collections.abc import Sequence

import numpy as np
from sqlalchemy import Connection

from sandbox import documents
from sandbox.accounts import Account
from sandbox.bluesight.files import VENDOR, new_name
from sandbox.core import Sandbox, put_bytes
from sandbox.store import Row
from sandbox.tiles import Labels, Pixels, Task
from sandbox.tiles_model import TileModel

MODEL = "bluesight.model"
_MISS = "bluesight.miss"
_FILE = "model.npz"


def publish(sandbox: Sandbox, tx: Connection, account: Account, task: Task, content: bytes) -> str:
    """Keep a trained model and return its id."""
    prefix = "model-" if account.settings.bluesight.model_ids == "plain" else f"model:{task}-"
    name = new_name(prefix)
    put_bytes(sandbox.object_path(account.id, VENDOR, name, _FILE), content)
    data = {"task": task, "bytes": len(content)}
    documents.add(tx, account, MODEL, id=name, data=data, at_s=sandbox.clock.now_s())
    return name


def find_model(sandbox: Sandbox, tx: Connection, account: Account, name: str) -> Row | None:
    """Return a model; one that is new may take a moment to show, by setting."""
    row = documents.find(tx, account, MODEL, name)
    if row is None or sandbox.clock.now_s() - row["created_at"] < account.settings.bluesight.model_delay_s:
        return None
    return row


def remove_model(sandbox: Sandbox, tx: Connection, account: Account, row: Row) -> None:
    """Forget a model and its weights."""
    documents.remove(tx, row)
    shutil.rmtree(sandbox.object_folder(account.id, VENDOR, row["id"]), ignore_errors=True)


def was_missed(sandbox: Sandbox, tx: Connection, account: Account, name: str) -> bool:
    """Note that somebody asked an unknown model for labels, and return whether somebody had before."""
    if documents.find(tx, account, _MISS, name) is not None:
        return True
    documents.add(tx, account, _MISS, id=name, data={}, at_s=sandbox.clock.now_s())
    return False


def labelled(sandbox: Sandbox, account: Account, row: Row, tiles: Sequence[Pixels], bands: Sequence[str]) -> Labels:
    """Return the labels of tiles of one shape, (N,) or (N, H, W).

    Raises:
        ValueError: The shapes differ, or the model needs a band that is not there.
    """
    content = sandbox.object_path(account.id, VENDOR, row["id"], _FILE).read_bytes()
    return TileModel.from_bytes(content).predict(np.stack(tiles), bands)
