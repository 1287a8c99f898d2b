"""What every request passes before and after its handler: account, request log, rate limit, faults."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from anyio.to_thread import run_sync
from sqlalchemy import Connection, insert, update
from starlette.responses import Response

from sandbox.accounts import Account, find_account
from sandbox.addressing import segments
from sandbox.core import Sandbox
from sandbox.dialects import STORED_PREFIXES, Dialect
from sandbox.faults import Due, FaultRule, give_back, strike
from sandbox.quota import allowance
from sandbox.requestlog import Sent, headers_of, logged_body, logged_headers, logged_path, redacted
from sandbox.store import requests
from sandbox.upkeep import trim_log
from sandbox.vendors import dialect_of
from sandbox.wire import Answer, Message, Receive, Scope, Send, reset_connection, transport_of, wait_for_disconnect

CONTROL_PREFIX = "/_sandbox"
SELF_HEADER = "X-Train-Pipeline-Sandbox"  # says who answers, so that a rehearsal never passes for the real thing
App = Callable[[Scope, Receive, Send], Any]


@dataclass(frozen=True)
class Entry:
    """What is decided about a request before its handler runs."""

    dialect: Dialect
    account: Account | None
    due: Due | None
    refusal: Response | None
    headers: dict[str, str]
    seq: int

    @property
    def rule(self) -> FaultRule | None:
        """The fault that is due."""
        return self.due.rule if self.due else None


@dataclass(frozen=True)
class Exchange:
    """One request on its way through the app."""

    app: App
    scope: Scope
    receive: Receive
    body: bytes
    answer: Answer

    async def run(self, send: Send) -> None:
        """Let the app handle the request, sending its answer there."""
        await self.app(self.scope, _replayed(self.body, self.receive), send)

    async def reply(self, response: Response) -> None:
        """Send a made-up answer instead of the app's."""
        await response(self.scope, self.receive, self.answer.send)

    async def gone_within(self, seconds: float) -> bool:
        """Wait, and return early with True when the client hangs up."""
        try:
            await asyncio.wait_for(wait_for_disconnect(self.receive), seconds)
        except TimeoutError:
            return False
        return True


class Gate:
    """ASGI middleware around the whole app."""

    def __init__(self, app: App, sandbox: Sandbox, in_use: Callable[[], AbstractContextManager[None]]) -> None:
        self._app, self._sandbox, self._in_use = app, sandbox, in_use

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        with self._in_use():
            await self._handle(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(CONTROL_PREFIX):
            await self._app(scope, receive, send)
            return
        scope["path"] = segments(scope["raw_path"])
        body = await _read(receive)
        request_id = "req_" + secrets.token_hex(12)
        entry = await run_sync(self._enter, scope, request_id, body)
        scope["state"] |= {"account": entry.account, "request_id": request_id, "body": body}

        async def note(status: int, is_spared: bool) -> None:
            await run_sync(self._note_status, entry, status, is_spared)

        answer = Answer(scope, send, {"X-Request-Id": request_id, SELF_HEADER: "1", **entry.headers}, entry.rule, note)
        await _respond(Exchange(self._app, scope, receive, body, answer), entry)

    def _enter(self, scope: Scope, request_id: str, body: bytes) -> Entry:
        """Decide about a request and log it, in one transaction: counts stay exact under any interleaving."""
        dialect, headers = dialect_of(scope["path"]), headers_of(scope)
        stored = scope["path"].startswith(STORED_PREFIXES)
        kept = logged_body(Sent(scope["method"], scope["path"], headers), body)  # takes its time: outside
        with self._sandbox.store.write() as tx:
            account = self._account(tx, scope, dialect, headers)
            due, refusal, limits, bucket = None, None, dict[str, str](), None
            if account is None and not stored:
                refusal = dialect.unauthenticated(headers)
            elif account is not None and not stored:
                quota = dialect.quota(account, scope["method"], scope["path"])
                left, bucket = allowance(tx, account, quota, self._sandbox.clock.now_s()), quota.bucket
                limits = dialect.limit_headers(left)
                refusal = dialect.throttled(left, account) if left.remaining < 0 else None
            if account is not None and refusal is None:
                due = strike(tx, account, scope["method"], unquote(scope["raw_path"].decode("ascii")))
            row = {
                "account_id": account.id if account else None,
                "request_id": request_id,
                "method": scope["method"],
                "path": logged_path(scope["raw_path"].decode("ascii")),
                "query": redacted(scope["query_string"].decode("latin-1")),
                "headers": logged_headers(headers),
                "body": kept,
                "fault": due.rule.action if due else None,
                "counted": refusal is None and not stored,
                "bucket": bucket,
                "at": self._sandbox.clock.now_s(),
            }
            key = tx.execute(insert(requests).values(row)).inserted_primary_key
            seq = int(key[0]) if key else 0
            trim_log(tx, seq)
        return Entry(dialect, account, due, refusal, limits, seq)

    def _note_status(self, entry: Entry, status: int, is_spared: bool) -> None:
        values: dict[str, Any] = {"status": status}
        with self._sandbox.store.write() as tx:
            if is_spared and entry.due is not None:
                give_back(tx, entry.due)
                values["fault"] = None
            tx.execute(update(requests).where(requests.c.seq == entry.seq).values(values))

    def _account(self, tx: Connection, scope: Scope, dialect: Dialect, headers: dict[str, str]) -> Account | None:
        prefix = next((prefix for prefix in STORED_PREFIXES if scope["path"].startswith(prefix)), None)
        if prefix is not None:
            return find_account(tx, scope["path"].removeprefix(prefix).partition("/")[0])
        return dialect.account(self._sandbox, tx, headers)


async def _respond(exchange: Exchange, entry: Entry) -> None:
    rule = entry.rule
    if entry.refusal is not None:
        await exchange.reply(entry.refusal)
    elif rule is None:
        await exchange.run(exchange.answer.send)
    elif not rule.needs_answer:
        await _fail_before(exchange, rule, entry)
    else:
        await _fail_after(exchange, rule, entry)


async def _fail_before(exchange: Exchange, rule: FaultRule, entry: Entry) -> None:
    if rule.action != "stall":
        await _replace(exchange, rule, entry)
    elif not await exchange.gone_within(rule.seconds):
        await exchange.run(exchange.answer.send)


async def _fail_after(exchange: Exchange, rule: FaultRule, entry: Entry) -> None:
    if rule.action == "ignore_range":
        headers = exchange.scope["headers"]
        exchange.scope["headers"] = [(name, value) for name, value in headers if name.lower() != b"range"]
    if rule.after_bytes is None and rule.action in ("status", "body", "reset", "close"):
        await exchange.run(_discard)
        await _replace(exchange, rule, entry)
    elif rule.after_bytes is None and rule.action == "stall":
        held: list[Message] = []
        await exchange.run(_keep(held))
        if not await exchange.gone_within(rule.seconds):
            for message in held:
                await exchange.answer.send(message)
    else:
        await exchange.run(exchange.answer.send)
        if exchange.answer.is_cut:
            await wait_for_disconnect(exchange.receive)


async def _replace(exchange: Exchange, rule: FaultRule, entry: Entry) -> None:
    if rule.action == "reset":
        reset_connection(exchange.scope)
    elif rule.action == "close":
        transport_of(exchange.scope).close()
    else:
        await exchange.reply(fault_response(rule, entry))
        return
    await wait_for_disconnect(exchange.receive)


def fault_response(rule: FaultRule, entry: Entry) -> Response:
    """Return the made-up answer of the actions status and body."""
    if rule.action == "body" or rule.body is not None:
        text = "<html>this is not JSON</html>" if rule.body is None else rule.body
        status = rule.status or (200 if rule.action == "body" else 503)
        response = Response(text, status, media_type="text/html")
    else:
        status = rule.status or 503
        response = entry.dialect.error(status, f"injected fault: HTTP {status}", entry.account)
    if rule.retry_after is not None:
        response.headers["Retry-After"] = rule.retry_after
    return response


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


async def _discard(_message: Message) -> None:
    return None


def _keep(held: list[Message]) -> Send:
    async def keep(message: Message) -> None:
        held.append(message)

    return keep
