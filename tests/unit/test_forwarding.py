"""Bringing deferred flow runs forward: tried a few times, one at a time, and only where somebody waits."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.journal.records import OperationOutcome
from pipeline.journal.store import Journal
from tasks import forwarding
from tasks.forwarding import MOST, Forwarding, bring_forward
from tests.unit.operations import HANDLE, begin

SOON_S = 60.0
"""Longest wait for another thread on a busy machine."""
AT_ONCE = (0.0, 0.0, 0.0)
"""Three tries without pauses."""


class Brought:
    """Notes what is to be brought forward; says no so many times to each."""

    def __init__(self, refusals: int = 0) -> None:
        self.tries: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._refusals = refusals
        self._tried: dict[str, int] = {}

    def __call__(self, run_id: str) -> bool:
        """Take one try in."""
        self.tries.put(run_id)
        self._tried[run_id] = self._tried.get(run_id, 0) + 1
        return self._tried[run_id] > self._refusals

    def next(self) -> str:
        """Return the next try."""
        return self.tries.get(timeout=SOON_S)


@pytest.mark.parametrize(("refusals", "tries"), [(0, 1), (1, 2), (2, 3), (99, 3)])
def test_it_is_tried_until_done_and_not_for_ever(refusals: int, tries: int) -> None:
    """Then the next one in line."""
    brought = Brought(refusals)
    with Forwarding(brought, AT_ONCE) as line:
        line.add("r1")
        assert [brought.next() for _ in range(tries)] == ["r1"] * tries
        line.add("r2")
        assert brought.next() == "r2"


def test_a_run_is_in_line_once() -> None:
    """However often the provider calls before its turn."""
    brought = Brought()
    line = Forwarding(brought, AT_ONCE)
    for _ in range(3):
        line.add("r1")
    line.add("r2")
    with line:
        assert [brought.next(), brought.next()] == ["r1", "r2"]
    assert brought.tries.empty()


def test_the_line_has_an_end() -> None:
    """Whoever is turned away comes back when it is due, and one that is in line keeps its place."""
    brought = Brought()
    line = Forwarding(brought, AT_ONCE)
    for number in range(MOST + 5):
        line.add(f"r{number}")
    line.add("r0")
    with line:
        seen = {brought.next() for _ in range(MOST)}
        line.add("last")
        assert brought.next() == "last"
    assert seen == {f"r{number}" for number in range(MOST)}


def test_a_pause_is_kept() -> None:
    """The one whose pause is over comes first, whoever was first in line."""
    brought = Brought(refusals=1)
    with Forwarding(brought, (0.0, 600.0)) as line:
        line.add("r1")
        assert brought.next() == "r1"
        line.add("r2")
        assert brought.next() == "r2"
        line.add("r1")  # the provider has called again: at once
        assert brought.next() == "r1"


# -- whom it concerns -------------------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    """A journal; Prefect must not be asked about what is in it."""

    def refuse(**_: Any) -> None:
        raise AssertionError("Prefect was asked")

    monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", str(tmp_path / "journal.db"))
    monkeypatch.setattr(forwarding, "get_client", refuse)
    with closing(Journal(str(tmp_path / "journal.db"))) as opened:
        yield opened


def test_a_run_that_is_held_wakes_by_itself(journal: Journal) -> None:
    """A process sleeps for it and listens: Prefect has nothing to do with it."""
    begin(journal, "op-1", handle=HANDLE)
    assert bring_forward("pictograph", "r1") is True


def test_a_run_that_is_closed_is_left_alone(journal: Journal) -> None:
    """Nobody waits for it any more."""
    plan = begin(journal, "op-1", handle=HANDLE, wait="defer")
    journal.ended(plan.operation_key, OperationOutcome.FAILED, "failed")
    assert bring_forward("pictograph", "r1") is True


def test_a_run_that_is_not_known_yet_is_tried_again(journal: Journal) -> None:
    """The provider may be quicker than the answer to the create is written down; another provider's run is another."""
    assert bring_forward("pictograph", "r1") is False
    begin(journal, "op-1", handle=HANDLE, wait="defer")
    assert bring_forward("replicate", "r1") is False


def test_prefect_or_journal_away_is_tried_again(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither raises: the thread that brings the others forward lives on."""
    begin(journal, "op-1", handle=HANDLE, wait="defer")
    assert bring_forward("pictograph", "r1") is False  # the fixture's Prefect raises
    monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", "/dev/null/journal.db")
    assert bring_forward("pictograph", "r1") is False
