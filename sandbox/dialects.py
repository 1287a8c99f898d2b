"""What tells one vendor's API from another's on the shared server: paths, keys, errors, limits, background work."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from starlette.responses import JSONResponse, Response

from sandbox.accounts import PUBLIC_KEY, Account, find_by_key
from sandbox.childjobs import ChildJob
from sandbox.core import Sandbox
from sandbox.lifecycle import Scripted

STORED_PREFIXES = ("/storage/", "/delivery/")
"""Paths that need no key: the first segment after these is the account's id. They are in no rate limit."""


class RefusedError(Exception):
    """Ends a request with an answer that is ready; a transaction it leaves is rolled back."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"answered {response.status_code}")
        self.response = response


@dataclass(frozen=True)
class Quota:
    """How many requests of one sort an account may make in a sliding window."""

    bucket: str
    limit: int
    window_s: float


@dataclass(frozen=True)
class Allowance:
    """What is left of a quota after this request."""

    quota: Quota
    remaining: int
    reset_at_s: float
    now_s: float


class Dialect:
    """One vendor's way of speaking; the methods are what most do."""

    name: str = ""
    """The vendor, as in the kinds of its documents."""
    scripted: Mapping[str, Scripted] = {}
    """Kinds of documents that a script can move."""
    child_jobs: Mapping[str, ChildJob] = {}
    """Kinds of documents that a child process can train."""

    def owns(self, path: str) -> bool:
        """Whether a path belongs to this vendor."""
        raise NotImplementedError

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        """Return the key a request brings; header names are in lower case."""
        return bearer(headers, "bearer")

    def account(self, sandbox: Sandbox, tx: Connection, headers: Mapping[str, str]) -> Account | None:
        """Return whose request it is; the public key is nobody's token."""
        key = self.key_of(headers) or ""
        return None if key == PUBLIC_KEY else find_by_key(tx, key)

    def unauthenticated(self, headers: Mapping[str, str]) -> Response | None:
        """Return the answer to a request without an account; None leaves it to the handler."""
        word = "invalid" if self.key_of(headers) else "missing"
        return self.error(401, f"the API key is {word}", None)

    def error(self, status: int, message: str, account: Account | None) -> Response:
        """Return an error in the vendor's shape: what injected faults, unknown paths and bad bodies answer."""
        return JSONResponse({"detail": message}, status)

    def quota(self, account: Account, method: str, path: str) -> Quota:
        """Return the rate limit a request counts towards."""
        return Quota(self.name, account.settings.rate_limit, account.settings.rate_window_s)

    def limit_headers(self, allowance: Allowance) -> dict[str, str]:
        """Return the headers that tell of the rate limit, on every answer."""
        return {}

    def throttled(self, allowance: Allowance, account: Account) -> Response:
        """Return the answer to a request over the limit; the limit's headers are added to it."""
        return self.error(429, "Rate limit exceeded", account)

    def settle(self, sandbox: Sandbox, account: Account) -> None:
        """Bring what runs for an account without a script to where it stands now: the bill is about to be read."""

    def tick(self, sandbox: Sandbox) -> float | None:
        """Do background work and return seconds until there is more of it, or None; called at least each second."""
        return None

    def deliver(self, sandbox: Sandbox) -> float | None:
        """Call servers of others, on a thread of its own, and return what tick() does; end at `sandbox.stopping`."""
        return None

    def expire(self, sandbox: Sandbox) -> None:
        """Remove what is past its time; called when a server starts, before anything else is done."""


def bearer(headers: Mapping[str, str], *schemes: str) -> str | None:
    """Return the key of an Authorization header of one of these schemes (in lower case)."""
    scheme, _, key = headers.get("authorization", "").strip().partition(" ")
    return key.strip() or None if scheme.lower() in schemes else None


def under(path: str, *prefixes: str) -> bool:
    """Whether a path is one of these, or lies below it."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes)


def answer(body: Any, status: int = 200, **headers: str) -> JSONResponse:
    """Return a JSON answer; underscores in names of headers become hyphens."""
    return JSONResponse(body, status, {name.replace("_", "-"): value for name, value in headers.items()})
