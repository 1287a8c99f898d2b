"""Where a journal lies: how it is made, moved forward, refused, and what an address may not give away."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Connection, inspect, text

from pipeline.errors import ConfigurationError, JournalError
from pipeline.journal import connection as journal_connection
from pipeline.journal import schema as journal_schema
from pipeline.journal.connection import VARIABLE, give_back, take
from pipeline.journal.schema import MIGRATIONS, Store, deliveries, metadata, preparations
from pipeline.journal.store import Journal
from tests.databases import look
from tests.intents import handle_of, intent_of, plan_of

KEY = plan_of().operation_key
NOBODY = 65534
NOW = 1 + len(MIGRATIONS)
"""The version of this release."""


# -- versions ---------------------------------------------------------------------------------------------------------


def test_the_first_opening_makes_it_and_the_next_ones_leave_it_alone(location: str) -> None:
    """All tables, one version; what is in it is still there."""
    journal = Journal(location)
    journal.intend(intent_of(plan_of()))
    journal.close()
    again = Journal(location)
    assert again.find(KEY) is not None
    again.close()
    assert look(location, "SELECT version FROM journal_schema") == [(NOW,)]
    store = Store(location)
    with store.read() as tx:
        assert set(inspect(tx).get_table_names()) == set(metadata.tables)
    store.close()


def test_opening_writes_nothing_and_waits_for_nobody(location: str) -> None:
    """While another process writes, the journal can be opened and read."""
    store = Store(location)
    with store.write():
        second = Journal(location)
        assert second.find(KEY) is None
        second.close()
    store.close()


def test_a_new_file_that_another_process_is_just_writing_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite says "busy" at once here; it is asked again until the other one has finished."""
    path = tmp_path / "journal.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            other.execute("COMMIT")

    monkeypatch.setattr(journal_connection, "time", SimpleNamespace(sleep=wait, monotonic=time.monotonic))
    journal = Journal(str(path))
    assert journal.open_operations() == ()
    assert len(waits) == 2
    journal.close()
    other.close()


def test_a_new_file_that_stays_locked_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After as long as every transaction waits, with SQLite's own words."""
    path = tmp_path / "journal.db"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    clock = [0.0]

    def wait(_: float) -> None:
        clock[0] += journal_connection.BUSY_S

    monkeypatch.setattr(journal_connection, "time", SimpleNamespace(sleep=wait, monotonic=lambda: clock[0]))
    with pytest.raises(JournalError, match=rf"database is locked.*{VARIABLE}"):
        Journal(str(path))
    assert clock[0] > journal_connection.BUSY_S
    other.close()


def test_a_newer_releases_journal_is_refused_and_left_as_it_is(location: str) -> None:
    """The message says both versions and what to do."""
    Journal(location).close()
    look(location, "UPDATE journal_schema SET version = 7")
    with pytest.raises(JournalError, match=rf"newer release.*version 7, this one knows {NOW}.*{VARIABLE}"):
        Journal(location)
    assert look(location, "SELECT version FROM journal_schema") == [(7,)]


def _add_team(tx: Connection) -> None:
    tx.execute(text("ALTER TABLE operations ADD COLUMN team TEXT"))
    tx.execute(text("UPDATE operations SET team = 'vision'"))


def _count_teams(tx: Connection) -> None:
    tx.execute(text("CREATE TABLE teams (name TEXT)"))
    tx.execute(text("INSERT INTO teams SELECT DISTINCT team FROM operations"))


def _fail(tx: Connection) -> None:
    _count_teams(tx)
    tx.execute(text("SELECT nothing FROM nowhere"))


def test_an_older_journal_is_brought_forward_step_by_step(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step runs once, in order, and what was written before is kept."""
    journal = Journal(location)
    journal.intend(intent_of(plan_of()))
    journal.created(KEY, handle_of())
    journal.close()
    monkeypatch.setattr(journal_schema, "MIGRATIONS", (*MIGRATIONS, _add_team))
    Journal(location).close()
    assert look(location, "SELECT version FROM journal_schema") == [(NOW + 1,)]
    monkeypatch.setattr(journal_schema, "MIGRATIONS", (*MIGRATIONS, _add_team, _count_teams))
    Journal(location).close()
    later = Journal(location)
    record = later.find(KEY)
    later.close()
    assert record is not None
    assert record.handle == handle_of()
    assert look(location, "SELECT name FROM teams") == [("vision",)]
    assert look(location, "SELECT version FROM journal_schema") == [(NOW + 2,)]


def test_the_first_releases_journal_gets_what_came_later(location: str) -> None:
    """Its attempts are kept, with no denial known of, and notes and deliveries can be kept beside them."""
    journal = Journal(location)
    journal.intend(intent_of(plan_of()))
    journal.close()
    for table in (preparations, deliveries):
        look(location, f"DROP TABLE {table.name}")
    look(location, "ALTER TABLE operations DROP COLUMN missing_since_s")
    look(location, "UPDATE journal_schema SET version = 1")
    again = Journal(location)
    record = again.find(KEY)
    assert record is not None
    assert record.missing_since_s is None
    assert again.denied(KEY) == 0
    assert again.open_operations()[0].missing_since_s is not None
    again.note(intent_of(plan_of()), {"file": "f-1"})
    assert again.notes(KEY) == {"file": "f-1"}
    assert again.deliver("replicate", "msg-1", "r1")
    again.close()
    assert look(location, "SELECT version FROM journal_schema") == [(NOW,)]


def test_a_new_journal_is_not_brought_forward(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made as this release wants it: a step made for older tables does not touch it."""
    monkeypatch.setattr(journal_schema, "MIGRATIONS", (_fail,))
    Journal(location).close()
    assert look(location, "SELECT version FROM journal_schema") == [(2,)]


def test_a_step_that_fails_changes_nothing(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal stays the older release's, whole."""
    Journal(location).close()
    monkeypatch.setattr(journal_schema, "MIGRATIONS", (*MIGRATIONS, _add_team, _fail))
    with pytest.raises(JournalError, match=VARIABLE):
        Journal(location)
    monkeypatch.undo()
    journal = Journal(location)
    journal.intend(intent_of(plan_of()))
    journal.close()
    assert look(location, "SELECT version FROM journal_schema") == [(NOW,)]


def test_a_row_this_release_cannot_read_is_named(location: str) -> None:
    """And not taken for an attempt that was never begun."""
    journal = Journal(location)
    journal.intend(intent_of(plan_of()))
    look(location, "UPDATE operations SET state = 'paused'")
    with pytest.raises(JournalError, match=r"'op-1' in the journal cannot be read by this release \(state\)"):
        journal.find(KEY)
    journal.close()


# -- forked processes -------------------------------------------------------------------------------------------------


def _in_child(work: Callable[[], object]) -> int:
    """Return the exit code of a forked process that does this: 0, or what has gone wrong."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    signal.alarm(20)  # one that hangs is ended
    try:
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


def _session_of(location: str) -> int:
    """Return which connection this process has kept: the server's number for it, or the driver's object."""
    opened = take(location)
    with opened.engine.connect() as connection:
        raw = connection.connection.driver_connection
        number: int = raw.info.backend_pid if "://" in location else id(raw)  # type: ignore[union-attr]
    give_back(opened, keep=True)
    return number


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_leaves_its_parents_connection_alone(location: str) -> None:
    """It opens one of its own; closing that, or what it inherited, ends nothing of its parent's."""
    inherited = Journal(location)
    inherited.intend(intent_of(plan_of()))
    before = _session_of(location)

    def work() -> None:
        own = Journal(location)
        own.intend(intent_of(plan_of("op-2")))
        own.close()
        assert inherited.find(KEY) is not None
        inherited.close()
        assert _session_of(location) != before

    assert _in_child(work) == 0
    assert _session_of(location) == before
    inherited.close()
    assert _in_child(lambda: Journal(location).close()) == 0
    assert _session_of(location) == before
    assert look(location, "SELECT count(*) FROM operations") == [(2,)]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_that_is_forked_while_the_lock_is_held_does_not_wait_for_it(location: str) -> None:
    """Whoever held it is not in the child to let go of it."""
    Journal(location).close()
    with journal_connection._lock:
        assert _in_child(lambda: Journal(location).close()) == 0
    Journal(location).close()


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a?mode=ro", "100%25.db", "a#b.db", "sub/folder/ä b.db", ":memory:", "x:y"])
def test_a_file_is_the_file_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Nothing in a name is read as an option; the file is this user's alone, and so are what lie beside it."""
    monkeypatch.chdir(tmp_path)
    journal = Journal(name)
    journal.intend(intent_of(plan_of()))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / name).parent.glob("*")}
    assert modes.pop(Path(name).name) == 0o600
    assert set(modes.values()) <= {0o600}
    journal.close()
    assert sqlite3.connect(tmp_path / name).execute("SELECT key FROM operations").fetchall() == [(KEY,)]


@contextmanager
def unprivileged() -> Iterator[None]:
    """Run as a user whom permissions bind, where the tests run as one whom they do not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder anybody can enter, with a journal in it, and nobody may write."""
    with tempfile.TemporaryDirectory(prefix="locked-") as name:
        folder = Path(name)
        Journal(str(folder / "journal.db")).close()
        (folder / "journal.db").chmod(0o444)
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


@pytest.mark.parametrize("name", ["journal.db", "new.db", "deeper/journal.db"])
def test_a_place_that_cannot_be_written_is_named(locked: Path, name: str) -> None:
    """With the reason, and the variable that moves it."""
    with unprivileged(), pytest.raises(ConfigurationError, match=rf"{name}.*Permission denied.*{VARIABLE}") as caught:
        Journal(str(locked / name))
    assert caught.value.context.field == VARIABLE


def _spoil_folder(path: Path) -> None:
    path.mkdir()


def _spoil_text(path: Path) -> None:
    path.write_text("not a database, but quite long enough to be taken for one\n" * 100, encoding="utf-8")


def _spoil_pages(path: Path) -> None:
    Journal(str(path)).close()
    look(str(path), "PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[100:4100] = b"\xff" * 4000
    for left in path.parent.glob("journal.db*"):
        left.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(_spoil_folder, "unable to open"), (_spoil_text, "not a database"), (_spoil_pages, "malformed")],
    ids=["folder", "text", "damaged"],
)
def test_what_is_no_journal_is_refused_and_not_replaced(
    tmp_path: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    """The database's own words are passed on, with the variable to look at; the file stays as it is."""
    path = tmp_path / "journal.db"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(JournalError, match=rf"{reason}.*{VARIABLE}"):
        Journal(str(path))
    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_journal_that_was_taken_away_is_made_anew(tmp_path: Path) -> None:
    """What this process kept open of it is not written to: it would be gone with the file."""
    path = tmp_path / "journal.db"
    journal = Journal(str(path))
    journal.intend(intent_of(plan_of()))
    journal.close()
    path.rename(tmp_path / "taken.db")
    for leftover in tmp_path.glob("journal.db-*"):
        leftover.unlink()
    journal = Journal(str(path))
    assert journal.find(KEY) is None
    journal.intend(intent_of(plan_of("op-2")))
    journal.close()
    assert look(str(path), "SELECT operation_id FROM operations") == [("op-2",)]


def test_a_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    """It cannot hold a journal."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=rf"file/journal.db.*cannot be written.*{VARIABLE}"):
        Journal(str(tmp_path / "file" / "journal.db"))


def test_a_home_nobody_has_is_named() -> None:
    """A user without one must say where the journal is to lie."""
    with pytest.raises(ConfigurationError, match=rf"'~nobody-of-that-name/j.db' has no home folder.*{VARIABLE}"):
        Journal("~nobody-of-that-name/j.db")
