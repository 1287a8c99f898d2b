"""Predictions of the emulated Replicate API."""

import re
import time
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import Connection

from sandbox import documents
from sandbox.api.replicate.call import Call, Caller, webhook_of
from sandbox.api.replicate.errors import bad_version, not_found, refuse
from sandbox.api.replicate.pages import page
from sandbox.api.replicate.trainings import cancelled_training, found_training, shown_training
from sandbox.dialects import answer
from sandbox.replicate.inputs import MAX_DATA_URI_BYTES
from sandbox.replicate.predictions import Wish, cancel, create, settle
from sandbox.replicate.views import list_view, run_view
from sandbox.replicate.words import PREDICTION, VERSION
from sandbox.store import Row

router = APIRouter()
_KEYS = {"version", "input", "webhook", "webhook_events_filter", "stream"}
_PREFER = re.compile(r"wait(?:=(\d+))?$")
_AGE = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$")
_MOST_S, _LEAST_CANCEL_S, _LOOK_S = 60, 5, 0.02


@router.post("/v1/predictions", status_code=201)
def create_prediction(call: Caller) -> Response:
    """Run a trained version on a picture, waiting for the output where that was asked for."""
    body, wait_s = call.body(), _wait_s(call.request.headers.get("prefer"))
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
    if wait_s is None:
        return answer(run_view(call.sandbox, call.account, row, call.base_url), 201)
    return _waited(call, row, wait_s)


def _waited(call: Call, row: Row, wait_s: float) -> Response:
    deadline_s = time.monotonic() + wait_s
    row = settle(call.sandbox, call.account, row)
    while row["completed_at"] is None and time.monotonic() < deadline_s:
        time.sleep(_LOOK_S)
        row = settle(call.sandbox, call.account, row)
    view = run_view(call.sandbox, call.account, row, call.base_url)
    is_over = row["completed_at"] is not None
    if is_over and row["status"] == "completed":
        view["status"] = call.settings.sync_status
    applied = call.request.headers["prefer"].replace(" ", "")
    return answer(view, 201 if is_over else 202, preference_applied=applied)


def _given(body: dict[str, Any]) -> dict[str, Any]:
    given = body.get("input")
    if not isinstance(given, dict):
        raise refuse(422, "input is required and must be an object.")
    image = given.get("image")
    if not isinstance(image, str) or not image.startswith(("http://", "https://", "data:")):
        raise refuse(422, "- input.image: Does not match format 'uri'", "Input validation failed")
    if image.startswith("data:") and len(image) > MAX_DATA_URI_BYTES * 4 // 3 + 100:
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
    match = _PREFER.match(header.replace(" ", ""))
    seconds = int(match[1] or _MOST_S) if match else 0
    if not 1 <= seconds <= _MOST_S:
        raise refuse(422, f"Prefer must be wait, or wait=n with n from 1 to {_MOST_S}.")
    return float(seconds)


def _cancel_after_s(header: str | None) -> float | None:
    if header is None:
        return None
    match = _AGE.match(header)
    parts = [int(part or 0) for part in match.groups()] if match else [0, 0, int(header) if header.isdigit() else 0]
    seconds = parts[0] * 3600 + parts[1] * 60 + parts[2]
    if seconds < _LEAST_CANCEL_S:
        raise refuse(422, f"Cancel-After must be at least {_LEAST_CANCEL_S} seconds.")
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
    settled = [settle(call.sandbox, call.account, row) for row in kept]
    return page(call, settled, lambda row: list_view(call.sandbox, call.account, row, call.base_url))


def _instant_s(text: str | None, absent: float) -> float:
    if text is None:
        return absent
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
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
