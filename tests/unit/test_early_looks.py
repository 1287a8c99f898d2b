"""The provider's calls wake the watch that sleeps: one look for each, and none for what cannot be read."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import JournalError
from pipeline.journal.store import Journal
from pipeline.models import PollPolicy, RunStatus, TrainPlan
from pipeline.watch.watching import watch_run
from tasks import deliveries
from tasks.deliveries import Deliveries
from tasks.interruption import OwnState
from tests.unit.conftest import make_plan, make_profile, make_run

LONG_S = 600.0
"""Sleeps of this length must end early for the test to end."""
SOON_S = 60.0
"""Longest wait for another thread on a busy machine."""
RARELY = PollPolicy(interval_s=LONG_S, floor_s=LONG_S, ceiling_s=LONG_S, deadline_s=10 * LONG_S)


@pytest.fixture(autouse=True)
def _listening_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "LISTEN_S", 0.001)


def plan_of(*, calls: bool = True) -> TrainPlan:
    """Return the plan of a run at a provider that calls, or does not."""
    return make_plan(profile=make_profile(sends_webhooks=calls))


# -- the clock --------------------------------------------------------------------------------------------------------


def test_a_wake_up_ends_the_sleep() -> None:
    """At once, whether it comes while somebody sleeps or just before."""
    own = OwnState()
    clock = own.interrupting(time)
    sleeper = threading.Thread(target=clock.sleep, args=(LONG_S,), daemon=True)
    sleeper.start()
    own.wake()
    sleeper.join(SOON_S)
    assert not sleeper.is_alive()


def test_a_wake_up_ends_one_sleep_only() -> None:
    """Several before one sleep are one; the next sleep is a whole one."""
    own = OwnState()
    clock = own.interrupting(time)
    own.wake()
    own.wake()
    clock.sleep(LONG_S)
    began = time.monotonic()
    clock.sleep(0.05)
    assert time.monotonic() - began >= 0.05


def test_other_clocks_are_left_as_they_are() -> None:
    """A fake clock only moves its hands, woken or not."""
    own = OwnState()
    slept: list[float] = []
    fake: Any = type("Fake", (), {"monotonic": staticmethod(lambda: 0.0), "sleep": staticmethod(slept.append)})
    own.wake()
    own.interrupting(fake).sleep(LONG_S)
    assert slept == [LONG_S]


# -- what wakes it ----------------------------------------------------------------------------------------------------


class Counts:
    """The journal's answers to how often was called, one a look; raises exceptions, and notes who asked for what."""

    def __init__(self, *answers: Any) -> None:
        self._answers = iter(answers)
        self.asked: list[tuple[str, str]] = []
        self.is_over = threading.Event()

    def deliveries_about(self, provider: str, run_id: str) -> int:
        """Return or raise the next answer; the last one again and again."""
        self.asked.append((provider, run_id))
        try:
            self._last = next(self._answers)
        except StopIteration:
            self.is_over.set()
        if isinstance(self._last, Exception):
            raise self._last
        return int(self._last)

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("answers", "wakings"),
    [
        ((0, 0, 0), 0),
        ((0, 1, 1, 2), 2),
        ((2, 2, 5), 2),
        ((JournalError("away"), 1, JournalError("away"), 1, RuntimeError("worse"), 2), 2),
        ((3, 0, 3), 1),
    ],
    ids=["nothing", "each", "several-at-once", "journal-away", "never-twice"],
)
def test_each_new_call_wakes_once(answers: tuple[Any, ...], wakings: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that came before it began count as one; a journal that is away is asked again."""
    journal = Counts(*answers)
    monkeypatch.setattr(deliveries, "opened_journal", lambda: closing(journal))
    woken: list[None] = []
    with Deliveries(plan_of(), make_run(), lambda: woken.append(None)):
        assert journal.is_over.wait(SOON_S)
    assert len(woken) == wakings
    assert set(journal.asked) == {("pictograph", "r1")}


def test_nobody_listens_where_no_provider_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a thread, not a question."""
    begun: list[Any] = []
    monkeypatch.setattr(threading.Thread, "start", begun.append)
    with Deliveries(plan_of(calls=False), make_run(), lambda: None):
        assert begun == []


def test_listening_ends_with_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread is gone then."""
    monkeypatch.setattr(deliveries, "opened_journal", lambda: closing(Counts(0)))
    before = set(threading.enumerate())
    with Deliveries(plan_of(), make_run(), lambda: None):
        (listener,) = set(threading.enumerate()) - before
    listener.join(SOON_S)
    assert not listener.is_alive()


# -- the watch --------------------------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    """The journal the watch listens to."""
    monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", str(tmp_path / "journal.db"))
    with closing(Journal(str(tmp_path / "journal.db"))) as opened:
        yield opened


def watched(get: Callable[[], Any], on_look: Callable[[], None]) -> Any:
    """Watch a run that is looked at every ten minutes, as the stage does."""
    plan = plan_of()
    own = OwnState()
    with own, Deliveries(plan, make_run(), own.wake):
        return watch_run(make_run(), get, RARELY, own.interrupting(time), lambda *_: on_look())


def test_a_call_brings_the_next_look_forward(journal: Journal) -> None:
    """Running, then called, then seen to have completed: two looks within a moment instead of ten minutes."""
    ended = threading.Event()

    def get() -> Any:
        return make_run(RunStatus.COMPLETED if ended.is_set() else RunStatus.RUNNING)

    def call() -> None:
        ended.set()
        journal.deliver("pictograph", "msg_1", "r1")

    began = time.monotonic()
    seen = watched(get, call)
    assert (seen.run.status, seen.looks) == (RunStatus.COMPLETED, 2)
    assert time.monotonic() - began < LONG_S / 10


def test_a_call_that_is_not_true_costs_one_look(journal: Journal) -> None:
    """The look decides: still running, so it is slept on, and the doubled call wakes nobody."""
    looks: queue.SimpleQueue[int] = queue.SimpleQueue()
    calls = iter(["msg_1", "msg_1", "msg_2"])
    ended = threading.Event()

    def get() -> Any:
        return make_run(RunStatus.COMPLETED if ended.is_set() else RunStatus.RUNNING)

    def noted() -> None:
        looks.put(1)

    watching = threading.Thread(target=watched, args=(get, noted), daemon=True)
    watching.start()
    assert looks.get(timeout=SOON_S)
    journal.deliver("pictograph", next(calls), "r1")
    assert looks.get(timeout=SOON_S)
    assert journal.deliver("pictograph", next(calls), "r1") is False
    with pytest.raises(queue.Empty):
        looks.get(timeout=0.1)
    ended.set()
    journal.deliver("pictograph", next(calls), "r1")
    assert looks.get(timeout=SOON_S)
    watching.join(SOON_S)
    assert not watching.is_alive()
