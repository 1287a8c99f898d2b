"""The sweep's look: what goes on at the provider, joined with the journal's open attempts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from pipeline.errors import AuthenticationError, ConfigurationError, JournalError, NotFoundError, ProviderError
from pipeline.journal.records import OperationRecord, Unread
from pipeline.journal.store import Journal
from pipeline.models import KEY_IN_NAME, Operation, RunStatus, TrainingRun
from pipeline.provider import Provider
from pipeline.start.planning import resolve_plan
from pipeline.sweep.sweeping import NO_FLOW, FlowState, Found, SweepClass, Watch, classify, is_alive, over_cap

logger = logging.getLogger(__name__)

_NOT_STARTED = {RunStatus.PENDING, RunStatus.QUEUED}


def open_records(journal: Journal, provider: Provider, flow_run_id: str | None = None) -> tuple[OperationRecord, ...]:
    """Return the open attempts at this provider, or those a flow run carried out last."""
    return tuple(
        record
        for record in journal.open_operations()
        if record.provider == provider.profile.name
        and record.sandbox is provider.profile.sandbox
        and flow_run_id in (None, record.flow_run_id)
    )


def look_around(
    journal: Journal,
    provider: Provider,
    read_flows: Callable[[Iterable[str | None]], Mapping[str, FlowState]],
    watch: Watch,
    flow_run_id: str | None = None,
) -> tuple[Found, ...]:
    """Return everything of an account that goes on or is open; for one flow run, what that started.

    The order matters: what a flow run creates while this looks has its intent in the journal before the provider shows
    it, and must not be taken for a stranger's.

    Raises:
        ProviderError: The provider could not be asked.
        JournalError: The journal could not be read.
    """
    live = provider.live_runs() if flow_run_id is None else ()
    records = open_records(journal, provider, flow_run_id)
    return survey(journal, provider, records, read_flows(record.flow_run_id for record in records), watch, live=live)


def survey(
    journal: Journal,
    provider: Provider,
    records: tuple[OperationRecord, ...],
    flows: Mapping[str, FlowState],
    watch: Watch,
    *,
    live: tuple[TrainingRun, ...] = (),
) -> tuple[Found, ...]:
    """Join what goes on at the provider with the journal's open attempts, and judge each.

    Args:
        journal: Where the records come from; a run that is found for an intent is written down.
        provider: The account that is swept.
        records: Open attempts, of this account or of another key.
        flows: States of the records' flow runs by id; one that is left out is missing.
        watch: Time, and who lives.
        live: Every run of the account that has not ended; empty when only the records matter.

    Raises:
        ProviderError: The provider could not be asked.
        JournalError: The journal could not be read.
    """
    seen = {run.handle.run_id: run for run in live}
    alone = [record for record in records if not _is_looked_after(record, flows, watch)]
    learned, unsure = _find_intents(journal, provider, alone, live)
    looked_up, unanswered = _look_up(provider, [*alone, *learned.values()], seen)
    seen.update((run.handle.run_id, run) for run in looked_up)
    unsure |= unanswered
    found: list[Found] = []
    for known in records:
        record = learned.get(known.key, known)
        run = seen.get(record.run_id or "") or (_of_name(record, live) if record.handle is None else None)
        if run is None and record.account != provider.account:
            continue  # another account's, as far as can be told: its own sweep looks after it
        flow = flows.get(record.flow_run_id or "", NO_FLOW)
        run = _priced(provider, record, run, watch)
        unlooked = unsure.get(record.key)
        sort, reason = (SweepClass.NO_RUN, unlooked) if unlooked else classify(record, run, flow, watch)
        found.append(Found(sort, reason, run, record, flow))
    ours = {item.run.handle.run_id for item in found if item.run is not None}
    unread = journal.unread_operations() if live else ()
    strangers = [run for run in live if run.handle.run_id not in ours and not _is_of(run, unread)]
    return (*found, *(item for run in strangers if (item := _stranger(journal, run, records)) is not None))


def _is_looked_after(record: OperationRecord, flows: Mapping[str, FlowState], watch: Watch) -> bool:
    return is_alive(record, flows.get(record.flow_run_id or "", NO_FLOW), watch)


def _find_intents(
    journal: Journal, provider: Provider, alone: list[OperationRecord], live: tuple[TrainingRun, ...]
) -> tuple[dict[str, OperationRecord], dict[str, str]]:
    """Write down the runs that were found for intents; return their rows by key, and why others could not be looked up.

    Another account's runs are not looked for: what this one does not show says nothing about them.
    """
    learned: dict[str, OperationRecord] = {}
    unsure: dict[str, str] = {}
    for record in alone:
        if record.handle is not None or record.account != provider.account:
            continue
        if not provider.profile.finds_runs:  # what is not seen is no sign that it is not there, however long
            unsure[record.key] = f"{provider.profile.title} cannot be asked whether its job was made: look there"
            continue
        try:
            run = _of_name(record, live) or _find(provider, record)
        except (ProviderError, ConfigurationError) as error:
            unsure[record.key] = f"it could not be looked up: {error}"
            continue
        if run is not None:
            journal.created(record.key, run.handle.model_copy(update={"dataset": record.request.dataset}))
            learned[record.key] = journal.find(record.key) or record
    return learned, unsure


def _of_name(record: OperationRecord, live: Iterable[TrainingRun]) -> TrainingRun | None:
    return next((run for run in live if run.handle.name.endswith("-" + record.key[:KEY_IN_NAME])), None)


def _find(provider: Provider, record: OperationRecord) -> TrainingRun | None:
    operation = Operation(id=record.operation_id, attempt=record.attempt, again=True)
    try:
        return provider.find_run(resolve_plan(record.request, provider.profile, operation), record.body)
    except NotFoundError:  # neither is its data set known
        return None


def _look_up(
    provider: Provider, alone: Iterable[OperationRecord], seen: Mapping[str, TrainingRun]
) -> tuple[tuple[TrainingRun, ...], dict[str, str]]:
    """Look at the runs nobody looks after that the list of live ones does not show.

    Returns them, and why others could not be looked up, by the key of their record: one run that the provider cannot
    show must not keep the others from being looked after.
    """
    missing = {record.key: record.handle for record in alone if record.handle is not None and record.run_id not in seen}
    try:
        return provider.get_runs(tuple(missing.values())) if missing else (), {}
    except AuthenticationError:
        raise  # not one run's trouble
    except ProviderError as error:
        logger.warning("%d runs could not be looked up together, so each is alone: %s", len(missing), error)
    found: list[TrainingRun] = []
    unsure: dict[str, str] = {}
    for key, handle in missing.items():
        try:
            found.append(provider.get_run(handle))
        except NotFoundError:
            continue
        except ProviderError as error:
            unsure[key] = f"it could not be looked up: {error}"
    return tuple(found), unsure


def _priced(provider: Provider, record: OperationRecord, run: TrainingRun | None, watch: Watch) -> TrainingRun | None:
    """Return the run with the time it started where the list left that out and it matters for the money."""
    if run is None or run.started_at is not None or run.created_at is None or run.status in _NOT_STARTED:
        return run
    if not over_cap(record, run.model_copy(update={"started_at": run.created_at}), watch):
        return run
    try:
        return provider.get_run(record.handle or run.handle)
    except ProviderError:
        return run


def _is_of(run: TrainingRun, unread: tuple[Unread, ...]) -> bool:
    """Tell whether a run belongs to a row that this release cannot read: it is ours, and that other release's."""
    name = run.handle.name
    return any(run.handle.run_id == one.run_id or name.endswith("-" + one.key[:KEY_IN_NAME]) for one in unread)


def _stranger(journal: Journal, run: TrainingRun, records: tuple[OperationRecord, ...]) -> Found | None:
    try:
        known = journal.of_run(run.handle.provider, run.handle.run_id)
    except JournalError as error:
        logger.warning("run %r is left alone: %s", run.handle.name, error)
        return None
    if known is not None and known.state.is_open:
        return None  # written down since the records were read: the next sweep's
    if known is not None:
        reason = f"operation {known.operation_id} was closed as {known.outcome}, yet its run goes on"
        return Found(SweepClass.UNKNOWN_TO_US, reason, run)
    twin = next((one for one in records if run.handle.name.endswith("-" + one.key[:KEY_IN_NAME])), None)
    reason = "the journal does not know it: started by hand, or by a program with another journal"
    if twin is not None:
        reason = f"it carries the name of operation {twin.operation_id}, whose run is {twin.run_id or 'not known'}"
    return Found(SweepClass.UNKNOWN_TO_US, reason, run)
