"""How the journal's database is reached: a SQLite file, or PostgreSQL by URL; one connection kept for each process.

Opening costs more than what is done with it, and a run opens the journal ten times. So a process keeps what it opened
last: at most one connection that is idle, to the place it used last.
"""

from __future__ import annotations

import atexit
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from pipeline.errors import ConfigurationError, ErrorContext, JournalError

BUSY_S = 30.0
"""Seconds a transaction waits for another process's; every transaction here takes milliseconds."""
CONNECT_S = 10
"""Seconds to wait for a PostgreSQL server to answer."""
VARIABLE = "TRAIN_PIPELINE_JOURNAL"
"""Where the location comes from, for messages."""
_AGAIN_S = 0.01
"""Seconds between two tries of what SQLite does not wait for by itself."""
_SERVER_SAYS = {
    "28": "the server refuses the user or its password",
    "3D": "the server has no such database",
    "42501": "the server does not allow the user to do this",
    "53": "the server has no room",
    "55P03": f"another process has kept it locked for {BUSY_S:.0f} s",
}
"""What PostgreSQL's codes, or their first two characters, mean; its own sentences may quote what was configured."""
_CONNECTING_SAYS = (
    ("authentication failed", _SERVER_SAYS["28"]),
    ("no password supplied", _SERVER_SAYS["28"]),
    ("does not exist", "the server has no such database or user"),
)
"""The same for a connection that was refused, which has no code."""


@dataclass
class Opened:
    """An engine, and how many use it."""

    engine: Engine
    """Its connections are opened when they are needed."""
    place: tuple[object, ...]
    """What it leads to: another file of the same name is another place, and a forked process begins anew."""
    users: int = 0
    """Who has not given it back."""


_lock = threading.Lock()
_kept: Opened | None = None


def take(location: str) -> Opened:
    """Return the engine of a location: the one this process used last, or another one.

    Raises:
        ConfigurationError: The location is no address of a database, or its driver is not installed.
    """
    global _kept  # noqa: PLW0603 - one a process is the point
    path = _path(location)
    with _lock:
        place = _place(location, path)
        if _kept is None or _kept.place != place:
            engine = _server_engine(location) if path is None else _file_engine(path)
            _forget()
            _kept = Opened(engine, place)
        _kept.users += 1
        return _kept


def give_back(opened: Opened, *, keep: bool) -> None:
    """Stop using an engine; what nobody uses is closed, unless it is worth keeping for the next one who asks."""
    with _lock:
        opened.users -= 1
        if not keep and opened is _kept:
            _forget()
        elif opened is not _kept and not opened.users:
            opened.engine.dispose()


@atexit.register
def _forget() -> None:
    global _kept  # noqa: PLW0603 - see above
    if _kept is not None and not _kept.users:
        _kept.engine.dispose()
    _kept = None


_inherited: list[object] = []


def _begin_anew() -> None:
    """Leave a forked child without its parent's connection, and with a lock that nobody holds.

    Closing what the parent goes on using would end its session; so that nothing closes it by chance, it is held on to.
    """
    global _lock, _kept  # noqa: PLW0603 - see above
    _lock = threading.Lock()
    if _kept is not None:
        _inherited.append(_kept.engine.pool)
        _kept.engine.dispose(close=False)
        _kept = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def _place(location: str, path: Path | None) -> tuple[object, ...]:
    if path is None:
        return os.getpid(), location
    _make_private(path)
    try:
        found = path.stat()
    except OSError as error:
        raise JournalError(f"the journal {str(path)!r} cannot be read ({error.strerror}): see {VARIABLE}") from error
    return os.getpid(), str(path), found.st_dev, found.st_ino


def _path(location: str) -> Path | None:
    """Return a file's path, or none for what is, or was meant to be, an address."""
    # A scheme, however it is mistyped: an address taken for a path would put its password into a folder's name.
    if re.match(r"^[A-Za-z][A-Za-z0-9+.-]+:", location):
        return None
    try:
        return Path(location).expanduser().absolute()
    except RuntimeError:  # there is no such user, or this one has no home
        message = f"the journal {location!r} has no home folder to lie in: set {VARIABLE} to a whole path"
        raise ConfigurationError(message, ErrorContext(field=VARIABLE)) from None


def _server_engine(location: str) -> Engine:
    message = f"{VARIABLE} is neither a file's path nor postgresql://...: correct or unset it"
    try:
        url = make_url(location)
        if url.get_backend_name().lower() in {"postgresql", "postgres"}:
            engine = create_engine(
                url.set(drivername="postgresql+psycopg"),
                pool_size=1,
                max_overflow=-1,
                pool_pre_ping=True,  # the server may have been restarted since
                hide_parameters=True,
                isolation_level="READ COMMITTED",  # what is read after the lock was waited for must be what is there
                connect_args={} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_S},
            )
            event.listen(engine, "connect", _configure_server)
            return engine
    except ImportError:
        message = f"{VARIABLE} names a PostgreSQL server: pip install 'train-pipeline[postgres]'"
    except (ArgumentError, NoSuchModuleError, ValueError):
        pass  # raised below, outside of the handler: what was raised here may quote the password
    raise ConfigurationError(message, ErrorContext(field=VARIABLE))


def _configure_server(connection: Any, _record: object) -> None:
    connection.execute(f"SET lock_timeout = '{BUSY_S:.0f}s'")
    connection.commit()


def _file_engine(path: Path) -> Engine:
    url = URL.create("sqlite", database=str(path))  # not parsed: a question mark is part of the name
    options = {"timeout": BUSY_S, "check_same_thread": False}
    engine = create_engine(url, pool_size=1, max_overflow=-1, hide_parameters=True, connect_args=options)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


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
    _use_log(connection)
    for pragma in ("synchronous=FULL", f"busy_timeout={BUSY_S * 1000:.0f}"):
        connection.execute(f"PRAGMA {pragma}")


def _use_log(connection: Any) -> None:
    """Have a new file written by way of a log, which processes that open it at the same time all do at once.

    SQLite answers this one statement "busy" at once instead of waiting as it was told to, so the waiting is done here.
    """
    until = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        else:
            return
        time.sleep(_AGAIN_S)


def _begin_sqlite(connection: Connection) -> None:
    writing = connection.get_execution_options().get("journal_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


@contextmanager
def translated() -> Iterator[None]:
    """Turn the database library's errors into ours, without the statement's values and without the address."""
    try:
        yield
    except (SQLAlchemyError, UnicodeError, OverflowError) as error:
        message = f"the journal could not be read or written ({_reason(error)}): see {VARIABLE}"
    else:
        return
    raise JournalError(message, ErrorContext(operation="journal")) from None


def _reason(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        return str(cause).partition("\n")[0]
    if not isinstance(error, DBAPIError):
        return type(error).__name__
    if code := getattr(cause, "sqlstate", None):
        return _SERVER_SAYS.get(code) or _SERVER_SAYS.get(code[:2]) or f"{type(cause).__name__}, {code}"
    known = [meaning for words, meaning in _CONNECTING_SAYS if words in str(cause)]
    return next(iter(known), "the server cannot be reached")
