"""What of Replicate is not kept for ever: uploaded files, and the weights of trainings that ended a while ago."""

import shutil

from sqlalchemy import select

from sandbox import documents
from sandbox.accounts import find_account
from sandbox.core import Sandbox
from sandbox.replicate.inputs import file_path
from sandbox.replicate.views import is_removed
from sandbox.replicate.words import FILE, TRAINING
from sandbox.store import documents as table
from sandbox.store import every


def forget_expired(sandbox: Sandbox) -> None:
    """Remove files that have expired, with what is known of them, and weights past their retention; versions stay."""
    with sandbox.store.write() as tx:
        files = every(tx, select(table).where(table.c.kind == FILE))
        expired = [row for row in files if row["data"]["expires_at"] <= sandbox.clock.now_s()]
        for row in expired:
            documents.remove(tx, row)
        ended = every(tx, select(table).where(table.c.kind == TRAINING, table.c.completed_at.is_not(None)))
        accounts = {row["account_id"]: find_account(tx, row["account_id"]) for row in ended}
    folders = [file_path(sandbox, row).parent for row in expired]
    for row in ended:
        account = accounts[row["account_id"]]
        if account is not None and is_removed(sandbox, account, row):
            folders.append(sandbox.object_folder(account.id, "replicate", row["id"]))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
