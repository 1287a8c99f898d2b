"""The vendors this server speaks for, and which of them a path belongs to."""

from collections.abc import Mapping

from sandbox import lifecycle
from sandbox.accounts import Account
from sandbox.api.bluesight.vendor import BluesightDialect
from sandbox.api.photogpt.vendor import PhotogptDialect
from sandbox.api.pictograph.vendor import PictographDialect
from sandbox.api.replicate.vendor import ReplicateDialect
from sandbox.childjobs import ChildJob
from sandbox.core import Sandbox
from sandbox.dialects import Dialect
from sandbox.engines import settle_scripted
from sandbox.lifecycle import Scripted

DIALECTS: tuple[Dialect, ...] = (ReplicateDialect(), PhotogptDialect(), BluesightDialect(), PictographDialect())
SCRIPTED: Mapping[str, Scripted] = {kind: how for dialect in DIALECTS for kind, how in dialect.scripted.items()}
CHILD_JOBS: Mapping[str, ChildJob] = {kind: how for dialect in DIALECTS for kind, how in dialect.child_jobs.items()}


def dialect_of(path: str) -> Dialect:
    """Return the vendor a path belongs to."""
    return next(dialect for dialect in DIALECTS if dialect.owns(path))


def settle_all(sandbox: Sandbox, account: Account) -> None:
    """Bring every scripted training of an account, and what else runs for it, to where it stands now."""
    settle_scripted(sandbox, account)
    lifecycle.settle(sandbox, account, SCRIPTED)
    for dialect in DIALECTS:
        dialect.settle(sandbox, account)
