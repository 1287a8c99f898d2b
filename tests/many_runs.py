"""Many scripted runs at once: copies of one that was created over HTTP, written into the sandbox's own database."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from sqlalchemy import insert, select

from sandbox.core import DATABASE, new_id
from sandbox.store import Store, first, runs


def copy_run(home: Path, run_id: str, count: int) -> list[str]:
    """Add copies of a run to the sandbox that serves this home; return their ids. A thousand creates take a minute."""
    with closing(Store(home / DATABASE)) as store, store.write() as tx:
        row = first(tx, select(runs).where(runs.c.id == run_id))
        assert row is not None
        base = {key: value for key, value in row.items() if key != "seq"}
        copies = [{**base, "id": new_id(), "name": f"copy-{number}"} for number in range(count)]
        tx.execute(insert(runs), copies)
    return [str(copy["id"]) for copy in copies]
