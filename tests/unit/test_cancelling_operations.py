"""Cancelling what the journal knows: whoever asks and however often, the run ends once, or it is said why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import (
    BudgetExceededError,
    CancelUnconfirmedError,
    ConfigurationError,
    NotFoundError,
    ProviderUnavailableError,
    TrainingCancelledError,
    TrainingFailedError,
    TransportError,
)
from pipeline.journal.records import OperationOutcome, OperationRecord, OperationState, Owner
from pipeline.journal.rows import Intent
from pipeline.journal.store import Journal
from pipeline.models import Money, RunStatus, Settlement, TrainingRun, Unit, WatchedRun
from pipeline.watch.cancelling import (
    APPEAR_S,
    CANCEL_S,
    Ending,
    cancel_operation,
    cancel_overdue,
    cancel_stopped,
    is_overdue,
)
from pipeline.watch.polling import require_success
from tests.unit.conftest import FakeClock, FakeProvider, Script, make_estimate, make_plan, make_profile, make_run

RUNNING, CANCELLED, COMPLETED = map(make_run, (RunStatus.RUNNING, RunStatus.CANCELLED, RunStatus.COMPLETED))
FAILED = make_run(RunStatus.FAILED, error_message="out of memory")
DOWN = ProviderUnavailableError("503")
PLAN = make_plan()
KEY = PLAN.operation_key
BILL = Settlement(charged=Money(amount=40, unit=Unit.CREDITS), refunded=Money(amount=60, unit=Unit.CREDITS))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Give a journal with one attempt whose create is about to be sent, priced at 100 credits."""
    with closing(Journal(str(tmp_path / "journal.db"))) as opened:
        owner = Owner(host="here", pid=1, born="1", flow_run_id="f1")
        opened.intend(Intent(PLAN, "a" * 16, {}, make_estimate(100), owner, 0.0))
        yield opened


def _record(journal: Journal) -> OperationRecord:
    found = journal.find(KEY)
    assert found is not None
    return found


def _found(run: TrainingRun) -> TrainingRun:
    return run.model_copy(update={"adopted": True})


def _held(journal: Journal) -> int:
    return journal.spent("credits", sandbox=False, since_s=0.0)


def _cancel(journal: Journal, clock: FakeClock, within_s: float = CANCEL_S, **scripts: Script) -> Ending | None:
    provider = FakeProvider(**{"settle": Script(BILL), **scripts})
    provider.__dict__["profile"] = make_profile()
    return cancel_operation(journal, provider, _record(journal), clock, within_s)  # type: ignore[arg-type]


def test_a_known_run_is_cancelled_and_closed(journal: Journal, clock: FakeClock) -> None:
    """By its handle, without a search: asked, confirmed, closed, and billed as the ledger says."""
    journal.created(KEY, RUNNING.handle)
    assert _cancel(journal, clock, get_run=Script(RUNNING), cancel_run=Script(CANCELLED)) == Ending(CANCELLED, None)
    record = _record(journal)
    assert (record.state, record.outcome, record.billed) == (OperationState.CLOSED, OperationOutcome.CANCELLED, 40)
    assert record.cancel_asked_at_s is not None
    assert record.cancel_confirmed_at_s is not None
    assert _held(journal) == 40


def test_a_run_whose_handle_was_never_written_down_is_found_by_its_name(journal: Journal, clock: FakeClock) -> None:
    """The process died with the answer to its create: the run in the list is the one, and is written down."""
    _cancel(journal, clock, find_run=Script(RUNNING), cancel_run=Script(CANCELLED))
    assert (_record(journal).run_id, _record(journal).outcome) == ("r1", OperationOutcome.CANCELLED)


def test_a_run_that_appears_late_is_not_missed(journal: Journal, clock: FakeClock) -> None:
    """The create was on its way when the process was stopped: its run is looked for more than once."""
    ending = _cancel(journal, clock, find_run=Script(None, None, RUNNING), cancel_run=Script(CANCELLED))
    assert ending == Ending(CANCELLED, None)


def test_an_intent_without_a_run_stays_open_and_asked_for(journal: Journal, clock: FakeClock) -> None:
    """Not there after some seconds: nothing was cancelled, nothing is claimed, the reservation is held."""
    assert _cancel(journal, clock, find_run=Script(None)) is None
    record = _record(journal)
    assert (record.state, record.cancel_confirmed_at_s, _held(journal)) == (OperationState.INTENT, None, 100)
    assert record.cancel_asked_at_s is not None
    assert sum(clock.slept) == APPEAR_S


def test_asking_twice_sends_one_cancel_and_keeps_what_was_written(journal: Journal, clock: FakeClock) -> None:
    """A hook and a sweep after the flow itself: the run has ended, the times and the bill stay as they were."""
    journal.created(KEY, RUNNING.handle)
    _cancel(journal, clock, get_run=Script(RUNNING), cancel_run=Script(CANCELLED))
    before = _record(journal)
    assert _cancel(journal, clock, get_run=Script(CANCELLED)) == Ending(_found(CANCELLED), None)
    after = _record(journal)
    assert (after.cancel_asked_at_s, after.ended_at_s, after.billed, after.outcome) == (
        before.cancel_asked_at_s,
        before.ended_at_s,
        before.billed,
        before.outcome,
    )


@pytest.mark.parametrize(
    ("run", "state", "outcome"),
    [
        (CANCELLED, OperationState.CLOSED, OperationOutcome.CANCELLED),
        (FAILED, OperationState.CLOSED, OperationOutcome.FAILED),
        (COMPLETED, OperationState.TERMINAL, None),
    ],
    ids=["cancelled", "failed", "completed"],
)
def test_a_run_that_has_ended_is_left_as_it_is(
    run: TrainingRun, state: OperationState, outcome: OperationOutcome | None, journal: Journal, clock: FakeClock
) -> None:
    """No cancel is sent; a completed one stays open, because its model is paid for and can be collected."""
    journal.created(KEY, run.handle)
    assert _cancel(journal, clock, get_run=Script(run)) == Ending(_found(run), None)
    record = _record(journal)
    assert (record.state, record.outcome) == (state, outcome)
    assert (record.cancel_confirmed_at_s is not None) is (run is CANCELLED)
    assert _held(journal) == (100 if run is COMPLETED else 40)


def test_a_run_that_completes_before_the_cancel_takes_effect_stays_to_be_collected(
    journal: Journal, clock: FakeClock
) -> None:
    """Told to stop, and completed instead: no trouble, not cancelled either."""
    journal.created(KEY, RUNNING.handle)
    ending = _cancel(journal, clock, get_run=Script(RUNNING, COMPLETED), cancel_run=Script(RUNNING))
    assert ending == Ending(COMPLETED, None)
    assert _record(journal).state is OperationState.TERMINAL


@pytest.mark.parametrize("error", [DOWN, TransportError("reset"), NotFoundError("404")], ids=repr)
def test_a_lost_or_refused_answer_is_asked_for_again(error: Exception, journal: Journal, clock: FakeClock) -> None:
    """The second cancel finds the run as the first one left it."""
    journal.created(KEY, RUNNING.handle)
    assert _cancel(journal, clock, get_run=Script(RUNNING), cancel_run=Script(error, CANCELLED)) == Ending(
        CANCELLED, None
    )


@pytest.mark.parametrize(
    ("answer", "words"), [(RUNNING, "still reads 'running' 20 s later"), (DOWN, "could not be cancelled (503)")]
)
def test_a_provider_that_does_not_cancel_is_told_of_in_time(
    answer: Any, words: str, journal: Journal, clock: FakeClock
) -> None:
    """Within the time the asker has: what it still reads, that it is billed; the attempt stays open and asked for."""
    journal.created(KEY, RUNNING.handle)
    ending = _cancel(journal, clock, 20.0, get_run=Script(RUNNING), cancel_run=Script(answer))
    assert ending is not None
    assert words in str(ending.trouble)
    assert "billed" in str(ending.trouble)
    assert sum(clock.slept) == 20.0
    record = _record(journal)
    assert (record.state, record.cancel_confirmed_at_s, _held(journal)) == (OperationState.CREATED, None, 100)


def test_a_run_that_cannot_be_looked_up_is_no_run_that_was_cancelled(journal: Journal, clock: FakeClock) -> None:
    """The list is down: raised, with the wish written down for the next one who asks."""
    with pytest.raises(ProviderUnavailableError, match="could not be looked up") as caught:
        _cancel(journal, clock, find_run=Script(DOWN))
    assert caught.value.context.outcome_unknown
    assert _record(journal).cancel_asked_at_s is not None


def test_a_handle_the_provider_does_not_show_is_cancelled_all_the_same(journal: Journal, clock: FakeClock) -> None:
    """A look that finds nothing is no end: the cancel is sent, and its answer counts."""
    journal.created(KEY, RUNNING.handle)
    ending = _cancel(journal, clock, get_run=Script(NotFoundError("404")), cancel_run=Script(CANCELLED))
    assert ending == Ending(CANCELLED, None)


def test_a_bill_that_cannot_be_read_is_no_cancel_that_failed(journal: Journal, clock: FakeClock) -> None:
    """Cancelled and closed; what was reserved stays held until somebody can read the ledger."""
    journal.created(KEY, RUNNING.handle)
    ending = _cancel(journal, clock, get_run=Script(RUNNING), cancel_run=Script(CANCELLED), settle=Script(DOWN))
    assert ending == Ending(CANCELLED, None)
    assert (_record(journal).outcome, _held(journal)) == (OperationOutcome.CANCELLED, 100)


def test_somebody_elses_run_under_the_name_is_not_cancelled(journal: Journal, clock: FakeClock) -> None:
    """It trains another pipeline: refused, and no cancel is sent."""
    with pytest.raises(ConfigurationError):
        _cancel(journal, clock, find_run=Script(make_run(pipeline="classification")))


class TestStoppedWatch:
    """A watch that was stopped because the run is to be ended."""

    @pytest.mark.parametrize("why", ["cancelled", "over_budget"])
    def test_the_run_is_cancelled(self, why: str, clock: FakeClock) -> None:
        """One cancel, and the error says what for."""
        watched = WatchedRun(run=RUNNING, gave_up="it costs too much", stopped=why)  # type: ignore[arg-type]
        provider: Any = FakeProvider(cancel_run=Script(CANCELLED))
        ended = cancel_stopped(provider, PLAN, watched, clock)
        with pytest.raises(TrainingCancelledError if why == "cancelled" else BudgetExceededError) as caught:
            require_success(ended)
        assert why == "cancelled" or "it costs too much" in str(caught.value)

    @pytest.mark.parametrize("why", ["cancelled", "over_budget"])
    def test_a_run_that_goes_on_is_neither_cancelled_nor_timed_out(self, why: str, clock: FakeClock) -> None:
        """Unconfirmed, whatever it was stopped for: why it was to end, why it did not, and that it is billed."""
        watched = WatchedRun(run=RUNNING, gave_up="it costs too much", stopped=why)  # type: ignore[arg-type]
        provider: Any = FakeProvider(cancel_run=Script(DOWN))
        with pytest.raises(CancelUnconfirmedError, match=r"it costs too much, but it could not be cancelled.*billed"):
            require_success(cancel_stopped(provider, PLAN, watched, clock))

    def test_what_ended_by_itself_is_told_as_that(self, clock: FakeClock) -> None:
        """Completed before the cancel: a success; failed: a failure, with the provider's reason."""
        watched = WatchedRun(run=RUNNING, gave_up="it costs too much", stopped="over_budget")
        for ending, provider in ((run, FakeProvider(cancel_run=Script(run))) for run in (COMPLETED, FAILED)):
            ended = cancel_stopped(provider, PLAN, watched, clock)  # type: ignore[arg-type]
            assert ended.run == ending
            if ending is COMPLETED:
                assert require_success(ended) is ended
            else:
                with pytest.raises(TrainingFailedError, match="out of memory"):
                    require_success(ended)

    def test_nothing_is_sent_for_a_watch_that_was_not_stopped_or_a_run_that_ended(self, clock: FakeClock) -> None:
        """The provider is not even asked."""
        nobody: Any = FakeProvider()
        for watched in (WatchedRun(run=RUNNING), WatchedRun(run=CANCELLED, stopped="cancelled")):
            assert cancel_stopped(nobody, PLAN, watched, clock) is watched

    def test_a_stopped_watch_is_not_cancelled_a_second_time_at_its_deadline(self, clock: FakeClock) -> None:
        """Stopped in the very moment the deadline passed: what was tried once is not tried for another minute."""
        nobody: Any = FakeProvider()
        plan = make_plan(on_deadline="cancel", deadline_s=100.0)
        watched = WatchedRun(run=RUNNING, watched_s=100.0, gave_up="it goes on", stopped="cancelled")
        assert cancel_overdue(nobody, plan, watched, clock) is watched

    def test_overdue_is_what_the_request_wants_cancelled(self) -> None:
        """At the deadline, while it runs, and only where a cancel was asked for."""
        plan = make_plan(on_deadline="cancel", deadline_s=100.0)
        late = WatchedRun(run=RUNNING, watched_s=100.0)
        assert is_overdue(plan, late)
        assert not is_overdue(plan, late.model_copy(update={"watched_s": 99.0}))
        assert not is_overdue(plan, late.model_copy(update={"run": CANCELLED}))
        assert not is_overdue(make_plan(on_deadline="keep", deadline_s=100.0), late)
