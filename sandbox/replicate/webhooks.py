"""Webhooks of the emulated Replicate API: what is told, when, signed how, and what is tried again."""

import base64
import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from sandbox import documents
from sandbox.accounts import Account, find_account
from sandbox.core import Sandbox
from sandbox.replicate.loopback import CALL_ERRORS, called, is_here
from sandbox.replicate.trainings import WAITING
from sandbox.replicate.views import run_view
from sandbox.replicate.words import DELIVERY
from sandbox.store import Row, every
from sandbox.store import documents as table

logger = logging.getLogger(__name__)

_THROTTLE_S = 0.5
_LOOK_S = 0.05
_MAX_TRIES = 7
_ANSWER_S = 3.0


def signing_secret(sandbox: Sandbox, account: Account) -> str:
    """Return the secret an account's webhooks are signed with."""
    digest = hmac.new(sandbox.signing_key.encode(), f"webhooks of {account.id}".encode(), hashlib.sha256).digest()
    return "whsec_" + base64.b64encode(digest[:24]).decode()


def signature(secret: str, delivery_id: str, timestamp: int, body: bytes) -> str:
    """Return the value of webhook-signature."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{delivery_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode()


def observe(sandbox: Sandbox, account: Account, row: Row) -> None:
    """Put in line what a run's webhook has not been told yet."""
    now_s, told = sandbox.clock.now_s(), dict(row["data"].get("told", {}))
    view = run_view(sandbox, account, row, row["data"]["base_url"])
    events = _news(row, view, told, now_s)
    if not events:
        return
    with sandbox.store.write() as tx:
        fresh = documents.reload(tx, row)
        if fresh["data"].get("told", {}) != row["data"].get("told", {}):
            return
        for event, body in events:
            _put_in_line(sandbox, tx, account, row, (event, body))
        is_over = "completed" in told
        documents.change(tx, row, data={"told": told}, parent=None if is_over else row["parent"])


def _news(row: Row, view: dict[str, Any], told: dict[str, Any], now_s: float) -> list[tuple[str, dict[str, Any]]]:
    """Return events and bodies that are due, noting them in `told`."""
    wanted, news = row["data"]["events"], list[tuple[str, dict[str, Any]]]()
    is_over = row["completed_at"] is not None
    if row["started_at"] is not None and "start" not in told:
        told["start"] = now_s
        before: dict[str, Any] = {"status": "processing", "output": None, "logs": "", "error": None}
        before |= {"completed_at": None, "metrics": {}}
        news.append(("start", {**view, **before}))
    logs = view["logs"] or ""
    if len(logs) > told.get("logs", 0) and (is_over or now_s >= told.get("logs_at", 0) + _THROTTLE_S):
        told |= {"logs": len(logs), "logs_at": now_s}
        news.append(("logs", {**view, **({"status": "processing", "output": None} if is_over else {})}))
    if view["output"] is not None and "output" not in told:
        told["output"] = now_s
        news.append(("output", {**view, "status": "processing", "completed_at": None}))
    if is_over and "completed" not in told:
        told["completed"] = now_s
        news.append(("completed", view))
    return [(event, body) for event, body in news if event in wanted or event == "completed"]


def _put_in_line(
    sandbox: Sandbox, tx: Connection, account: Account, row: Row, what: tuple[str, dict[str, Any]]
) -> None:
    event, body = what
    settings, now_s = account.settings.replicate, sandbox.clock.now_s()
    if event in settings.webhook_drop or event not in row["data"]["events"]:
        return
    if not is_here(row["data"]["webhook"]):
        logger.warning("the webhook of %s is not delivered: the sandbox calls this machine only", row["id"])
        return
    about = {"url": row["data"]["webhook"], "event": event, "body": json.dumps(body), "tries": 0, "run": row["id"]}
    if settings.webhook_reorder and event != "completed":
        about["after"] = row["id"]
    delivery_id = "msg_" + secrets.token_urlsafe(20).replace("_", "a").replace("-", "b")
    for copy in range(settings.webhook_copies):
        data = {**about, "delivery_id": delivery_id, "due_s": now_s + settings.webhook_delay_s}
        documents.add(tx, account, DELIVERY, id=f"{delivery_id}.{copy}", data=data, at_s=now_s)


def deliver_due(sandbox: Sandbox) -> float | None:
    """Deliver what is due, until the sandbox stops, and return seconds until to look again.

    None means that nothing is in line, and no run has a webhook that could be told something soon.
    """
    with sandbox.store.read() as tx:
        rows = every(tx, select(table).where(table.c.kind == DELIVERY).order_by(table.c.seq))
        held = _held(tx, rows)
        waiting = tx.execute(select(table.c.seq).where(table.c.parent == WAITING).limit(1)).first()
    now_s = sandbox.clock.now_s()
    for row in rows:
        if row["data"]["due_s"] <= now_s and row["seq"] not in held and not sandbox.stopping.is_set():
            try:
                _deliver(sandbox, row)
            except Exception:  # whatever it is: those behind this one must go out
                logger.exception("webhook %s of %s cannot be delivered", row["id"], row["data"]["run"])
    return _LOOK_S if rows or waiting else None


def _held(tx: Connection, rows: list[Row]) -> set[int]:
    """Return the deliveries that are to come after the terminal one of their run, which is still to come."""
    waiting = {row["data"]["run"] for row in rows if row["data"]["event"] == "completed"}
    runs = {row["data"]["after"] for row in rows if "after" in row["data"]}
    over = select(table.c.id).where(table.c.id.in_(runs), table.c.completed_at.is_not(None), table.c.parent.is_(None))
    ended = set(tx.execute(over).scalars()) if runs else set()
    return {row["seq"] for row in rows if (run := row["data"].get("after")) and (run in waiting or run not in ended)}


def _deliver(sandbox: Sandbox, row: Row) -> None:
    with sandbox.store.read() as tx:
        account = find_account(tx, row["account_id"])
    if account is None:
        return
    data, timestamp = row["data"], int(sandbox.clock.now_s())
    body = data["body"].encode()
    headers = {
        "content-type": "application/json",
        "webhook-id": data["delivery_id"],
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(signing_secret(sandbox, account), data["delivery_id"], timestamp, body),
    }
    is_taken = _posted(sandbox, data["url"], body, headers)
    if not is_taken and sandbox.stopping.is_set():
        return  # the stop cut it off, which is no try: the next server of this home delivers it
    is_done = is_taken or data["event"] != "completed" or data["tries"] + 1 >= _MAX_TRIES
    with sandbox.store.write() as tx:
        if is_done:
            documents.remove(tx, row)
            return
        pause_s = account.settings.replicate.webhook_retry_s * 2 ** data["tries"]
        documents.change(tx, row, data={"tries": data["tries"] + 1, "due_s": sandbox.clock.now_s() + pause_s})


def _posted(sandbox: Sandbox, url: str, body: bytes, headers: Mapping[str, str]) -> bool:
    """Send one webhook and return whether it was taken; a redirect is not followed, and counts as taken."""
    limits: dict[str, Any] = {"within_s": _ANSWER_S, "stopping": sandbox.stopping}
    try:
        with called("POST", url, content=body, headers=headers, **limits) as answer:
            return not answer.is_error  # the status is all that counts: the body is not waited for
    except CALL_ERRORS:
        return False
