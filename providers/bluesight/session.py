"""What every Bluesight resource needs: one call, and how long its answer may take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import httpx

from pipeline.errors import TransportError
from providers.bluesight.wire import WelcomeWire
from providers.calls import ApiReply, ApiRequest
from providers.http import ApiClient
from providers.wire import Row, read_wire

CONNECT_S: Final = 10.0
"""Seconds to wait for a connection, for ``ClientOptions.timeout_s``."""
_BUSY = "It answers nothing while it trains: that may be all."


@dataclass(frozen=True)
class AnswerTimes:
    """Seconds to wait for an answer, by what is asked; the vendor names no figures."""

    read_s: float = 60.0
    """For what only reads, and for a cancel; a training that goes on is no reason to wait longer, but to look again."""
    create_s: float = 7200.0
    """For a create, as long as the longest training watched: one that is given up while another training holds the
    server up makes a job all the same, which nobody can find."""
    upload_s: float = 1800.0
    """For an upload: past the longest training the vendor tells of (22 min) and what storing the file takes (2 min)."""
    inference_s: float = 300.0
    """For the labels of a few tiles; the vendor tells of 84 s for a hundred."""


USUAL_TIMES: Final = AnswerTimes()
"""What is waited where nobody says otherwise."""


class BluesightSession:
    """One client and what was learned about the server behind it."""

    def __init__(self, client: ApiClient, times: AnswerTimes) -> None:
        self._client = client
        self.times = times
        """How long answers may take."""
        self.from_sandbox = False
        """Whether the last answer came from a sandbox."""

    def close(self) -> None:
        """Release connections."""
        self._client.close()

    def call(self, request: ApiRequest) -> ApiReply:
        """Send one request; it waits as long as a read does unless it says otherwise.

        Raises:
            ProviderError: By status or transport failure.
        """
        if request.timeout_s is None:
            request = replace(request, timeout_s=self.times.read_s)
        try:
            reply = self._client.call(request)
        except TransportError as error:
            if isinstance(error.__cause__, httpx.ReadTimeout):
                raise TransportError(f"{error.message} {_BUSY}", error.context) from error.__cause__
            raise
        self.from_sandbox = reply.from_sandbox
        return reply

    def read(self, request: ApiRequest, wire: type[Row]) -> Row:
        """Send one request and return the object it answers with."""
        reply = self.call(request)
        return read_wire(reply, reply.payload, wire)

    def greet(self) -> None:
        """Ask the server whether it is there.

        Raises:
            UnexpectedResponseError: Something else answers.
        """
        self.read(ApiRequest("server.greet", "GET", "/", repeatable=True), WelcomeWire)

    def wait_until_free(self) -> None:
        """Return as soon as no training holds the server up.

        Raises:
            TransportError: One does for longer than a create would wait.
        """
        self.read(ApiRequest("server.greet", "GET", "/", timeout_s=self.times.create_s), WelcomeWire)
