"""The sweep's look: what goes on at the provider, joined with the journal's open attempts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

from pipeline.errors import AuthenticationError, JournalError, NotFoundError, ProviderError
from pipeline.journal.bookkeeping import note_sight
from pipeline.journal.records import OperationRecord
from pipeline.journal.store import Journal
from pipeline.models import RunStatus, TrainingRun
from pipeline.provider import Provider
from pipeline.sweep.intents import carries, find_intents, has_name, is_unread, may_be_of, told
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
    alone = {record.key: record for record in records if not _is_looked_after(record, flows, watch)}
    intents = find_intents(journal, provider, records, alone, live)
    looked_up, unanswered = _look_up(provider, [*alone.values(), *intents.learned.values()], seen)
    seen.update((run.handle.run_id, run) for run in looked_up)
    unsure = intents.unsure | unanswered
    found: list[Found] = []
    for known in records:
        record = intents.learned.get(known.key, known)
        run = seen.get(record.run_id or "") or intents.shown.get(record.key)
        if run is None and record.account != provider.account:
            continue  # another account's, as far as can be told: its own sweep looks after it
        flow = flows.get(record.flow_run_id or "", NO_FLOW)
        item = _judge(provider, record, run, flow, watch, unlooked=unsure.get(record.key))
        if item.run is not None or (item.sort is SweepClass.NO_RUN and record.key not in unsure):
            note_sight(journal, record, item.run)
        found.append(item)
    ours = {item.run.handle.run_id for item in found if item.run is not None}
    others = [run for run in live if run.handle.run_id not in ours]
    return (*found, *_strangers(journal, others, records, intents.doubtful))


def _judge(
    provider: Provider,
    record: OperationRecord,
    run: TrainingRun | None,
    flow: FlowState,
    watch: Watch,
    *,
    unlooked: str | None,
) -> Found:
    if unlooked is not None:
        return Found(SweepClass.NO_RUN, unlooked, run, record, flow)
    try:
        run = _priced(provider, record, run, watch)
        sort, reason = classify(record, run, flow, watch)
    except Exception as error:  # whatever one row makes of it: the others are to be looked after
        logger.warning("operation %s could not be judged", record.operation_id, exc_info=True)
        sort, reason = SweepClass.UNJUDGED, f"it could not be judged: {told(error)}"
    return Found(sort, reason, run, record, flow)


def _is_looked_after(record: OperationRecord, flows: Mapping[str, FlowState], watch: Watch) -> bool:
    try:
        return is_alive(record, flows.get(record.flow_run_id or "", NO_FLOW), watch)
    except Exception:  # told when it is judged: nothing is looked up, or written down, on its account
        return True


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
    except Exception as error:  # one run's trouble, whatever it is
        logger.warning("%d runs could not be looked up together, so each is alone: %s", len(missing), told(error))
    found: list[TrainingRun] = []
    unsure: dict[str, str] = {}
    for key, handle in missing.items():
        try:
            found.append(provider.get_run(handle))
        except NotFoundError:
            continue
        except Exception as error:
            unsure[key] = f"it could not be looked up: {told(error)}"
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


def _strangers(
    journal: Journal, runs: list[TrainingRun], records: tuple[OperationRecord, ...], doubtful: list[OperationRecord]
) -> list[Found]:
    """Judge the live runs of no open attempt; one that could be what an attempt in doubt created is not called one."""
    unread = journal.unread_operations() if runs else ()
    found = []
    for run in runs:
        if is_unread(run, unread) or (stranger := _stranger(journal, run, records)) is None:
            continue
        perhaps = next((f"operation {one.operation_id}" for one in doubtful if may_be_of(run, one)), None)
        if perhaps is None and not has_name(run):
            perhaps = next((f"attempt {one.key}, of another release" for one in unread if one.run_id is None), None)
        if perhaps is not None:
            reason = f"it may be the run of {perhaps}, of whose create nothing is known yet"
            stranger = Found(SweepClass.UNJUDGED, reason, run)
        found.append(stranger)
    return found


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
    twin = next((one for one in records if carries(run, one.key)), None)
    reason = "the journal does not know it: started by hand, or by a program with another journal"
    if twin is not None:
        reason = f"it carries the name of operation {twin.operation_id}, whose run is {twin.run_id or 'not known'}"
    return Found(SweepClass.UNKNOWN_TO_US, reason, run)
