"""Bookkeeping: what each stage tells the journal, and what stays open for the next one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import (
    BudgetExceededError,
    ConfigurationError,
    DownloadError,
    OperationBusyError,
    OutputCheckError,
    PipelineError,
    TrainingCancelledError,
    TrainingFailedError,
    TrainingLostError,
    TrainingTimedOutError,
)
from pipeline.journal.bookkeeping import AttemptLog, settle_attempt
from pipeline.journal.budget import Caps
from pipeline.journal.ownership import this_process
from pipeline.journal.records import LOST_S, OperationOutcome, OperationRecord, OperationState
from pipeline.journal.store import Journal
from pipeline.models import Money, Outcome, RunStatus, Settlement, Unit
from pipeline.report.closing import close_attempt
from pipeline.report.dossier import Dossier
from pipeline.start.changes import content_of
from tests.intents import NOON_S, OTHER, handle_of, intent_of, plan_of
from tests.unit.conftest import FakeClock, make_run
from tests.unit.dossiers import make_dossier, make_export_report, make_smoke

PLAN = plan_of("op-1")
KEY = PLAN.operation_key


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A journal whose clock stands still."""
    return Journal(str(tmp_path / "journal.db"), now=lambda: NOON_S)


def found(journal: Journal) -> OperationRecord:
    """Return the attempt."""
    record = journal.find(KEY)
    assert record is not None
    return record


def spent(journal: Journal) -> int:
    """Return what counts, in credits."""
    return journal.spent(Unit.CREDITS.value, sandbox=False, since_s=0)


def log_of(journal: Journal, caps: Caps | None = None, **changes: Any) -> AttemptLog:
    """Return the log of the attempt, written by this process."""
    intent = intent_of(PLAN, **{"owner": this_process("flow-1"), **changes})
    return AttemptLog(journal, intent, FakeClock(), caps or Caps())


# -- creating ---------------------------------------------------------------------------------------------------------


def test_what_is_sent_is_what_was_written_down(journal: Journal) -> None:
    """Also by the second one who sends it: the body is that of the first, and it is told so."""
    assert log_of(journal).intend({"epochs": 3}) == ({"epochs": 3}, False)
    assert log_of(journal).intend({"epochs": 4}) == ({"epochs": 3}, True)


def test_what_a_process_elsewhere_may_have_sent_is_left_to_it(journal: Journal) -> None:
    """It lives, as far as is known: nothing is sent beside it, and what was written stays."""
    log_of(journal, owner=OTHER, owner_until_s=NOON_S * 2).intend({"epochs": 3})
    before = found(journal)
    with pytest.raises(OperationBusyError):
        log_of(journal).intend({"epochs": 4})
    assert found(journal) == before


def test_an_attempt_that_was_closed_is_not_sent(journal: Journal) -> None:
    """By somebody else since it was chosen: the next run begins a new one."""
    log = log_of(journal)
    log.intend({})
    log.refused("no such GPU")
    with pytest.raises(OperationBusyError, match=r"closed \(refused\).*run again"):
        log_of(journal).intend({})


def test_a_price_above_the_caps_is_not_written_down(journal: Journal) -> None:
    """Nothing may be sent for it."""
    with pytest.raises(BudgetExceededError):
        log_of(journal, Caps(day_credits=9)).intend({})
    assert journal.find(KEY) is None


def test_a_refusal_closes_and_a_doubt_does_not(journal: Journal) -> None:
    """What was refused gives its price back; what may exist keeps it."""
    log = log_of(journal)
    log.intend({})
    log.unknown("the answer was lost")
    assert (found(journal).state, spent(journal)) == (OperationState.UNKNOWN, 10)
    log.created(handle_of())
    assert found(journal).state is OperationState.CREATED


def test_a_run_nobody_wrote_down_is_written_down_when_it_is_found(journal: Journal) -> None:
    """With its handle, and without holding a price for it."""
    log_of(journal).created(handle_of("r7"))
    assert (found(journal).run_id, found(journal).state, spent(journal)) == ("r7", OperationState.CREATED, 0)


def test_the_content_of_an_export_is_kept_for_comparison() -> None:
    """How many pictures, and how many labels of each class."""
    content = content_of(make_export_report())
    assert (content.images, content.objects) == (6, {"stop": 12})


# -- closing ----------------------------------------------------------------------------------------------------------


def failed(error: PipelineError, status: RunStatus | None = None) -> Dossier:
    """Return the dossier of a run that stopped."""
    dossier = make_dossier()
    if status is not None:
        dossier.run = make_run(status)
    dossier.fail(error)
    return dossier


def accepted() -> Dossier:
    """Return the dossier of a run whose model is good."""
    dossier = make_dossier()
    dossier.run = make_run(RunStatus.COMPLETED)
    dossier.smoke = make_smoke()
    dossier.accept()
    return dossier


def untried() -> Dossier:
    """Return the dossier of a run whose model nobody was to try."""
    dossier = make_dossier()
    dossier.run = make_run(RunStatus.COMPLETED)
    dossier.accept()
    return dossier


CLOSINGS: dict[str, tuple[Callable[[], Dossier], OperationState, OperationOutcome]] = {
    "accepted": (accepted, OperationState.COLLECTED, OperationOutcome.ACCEPTED),
    "untried": (untried, OperationState.COLLECTED, OperationOutcome.UNTRIED),
    "rejected": (
        lambda: failed(OutputCheckError("sees nothing"), RunStatus.COMPLETED),
        OperationState.COLLECTED,
        OperationOutcome.REJECTED,
    ),
    "failed": (
        lambda: failed(TrainingFailedError("CUDA"), RunStatus.FAILED),
        OperationState.CLOSED,
        OperationOutcome.FAILED,
    ),
    "cancelled": (
        lambda: failed(TrainingCancelledError("stopped"), RunStatus.CANCELLED),
        OperationState.CLOSED,
        OperationOutcome.CANCELLED,
    ),
    "ended although we gave up": (
        lambda: failed(TrainingTimedOutError("late"), RunStatus.CANCELLED),
        OperationState.CLOSED,
        OperationOutcome.CANCELLED,
    ),
}


@pytest.mark.parametrize(("made", "state", "outcome"), CLOSINGS.values(), ids=CLOSINGS)
def test_every_end_closes_the_attempt(
    journal: Journal, made: Callable[[], Dossier], state: OperationState, outcome: OperationOutcome
) -> None:
    """With the outcome in one word and in the report's words."""
    log_of(journal).intend({})
    dossier = made()
    close_attempt(journal, dossier)
    record = found(journal)
    assert (record.state, record.outcome, record.reason) == (state, outcome, dossier.message)


def submitted() -> Dossier:
    """Return the dossier of a run that was left to itself."""
    dossier = make_dossier()
    dossier.run = make_run(RunStatus.QUEUED)
    dossier.submit("wait=none")
    return dossier


STAYING: dict[str, Callable[[], Dossier]] = {
    "submitted": submitted,
    "timed out": lambda: failed(TrainingTimedOutError("late"), RunStatus.RUNNING),
    "not known for a minute": lambda: failed(TrainingLostError("gone"), RunStatus.UNKNOWN),
    "not downloaded": lambda: failed(DownloadError("cut short"), RunStatus.COMPLETED),
    "not seen to be cancelled": lambda: failed(TrainingCancelledError("asked"), RunStatus.RUNNING),
    "answer lost": lambda: failed(PipelineError("lost")),
    "before it was begun": lambda: failed(ConfigurationError("no such GPU")),
}


@pytest.mark.parametrize("made", STAYING.values(), ids=STAYING)
def test_what_can_still_be_come_back_to_stays_open(journal: Journal, made: Callable[[], Dossier]) -> None:
    """A run that goes on, or a model that was not judged, is somebody's to collect."""
    log_of(journal).intend({})
    if (run := made().run) is not None:
        log_of(journal).created(run.handle)
    before = found(journal)
    close_attempt(journal, made())
    after = found(journal)
    late = isinstance(made().error, TrainingTimedOutError)  # whoever comes back to it has a deadline of its own
    assert after.deadline_at_s == (None if late else before.deadline_at_s)
    denied = isinstance(made().error, TrainingLostError)  # how long it has been is what decides in the end
    assert after.missing_since_s == (NOON_S if denied else None)
    times = {"deadline_at_s": before.deadline_at_s, "updated_at_s": before.updated_at_s, "missing_since_s": None}
    assert after.model_copy(update=times) == before


def test_a_run_the_provider_has_denied_for_a_day_is_lost(tmp_path: Path) -> None:
    """A minute of 404 may be the provider's fault, and freeing the operation for another payment would be ours.

    The day begins with the first denial, however old the attempt is.
    """
    now_s = [NOON_S]
    journal = Journal(str(tmp_path / "journal.db"), now=lambda: now_s[0])
    log_of(journal).intend({})
    for waited_s, outcome in ((3 * LOST_S, None), (LOST_S - 1, None), (1, OperationOutcome.LOST)):
        now_s[0] += waited_s
        close_attempt(journal, failed(TrainingLostError("gone"), RunStatus.UNKNOWN))
        assert found(journal).outcome is outcome


def test_a_handle_that_could_not_be_written_before_is_written_at_the_end(journal: Journal) -> None:
    """The journal was away when the run was made: whoever comes back finds it all the same."""
    log_of(journal).intend({})
    dossier = submitted()
    close_attempt(journal, dossier)
    assert dossier.run is not None
    assert (found(journal).state, found(journal).handle) == (OperationState.CREATED, dossier.run.handle)


def test_an_attempt_that_was_given_up_is_opened_for_the_one_who_asks(journal: Journal) -> None:
    """Held by this process; one that another process holds, or that was judged since, is left to it."""
    log = log_of(journal)
    log.intend({})
    log.created(handle_of())
    journal.ended(KEY, OperationOutcome.LOST, "gone")
    log.reopened()
    assert (found(journal).state, found(journal).owner) == (OperationState.CREATED, this_process("flow-1"))
    journal.judged(KEY, OperationOutcome.ACCEPTED, "good")
    with pytest.raises(OperationBusyError, match="closed \\(accepted\\)"):
        log.reopened()


def test_what_was_never_begun_is_not_closed(journal: Journal) -> None:
    """Neither a request without a plan nor a plan without an attempt leaves anything behind."""
    unplanned = Dossier(make_dossier().request, make_dossier().operation, make_dossier().started_at)
    unplanned.fail(ConfigurationError("no such GPU"))
    for dossier in (unplanned, accepted()):
        close_attempt(journal, dossier)
    assert journal.find(KEY) is None


def test_every_outcome_is_thought_of() -> None:
    """A way to end that is added to the program must be added here."""
    ends = {made().outcome for made, _, _ in CLOSINGS.values()} | {made().outcome for made in STAYING.values()}
    never_begun = {Outcome.OVER_BUDGET, Outcome.SKIPPED}
    assert ends | never_begun == set(Outcome)


# -- settling ---------------------------------------------------------------------------------------------------------


def bill(amount: int, unit: Unit = Unit.CREDITS) -> Settlement:
    """Return what the provider's ledger says."""
    return Settlement(charged=Money(amount=amount, unit=unit), refunded=Money(amount=0, unit=unit))


SETTLEMENTS: dict[str, tuple[RunStatus, Settlement | None, int | None]] = {
    "completed and billed": (RunStatus.COMPLETED, bill(7), 7),
    "failed and billed": (RunStatus.FAILED, bill(2), 2),
    "completed, bill not written yet": (RunStatus.COMPLETED, None, 10),
    "failed, nothing billed": (RunStatus.FAILED, None, 0),
    "cancelled, nothing billed": (RunStatus.CANCELLED, None, 0),
    "billed in another unit": (RunStatus.FAILED, bill(7_000_000, Unit.MICRO_USD), 10),
    "goes on": (RunStatus.RUNNING, bill(1), None),
    "not seen": (RunStatus.UNKNOWN, None, None),
}


@pytest.mark.parametrize(("status", "settlement", "billed"), SETTLEMENTS.values(), ids=SETTLEMENTS)
def test_what_was_held_becomes_what_was_billed(
    journal: Journal, status: RunStatus, settlement: Settlement | None, billed: int | None
) -> None:
    """For a run that has ended; one that goes on keeps its reservation, and amounts of two units never mix."""
    log_of(journal).intend({})
    settle_attempt(journal, KEY, make_run(status), settlement)
    assert found(journal).billed == billed
    assert spent(journal) == (10 if billed is None else billed)


def test_the_bill_of_an_adopted_run_is_noted(journal: Journal) -> None:
    """Nothing was held for it; what it cost is known all the same."""
    log_of(journal, amount=None).created(handle_of())
    settle_attempt(journal, KEY, make_run(RunStatus.COMPLETED), None)
    assert found(journal).billed is None
    settle_attempt(journal, KEY, make_run(RunStatus.COMPLETED), bill(7))
    assert (found(journal).billed, spent(journal)) == (7, 0)


def test_a_bill_for_what_nobody_wrote_down_changes_nothing(journal: Journal) -> None:
    """The journal was begun anew in the meantime."""
    settle_attempt(journal, KEY, make_run(RunStatus.COMPLETED), bill(7))
    assert (journal.find(KEY), spent(journal)) == (None, 0)
