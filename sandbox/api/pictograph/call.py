"""One authenticated call: who calls, with which role, and how its answer and effect are stored together."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import AfterValidator
from sqlalchemy import Connection, delete, insert, select

from sandbox.accounts import Account
from sandbox.addressing import name_of
from sandbox.api.pictograph.dialect import speaks
from sandbox.api.pictograph.errors import ApiError, not_found
from sandbox.builtin import open_dataset
from sandbox.core import Sandbox
from sandbox.datasets import DataError
from sandbox.engines import settle_scripted
from sandbox.settings import ROLES, Dialect, Role
from sandbox.store import Row, first, replies

_REPLAY_S = 24 * 3600
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")

Ref = Annotated[str, Path(), AfterValidator(name_of)]
"""A path segment that is a name or an id; encoded slashes belong to the name."""
Offset = Annotated[int, Query(ge=0, le=2**63 - 1)]
"""How many rows a page leaves out: no more than the store can count."""


@dataclass(frozen=True)
class Answer:
    """Body and status of a successful call."""

    body: Any
    status: int = 200


@dataclass(frozen=True)
class Call:
    """An authenticated call."""

    sandbox: Sandbox
    account: Account
    request: Request

    @property
    def now_s(self) -> float:
        """The sandbox's time."""
        return self.sandbox.clock.now_s()

    @property
    def base_url(self) -> str:
        """Scheme and host the caller reached the sandbox by."""
        return str(self.request.base_url)

    def speaks(self, dialect: Dialect) -> bool:
        """Whether the caller's account knows the paths and names of a dialect."""
        return speaks(self.account, dialect)

    def dataset(self, ref: str) -> Row:
        """Return a dataset by id or name, a built-in one if need be made for this call.

        Raises:
            ApiError: 404 when there is none, 409 when a built-in one cannot be made on this machine.
        """
        try:
            found = open_dataset(self.sandbox, self.account, ref)
        except DataError as error:
            message = f"Dataset '{ref}' cannot be made: {error}"
            raise ApiError(409, message, code="dataset_unavailable") from error
        if found is None:
            raise not_found("Dataset", ref)
        return found

    def by_id_in_v1(self, ref: str) -> str:
        """Return the reference, refusing names where the old dialect takes ids alone.

        Raises:
            ApiError: 422 in dialect v1 when it is no UUID.
        """
        if self.account.settings.dialect == "v1" and not is_uuid(ref):
            fields = [{"loc": ["path", "id"], "msg": "Input should be a valid UUID", "type": "uuid_parsing"}]
            raise ApiError(422, "Input should be a valid UUID", details={"errors": fields}, legacy=fields)
        return ref

    def write(self, action: Callable[[Connection], Answer]) -> Response:
        """Run an action and keep its answer under the Idempotency-Key, in one transaction.

        Raises:
            ApiError: 409 when the key was used for another request; whatever the action raises (and then nothing
                is stored, so the key stays free).
        """
        key = self.request.headers.get("idempotency-key")
        with self.sandbox.store.write() as tx:
            known = self._replay(tx, key) if key else None
            if known is not None:
                return known
            answer = action(tx)
            if key:
                kept: dict[str, Any] = {"account_id": self.account.id, "key": key, "fingerprint": self._fingerprint()}
                kept |= {"status": answer.status, "body": answer.body, "created_at": self.now_s}
                tx.execute(insert(replies).values(kept))
        self.sandbox.wake.set()
        return respond(answer)

    def _replay(self, tx: Connection, key: str) -> Response | None:
        mine = (replies.c.account_id == self.account.id, replies.c.key == key)
        tx.execute(delete(replies).where(*mine, replies.c.created_at < self.now_s - _REPLAY_S))
        row = first(tx, select(replies).where(*mine))
        if row is None:
            return None
        if row["fingerprint"] != self._fingerprint():
            raise ApiError(409, "Idempotency-Key was already used for a different request", code="conflict")
        response = respond(Answer(row["body"], row["status"]))
        response.headers["X-Sandbox-Replayed"] = "true"
        return response

    def _fingerprint(self) -> str:
        head = f"{self.request.method} {self.request.scope['raw_path'].decode('ascii')}\n".encode()
        return hashlib.sha256(head + self.request.state.body).hexdigest()


def respond(answer: Answer) -> Response:
    """Turn an answer into a response."""
    return JSONResponse(answer.body, answer.status)


def is_uuid(text: str) -> bool:
    """Whether a reference has the form of an id."""
    return _UUID.match(text) is not None


def require(role: Role) -> Callable[[Request], Call]:
    """Return the dependency that lets callers of at least this role in, and brings their runs up to date."""

    def authenticate(request: Request) -> Call:
        account: Account | None = request.state.account
        if account is None:
            given = request.headers.get("x-api-key")
            raise ApiError(401, "Invalid API key" if given else "API key required: send it as X-API-Key")
        if ROLES.index(account.settings.role) < ROLES.index(role):
            details = {"required_role": role, "current_role": account.settings.role}
            raise ApiError(403, f"This action needs the role {role}", details=details)
        sandbox: Sandbox = request.app.state.sandbox
        settle_scripted(sandbox, account)
        return Call(sandbox, account, request)

    return authenticate


Viewer = Annotated[Call, Depends(require("viewer"))]
Member = Annotated[Call, Depends(require("member"))]
Admin = Annotated[Call, Depends(require("admin"))]
