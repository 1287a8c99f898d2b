"""The journal as the stages use it: opened for a moment, and held by whoever carries an operation out."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

from prefect import runtime

from pipeline.errors import PipelineError
from pipeline.journal.ownership import Lease, this_process
from pipeline.journal.records import OperationOutcome, Owner
from pipeline.journal.store import Journal
from pipeline.models import CostEstimate, TrainingRun, TrainPlan
from pipeline.report.closing import close_attempt
from pipeline.report.dossier import Dossier
from providers.connect import open_journal
from tasks.display import say


def opened_journal() -> closing[Journal]:
    """Open the journal; every stage opens its own and closes it.

    Raises:
        ConfigurationError: Its address cannot be used; the message names the variable.
        JournalError: It cannot be opened.
    """
    return closing(open_journal())


def current_owner() -> Owner:
    """Return this process, as the one that carries out the current flow run."""
    return this_process(str(runtime.flow_run.id))


def lease() -> Lease:
    """Return the signs of life this process gives for the operation it carries out."""
    return Lease(open_journal, current_owner())


def note_completed(plan: TrainPlan) -> None:
    """Write down that the run completed; its model is still to be judged."""
    _write_down(lambda journal: journal.terminal(plan.operation_key), "the run goes on")


def note_look(plan: TrainPlan, run: TrainingRun, *, shown: bool) -> bool:
    """Write down what a look tells the journal, if anything; return whether it holds the run's handle by now.

    Quietly: what cannot be written now is written at the next look.
    """
    try:
        with opened_journal() as journal:
            return journal.looked(plan.operation_key, run.handle, shown=shown)
    except PipelineError:
        return False


def note_cancel(plan: TrainPlan) -> None:
    """Write down that the run is to be ended, so that the wish outlives this process."""
    _write_down(lambda journal: journal.cancel_asked(plan.operation_key), "the provider is asked all the same")


def note_cancelled(plan: TrainPlan) -> None:
    """Write down that the provider was seen to have ended the run."""
    _write_down(
        lambda journal: journal.cancel_confirmed(plan.operation_key), "the run has ended at the provider all the same"
    )


def known_cost(plan: TrainPlan) -> CostEstimate | None:
    """Return what the attempt was priced at when it was begun; none when that is not known any more."""
    try:
        with opened_journal() as journal:
            record = journal.find(plan.operation_key)
    except PipelineError:
        return None
    return record.estimate if record is not None else None


def deadline_of(plan: TrainPlan) -> float | None:
    """Return when watching the attempt is to end, in seconds since the epoch; none when that is not known.

    It outlives this process. Once it has passed and the watch has ended for it, whoever asks next begins anew.
    """
    try:
        with opened_journal() as journal:
            record = journal.find(plan.operation_key)
            if record is None or record.deadline_at_s is not None:
                return record.deadline_at_s if record is not None else None
            deadline_at_s = time.time() + plan.poll.deadline_s
            journal.watch_until(plan.operation_key, deadline_at_s)
    except PipelineError:
        return None
    return deadline_at_s


def watched_before_s(plan: TrainPlan) -> float:
    """Return for how long a deferred training has been watched by now; 0 for one that a process is kept for."""
    deadline_at_s = deadline_of(plan) if plan.request.wait == "defer" else None
    if deadline_at_s is None:
        return 0.0
    return max(0.0, time.time() + plan.poll.deadline_s - deadline_at_s)


def close_failed(plan: TrainPlan, run: TrainingRun) -> None:
    """Write down that an attempt failed, before the operation's next one."""
    reason = run.error_message or "failed at the provider"
    _write_down(
        lambda journal: journal.ended(plan.operation_key, OperationOutcome.FAILED, reason),
        "the attempt still reads as open there",
    )


def close_operation(dossier: Dossier) -> None:
    """Write down how the attempt ended; what cannot be written now is found out by the next one who asks."""
    _write_down(lambda journal: close_attempt(journal, dossier), "the operation still reads as open there")


def _write_down(use: Callable[[Journal], object], otherwise: str) -> None:
    """Use the journal beside a run that is paid for: its absence is said, and ends nothing."""
    try:
        with opened_journal() as journal:
            use(journal)
    except PipelineError as error:
        say(f"{error}; {otherwise}", warning=True)
