"""Trainings of the emulated Replicate API."""

import secrets
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import Connection

from sandbox import documents, lifecycle
from sandbox.api.replicate.call import Call, Caller, webhook_of
from sandbox.api.replicate.errors import bad_version, missing_destination, not_found, refuse
from sandbox.api.replicate.pages import page
from sandbox.dialects import answer
from sandbox.replicate.inputs import is_large_data_uri
from sandbox.replicate.models import TRAINER_VERSION, find_model, is_trainer
from sandbox.replicate.trainings import Order, cancel, create
from sandbox.replicate.views import created_view, list_view, run_view
from sandbox.replicate.words import TRAINING
from sandbox.store import Row

router = APIRouter()


@router.post("/v1/models/{owner}/{name}/versions/{version}/trainings", status_code=201)
def create_training(call: Caller, owner: str, name: str, version: str) -> Response:
    """Start a training of the trainer's version."""
    if not is_trainer(owner, name):
        raise not_found("model")
    if version != TRAINER_VERSION:
        raise bad_version()
    body = call.body()
    given, (webhook, events) = _given(body), webhook_of(body)
    with call.sandbox.store.read() as tx:
        destination = _destination(call, tx, body)
    call.check_balance()
    shown = secrets.token_hex(32) if call.settings.substituted_version else version
    order = Order(f"{owner}/{name}", shown, destination, given, call.base_url, webhook, events)
    with call.sandbox.store.write() as tx:
        row = create(call.sandbox, tx, call.account, order)
    call.sandbox.wake.set()
    return answer(created_view(row, call.base_url), 201)


def _given(body: dict[str, Any]) -> dict[str, Any]:
    given = body.get("input", {})
    if not isinstance(given, dict):
        raise refuse(422, "input must be an object.")
    large = [name for name, value in given.items() if is_large_data_uri(value)]
    if large:
        raise refuse(422, f"- input.{large[0]}: a data URI may hold 256 kB at most", "Input validation failed")
    return given


def _destination(call: Call, tx: Connection, body: dict[str, Any]) -> str:
    destination = body.get("destination")
    if not isinstance(destination, str):
        raise refuse(422, "destination is required.")
    owner, _, name = destination.partition("/")
    if find_model(tx, call.account, owner, name) is None:
        raise missing_destination()
    return destination


@router.get("/v1/trainings")
def list_trainings(call: Caller) -> dict[str, Any]:
    """Answer a page of the account's trainings."""
    with call.sandbox.store.read() as tx:
        rows = [row for row in documents.listed(tx, call.account, TRAINING) if call.is_visible(row)]
    answered = page(call, rows, lambda row: list_view(call.sandbox, call.account, row, call.base_url))
    shown = {training["id"] for training in answered["results"]}
    looked = [row for row in rows if row["id"] in shown and lifecycle.is_scripted(row) and row["completed_at"] is None]
    if looked:
        with call.sandbox.store.write() as tx:
            lifecycle.look(tx, looked)
    return answered


@router.get("/v1/trainings/{training_id}")
def get_training(call: Caller, training_id: str) -> dict[str, Any]:
    """Answer a training."""
    return shown_training(call, found_training(call, training_id))


@router.post("/v1/trainings/{training_id}/cancel")
def cancel_training(call: Caller, training_id: str) -> dict[str, Any]:
    """Cancel a training, or answer one that ended before as it is."""
    return cancelled_training(call, found_training(call, training_id))


def found_training(call: Call, training_id: str) -> Row:
    """Return a training that reads find.

    Raises:
        RefusedError: 404.
    """
    with call.sandbox.store.read() as tx:
        row = documents.find(tx, call.account, TRAINING, training_id)
    if row is None or not call.is_visible(row):
        raise not_found("training")
    return row


def shown_training(call: Call, row: Row) -> dict[str, Any]:
    """Return a training as it is, and count the look."""
    if lifecycle.is_scripted(row) and row["completed_at"] is None:
        with call.sandbox.store.write() as tx:
            lifecycle.look(tx, [row])
    return run_view(call.sandbox, call.account, row, call.base_url)


def cancelled_training(call: Call, row: Row) -> dict[str, Any]:
    """Cancel a training and return it."""
    with call.sandbox.store.write() as tx:
        row = cancel(call.sandbox, tx, call.account, documents.reload(tx, row))
    call.sandbox.wake.set()
    return run_view(call.sandbox, call.account, row, call.base_url)
