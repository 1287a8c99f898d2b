"""Everything the sandbox remembers: one SQLite file, short transactions, nothing kept only in memory."""

import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
)
from sqlalchemy.exc import DatabaseError

Row = Mapping[str, Any]
_WRITE = "sandbox_write"

metadata = MetaData()

meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", Text, nullable=False))

accounts = Table(
    "accounts",
    metadata,
    Column("id", String, primary_key=True),
    Column("api_key", String, unique=True, nullable=False),
    Column("organization_id", String, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("balance", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
)

ledger = Table(
    "ledger",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False),
    Column("account_id", ForeignKey("accounts.id"), nullable=False, index=True),
    Column("run_id", String),
    Column("operation", String, nullable=False),
    Column("amount", Integer, nullable=False),
    Column("balance_after", Integer, nullable=False),
    Column("description", Text),
    Column("created_at", Float, nullable=False),
)

datasets = Table(
    "datasets",
    metadata,
    Column("id", String, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("name", String, nullable=False),
    Column("image_count", Integer, nullable=False),
    Column("completed_image_count", Integer, nullable=False),
    Column("total_size", Integer, nullable=False),
    Column("classes", JSON, nullable=False),
    Column("cold", Boolean, nullable=False, default=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("account_id", "name"),
)

exports = Table(
    "exports",
    metadata,
    Column("id", String, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("dataset_id", ForeignKey("datasets.id"), nullable=False),
    Column("dataset_name", String, nullable=False),
    Column("name", String, nullable=False),
    Column("format", String, nullable=False),
    Column("include_images", Boolean, nullable=False),
    Column("class_filter", JSON),
    Column("status_filter", String),
    Column("organize_by_split", Boolean, nullable=False, default=False),
    Column("status", String, nullable=False),
    Column("error_message", Text),
    Column("file_size", Integer),
    Column("image_count", Integer),
    Column("annotation_count", Integer),
    Column("classes", JSON),
    Column("created_at", Float, nullable=False),
    Column("completed_at", Float),
    UniqueConstraint("dataset_id", "name"),
)

runs = Table(
    "runs",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String, unique=True, nullable=False),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("dataset_id", String),
    Column("dataset_name", String),
    Column("export_id", String),
    Column("name", String, nullable=False),
    Column("pipeline_type", String, nullable=False),
    Column("gpu_type", String, nullable=False),
    Column("config", JSON, nullable=False),
    Column("engine", String, nullable=False),
    Column("script", JSON),
    Column("ticks", Integer, nullable=False, default=0),
    Column("status", String, nullable=False),
    Column("progress", Integer, nullable=False, default=0),
    Column("current_epoch", Integer, nullable=False, default=0),
    Column("total_epochs", Integer),
    Column("metrics", JSON, nullable=False),
    Column("warnings", JSON),
    Column("eta_seconds", Integer),
    Column("training_minutes", Integer),
    Column("error_message", Text),
    Column("draft_model_id", String),
    Column("version_of_model_id", String),
    Column("model_id", String),
    Column("planned_minutes", Integer, nullable=False),
    Column("unit", String, nullable=False),
    Column("minute_price", Integer, nullable=False),
    Column("charged", Integer, nullable=False, default=0),
    Column("refunded", Integer, nullable=False, default=0),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("completed_at", Float),
    Index("runs_by_account", "account_id", "status"),
)

models = Table(
    "models",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String, unique=True, nullable=False),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("dataset_name", String),
    Column("name", String, nullable=False),
    Column("model_type", String, nullable=False),
    Column("pipeline_type", String, nullable=False),
    Column("architecture", String),
    Column("status", String, nullable=False),
    Column("metrics", JSON),
    Column("classes", JSON),
    Column("training_config", JSON),
    Column("pinned_version_id", String),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String, unique=True, nullable=False),
    Column("model_id", String, nullable=False, index=True),
    Column("run_id", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("architecture", String),
    Column("metrics", JSON),
    Column("export_name", String),
    Column("created_at", Float, nullable=False),
)

notifications = Table(
    "notifications",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("type", String, nullable=False),
    Column("title", String, nullable=False),
    Column("message", Text),
    Column("metadata", JSON),
    Column("read", Boolean, nullable=False, default=False),
    Column("created_at", Float, nullable=False),
)

documents = Table(
    "documents",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("kind", String, nullable=False),
    Column("id", String, nullable=False),
    Column("parent", String),
    Column("name", String),
    Column("status", String),
    Column("data", JSON, nullable=False),
    Column("ticks", Integer, nullable=False, default=0),
    Column("charged", Integer, nullable=False, default=0),
    Column("refunded", Integer, nullable=False, default=0),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("completed_at", Float),
    UniqueConstraint("account_id", "kind", "id"),
    Index("documents_by_account", "account_id", "kind"),
    sqlite_autoincrement=True,  # a number that was given away names a job folder: it never comes back
)

replies = Table(
    "replies",
    metadata,
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", JSON),
    Column("created_at", Float, nullable=False),
)

faults = Table(
    "faults",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String, unique=True, nullable=False),
    Column("account_id", ForeignKey("accounts.id"), nullable=False, index=True),
    Column("rule", JSON, nullable=False),
    Column("seen", Integer, nullable=False, default=0),
    Column("hits", Integer, nullable=False, default=0),
)

requests = Table(
    "requests",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("account_id", String),
    Column("request_id", String, nullable=False),
    Column("method", String, nullable=False),
    Column("path", String, nullable=False),
    Column("query", String, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("body", Text),
    Column("status", Integer),
    Column("fault", String),
    Column("counted", Boolean, nullable=False, default=False),
    Column("bucket", String),
    Column("at", Float, nullable=False),
    Index("requests_by_account", "account_id", "at"),
)

ACCOUNT_TABLES = (requests, faults, replies, notifications, documents, models, runs, exports, datasets, ledger)


class OtherSchemaError(RuntimeError):
    """A home was written by another version of the sandbox: its tables are not these."""


class Store:
    """Open the database file, its owner's alone, and hand out short transactions.

    Raises:
        OtherSchemaError: The file has other tables than this version of the sandbox.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)  # it holds keys; its journal files get the same mode
        self._engine = create_engine(
            f"sqlite:///{path}", connect_args={"timeout": 30, "check_same_thread": False}, pool_size=10, max_overflow=60
        )
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)
        self._writer = self._engine.execution_options(**{_WRITE: True})
        # SQLite allows one writer; queueing here is fair, its own busy wait is not.
        self._turn = threading.Lock()
        try:
            with self.write() as tx:
                _prepare(tx, path)
        except (OtherSchemaError, DatabaseError):
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Yield a connection that sees one consistent state."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Yield a connection whose changes are committed together, or not at all when the block raises."""
        with self._turn, self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()


def _prepare(tx: Connection, path: Path) -> None:
    """Make the tables of a new file; a file of another version is left as it is."""
    wanted = _schema_number()
    found = tx.exec_driver_sql("PRAGMA user_version").scalar_one()
    is_new = tx.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one() == 0
    if not is_new and found != wanted:
        raise OtherSchemaError(
            f"the sandbox home {str(path.parent)!r} was written by another version of the sandbox: "
            "remove that folder, or choose another --home"
        )
    metadata.create_all(tx)
    tx.exec_driver_sql(f"PRAGMA user_version = {wanted}")


def _schema_number() -> int:
    """Return a number that changes with any table or column, so that nobody has to remember to count it up."""
    columns = [f"{table.name}.{column.name}:{column.type!s}" for table in metadata.sorted_tables for column in table.c]
    return zlib.crc32("\n".join(sorted(columns)).encode()) & 0x7FFF_FFFF


def first(tx: Connection, query: Select[Any]) -> Row | None:
    """Return the first row of a query, or None."""
    row = tx.execute(query.limit(1)).mappings().first()
    return None if row is None else dict(row)


def every(tx: Connection, query: Select[Any]) -> list[Row]:
    """Return all rows of a query."""
    return [dict(row) for row in tx.execute(query).mappings()]


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin, not guessed by the driver
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000", "foreign_keys=OFF"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    writing = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
