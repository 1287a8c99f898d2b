"""An HTTP server in memory for the unit tests of the client, and a clock that only counts."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import SecretStr

from providers.calls import ApiReply, ApiRequest, ClientOptions
from providers.http import ApiClient

CANARY = "pk_live_canary0123456789"
Handler = Callable[[httpx.Request], httpx.Response]
READ = ApiRequest("thing.get", "GET", "/thing", repeatable=True)
CREATE = ApiRequest(
    "thing.create", "POST", "/things/", body={"a": 1}, repeatable=True, effect=True, idempotency_key="k"
)


@dataclass
class Wire:
    """A server in memory and a clock that only counts."""

    handler: Handler
    base_url: str = "https://api.example"
    seen: list[httpx.Request] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def client(self) -> ApiClient:
        """Return a client of this server."""
        options = ClientOptions(self.base_url, transport=httpx.MockTransport(self._answer), clock=self)
        return ApiClient(SecretStr(CANARY), options)

    def call(self, request: ApiRequest = READ) -> ApiReply:
        """Send one request."""
        return self.client().call(request)

    def time(self) -> float:
        """Return a fixed moment."""
        return 1_800_000_000.0

    def sleep(self, seconds: float, /) -> None:
        """Count instead of waiting."""
        self.slept.append(seconds)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        return self.handler(request)


def answering(status: int, **response: Any) -> Wire:
    """Return a server with one answer."""
    return Wire(lambda _: httpx.Response(status, **response))


def sequence(*steps: httpx.Response | Exception) -> Wire:
    """Return a server that answers or fails in turn."""
    queue: Iterator[httpx.Response | Exception] = iter(steps)

    def handler(_: httpx.Request) -> httpx.Response:
        step = next(queue)
        if isinstance(step, Exception):
            raise step
        return step

    return Wire(handler)


def everything_in(error: BaseException) -> str:
    """Return all text an exception can show: the chain, traceback locals excepted, arguments and reprs."""
    parts = ["".join(traceback.format_exception(error))]
    link: BaseException | None = error
    while link is not None:
        parts.append(repr(link) + repr(link.args) + repr(vars(link)))
        link = link.__cause__ or link.__context__
    return "\n".join(parts)
