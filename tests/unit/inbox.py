"""A webhook receiver for the unit tests: no sockets, a journal of its own, and a list of what it passes on."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from deployments.webhooks import create_app
from pipeline.journal.store import Journal
from tasks.forwarding import Forwarding
from tasks.webhooks import Receiver, SigningSecret
from tests.deliveries import NOW_S, SECRET, send

HEALTH = httpx.Request("GET", "http://inbox.test/healthz")


class Recorder(Forwarding):
    """Writes down what it is to bring forward, and brings nothing."""

    def __init__(self, passed_on: list[str]) -> None:
        super().__init__(lambda _: True)
        self._passed_on = passed_on

    def add(self, run_id: str) -> None:
        """Write it down."""
        self._passed_on.append(run_id)


@dataclass
class Inbox:
    """A receiver, the journal it writes to, and what it has passed on."""

    location: Path
    secret: SigningSecret = field(default_factory=lambda: SigningSecret(None, SECRET))
    now_s: float = NOW_S
    answer_s: float = 10.0
    passed_on: list[str] = field(default_factory=list)

    def send(self, *requests: httpx.Request) -> list[int]:
        """Send requests in turn and return the statuses."""
        receiver = Receiver(self.secret, now=lambda: self.now_s)
        return send(create_app(receiver, Recorder(self.passed_on), answer_s=self.answer_s), *requests)

    def count(self, run_id: str = "r1") -> int:
        """Return the deliveries about a run that were taken in."""
        with closing(Journal(str(self.location))) as journal:
            return journal.deliveries_about("replicate", run_id)
