"""Nothing more is prepared or triggered for a flow run that is to end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import TrainingCancelledError
from pipeline.journal.bookkeeping import AttemptLog
from pipeline.journal.store import Journal
from tasks import creation
from tests.intents import intent_of, plan_of
from tests.unit.conftest import FakeClock

KEY = plan_of().operation_key


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal of its own."""
    opened = Journal(str(tmp_path / "journal.db"))
    yield opened
    opened.close()


def _log(journal: Journal, monkeypatch: pytest.MonkeyPatch, *, cancelled: bool) -> AttemptLog:
    monkeypatch.setattr(creation, "own_run_is_cancelled", lambda: cancelled)
    return creation._UnlessCancelled(journal, intent_of(plan_of()), FakeClock())


def test_each_step_that_is_noted_asks_first(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter notes a step before it takes it: what is not noted is not done."""
    _log(journal, monkeypatch, cancelled=False).notes.write({"uploads": 1})
    with pytest.raises(TrainingCancelledError, match="being prepared"):
        _log(journal, monkeypatch, cancelled=True).notes.write({"uploads": 2})
    assert journal.notes(KEY) == {"uploads": 1}


def test_an_attempt_that_was_begun_remembers_the_wish(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second trigger is not sent, and the sweep learns that somebody wanted the training ended."""
    journal.intend(replace(intent_of(plan_of()), body={}))
    with pytest.raises(TrainingCancelledError):
        _log(journal, monkeypatch, cancelled=True).notes.write({"triggers": 2})
    record = journal.find(KEY)
    assert record is not None
    assert record.cancel_asked_at_s is not None
