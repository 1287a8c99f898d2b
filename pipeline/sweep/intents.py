"""The runs of attempts whose handle is not written down: found, shown to be nobody's, or still in doubt.

Where a provider shows names, a run of ours carries its attempt's key. Where it shows none, only a look-up by what the
create sent tells our run from a stranger's.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from pipeline.errors import NotFoundError, PipelineError
from pipeline.journal.records import OperationRecord, Unread
from pipeline.journal.store import Journal
from pipeline.models import KEY_IN_NAME, Operation, TrainingRun
from pipeline.provider import Provider
from pipeline.start.planning import resolve_plan

SKEW_S = 600.0
"""Seconds by which the provider's clock may be behind this one."""


@dataclass
class Intents:
    """What was learned of the attempts without a handle."""

    learned: dict[str, OperationRecord] = field(default_factory=dict)
    """Rows by key whose run was found and written down."""
    shown: dict[str, TrainingRun] = field(default_factory=dict)
    """Runs by key that were found, and are for somebody else to write down."""
    unsure: dict[str, str] = field(default_factory=dict)
    """Why attempts that nobody looks after could not be looked up, by key."""
    doubtful: list[OperationRecord] = field(default_factory=list)
    """Attempts that may have created any run without a name."""


def find_intents(
    journal: Journal,
    provider: Provider,
    records: tuple[OperationRecord, ...],
    alone: Container[str],
    live: tuple[TrainingRun, ...],
) -> Intents:
    """Find the runs of attempts without a handle, and write down those that nobody looks after.

    What somebody looks after is looked up only while a run without a name goes on that could be its own.

    Args:
        journal: Where what is found is written down.
        provider: The account that is swept.
        records: Every open attempt.
        alone: Keys of those nobody looks after.
        live: Every run of the account that has not ended.

    Raises:
        JournalError: A run that was found could not be written down.
    """
    known = {record.run_id for record in records}
    nobodys = [run for run in live if run.handle.run_id not in known]
    intents = Intents()
    for record in records:
        if record.handle is not None:
            continue
        run = run_of_name(record, live)
        if run is None and (record.key in alone or any(may_be_of(one, record) for one in nobodys)):
            run = _look_for(provider, record, alone, intents)
        if run is None:
            continue
        if record.key not in alone or record.account != provider.account:
            intents.shown[record.key] = run
            continue
        journal.created(record.key, run.handle.model_copy(update={"dataset": record.request.dataset}))
        intents.learned[record.key] = journal.find(record.key) or record
    return intents


def _look_for(
    provider: Provider, record: OperationRecord, alone: Container[str], intents: Intents
) -> TrainingRun | None:
    """Look one attempt's run up; of another account's, what this one does not show says nothing."""
    why = ""
    if record.account == provider.account and provider.profile.finds_runs:
        try:
            return _find(provider, record)
        except Exception as error:  # whatever one row makes of it: the others are to be looked after
            why = f"it could not be looked up: {told(error)}"
    elif record.account == provider.account:  # what is not seen is no sign that it is not there, however long
        why = f"{provider.profile.title} cannot be asked whether its job was made: look there"
    intents.doubtful.append(record)
    if why and record.key in alone:
        intents.unsure[record.key] = why
    return None


def run_of_name(record: OperationRecord, live: Iterable[TrainingRun]) -> TrainingRun | None:
    """Return the run that carries an attempt's key in its name."""
    return next((run for run in live if carries(run, record.key)), None)


def carries(run: TrainingRun, key: str) -> bool:
    """Tell whether a run's name ends with an attempt's key."""
    return run.handle.name.endswith("-" + key[:KEY_IN_NAME])


def may_be_of(run: TrainingRun, record: OperationRecord) -> bool:
    """Tell whether a run could be what an intent created: it has no name that says otherwise, and is no older."""
    if has_name(run):
        return False
    return run.created_at is None or run.created_at.timestamp() > record.created_at_s - SKEW_S


def has_name(run: TrainingRun) -> bool:
    """Tell whether the provider shows a name of a run's own, which would carry the key if it were ours."""
    return run.handle.name != run.handle.run_id


def is_unread(run: TrainingRun, unread: tuple[Unread, ...]) -> bool:
    """Tell whether a run belongs to a row that this release cannot read: it is ours, and that other release's."""
    return any(run.handle.run_id == one.run_id or carries(run, one.key) for one in unread)


def told(error: Exception) -> str:
    """Return an error in words, whether or not it was raised for people to read."""
    return str(error) if isinstance(error, PipelineError) else f"{error!r:.200}"


def _find(provider: Provider, record: OperationRecord) -> TrainingRun | None:
    operation = Operation(id=record.operation_id, attempt=record.attempt, again=True)
    try:
        return provider.find_run(resolve_plan(record.request, provider.profile, operation), record.body)
    except NotFoundError:  # neither is its data set known
        return None
