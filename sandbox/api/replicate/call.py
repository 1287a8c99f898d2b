"""One authenticated call of the emulated Replicate API."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from sandbox import billing, lifecycle
from sandbox.accounts import Account
from sandbox.api.replicate.errors import refuse
from sandbox.core import Sandbox
from sandbox.jsontext import parsed
from sandbox.replicate.loopback import is_address
from sandbox.replicate.predictions import settle_open
from sandbox.replicate.settings import ReplicateSettings
from sandbox.replicate.trainings import ScriptedTrainings
from sandbox.replicate.words import TRAINING
from sandbox.store import Row

SCRIPTED = {TRAINING: ScriptedTrainings()}
EVENTS = ("start", "output", "logs", "completed")
_USUAL_EVENTS = ("start", "output", "completed")


@dataclass(frozen=True)
class Call:
    """An authenticated call."""

    sandbox: Sandbox
    account: Account
    request: Request

    @property
    def settings(self) -> ReplicateSettings:
        """The account's quirks."""
        return self.account.settings.replicate

    @property
    def now_s(self) -> float:
        """The sandbox's time."""
        return self.sandbox.clock.now_s()

    @property
    def base_url(self) -> str:
        """Scheme and host the caller reached the sandbox by."""
        return str(self.request.base_url)

    def body(self) -> dict[str, Any]:
        """Return the request's JSON object.

        Raises:
            RefusedError: 422 when it is none.
        """
        try:
            found = parsed(self.request.state.body or b"{}")
        except ValueError:
            raise refuse(422, "The request body is not valid JSON.") from None
        if not isinstance(found, dict):
            raise refuse(422, "The request body must be a JSON object.")
        return found

    def is_visible(self, row: Row) -> bool:
        """Whether reads find this by now."""
        return bool(self.now_s >= row["created_at"] + self.settings.hidden_s)

    def check_balance(self) -> None:
        """Refuse to start what the account cannot pay.

        Raises:
            RefusedError: 402.
        """
        with self.sandbox.store.read() as tx:
            left = billing.spendable(tx, self.account)
        if left < self.settings.min_balance_micro_usd:
            raise refuse(402, "You have insufficient credit to run this. Add credit to your account and try again.")


def authenticated(request: Request) -> Call:
    """Return the call, the account's scripted trainings and its predictions up to date; the gate let no stranger in."""
    account: Account = request.state.account
    sandbox: Sandbox = request.app.state.sandbox
    lifecycle.settle(sandbox, account, SCRIPTED)
    settle_open(sandbox, account)
    return Call(sandbox, account, request)


Caller = Annotated[Call, Depends(authenticated)]


def webhook_of(body: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """Return where a run's webhooks go and which events are wanted.

    Raises:
        RefusedError: 422 for something that is no address, or an event nobody knows.
    """
    url, events = body.get("webhook") or body.get("webhook_completed"), body.get("webhook_events_filter")
    if url is None:
        return None, ()
    if not isinstance(url, str) or not is_address(url):
        raise refuse(422, "The webhook must be an HTTP or HTTPS URL.")
    if events is None:
        return url, _USUAL_EVENTS if body.get("webhook") else ("completed",)
    if not isinstance(events, list) or any(event not in EVENTS for event in events):
        raise refuse(422, f"webhook_events_filter must be a list of {', '.join(EVENTS)}.")
    return url, tuple(events)
