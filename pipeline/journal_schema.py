"""The journal's tables, its versions, and how its database is opened: a SQLite file, or PostgreSQL by URL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from pipeline.errors import ConfigurationError, ErrorContext, JournalError

BUSY_S = 30.0
"""Seconds a SQLite transaction waits for another process's; every transaction here takes milliseconds."""
VARIABLE = "TRAIN_PIPELINE_JOURNAL"
"""Where the location comes from, for messages."""
_LOCK = 0x747261696E  # PostgreSQL's advisory locks are numbers; this one is the journal's

metadata = MetaData()
_JSON = JSON(none_as_null=True)

schema = Table("journal_schema", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

operations = Table(
    "operations",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("operation_id", String(200), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("provider", String(40), nullable=False),
    Column("account", String(64), nullable=False),
    Column("sandbox", Boolean, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("job", Text, nullable=False),
    Column("content_fingerprint", String(64)),
    Column("run_name", Text, nullable=False),
    Column("request", _JSON, nullable=False),
    Column("body", _JSON),
    Column("state", String(20), nullable=False),
    Column("outcome", String(20)),
    Column("reason", Text),
    Column("handle", _JSON),
    Column("run_id", String(200)),
    Column("flow_run_id", String(64)),
    Column("owner", _JSON),
    Column("owner_until_s", Float),
    Column("estimate", _JSON),
    Column("billed", BigInteger),
    Column("content", _JSON),
    Column("deadline_at_s", Float),
    Column("cancel_asked_at_s", Float),
    Column("cancel_confirmed_at_s", Float),
    Column("created_at_s", Float, nullable=False),
    Column("updated_at_s", Float, nullable=False),
    Column("ended_at_s", Float),
    UniqueConstraint("provider", "sandbox", "operation_id", "attempt", name="one_row_an_attempt"),
    Index("operations_by_fingerprint", "fingerprint", "state"),
    Index("operations_by_job", "job", "outcome"),
    Index("operations_by_run", "provider", "run_id"),
    Index("operations_by_flow_run", "flow_run_id"),
)
"""One row for each attempt at an operation: at most one paid run each. Times are seconds since the epoch."""

reservations = Table(
    "reservations",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("sandbox", Boolean, nullable=False),
    Column("unit", String(20), nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("settled", Boolean, nullable=False),
    Column("at_s", Float, nullable=False),
    Index("reservations_by_time", "sandbox", "unit", "at_s"),
)
"""What is held, and once settled what was billed, for each attempt; counted on the day it was made."""


def _first(tx: Connection) -> None:
    metadata.create_all(tx, tables=[operations, reservations])


MIGRATIONS = (_first,)
"""Each brings the tables one version forward; the first makes them."""


class Store:
    """The opened database: short transactions, one writer at a time, nothing kept in memory.

    Raises:
        ConfigurationError: The location is no address of a database, or its driver is not installed.
        JournalError: The database cannot be opened, or a newer release wrote it.
    """

    def __init__(self, location: str) -> None:
        self._engine = _engine(location)
        self._writer = self._engine.execution_options(journal_write=True)
        try:
            with self.write() as tx:
                _migrate(tx)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection that sees one consistent state."""
        with _translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection that is the only writer; its changes are committed together or not at all."""
        with _translated(), self._writer.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
            yield connection

    def close(self) -> None:
        """Release every connection."""
        self._engine.dispose()


def _engine(location: str) -> Engine:
    if not re.match(r"^[a-z0-9+]+://", location):
        path = Path(location).expanduser()
        _make_private(path)
        engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_S, "check_same_thread": False})
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    message = f"{VARIABLE} is neither a file's path nor postgresql://...: correct or unset it"
    try:
        url = make_url(location)
        if url.get_backend_name() == "postgresql":
            return create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    except ImportError:
        message = f"{VARIABLE} names a PostgreSQL server: pip install 'train-pipeline[postgres]'"
    except (ArgumentError, NoSuchModuleError, ValueError):
        pass  # raised below, outside of the handler: what was raised here may quote the password
    raise ConfigurationError(message, ErrorContext(field=VARIABLE))


def _make_private(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        message = f"the journal {str(path)!r} cannot be written ({error.strerror}): set {VARIABLE} to another path"
        raise ConfigurationError(message, ErrorContext(field=VARIABLE)) from error


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not guessed by the driver
    # FULL: what the journal says was committed must survive a power cut, for it is what keeps us from paying twice.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_S * 1000:.0f}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("journal_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


def _migrate(tx: Connection) -> None:
    """Bring the tables to this release's version; a newer release's are left alone."""
    found = 0
    if inspect(tx).has_table(schema.name):
        found = tx.execute(select(schema.c.version)).scalar_one()
    else:
        schema.create(tx)
        tx.execute(insert(schema).values(version=0))
    if found > len(MIGRATIONS):
        raise JournalError(
            f"a newer release wrote the journal (version {found}, this one knows {len(MIGRATIONS)}): install that "
            f"release, or set {VARIABLE} to another place"
        )
    for step in MIGRATIONS[found:]:
        step(tx)
    tx.execute(update(schema).values(version=len(MIGRATIONS)))


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the database library's errors into ours, without the statement's values and without the address."""
    try:
        yield
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        kind = type(cause).__name__
        reason = str(cause).splitlines()[0] if "sqlite3" in type(cause).__module__ else kind
        message = f"the journal could not be read or written ({reason}): see {VARIABLE}"
    else:
        return
    raise JournalError(message, ErrorContext(operation="journal"))
