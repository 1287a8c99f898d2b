"""Replicate among the vendors of this server."""

import logging
import math
from collections.abc import Mapping

from sqlalchemy import select
from starlette.responses import Response

from sandbox import lifecycle
from sandbox.accounts import Account, find_account
from sandbox.api.replicate.call import SCRIPTED
from sandbox.api.replicate.errors import later, problem, throttled
from sandbox.core import Sandbox
from sandbox.dialects import Allowance, Dialect, Quota, bearer, under
from sandbox.replicate.expiry import forget_expired
from sandbox.replicate.jobs import RealTrainings
from sandbox.replicate.predictions import settle, settle_open
from sandbox.replicate.trainings import WAITING
from sandbox.replicate.webhooks import deliver_due, observe
from sandbox.replicate.words import PREDICTION, TRAINING
from sandbox.store import Row, every
from sandbox.store import documents as table

logger = logging.getLogger(__name__)

_MINUTE_S = 60.0
_FOLLOW_S = 0.1
CHILD_JOBS = {TRAINING: RealTrainings()}


class ReplicateDialect(Dialect):
    """`/v1`, and the finished weights under `/delivery`."""

    name = "replicate"
    scripted = SCRIPTED
    child_jobs = CHILD_JOBS

    def owns(self, path: str) -> bool:
        """Whether a path belongs to this vendor."""
        return under(path, "/v1", "/delivery")

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        """Return the key a request brings, in today's or the former scheme."""
        return bearer(headers, "bearer", "token")

    def unauthenticated(self, headers: Mapping[str, str]) -> Response | None:
        """Return the answer to a request without a token, or with a wrong one."""
        word = "a valid" if self.key_of(headers) else "an"
        return problem(401, f"You did not pass {word} authentication token")

    def error(self, status: int, message: str, account: Account | None) -> Response:
        """Return a problem document; one for too many requests says when to come back."""
        return later(1) if status == 429 else problem(status, message)

    def quota(self, account: Account, method: str, path: str) -> Quota:
        """Return the limit on creating predictions, or the one on everything else."""
        settings = account.settings.replicate
        if (method, path) == ("POST", "/v1/predictions"):
            return Quota("replicate predictions", settings.predictions_per_minute, _MINUTE_S)
        return Quota("replicate", settings.requests_per_minute, _MINUTE_S)

    def limit_headers(self, allowance: Allowance) -> dict[str, str]:
        """Return what is left and for how many seconds."""
        wait_s = max(1, math.ceil(allowance.reset_at_s - allowance.now_s))
        return {"ratelimit-remaining": str(max(0, allowance.remaining)), "ratelimit-reset": str(wait_s)}

    def throttled(self, allowance: Allowance, account: Account) -> Response:
        """Return the answer to a request over the limit."""
        return throttled(allowance)

    def settle(self, sandbox: Sandbox, account: Account) -> None:
        """Run the predictions that are due."""
        settle_open(sandbox, account)

    def tick(self, sandbox: Sandbox) -> float | None:
        """Follow the runs that have a webhook, and put in line what it is to be told."""
        with sandbox.store.read() as tx:
            told = table.c.kind.in_((TRAINING, PREDICTION)) & (table.c.parent == WAITING)
            rows = every(tx, select(table).where(told).order_by(table.c.seq))
            found = {row["account_id"]: find_account(tx, row["account_id"]) for row in rows}
        for account in found.values():
            if account is not None:
                lifecycle.settle(sandbox, account, SCRIPTED)
        for row in rows:
            account = found[row["account_id"]]
            if account is None or sandbox.stopping.is_set():
                continue
            try:
                observe(sandbox, account, _now(sandbox, account, row))
            except Exception:  # whatever it is: the runs behind this one must be told of
                logger.exception("%s %s cannot be followed for its webhook", row["kind"], row["id"])
        return _FOLLOW_S if rows else None

    def deliver(self, sandbox: Sandbox) -> float | None:
        """Deliver the webhooks that are due."""
        return deliver_due(sandbox)

    def expire(self, sandbox: Sandbox) -> None:
        """Remove uploaded files and weights that are not kept any more."""
        forget_expired(sandbox)


def _now(sandbox: Sandbox, account: Account, row: Row) -> Row:
    """Return a run as it is now."""
    with sandbox.store.read() as tx:
        (fresh,) = every(tx, select(table).where(table.c.seq == row["seq"])) or [row]
    return settle(sandbox, account, fresh) if row["kind"] == PREDICTION else fresh
