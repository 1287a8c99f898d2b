"""Predictions of the emulated Replicate API."""

import asyncio
import re
import time
from datetime import datetime
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Response
from sqlalchemy import Connection

from sandbox import documents
from sandbox.api.replicate.call import Call, Caller, webhook_of
from sandbox.api.replicate.errors import bad_version, not_found, refuse
from sandbox.api.replicate.pages import page
from sandbox.api.replicate.trainings import cancelled_training, found_training, shown_training
from sandbox.dialects import answer
from sandbox.replicate.inputs import is_large_data_uri
from sandbox.replicate.predictions import Wish, cancel, create, settle
from sandbox.replicate.views import list_view, run_view
from sandbox.replicate.words import PREDICTION, VERSION
from sandbox.store import Row

router = APIRouter()
_KEYS = {"version", "input", "webhook", "webhook_events_filter", "stream"}
_PREFER = re.compile(r"wait(?:=([0-9]{1,3}))?")
_AGE = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?")
_SECONDS = re.compile("[0-9]{1,6}")
_MOST_S, _LEAST_CANCEL_S = 60, 5
_LOOK_S, _MOST_LOOK_S = 0.02, 0.25


@router.post("/v1/predictions", status_code=201)
async def create_prediction(call: Caller) -> Response:
    """Run a trained version on a picture, waiting for the output where that was asked for."""
    wait_s = _wait_s(call.request.headers.get("prefer"))
    row = await run_sync(_created, call)
    if wait_s is None:
        return answer(await run_sync(run_view, call.sandbox, call.account, row, call.base_url), 201)
    return await _waited(call, row, wait_s)


def _created(call: Call) -> Row:
    body = call.body()
    unknown = sorted(set(body) - _KEYS)
    if unknown:
        raise refuse(422, f"Additional property {unknown[0]} is not allowed")
    given, (webhook, events) = _given(body), webhook_of(body)
    cancel_after_s = _cancel_after_s(call.request.headers.get("cancel-after"))
    call.check_balance()
    with call.sandbox.store.write() as tx:
        version, model, hardware = _version(call, tx, body.get("version"))
        wish = Wish(model, version, hardware, given, call.base_url, webhook, events, cancel_after_s)
        row = create(call.sandbox, tx, call.account, wish)
    call.sandbox.wake.set()
    return row


async def _waited(call: Call, row: Row, wait_s: float) -> Response:
    """Answer when a prediction has ended, or the time is up; between two looks no thread is held."""
    deadline_s, pause_s = time.monotonic() + wait_s, _LOOK_S
    row = await run_sync(_looked, call, row)
    while row["completed_at"] is None and (left_s := deadline_s - time.monotonic()) > 0:
        await asyncio.sleep(min(pause_s, left_s))
        pause_s = min(_MOST_LOOK_S, pause_s * 1.5)
        row = await run_sync(_looked, call, row)
    view = await run_sync(run_view, call.sandbox, call.account, row, call.base_url)
    is_over = row["completed_at"] is not None
    if is_over and row["status"] == "completed":
        view["status"] = call.settings.sync_status
    applied = call.request.headers["prefer"].replace(" ", "")
    return answer(view, 201 if is_over else 202, preference_applied=applied)


def _looked(call: Call, row: Row) -> Row:
    try:
        with call.sandbox.store.read() as tx:
            row = documents.reload(tx, row)  # it may have been canceled meanwhile
        return settle(call.sandbox, call.account, row, waits=False)
    except LookupError:  # the account was reset meanwhile
        raise not_found("prediction") from None


def _given(body: dict[str, Any]) -> dict[str, Any]:
    given = body.get("input")
    if not isinstance(given, dict):
        raise refuse(422, "input is required and must be an object.")
    image = given.get("image")
    if not isinstance(image, str) or not image.startswith(("http://", "https://", "data:")):
        raise refuse(422, "- input.image: Does not match format 'uri'", "Input validation failed")
    if is_large_data_uri(image):
        raise refuse(422, "- input.image: a data URI may hold 256 kB at most", "Input validation failed")
    if not isinstance(given.get("confidence", 0.5), int | float):
        raise refuse(422, "- input.confidence: Invalid type. Expected: number", "Input validation failed")
    return given


def _version(call: Call, tx: Connection, asked: object) -> tuple[Row, str, str]:
    """Return the version a prediction names, its model, and what that runs on."""
    model, _, version = asked.rpartition(":") if isinstance(asked, str) else ("", "", "")
    row = documents.find(tx, call.account, VERSION, version)
    name = f"{call.settings.username}/{row['parent']}" if row is not None else ""
    if row is None or (model and model != name):
        raise bad_version()
    owner = documents.find(tx, call.account, "replicate.model", row["parent"])
    if owner is None:
        raise bad_version()
    documents.change(tx, owner, data={"run_count": owner["data"].get("run_count", 0) + 1})
    return row, name, str(owner["data"]["hardware"])


def _wait_s(header: str | None) -> float | None:
    if header is None:
        return None
    match = _PREFER.fullmatch(header.replace(" ", ""))
    seconds = int(match[1] or _MOST_S) if match else 0
    if not 1 <= seconds <= _MOST_S:
        raise refuse(422, f"Prefer must be wait, or wait=n with n from 1 to {_MOST_S}.")
    return float(seconds)


def _cancel_after_s(header: str | None) -> float | None:
    if header is None:
        return None
    match = _AGE.fullmatch(header)
    parts = [int(part or 0) for part in match.groups()] if match else [0, 0, 0]
    seconds = int(header) if _SECONDS.fullmatch(header) else parts[0] * 3600 + parts[1] * 60 + parts[2]
    if seconds < _LEAST_CANCEL_S:
        raise refuse(422, f"Cancel-After must be a time such as 90s or 1h30m, of {_LEAST_CANCEL_S} seconds at least.")
    return float(seconds)


@router.get("/v1/predictions")
def list_predictions(call: Caller) -> dict[str, Any]:
    """Answer a page of the account's predictions."""
    given = call.request.query_params
    after_s, before_s = _instant_s(given.get("created_after"), 0.0), _instant_s(given.get("created_before"), 1e18)
    with call.sandbox.store.read() as tx:
        rows = documents.listed(tx, call.account, PREDICTION)
    is_web = given.get("source") == "web"
    kept = [row for row in rows if call.is_visible(row) and after_s <= row["created_at"] < before_s and not is_web]
    return page(call, kept, lambda row: list_view(call.sandbox, call.account, row, call.base_url))


def _instant_s(text: str | None, absent: float) -> float:
    if text is None:
        return absent
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise refuse(422, f"{text!r} is not an ISO 8601 date and time.") from None


@router.get("/v1/predictions/{prediction_id}")
def get_prediction(call: Caller, prediction_id: str) -> dict[str, Any]:
    """Answer a prediction, or a training that is young enough to be found here too."""
    row = _found(call, prediction_id)
    if row is None:
        return shown_training(call, _training(call, prediction_id))
    row = settle(call.sandbox, call.account, row)
    return run_view(call.sandbox, call.account, row, call.base_url)


@router.post("/v1/predictions/{prediction_id}/cancel")
def cancel_prediction(call: Caller, prediction_id: str) -> dict[str, Any]:
    """Cancel a prediction or such a training; what ended before stays as it is."""
    row = _found(call, prediction_id)
    if row is None:
        return cancelled_training(call, _training(call, prediction_id))
    row = settle(call.sandbox, call.account, row, waits=False)
    with call.sandbox.store.write() as tx:
        row = cancel(call.sandbox, tx, call.account, documents.reload(tx, row))
    return run_view(call.sandbox, call.account, row, call.base_url)


def _found(call: Call, prediction_id: str) -> Row | None:
    with call.sandbox.store.read() as tx:
        row = documents.find(tx, call.account, PREDICTION, prediction_id)
    return row if row is not None and call.is_visible(row) else None


def _training(call: Call, training_id: str) -> Row:
    row = found_training(call, training_id)
    if call.now_s >= row["created_at"] + call.settings.training_as_prediction_s:
        raise not_found("prediction")
    return row
