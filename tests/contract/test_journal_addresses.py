"""The journal's address: what is wrong with it or its server is said, what it must not give away is not."""

from __future__ import annotations

import json
import sys
import traceback
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from pipeline.errors import ConfigurationError, JournalError
from pipeline.journal import connection as journal_connection
from pipeline.journal.connection import VARIABLE
from pipeline.journal.records import OperationOutcome
from pipeline.journal.schema import Store, metadata
from pipeline.journal.store import Journal
from providers.connect import connect
from tests.contract.conftest import Hands
from tests.databases import PASSWORD, Postgres, look
from tests.intents import handle_of, intent_of, plan_of
from tests.notes import MemoryNotes
from tests.servers import free_port
from tests.unit.conftest import make_export
from tests.waiting import eventually

KEY = plan_of().operation_key
CANARY = "pk_live_canary-0b5e55ed-c0ffee"


def shown(error: BaseException) -> str:
    """Return everything an error says in a log: its chain, its values, its traceback."""
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


@pytest.mark.parametrize(
    "address",
    [
        f"mysql://team:{PASSWORD}@db/journal",
        f"postgresql://team:{PASSWORD}@db:port/journal",
        f"postgresql:team:{PASSWORD}@db/journal",
        f"PostgreSQL:/team:{PASSWORD}@db/journal",
        f"sqlite:///{PASSWORD}.db",
        f"nonsense+driver://{PASSWORD}",
    ],
)
def test_an_address_that_is_none_is_not_repeated(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it taken for a file's path: a slip in the scheme must not write the password to disk."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=rf"{VARIABLE} is neither") as caught:
        Journal(address)
    assert caught.value.context.field == VARIABLE
    assert PASSWORD not in shown(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_driver_says_how_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL is an extra."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"train-pipeline\[postgres\]") as caught:
        Journal(f"postgresql://team:{PASSWORD}@localhost/journal")
    assert PASSWORD not in shown(caught.value)


def test_a_server_that_cannot_be_used_is_told_apart(postgres: Postgres) -> None:
    """Down, another password, no such database, no permission: each its reason, none with the password."""
    postgres.execute("CREATE SCHEMA theirs")
    postgres.execute("GRANT USAGE ON SCHEMA theirs TO team")
    wrong = PASSWORD[:-1] + "!"
    faults = {
        f"postgresql://team:{PASSWORD}@127.0.0.1:{free_port()}/journal": "cannot be reached",
        f"postgresql://team:{PASSWORD}@/journal?host={postgres.folder}-gone": "cannot be reached",
        postgres.url(password=wrong): "refuses the user or its password",
        postgres.url(database="nothing"): "no such database",
        postgres.url("theirs"): "does not allow the user",
    }
    for address, reason in faults.items():
        with pytest.raises(JournalError, match=rf"{reason}.*{VARIABLE}") as caught:
            Journal(address)
        assert PASSWORD not in shown(caught.value)
        assert wrong not in shown(caught.value)


def test_any_spelling_of_the_scheme_will_do(postgres: Postgres) -> None:
    """As other tools write it, it leads to the same journal."""
    address = postgres.empty()
    with closing(Journal(address)) as journal:
        journal.intend(intent_of(plan_of()))
    for spelled in (address.replace("postgresql", "postgres"), address.replace("postgresql", "PostgreSQL")):
        with closing(Journal(spelled)) as journal:
            assert journal.find(plan_of().operation_key) is not None


def test_a_process_keeps_one_connection(postgres: Postgres) -> None:
    """However often and wherever it opens the journal; a server has few to give away."""
    address = postgres.empty()
    counting = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'team' AND pid <> pg_backend_pid()"
    first, second = Journal(postgres.empty()), Journal(address)
    for journal in (first, second, Journal(address), Journal(address)):
        journal.open_operations()
        journal.close()
    first.close()
    assert eventually(lambda: look(address, counting) == [(1,)])


def test_a_connection_that_was_cut_is_made_anew(postgres: Postgres) -> None:
    """The server was restarted since: the next one who opens the journal does not notice."""
    address = postgres.empty()
    Journal(address).close()
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'team'")
    journal = Journal(address)
    assert not journal.intend(intent_of(plan_of()))[1]
    journal.close()


def test_a_lock_that_is_held_is_not_waited_for_for_ever(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs in a transaction does not take the others with it."""
    monkeypatch.setattr(journal_connection, "BUSY_S", 1.0)
    address = postgres.empty()
    journal, store = Journal(address), Store(address)
    with store.write(), pytest.raises(JournalError, match="kept it locked"):
        journal.intend(intent_of(plan_of()))
    assert not journal.intend(intent_of(plan_of()))[1]
    store.close()
    journal.close()


def test_no_secret_is_in_any_row_or_error(location: str, hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that pays and the password that opens: searched for in every column, and in a write that fails.

    The search is shown to find what is there: the data set's name.
    """
    monkeypatch.setenv("PICTOGRAPH_BASE_URL", "http://127.0.0.1:9")
    plan = plan_of()
    provider = connect("pictograph", sandbox=False, api_key=SecretStr(CANARY))
    body = provider.order(plan, make_export(), MemoryNotes())
    journal = Journal(location, now=hands)
    journal.intend(intent_of(plan, body=body, account=provider.account))
    journal.unknown(KEY, "the answer was lost")
    journal.created(KEY, handle_of())
    journal.ended(KEY, OperationOutcome.FAILED, "failed")
    tables = [look(location, str(select(table))) for table in metadata.tables.values()]
    rows = json.dumps(tables, default=str)
    assert "road-signs" in rows
    look(location, "ALTER TABLE operations RENAME TO taken_away")
    other = plan_of("op-2")
    with pytest.raises(JournalError, match=VARIABLE) as caught:
        journal.intend(intent_of(other, body={"name": other.run_name}))
    for secret in (CANARY, PASSWORD):
        assert secret not in rows
        assert secret not in shown(caught.value)
    assert other.run_name not in shown(caught.value)
    provider.close()
    journal.close()
