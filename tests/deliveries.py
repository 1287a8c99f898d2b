"""Webhook deliveries as the vendor signs them, by a second hand beside the code that verifies them; the app served."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from tests.waiting import eventually

SECRET = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
"""The one of the vendor's published example."""
OTHER_SECRET = SecretStr("whsec_" + base64.b64encode(b"another one entirely").decode())
NOW_S = 1_800_000_000
"""When deliveries are signed, unless told otherwise."""


def sign(secret: SecretStr, delivery_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature header of a delivery."""
    key = base64.b64decode(secret.get_secret_value().removeprefix("whsec_"))
    mac = hmac.new(key, f"{delivery_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode()


def delivery(
    run_id: str = "r1",
    delivery_id: str = "msg_1",
    *,
    at_s: int = NOW_S,
    secret: SecretStr = SECRET,
    body: bytes | None = None,
    provider: str = "replicate",
    **headers: str | None,
) -> httpx.Request:
    """Return a signed delivery; ``headers`` replace or, when none, take away what it is signed with."""
    content = body if body is not None else json.dumps({"id": run_id, "status": "succeeded", "logs": "x" * 99}).encode()
    signed: dict[str, str | None] = {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": sign(secret, delivery_id, at_s, content),
    }
    signed |= {name.replace("_", "-"): value for name, value in headers.items()}
    given = {name: value for name, value in signed.items() if value is not None}
    return httpx.Request("POST", f"http://inbox.test/webhooks/{provider}", content=content, headers=given)


@dataclass
class Trickle(httpx.AsyncByteStream):
    """A body that comes in chunks and, where ``stalls``, never ends."""

    chunks: Sequence[bytes]
    stalls: bool = False
    sent: int = field(default=0, init=False)
    """Chunks that were asked for."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield them."""
        for chunk in self.chunks:
            self.sent += 1
            yield chunk
        if self.stalls:
            await asyncio.Event().wait()


def send(app: FastAPI, *requests: httpx.Request, until: Callable[[], object] = lambda: True) -> list[int]:
    """Start the application, send it these in turn, wait, stop it, and return the statuses."""

    async def talk() -> list[int]:
        client: Any = httpx.AsyncClient(transport=httpx.ASGITransport(app))
        async with app.router.lifespan_context(app), client:
            statuses = [(await client.send(request)).status_code for request in requests]
            await asyncio.to_thread(eventually, until)
            return statuses

    return asyncio.run(talk())


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an application from a thread until it is not needed any more; yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=server.run, args=([door],), name="served", daemon=True)
        thread.start()
        eventually(lambda: server.started or not thread.is_alive(), "the server")
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
