"""The journal's tables, its versions, and its transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import JournalError
from pipeline.journal.connection import VARIABLE, give_back, take, translated

_LOCK = 0x747261696E  # PostgreSQL's advisory locks are numbers; this one is the journal's

metadata = MetaData()
_JSON = JSON(none_as_null=True)

schema = Table("journal_schema", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

operations = Table(
    "operations",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("operation_id", Text, nullable=False),
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
    Column("run_id", Text),
    Column("flow_run_id", String(64)),
    Column("owner", _JSON),
    Column("owner_until_s", Float),
    Column("estimate", _JSON),
    Column("billed", BigInteger),
    Column("content", _JSON),
    Column("deadline_at_s", Float),
    Column("cancel_asked_at_s", Float),
    Column("cancel_confirmed_at_s", Float),
    Column("missing_since_s", Float),
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


preparations = Table(
    "preparations",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("operation_id", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("account", String(64), nullable=False),
    Column("owner", _JSON, nullable=False),
    Column("notes", _JSON, nullable=False),
    Column("updated_at_s", Float, nullable=False),
    Index("preparations_by_fingerprint", "fingerprint"),
)
"""What was made for an attempt at the provider before it was paid for: uploads, which must not be made twice."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("provider", String(40), primary_key=True),
    Column("delivery_id", String(200), primary_key=True),
    Column("run_id", String(200), nullable=False),
    Column("at_s", Float, nullable=False),
    Index("deliveries_by_run", "provider", "run_id", "at_s"),
)
"""Webhooks that were received and verified: each one is a reason to look, and is counted once."""


def _remember_preparations(tx: Connection) -> None:
    """Add what was made for an attempt, and what the provider called about."""
    metadata.create_all(tx, tables=[preparations, deliveries])


def _remember_denials(tx: Connection) -> None:
    """Add since when the provider denies an attempt's run; of those that are open now nothing is known yet."""
    tx.execute(text("ALTER TABLE operations ADD COLUMN missing_since_s FLOAT"))


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_remember_preparations, _remember_denials)
"""Each brings an earlier release's tables one version forward; a new journal is made as this release wants it."""


class Store:
    """The opened database: short transactions, one writer at a time, nothing kept in memory.

    Raises:
        ConfigurationError: The location is no address of a database, or its driver is not installed.
        JournalError: The database cannot be opened, or a newer release wrote it.
    """

    def __init__(self, location: str) -> None:
        self._opened = take(location)
        self._is_open = True
        self._engine = self._opened.engine
        self._writer = self._engine.execution_options(journal_write=True)
        try:
            if self._glance() != _current():
                self._bring_up_to_date()
        except BaseException:
            self._give_back(keep=False)
            raise

    def _glance(self) -> int | None:
        """Return the version without asking whether there are tables; none is for the careful way to explain."""
        try:
            with self._engine.begin() as connection:
                found: int = connection.execute(select(schema.c.version)).scalar_one()
        except SQLAlchemyError:
            return None
        return found

    def _bring_up_to_date(self) -> None:
        with self.read() as tx:
            found = _version(tx)
        if found != _current():  # otherwise opening writes nothing, and waits for nobody
            with self.write() as tx:
                _migrate(tx)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection that sees one consistent state."""
        with translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection that is the only writer; its changes are committed together or not at all."""
        with translated(), self._writer.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
            yield connection

    def close(self) -> None:
        """Give the connection back; the process may keep it for the next one who opens the same place."""
        self._give_back(keep=True)

    def _give_back(self, *, keep: bool) -> None:
        if self._is_open:
            self._is_open = False
            give_back(self._opened, keep=keep)


def _current() -> int:
    return 1 + len(MIGRATIONS)


def _version(tx: Connection) -> int | None:
    """Return which version the tables have; none when there are none yet.

    Raises:
        JournalError: A newer release's.
    """
    if not inspect(tx).has_table(schema.name):
        return None
    found: int = tx.execute(select(schema.c.version)).scalar_one()
    if found > _current():
        raise JournalError(
            f"a newer release wrote the journal (version {found}, this one knows {_current()}): install that "
            f"release, or set {VARIABLE} to another place"
        )
    return found


def _migrate(tx: Connection) -> None:
    """Make the tables, or bring an earlier release's to this one's version."""
    found = _version(tx)
    if found is None:
        metadata.create_all(tx)
        tx.execute(insert(schema).values(version=_current()))
        return
    for step in MIGRATIONS[found - 1 :]:
        step(tx)
    tx.execute(update(schema).values(version=_current()))
