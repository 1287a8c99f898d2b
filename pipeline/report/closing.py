"""What the journal is told when a flow run has come to an end."""

from __future__ import annotations

from pipeline.errors import SmokeTestError, TrainingLostError, TrainingTimedOutError
from pipeline.journal.bookkeeping import ENDED
from pipeline.journal.records import LOST_S, OperationOutcome
from pipeline.journal.store import Journal
from pipeline.report.dossier import DONE, Dossier


def close_attempt(journal: Journal, dossier: Dossier) -> None:
    """Close the attempt of a run that has come to an end; one that somebody can still come back to stays open."""
    plan, run = dossier.plan, dossier.run
    if plan is None or journal.find(plan.operation_key) is None:
        return
    if run is not None:  # its handle may not have been written yet: the journal was away when it was made
        journal.looked(plan.operation_key, run.handle, shown=False)
    _close(journal, plan.operation_key, dossier)


def _close(journal: Journal, key: str, dossier: Dossier) -> None:
    run, error = dossier.run, dossier.error
    if dossier.outcome in DONE:
        journal.judged(key, OperationOutcome(dossier.outcome.value), dossier.message)
    elif isinstance(error, SmokeTestError):
        journal.judged(key, OperationOutcome.REJECTED, dossier.message)
    elif isinstance(error, TrainingLostError):
        if journal.denied(key) >= LOST_S:  # before that it may be the provider's fault, and come back
            journal.ended(key, OperationOutcome.LOST, dossier.message)
    elif run is not None and run.status in ENDED:
        journal.ended(key, ENDED[run.status], dossier.message)
    elif isinstance(error, TrainingTimedOutError):  # whoever comes back to it has a deadline of its own
        journal.watch_until(key, None)
