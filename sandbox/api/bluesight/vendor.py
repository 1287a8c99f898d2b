"""Bluesight among the vendors of this server."""

from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import Connection

from sandbox.accounts import Account, shared_account
from sandbox.bluesight.jobs import JOB
from sandbox.bluesight.training import RealJob, ScriptedJob
from sandbox.core import Sandbox
from sandbox.dialects import Dialect, under


class BluesightDialect(Dialect):
    """The root and a few plain paths; nobody needs a key."""

    name = "bluesight"
    scripted = MappingProxyType({JOB: ScriptedJob()})
    child_jobs = MappingProxyType({JOB: RealJob()})

    def owns(self, path: str) -> bool:
        """Whether a path belongs to this vendor."""
        return path in ("/", "/openapi.json", "/health") or under(
            path, "/files", "/training", "/models", "/inference", "/embeddings"
        )

    def account(self, sandbox: Sandbox, tx: Connection, headers: Mapping[str, str]) -> Account | None:
        """Return the account of the key, or else the one everybody shares."""
        return super().account(sandbox, tx, headers) or shared_account(sandbox, tx)
