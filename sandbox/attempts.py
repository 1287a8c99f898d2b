"""How long a real training's child has run: what its owner pays for, however the training ends.

A training that begins anew, after a restart or because its child was killed, pays for its last child alone, and never
for the time in which there was none.
"""

from sqlalchemy import Connection

from sandbox import documents
from sandbox.core import Sandbox
from sandbox.store import Row

_ATTEMPT = "attempt"


def begin(tx: Connection, row: Row, *, at_s: float) -> Row:
    """Note that a child begins, and return the document."""
    return documents.change(tx, row, data={_ATTEMPT: {"began_at": at_s, "ended_at": None}})


def end(tx: Connection, row: Row, *, at_s: float) -> None:
    """Note that the child was gone without a result."""
    attempt = documents.reload(tx, row)["data"].get(_ATTEMPT)
    if attempt is not None:
        documents.change(tx, row, data={_ATTEMPT: {**attempt, "ended_at": at_s}})


def ran_s(row: Row, at_s: float) -> float:
    """Return the seconds that the last child has run; none where nothing is known of it."""
    attempt = row["data"].get(_ATTEMPT)
    if attempt is None:
        return 0.0
    ended_s = at_s if attempt["ended_at"] is None else attempt["ended_at"]
    return max(0.0, float(ended_s - attempt["began_at"]))


def forget(sandbox: Sandbox) -> None:
    """Forget the children of the server before: they ended with it, nobody knows when."""
    with sandbox.store.write() as tx:
        for row in documents.open_real(tx):
            if row["data"].get(_ATTEMPT) is not None:
                documents.change(tx, row, data={_ATTEMPT: None})
