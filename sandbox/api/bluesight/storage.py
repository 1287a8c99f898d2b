"""Bluesight's files and models: stored, shown, removed."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, UploadFile
from sqlalchemy import Connection

from sandbox import documents
from sandbox.accounts import Account
from sandbox.api.bluesight.bodies import Json, file_view, model_view
from sandbox.api.bluesight.call import BluesightRoute, Call, Caller, refused
from sandbox.bluesight.files import FILE, add_file, remove_file
from sandbox.bluesight.models import find_model, remove_model
from sandbox.core import Sandbox
from sandbox.store import Row

router = APIRouter(route_class=BluesightRoute)


@router.post("/files")
def upload(call: Caller, file: UploadFile) -> Json:
    """Keep a file, whatever it holds."""
    _need_storage(call, "upload file")
    return file_view(add_file(call.sandbox, call.account, file.filename, file.file.read()))


@router.get("/files/{file_id}")
def show_file(call: Caller, file_id: str) -> Json:
    """Show what is known of a file."""
    with call.sandbox.store.read() as tx:
        return file_view(_found(documents.find(tx, call.account, FILE, file_id), "File"))


@router.delete("/files/{file_id}")
def delete_file(call: Caller, file_id: str) -> Json:
    """Remove a file and show what it was."""
    return file_view(_removed(call, "File", lambda tx: documents.find(tx, call.account, FILE, file_id), remove_file))


@router.get("/models/{model_id}")
def show_model(call: Caller, model_id: str) -> Json:
    """Show what is known of a model."""
    with call.sandbox.store.read() as tx:
        return model_view(_found(find_model(call.sandbox, tx, call.account, model_id), "Model"))


@router.delete("/models/{model_id}")
def delete_model(call: Caller, model_id: str) -> Json:
    """Remove a model and show what it was."""
    find = find_model
    return model_view(_removed(call, "Model", lambda tx: find(call.sandbox, tx, call.account, model_id), remove_model))


def _removed(
    call: Call,
    what: str,
    find: Callable[[Connection], Row | None],
    remove: Callable[[Sandbox, Connection, Account, Row], Any],
) -> Row:
    with call.sandbox.store.write() as tx:
        row = _found(find(tx), what)
        _need_storage(call, f"delete {what.lower()}")
        remove(call.sandbox, tx, call.account, row)
    return row


def _found(row: Row | None, what: str) -> Row:
    if row is None:
        raise refused(404, f"{what} not found")
    return row


def _need_storage(call: Call, to_do: str) -> None:
    if call.account.settings.bluesight.storage == "broken":
        raise refused(500, f"Failed to {to_do}: ConnectionError storage does not answer")
