"""What a training that ended unnoticed has cost: asked with the hardware it was priced on, and never in the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import AuthenticationError, NotOfferedError, RateLimitError, UnexpectedResponseError
from pipeline.journal.records import OperationOutcome, OperationRecord
from pipeline.journal.store import Journal
from pipeline.models import Money, RunStatus, Settlement, TrainingRun, Unit
from pipeline.sweep.mending import close
from pipeline.sweep.sweeping import Found, SweepClass
from pipeline.watch.cancelling import cancel_operation
from tests.unit.conftest import FakeClock, FakeProvider, Script, make_profile, make_run
from tests.unit.operations import HANDLE, NOW_S, begin

BILL = Settlement(charged=Money(amount=7, unit=Unit.CREDITS), refunded=Money(amount=0, unit=Unit.CREDITS))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal with one attempt whose run is known, priced at 100 credits on an a10g."""
    opened = Journal(str(tmp_path / "journal.db"), lambda: NOW_S)
    begin(opened, "op-1", handle=HANDLE)
    yield opened
    opened.close()


class Account(FakeProvider):
    """A fake whose bill depends on the hardware, which its runs do not show."""

    account = "account-1"
    profile = make_profile()

    def settle(self, run: TrainingRun) -> Settlement | None:
        """Price an a10g and nothing else."""
        if run.gpu != "a10g":
            raise NotOfferedError(f"hardware {run.gpu!r} has no rate here")
        return BILL


def only(journal: Journal) -> OperationRecord:
    """Return the attempt."""
    record = journal.latest("op-1", sandbox=False)
    assert record is not None
    return record


def held(journal: Journal) -> int:
    """Return what is held or billed."""
    return journal.spent("credits", sandbox=False, since_s=0.0)


def closed(journal: Journal, provider: Any, **facts: Any) -> Any:
    """Close the row of a run that failed."""
    return close(journal, provider, Found(SweepClass.ENDED, "why", make_run(RunStatus.FAILED, **facts), only(journal)))


def test_the_bill_is_asked_for_on_the_hardware_the_price_was_made_of(journal: Journal) -> None:
    """A list does not show it, and a sweep is connected without a request."""
    done = closed(journal, Account())
    assert (done.said, done.failed, held(journal)) == ("closed as failed, 7 billed", False, 7)


def test_what_a_cancel_of_the_sweep_ended_is_billed_as_well(journal: Journal, clock: FakeClock) -> None:
    """The same, where it was this program that ended it."""
    provider: Any = Account(get_run=Script(make_run()), cancel_run=Script(make_run(RunStatus.CANCELLED)))
    cancel_operation(journal, provider, only(journal), clock, within_s=20)
    assert (only(journal).outcome, only(journal).billed, held(journal)) == (OperationOutcome.CANCELLED, 7, 7)


@pytest.mark.parametrize("gpu", ["b200", None])
def test_a_run_that_shows_its_hardware_is_believed(journal: Journal, gpu: str | None) -> None:
    """What it ran on, where that is known, and not what was asked for."""
    closed(journal, Account(), gpu=gpu)
    assert only(journal).billed == (100 if gpu else 7)


def test_a_bill_nobody_can_ever_read_closes_the_row_all_the_same(journal: Journal) -> None:
    """What was held counts as what it cost, and that is said; a sweep after that finds nothing."""
    provider: Any = FakeProvider(settle=Script(NotOfferedError("no rate")))
    done = closed(journal, provider)
    assert (done.said, done.failed) == ("closed as failed, counted as 100", False)
    assert (only(journal).outcome, only(journal).billed, held(journal)) == (OperationOutcome.FAILED, 100, 100)
    assert journal.open_operations() == ()


@pytest.mark.parametrize(
    "error", [RateLimitError("429"), UnexpectedResponseError("no JSON"), AuthenticationError("401")], ids=repr
)
def test_a_bill_that_may_be_read_later_leaves_the_row_to_the_next_sweep(journal: Journal, error: Exception) -> None:
    """Too many requests, a garbled answer, a refused key: nothing is counted that the ledger knows better."""
    provider: Any = FakeProvider(settle=Script(error))
    done = closed(journal, provider)
    assert (done.failed, only(journal).state.is_open, held(journal)) == (True, True, 100)
