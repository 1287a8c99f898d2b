"""What goes on at the provider joined with the journal, and what is done about it, against a provider of fakes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import AuthenticationError, ConflictError, NotFoundError, ProviderUnavailableError
from pipeline.journal.records import LOST_S, OperationOutcome, OperationState
from pipeline.journal.store import Journal
from pipeline.models import Money, RunHandle, RunStatus, Settlement, TrainingRun, Unit
from pipeline.sweep.mending import close, end, hold_back
from pipeline.sweep.surveying import look_around, open_records, survey
from pipeline.sweep.sweeping import Action, FlowKind, FlowState, Found, SweepClass, Watch
from tests.databases import look as ask
from tests.unit.conftest import FakeClock, FakeProvider, Script, make_profile, make_run
from tests.unit.operations import HANDLE, NOW_S, OWNER, Account, begin

CRASHED = {"flow-1": FlowState(FlowKind.ENDED)}
WAITING = {"flow-1": FlowState(FlowKind.WAITING)}
WATCH = Watch(NOW_S, lambda _: True)
LATER = Watch(NOW_S + LOST_S + 60, lambda _: True)
DOWN = ProviderUnavailableError("503")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal of its own."""
    opened = Journal(str(tmp_path / "journal.db"), lambda: NOW_S)
    yield opened
    opened.close()


def look(
    journal: Journal,
    provider: FakeProvider,
    flows: dict[str, FlowState] | None = None,
    watch: Watch = WATCH,
    *live: Any,
) -> list[Found]:
    """Survey everything that is open."""
    records = open_records(journal, provider)  # type: ignore[arg-type]
    known = CRASHED if flows is None else flows
    return list(survey(journal, provider, records, known, watch, live=live))  # type: ignore[arg-type]


def held(journal: Journal) -> int:
    """Return what is held or billed."""
    return journal.spent("credits", sandbox=False, since_s=0.0)


def named(name: str, run_id: str = "r9", status: RunStatus = RunStatus.RUNNING) -> TrainingRun:
    """Return a run of that name as a list shows it: without a data set."""
    handle = HANDLE.model_copy(update={"run_id": run_id, "name": name, "dataset": ""})
    return make_run(status, handle=handle)


def test_what_is_live_and_known_costs_no_further_look(journal: Journal) -> None:
    """The list is enough, whoever looks after it."""
    begin(journal, "op-1", handle=HANDLE)
    (gone,) = look(journal, Account(), CRASHED, WATCH, make_run())
    (fine,) = look(journal, Account(), WAITING, WATCH, make_run())
    assert (gone.sort, fine.sort) == (SweepClass.FLOW_GONE, SweepClass.WATCHED)


def test_what_is_not_live_is_looked_at_once(journal: Journal) -> None:
    """All of them by one call, and only those nobody looks after."""
    begin(journal, "op-1", handle=HANDLE)
    provider = Account(get_runs=Script((make_run(RunStatus.COMPLETED),)))
    assert [item.sort for item in look(journal, provider)] == [SweepClass.UNCOLLECTED]
    assert provider.calls("get_runs") == 1
    assert [item.sort for item in look(journal, Account(), WAITING)] == [SweepClass.WATCHED]


def test_a_stranger_is_told_apart_from_a_twin_and_from_one_that_was_closed(journal: Journal) -> None:
    """Not known at all, carrying the name of an operation that has another run, or closed though it goes on."""
    plan = begin(journal, "op-1", handle=HANDLE)
    closed = begin(journal, "op-2", handle=HANDLE.model_copy(update={"run_id": "r2"}))
    journal.ended(closed.operation_key, OperationOutcome.LOST, "gone")
    live = (make_run(), named("by-hand", "r7"), named(plan.run_name, "r8"), named("x", "r2"))
    _, *strangers = look(journal, Account(), CRASHED, WATCH, *live)
    assert {item.sort for item in strangers} == {SweepClass.UNKNOWN_TO_US}
    assert [item.record for item in strangers] == [None] * 3
    told = [item.reason for item in strangers]
    assert "does not know it" in told[0]
    assert "carries the name of operation op-1, whose run is r1" in told[1]
    assert "operation op-2 was closed as lost" in told[2]


def test_an_intent_is_found_by_its_name(journal: Journal) -> None:
    """Among the live ones without a request, else by a look-up; its handle is written down with its data set."""
    plan = begin(journal, "op-1")
    (item,) = look(journal, Account(), CRASHED, WATCH, named(plan.run_name))
    assert item.sort is SweepClass.FLOW_GONE
    record = journal.find(plan.operation_key)
    assert record is not None
    assert record.handle is not None
    assert (record.state, record.handle.run_id, record.handle.dataset) == (OperationState.CREATED, "r9", "road-signs")
    other = begin(journal, "op-2")
    ended = named(other.run_name, "r8", RunStatus.COMPLETED)
    provider = Account(find_run=Script(ended), get_runs=Script((ended,)))
    found = look(journal, provider, CRASHED, WATCH, named(plan.run_name))
    assert {item.sort for item in found} == {SweepClass.FLOW_GONE, SweepClass.UNCOLLECTED}
    assert provider.calls("find_run") == 1


def test_an_intent_the_provider_denies_for_a_day_is_lost_and_released(journal: Journal) -> None:
    """Before that nothing is done; then the row is closed and what was held is free again; closing again is nothing."""
    plan = begin(journal, "op-1")
    provider = Account(find_run=Script(None))
    (young,) = look(journal, provider)
    assert (young.sort, held(journal)) == (SweepClass.NO_RUN, 100)
    (old,) = look(journal, provider, CRASHED, LATER)
    assert old.sort is SweepClass.LOST
    for _ in range(2):
        assert not close(journal, provider, old).failed  # type: ignore[arg-type]
        record = journal.find(plan.operation_key)
        assert record is not None
        assert (record.outcome, held(journal)) == (OperationOutcome.LOST, 0)
    assert look(journal, provider, CRASHED, LATER) == []


def test_an_intent_at_a_provider_that_cannot_be_asked_is_never_given_up(journal: Journal) -> None:
    """What such a provider does not show may be there all the same: a person decides, not a sweep."""
    begin(journal, "op-1")
    provider = Account()
    provider.profile = make_profile(finds_runs=False)
    (found,) = look(journal, provider, watch=LATER)
    assert (found.sort, found.run) == (SweepClass.NO_RUN, None)
    assert "cannot be asked" in found.reason


def test_a_run_that_is_gone_for_a_day_stays_counted(journal: Journal) -> None:
    """It existed, and nobody can say what it cost: what was held counts as that."""
    begin(journal, "op-1", handle=HANDLE)
    provider = Account(get_runs=Script(()))
    look(journal, provider)
    (item,) = look(journal, provider, CRASHED, LATER)
    done = close(journal, provider, item)  # type: ignore[arg-type]
    assert done.said == "closed as lost, counted as 100"
    assert (item.sort, held(journal), journal.open_operations()) == (SweepClass.LOST, 100, ())


@pytest.mark.parametrize("error", [DOWN, ConflictError("409"), ValueError("?")], ids=repr)
def test_a_look_up_that_fails_says_nothing(error: Exception, journal: Journal) -> None:
    """However old the intent is, and the others are judged all the same."""
    begin(journal, "op-1")
    begin(journal, "op-2", handle=HANDLE)
    found = look(journal, Account(find_run=Script(error)), CRASHED, LATER, make_run())
    assert {item.sort for item in found} == {SweepClass.NO_RUN, SweepClass.PAST_DEADLINE}


def test_an_intent_for_a_data_set_that_is_gone_has_no_run(journal: Journal) -> None:
    """404 about the data set is an answer about the run as well."""
    begin(journal, "op-1")
    provider = Account(find_run=Script(NotFoundError("404")))
    sorts = [item.sort for watch in (WATCH, LATER) for item in look(journal, provider, CRASHED, watch)]
    assert sorts == [SweepClass.NO_RUN, SweepClass.LOST]


def missing_since(journal: Journal) -> list[float | None]:
    """Return since when each open attempt's run is denied."""
    return [record.missing_since_s for record in journal.open_operations()]


@pytest.mark.parametrize("handle", [HANDLE, None], ids=["run", "intent"])
def test_one_gap_in_a_list_loses_no_old_run(journal: Journal, handle: RunHandle | None) -> None:
    """The day counts from the first denial, not from when the attempt was begun."""
    begin(journal, "op-1", handle=handle)
    denying = Account(get_runs=Script(()), find_run=Script(None))
    (item,) = look(journal, denying, CRASHED, LATER)
    assert (item.sort, missing_since(journal)) == (SweepClass.NO_RUN, [NOW_S])


def test_a_look_that_shows_the_run_begins_the_day_anew(journal: Journal) -> None:
    """In the list of live ones or looked at alone; a look that fails says neither the one nor the other."""
    plan = begin(journal, "op-1", handle=HANDLE)
    look(journal, Account(get_runs=Script(())))
    broken = Account(get_runs=Script(DOWN), get_run=Script(DOWN))
    (unsure,) = look(journal, broken, CRASHED, LATER)
    assert (unsure.sort, missing_since(journal)) == (SweepClass.NO_RUN, [NOW_S])
    for provider, live in ((Account(), (make_run(),)), (Account(get_runs=Script((make_run(),))), ())):
        journal.denied(plan.operation_key)
        look(journal, provider, CRASHED, LATER, *live)
        assert missing_since(journal) == [None]
    (gone,) = look(journal, Account(get_runs=Script(())), CRASHED, LATER)
    assert gone.sort is SweepClass.NO_RUN


def test_what_somebody_looks_after_is_not_taken_for_denied(journal: Journal) -> None:
    """It was not looked for: that the list does not show it says nothing."""
    begin(journal, "op-1", handle=HANDLE)
    look(journal, Account(), WAITING)
    assert missing_since(journal) == [None]


def test_another_accounts_operations_are_left_alone(journal: Journal) -> None:
    """Not found with this key says nothing about them; one that is found is ours after a change of keys."""
    begin(journal, "op-1", handle=HANDLE)
    begin(journal, "op-2")
    other = Account(get_runs=Script(()))
    other.account = "account-2"
    assert look(journal, other, CRASHED, LATER) == []
    other = Account(get_runs=Script((make_run(RunStatus.COMPLETED),)))
    other.account = "account-2"
    assert [item.sort for item in look(journal, other)] == [SweepClass.UNCOLLECTED]


@pytest.mark.parametrize(("status", "outcome"), [(RunStatus.FAILED, "failed"), (RunStatus.CANCELLED, "cancelled")])
def test_what_ended_at_the_provider_is_closed_with_its_bill(status: RunStatus, outcome: str, journal: Journal) -> None:
    """Row and reservation; a sweep after that finds nothing."""
    begin(journal, "op-1", handle=HANDLE)
    bill = Settlement(charged=Money(amount=7, unit=Unit.CREDITS), refunded=Money(amount=0, unit=Unit.CREDITS))
    provider = Account(get_runs=Script((make_run(status),)), settle=Script(bill))
    (item,) = look(journal, provider)
    done = close(journal, provider, item)  # type: ignore[arg-type]
    assert (item.sort, done.action, done.failed, held(journal)) == (SweepClass.ENDED, Action.CLOSE, False, 7)
    assert done.said == f"closed as {outcome}, 7 billed"
    assert look(journal, provider) == []


def test_a_bill_that_cannot_be_read_closes_nothing(journal: Journal) -> None:
    """The next sweep tries again, and what is held stays held."""
    begin(journal, "op-1", handle=HANDLE)
    provider = Account(get_runs=Script((make_run(RunStatus.FAILED),)), settle=Script(DOWN))
    (item,) = look(journal, provider)
    done = close(journal, provider, item)  # type: ignore[arg-type]
    assert ("not closed: 503" in done.said, done.failed) == (True, True)
    assert (held(journal), len(journal.open_operations())) == (100, 1)


def test_ending_an_operation_closes_it(journal: Journal, clock: FakeClock) -> None:
    """Cancelled at the provider, confirmed, and free of charge where the ledger names nothing."""
    plan = begin(journal, "op-1", handle=HANDLE)
    provider = Account(
        get_run=Script(make_run()), cancel_run=Script(make_run(RunStatus.CANCELLED)), settle=Script(None)
    )
    (item,) = look(journal, provider, {"flow-1": FlowState(FlowKind.CANCELLED)}, WATCH, make_run())
    done = end(journal, provider, item, clock, within_s=20)  # type: ignore[arg-type]
    record = journal.find(plan.operation_key)
    assert record is not None
    assert (item.sort, done.failed, record.outcome) == (
        SweepClass.CANCEL_UNCONFIRMED,
        False,
        OperationOutcome.CANCELLED,
    )
    assert (record.cancel_confirmed_at_s, held(journal)) == (NOW_S, 0)


def test_what_cannot_be_ended_is_a_failure_and_found_again(journal: Journal, clock: FakeClock) -> None:
    """Refused for the whole of its time: said, counted, and the wish stays written down."""
    begin(journal, "op-1", handle=HANDLE)
    provider = Account(get_run=Script(make_run()), cancel_run=Script(DOWN))
    (item,) = look(journal, provider, {"flow-1": FlowState(FlowKind.CANCELLED)}, WATCH, make_run())
    done = end(journal, provider, item, clock, within_s=20)  # type: ignore[arg-type]
    assert done.failed
    assert "could not be cancelled" in done.said
    (again,) = look(journal, provider, CRASHED, WATCH, make_run())
    assert again.sort is SweepClass.CANCEL_UNCONFIRMED


def test_a_stranger_is_ended_without_touching_the_journal(journal: Journal, clock: FakeClock) -> None:
    """By the provider alone."""
    (item,) = look(journal, Account(), CRASHED, WATCH, named("by-hand"))
    provider = Account(cancel_run=Script(make_run(RunStatus.CANCELLED)))
    assert not end(journal, provider, item, clock, within_s=20).failed  # type: ignore[arg-type]
    assert journal.open_operations() == ()


def test_a_cost_is_exact_before_it_ends_a_run(journal: Journal) -> None:
    """The list leaves out when a GPU took the run: by its creation it is suspected, by a look it is judged."""
    now = datetime.fromtimestamp(NOW_S, UTC)
    begin(journal, "op-1", handle=HANDLE, budget_credits=299)
    created = now - timedelta(minutes=60)
    listed = make_run(created_at=created)
    for minutes, sort in ((29, SweepClass.FLOW_GONE), (31, SweepClass.OVER_BUDGET)):
        provider = Account(get_run=Script(make_run(created_at=created, started_at=now - timedelta(minutes=minutes))))
        assert [item.sort for item in look(journal, provider, CRASHED, WATCH, listed)] == [sort]
    young = make_run(created_at=now - timedelta(minutes=5))
    assert [item.sort for item in look(journal, Account(), CRASHED, WATCH, young)] == [SweepClass.FLOW_GONE]


def test_one_flow_run_is_looked_after_alone(journal: Journal) -> None:
    """Other flow runs' operations and strangers are not its concern."""
    begin(journal, "op-1", handle=HANDLE)
    provider = Account()
    assert [one.operation_id for one in open_records(journal, provider, "flow-1")] == ["op-1"]  # type: ignore[arg-type]
    assert open_records(journal, provider, "flow-2") == ()  # type: ignore[arg-type]


def test_what_is_being_created_is_no_stranger(journal: Journal) -> None:
    """Shown by the provider before its handle is written down: its flow run's own, and nobody's to cancel."""
    plan = begin(journal, "op-1")
    (item,) = look(journal, Account(), WAITING, WATCH, named(plan.run_name))
    assert (item.sort, item.record is not None) == (SweepClass.WATCHED, True)


def test_what_is_begun_while_the_sweep_looks_is_no_stranger(journal: Journal) -> None:
    """Its intent is in the journal before the provider shows it: the journal is read after the provider."""

    class Busy(Account):
        def live_runs(self) -> tuple[TrainingRun, ...]:
            return (named(begin(journal, "op-1").run_name),)

    found = look_around(journal, Busy(), lambda _: WAITING, WATCH)  # type: ignore[arg-type]
    assert [item.sort for item in found] == [SweepClass.WATCHED]


def test_what_was_written_down_since_is_left_to_the_next_sweep(journal: Journal) -> None:
    """Neither a stranger nor judged by old facts."""
    begin(journal, "op-1", handle=HANDLE)
    assert survey(journal, Account(), (), {}, WATCH, live=(make_run(),)) == ()  # type: ignore[arg-type]


SECOND = HANDLE.model_copy(update={"run_id": "r2"})


@pytest.mark.parametrize("error", [DOWN, ValueError("?")], ids=repr)
def test_one_run_that_cannot_be_looked_up_does_not_hide_the_others(journal: Journal, error: Exception) -> None:
    """Each is asked for alone: one that always answers 500 stays as it is however old, one that is gone is lost."""
    plan = begin(journal, "op-1", handle=HANDLE)
    begin(journal, "op-2", handle=SECOND)
    begin(journal, "op-3", handle=HANDLE.model_copy(update={"run_id": "r3"}))

    class Poisoned(Account):
        def get_run(self, handle: RunHandle) -> TrainingRun:
            if handle.run_id == HANDLE.run_id:
                raise error
            if handle.run_id != SECOND.run_id:
                raise NotFoundError("404")
            return make_run(RunStatus.COMPLETED, handle=handle)

    look(journal, Poisoned(get_runs=Script(DOWN)))
    found = {
        item.record.run_id: item
        for item in look(journal, Poisoned(get_runs=Script(error)), CRASHED, LATER)
        if item.record
    }
    assert {run_id: item.sort for run_id, item in found.items()} == {
        "r1": SweepClass.NO_RUN,
        "r2": SweepClass.UNCOLLECTED,
        "r3": SweepClass.LOST,
    }
    assert found["r1"].reason == f"it could not be looked up: {'503' if error is DOWN else repr(error)}"
    assert journal.find(plan.operation_key) in journal.open_operations()


def test_a_refused_key_is_not_one_runs_trouble(journal: Journal) -> None:
    """The sweep fails as a whole, and says why."""
    begin(journal, "op-1", handle=HANDLE)
    with pytest.raises(AuthenticationError):
        look(journal, Account(get_runs=Script(AuthenticationError("401"))))


@pytest.mark.parametrize("spoiled", ["request = '{}'", "state = 'paused'"])
@pytest.mark.parametrize("handle", [None, SECOND], ids=["intent", "created"])
def test_a_row_of_a_newer_release_does_not_hide_the_others(
    journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture, spoiled: str, handle: RunHandle | None
) -> None:
    """It is named in a warning, and its run, which is ours, is no stranger that somebody might cancel."""
    begin(journal, "op-1", handle=HANDLE)
    plan = begin(journal, "op-2", handle=handle)
    ask(str(tmp_path / "journal.db"), f"UPDATE operations SET {spoiled} WHERE operation_id = 'op-2'")  # noqa: S608 - ours
    live = (make_run(), named(plan.run_name, "r2"), named("by-hand", "r7"))
    found = look(journal, Account(), CRASHED, WATCH, *live)
    assert [(item.sort, item.run.handle.run_id) for item in found if item.run] == [
        (SweepClass.FLOW_GONE, "r1"),
        (SweepClass.UNKNOWN_TO_US, "r7"),
    ]
    if "request" in spoiled:
        assert "operation 'op-2' in the journal cannot be read by this release (request)" in caplog.text


def test_a_closed_row_of_a_newer_release_leaves_its_run_alone(journal: Journal, tmp_path: Path) -> None:
    """Whatever that release meant by it."""
    plan = begin(journal, "op-1", handle=HANDLE)
    journal.ended(plan.operation_key, OperationOutcome.LOST, "gone")
    ask(str(tmp_path / "journal.db"), "UPDATE operations SET outcome = 'superseded'")
    assert look(journal, Account(), CRASHED, WATCH, make_run()) == []


@pytest.mark.parametrize("action", [Action.CANCEL, Action.ADOPT, Action.CLOSE])
def test_what_has_changed_since_it_was_looked_at_is_left_alone(journal: Journal, action: Action) -> None:
    """Somebody has taken it on, wants it ended, or has closed it; a mere word about it changes nothing."""
    plan = begin(journal, "op-1", handle=HANDLE)
    key = plan.operation_key

    def judged() -> Found:
        (item,) = look(journal, Account(), CRASHED, WATCH, make_run())
        assert hold_back(journal, item, action) is None
        return item

    later = OWNER.model_copy(update={"flow_run_id": "flow-2"})
    changes = (
        lambda: journal.claim(key, later, NOW_S + 60, lambda _: True),
        lambda: journal.release(key, later),
        lambda: journal.cancel_asked(key),
        lambda: journal.ended(key, OperationOutcome.CANCELLED, "by hand"),
    )
    for change in changes:
        item = judged()
        journal.watch_until(key, NOW_S)
        assert hold_back(journal, item, action) is None
        change()
        done = hold_back(journal, item, action)
        assert done is not None
        assert (done.action, done.failed, "has changed since" in done.said) == (Action.NOTIFY, False, True)
        assert hold_back(journal, item, Action.NOTIFY) is None


def test_a_stranger_that_was_written_down_since_is_left_alone(journal: Journal) -> None:
    """It has become ours."""
    (item,) = look(journal, Account(), CRASHED, WATCH, make_run())
    assert hold_back(journal, item, Action.CANCEL) is None
    begin(journal, "op-1", handle=HANDLE)
    assert hold_back(journal, item, Action.CANCEL) is not None


def test_a_row_that_cannot_be_read_again_is_a_failure(journal: Journal, tmp_path: Path) -> None:
    """Nothing is done on old facts, and that is said loudly."""
    begin(journal, "op-1", handle=HANDLE)
    (item,) = look(journal, Account(), CRASHED, WATCH, make_run())
    ask(str(tmp_path / "journal.db"), "UPDATE operations SET request = '{}'")
    done = hold_back(journal, item, Action.CANCEL)
    assert done is not None
    assert (done.action, done.failed, "nothing was done" in done.said) == (Action.CANCEL, True, True)
