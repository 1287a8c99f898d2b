"""Attempts whose create is still in doubt, at a provider that shows no names; and rows nobody can judge."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ProviderUnavailableError
from pipeline.journal.records import Owner
from pipeline.journal.store import Journal
from pipeline.models import RunStatus, TrainingRun
from pipeline.requests import SweepRequest
from pipeline.sweep.intents import SKEW_S
from pipeline.sweep.surveying import open_records, survey
from pipeline.sweep.sweeping import Action, FlowKind, FlowState, Found, SweepClass, Watch, decide
from tests.databases import look as ask
from tests.unit.conftest import Script, make_run
from tests.unit.operations import HANDLE, NOW_S, Account, begin

WAITING = {"flow-1": FlowState(FlowKind.WAITING)}
CRASHED = {"flow-1": FlowState(FlowKind.ENDED)}
WATCH = Watch(NOW_S, lambda _: True)
EAGER = SweepRequest(unknown_runs="cancel")
DOWN = ProviderUnavailableError("503")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal of its own."""
    opened = Journal(str(tmp_path / "journal.db"), lambda: NOW_S)
    yield opened
    opened.close()


def nameless(run_id: str = "r9", created_s: float | None = NOW_S, status: RunStatus = RunStatus.RUNNING) -> TrainingRun:
    """Return a run as it is listed where runs have no names: it is called by its id."""
    handle = HANDLE.model_copy(update={"run_id": run_id, "name": run_id, "dataset": ""})
    created = None if created_s is None else datetime.fromtimestamp(created_s, UTC)
    return make_run(status, handle=handle, created_at=created)


def look(journal: Journal, provider: Account, flows: dict[str, FlowState], *live: TrainingRun) -> dict[str, Found]:
    """Survey everything that is open; by the run's id, or by the operation's where there is no run."""
    records = open_records(journal, provider)  # type: ignore[arg-type]
    found = survey(journal, provider, records, flows, WATCH, live=live)  # type: ignore[arg-type]
    return {item.run.handle.run_id if item.run else item.record.operation_id: item for item in found}  # type: ignore[union-attr]


def test_a_watched_run_whose_handle_is_not_written_down_is_no_stranger(journal: Journal) -> None:
    """It is found by what its create sent, and left to whoever looks after it; another one is a stranger."""
    plan = begin(journal, "op-1")
    provider = Account(find_run=Script(nameless()))
    found = look(journal, provider, WAITING, nameless(), nameless("r7"))
    assert {run_id: item.sort for run_id, item in found.items()} == {
        "r9": SweepClass.WATCHED,
        "r7": SweepClass.UNKNOWN_TO_US,
    }
    record = journal.find(plan.operation_key)
    assert record is not None
    assert record.handle is None
    assert provider.calls("find_run") == 1


def test_nobody_is_asked_where_names_tell(journal: Journal) -> None:
    """A run with a name of its own would carry the key: a stranger for certain, without a look-up."""
    begin(journal, "op-1")
    by_hand = make_run(handle=HANDLE.model_copy(update={"run_id": "r7", "name": "by-hand"}))
    found = look(journal, Account(), WAITING, by_hand)
    assert found["r7"].sort is SweepClass.UNKNOWN_TO_US


@pytest.mark.parametrize("flows", [WAITING, CRASHED], ids=["watched", "alone"])
@pytest.mark.parametrize("error", [DOWN, ValueError("?")], ids=repr)
def test_nothing_is_a_stranger_while_an_attempt_cannot_be_looked_up(
    journal: Journal, flows: dict[str, FlowState], error: Exception
) -> None:
    """What was created since the attempt's intent may be its run: told, and not cancelled. What is older is none."""
    begin(journal, "op-1")
    old = nameless("r7", NOW_S - SKEW_S - 1)
    found = look(journal, Account(find_run=Script(error)), flows, nameless(), nameless("r8", None), old)
    assert found["op-1"].sort is (SweepClass.WATCHED if flows is WAITING else SweepClass.NO_RUN)
    for run_id in ("r9", "r8"):
        assert (found[run_id].sort, decide(found[run_id], EAGER)) == (SweepClass.UNJUDGED, Action.NOTIFY)
        assert "it may be the run of operation op-1" in found[run_id].reason
    assert (found["r7"].sort, decide(found["r7"], EAGER)) == (SweepClass.UNKNOWN_TO_US, Action.CANCEL)


@pytest.mark.parametrize("flows", [WAITING, CRASHED], ids=["watched", "alone"])
def test_another_keys_attempt_in_doubt_is_not_forgotten(journal: Journal, flows: dict[str, FlowState]) -> None:
    """A key may have been changed in mid-create: the account is the same, and the run may be that attempt's."""
    begin(journal, "op-1")
    provider = Account()
    provider.account = "account-2"
    assert look(journal, provider, flows, nameless())["r9"].sort is SweepClass.UNJUDGED


def test_a_look_up_that_finds_nothing_is_an_answer(journal: Journal) -> None:
    """The run was listed before: had the attempt created it, the look-up would have shown it."""
    begin(journal, "op-1")
    for flows in (WAITING, CRASHED):
        found = look(journal, Account(find_run=Script(None)), flows, nameless())
        assert found["r9"].sort is SweepClass.UNKNOWN_TO_US


@pytest.mark.parametrize("handle", [None, HANDLE], ids=["intent", "created"])
def test_an_intent_of_a_newer_release_may_have_created_a_run_without_a_name(
    journal: Journal, tmp_path: Path, handle: Any
) -> None:
    """It cannot be read, so nobody can ask: told, and not cancelled. One whose run is known is about that run alone."""
    begin(journal, "op-1", handle=handle)
    ask(str(tmp_path / "journal.db"), "UPDATE operations SET request = '{}'")
    found = look(journal, Account(), CRASHED, nameless())
    assert found["r9"].sort is (SweepClass.UNJUDGED if handle is None else SweepClass.UNKNOWN_TO_US)


def test_a_row_that_cannot_be_judged_costs_no_other_its_sweep(journal: Journal) -> None:
    """A cap no arithmetic can be done with: that one is told, and left alone; the other is judged."""
    begin(journal, "op-1", handle=HANDLE)
    begin(journal, "op-2", handle=HANDLE.model_copy(update={"run_id": "r2"}))
    provider = Account()
    sound, spoiled = open_records(journal, provider)  # type: ignore[arg-type]
    endless = spoiled.request.model_copy(update={"budget_credits": None, "budget_usd": float("inf")})
    spoiled = spoiled.model_copy(update={"request": endless})
    started = datetime.fromtimestamp(NOW_S, UTC) - timedelta(minutes=5)
    live = tuple(make_run(handle=one.handle, started_at=started) for one in (sound, spoiled))
    found = survey(journal, provider, (spoiled, sound), CRASHED, WATCH, live=live)  # type: ignore[arg-type]
    assert [item.sort for item in found] == [SweepClass.UNJUDGED, SweepClass.FLOW_GONE]
    assert "OverflowError" in found[0].reason
    assert decide(found[0], SweepRequest(flow_gone="cancel", over_budget="cancel")) is Action.NOTIFY


def test_an_owner_nobody_can_ask_about_is_told(journal: Journal) -> None:
    """Whether its process lives cannot be said: nothing is looked up on its account, and the others are judged."""
    plan = begin(journal, "op-1", handle=HANDLE)
    begin(journal, "op-2", handle=HANDLE.model_copy(update={"run_id": "r2"}))
    mine = Owner(host="h", pid=2, born="1", flow_run_id="flow-1")
    journal.claim(plan.operation_key, mine, NOW_S + 60, lambda _: True)

    def is_gone(owner: Owner) -> bool:
        raise PermissionError(owner.pid)

    provider = Account(get_runs=Script(()))
    records = open_records(journal, provider)  # type: ignore[arg-type]
    found = survey(journal, provider, records, CRASHED, Watch(NOW_S, is_gone))  # type: ignore[arg-type]
    sorts = {item.record.operation_id: item.sort for item in found if item.record}
    assert sorts == {"op-1": SweepClass.UNJUDGED, "op-2": SweepClass.NO_RUN}
