"""The answer on its way to the client, and what a fault does to it on the socket."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from sandbox.faults import FaultRule

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: closing sends RST instead of FIN


class Protocol(H11Protocol):
    """uvicorn's HTTP protocol, showing each request the connection it came on."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the connection in the state every request of it gets a copy of."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def transport_of(scope: Scope) -> asyncio.Transport:
    """Return the connection a request came on."""
    return cast(asyncio.Transport, scope["state"]["transport"])


def reset_connection(scope: Scope) -> None:
    """Drop the connection with a TCP reset, unsent bytes and all."""
    transport = transport_of(scope)
    link = transport.get_extra_info("socket")
    if link is not None:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    transport.abort()


class Answer:
    """Passes an answer on, changed by at most one fault, and has its status noted first."""

    def __init__(
        self,
        scope: Scope,
        send: Send,
        extra: dict[str, str],
        rule: FaultRule | None,
        note: Callable[[int, bool], Awaitable[None]],
    ) -> None:
        self._note = note
        self._scope, self._send, self._extra, self._rule = scope, send, extra, rule
        self._sent_bytes = 0
        self._cut_at: int | None = None
        self._flip_at: int | None = None
        self.is_cut = False

    async def send(self, message: Message) -> None:
        """Send one ASGI message of the real answer."""
        if self.is_cut:
            return
        if message["type"] == "http.response.start":
            await self._start(message)
        elif message["type"] == "http.response.body":
            await self._body(message)

    async def _start(self, message: Message) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message["headers"]}
        is_spared = self._is_spared(headers)
        changes: dict[str, str | None] = {**self._extra}
        if self._rule is not None:
            changes |= self._rule.headers
            if not is_spared:
                self._plan(self._rule, int(headers.get("content-length", 0)))
        for name, value in changes.items():
            headers.pop(name.lower(), None)
            if value is not None:
                headers[name.lower()] = value
        # Before the client can see the answer, so that it finds it in the log.
        await self._note(message["status"], is_spared)
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({**message, "headers": encoded})

    def _is_spared(self, headers: dict[str, str]) -> bool:
        """Whether the answer has no body for the fault to spoil."""
        is_empty = self._scope["method"] == "HEAD" or headers.get("content-length", "0") == "0"
        return is_empty and self._rule is not None and self._rule.is_in_mid_body

    def _plan(self, rule: FaultRule, length: int) -> None:
        middle = length // 2 if rule.after_bytes is None else min(rule.after_bytes, max(0, length - 1))
        if rule.action == "bitflip":
            self._flip_at = middle
        elif rule.action == "truncate" or (rule.after_bytes is not None and rule.action in ("reset", "close", "stall")):
            self._cut_at = middle

    async def _body(self, message: Message) -> None:
        chunk = bytes(message.get("body", b""))
        begin, end = self._sent_bytes, self._sent_bytes + len(chunk)
        self._sent_bytes = end
        if self._flip_at is not None and begin <= self._flip_at < end:
            at = self._flip_at - begin
            chunk = chunk[:at] + bytes([chunk[at] ^ 0x01]) + chunk[at + 1 :]
        if self._cut_at is not None and end > self._cut_at:
            await self._cut(chunk[: self._cut_at - begin], chunk[self._cut_at - begin :], message)
            return
        await self._send({**message, "body": chunk})

    async def _cut(self, kept: bytes, rest: bytes, message: Message) -> None:
        rule = self._rule
        if kept:
            await self._send({"type": "http.response.body", "body": kept, "more_body": True})
        if rule is not None and rule.action == "stall":
            self._cut_at = None
            await asyncio.sleep(rule.seconds)
            await self._send({**message, "body": rest})
            return
        self.is_cut = True
        if rule is not None and rule.action == "reset":
            await asyncio.sleep(0.05)  # let the kept bytes reach the client: a reset discards what is still queued
            reset_connection(self._scope)
        else:
            transport_of(self._scope).close()


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the connection is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
