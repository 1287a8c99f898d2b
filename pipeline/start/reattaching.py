"""Which operation a request is about: one that was begun before and is still open, or a new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.addresses import hides, without_secrets
from pipeline.errors import (
    ConfigurationError,
    ErrorContext,
    OperationBusyError,
    TrainingCancelledError,
    TrainingError,
    TrainingFailedError,
    TrainingLostError,
)
from pipeline.journal.ownership import is_gone
from pipeline.journal.records import OperationOutcome, OperationRecord, Owner
from pipeline.journal.store import Journal
from pipeline.models import Operation
from pipeline.requests import TrainRequest
from pipeline.start.planning import fingerprint_request

ENDS: dict[OperationOutcome, type[TrainingError]] = {
    OperationOutcome.CANCELLED: TrainingCancelledError,
    OperationOutcome.LOST: TrainingLostError,
}
"""How a flow run ends that was brought back to an attempt that is over; any other outcome is a failure."""
ADOPTED = "run-"
"""What the operations of runs that were started by hand begin with; the run's id follows."""


def choose_operation(
    journal: Journal,
    request: TrainRequest,
    flow_run_id: str,
    is_ours: Callable[[OperationRecord], bool],
    *,
    again: bool,
    may_follow: Callable[[OperationRecord], bool] = lambda _: True,
) -> Operation:
    """Return the operation of a request: the named one, this flow run's own, an open one like it, or a new one.

    Args:
        journal: Where earlier attempts are written down.
        request: What was asked.
        flow_run_id: Who asks; names a new operation.
        is_ours: Whether an open attempt's run can be reached with the request's account.
        again: Whether this flow run was carried out before.
        may_follow: Whether an attempt that is over may be followed by a new one: a person wants that, a flow run that
            was merely brought back does not.

    Raises:
        ConfigurationError: The same training is open and the request wants to fail then; or the operation is another
            account's, or of something else than is asked for.
        TrainingError: The attempt is over and may not be followed by another.
        OperationBusyError: A later attempt than the one that is named was begun.
    """
    named = _named(journal, request)
    if named is not None:
        _check_same(named, request)
    record = named or (_own(journal, request, flow_run_id) if again and not _names_one(request) else None)
    if record is None and not _names_one(request):
        record = _open_like(journal, request, is_ours)
    if record is not None:
        _check_account(record, is_ours)
        return _continued(record, request, may_follow)
    return Operation(id=_given_id(request) or flow_run_id, again=again or _names_one(request))


def unanswered(
    journal: Journal, request: TrainRequest, chosen: Operation, is_ours: Callable[[OperationRecord], bool]
) -> Operation:
    """Return the open operation that a run somebody found there belongs to: one like it without a run; else the chosen.

    For a provider that cannot be asked whether a create without an answer made a run: a person can.
    """
    if request.adopt is None or journal.latest(chosen.id, sandbox=request.sandbox) is not None:
        return chosen
    for record in journal.open_like(fingerprint_request(request)):
        if record.handle is None and is_ours(record):
            return Operation(id=record.operation_id, attempt=record.attempt, again=True)
    return chosen


def prepared(journal: Journal, request: TrainRequest, chosen: Operation, account: str, owner: Owner) -> Operation:
    """Return the operation that somebody prepared for the same training and died; else the chosen one.

    What was uploaded for it is used, and does not stay behind at the provider.
    """
    if chosen.again or request.on_open_run == "new" or journal.latest(chosen.id, sandbox=request.sandbox) is not None:
        return chosen
    taken = journal.take_preparation(fingerprint_request(request), account, owner, is_gone)
    return chosen if taken is None else Operation(id=taken[0], attempt=taken[1], again=True)


def begins_alone(request: TrainRequest) -> bool:
    """Tell whether the same training, begun by somebody else, is to be left to them."""
    return request.on_open_run != "new" and not _names_one(request)


def _names_one(request: TrainRequest) -> bool:
    return request.operation is not None or request.adopt is not None


def _given_id(request: TrainRequest) -> str | None:
    return ADOPTED + request.adopt if request.adopt is not None else request.operation


def _named(journal: Journal, request: TrainRequest) -> OperationRecord | None:
    if request.adopt is not None:
        found = journal.of_run(request.provider, request.adopt)
        if found is not None and found.sandbox is request.sandbox:
            latest = journal.latest(found.operation_id, sandbox=request.sandbox)
            # A larger attempt may have followed it, which somebody pays for and may be looking after.
            return latest if latest is not None and latest.state.is_open else found
    asked = _given_id(request)
    return journal.latest(asked, sandbox=request.sandbox) if asked is not None else None


def _check_same(record: OperationRecord, request: TrainRequest) -> None:
    """Refuse to collect a model under another name than that of what it was trained on."""
    known, kind = record.request, type(request)
    naming = kind.NAMING & kind.DECIDING if known.provider == request.provider else {"provider"}
    pairs = ((name, getattr(known, name), getattr(request, name)) for name in sorted(naming))
    other = next((pair for pair in pairs if not _is_same(*pair[1:], is_open=record.state.is_open)), None)
    if other is None:
        return
    field, (name, begun_with, asked) = "operation" if request.adopt is None else "adopt", other
    raise ConfigurationError(
        f"{field}={getattr(request, field)!r} comes back to operation {record.operation_id!r}, which was begun with "
        f"{name}={without_secrets(begun_with)!r}, not with {without_secrets(asked)!r}; nothing was started: name that "
        f"one, or leave {field} out for a new training",
        ErrorContext(field=field, run_id=record.run_id),
    )


def _is_same(begun_with: Any, asked: Any, *, is_open: bool) -> bool:
    """Compare a field; of a training that goes on, a mapping may lack what no command shows: signed addresses."""
    if is_open and isinstance(begun_with, dict) and isinstance(asked, dict):
        begun_with, asked = ({key: one for key, one in each.items() if not hides(one)} for each in (begun_with, asked))
    return bool(begun_with == asked)


def _own(journal: Journal, request: TrainRequest, flow_run_id: str) -> OperationRecord | None:
    """Return what this flow run carried out, or began and somebody else went on with."""
    return journal.of_flow_run(flow_run_id) or journal.latest(flow_run_id, sandbox=request.sandbox)


def _open_like(
    journal: Journal, request: TrainRequest, is_ours: Callable[[OperationRecord], bool]
) -> OperationRecord | None:
    if request.on_open_run == "new":
        return None
    found = next((record for record in journal.open_like(fingerprint_request(request)) if is_ours(record)), None)
    if found is not None and request.on_open_run == "fail":
        raise ConfigurationError(
            f"the same training is open already: operation {found.operation_id!r} ({found.run_name}, {found.state}); "
            f"nothing was started: ask with on_open_run=adopt to go on with it, or =new for a second one",
            ErrorContext(field="on_open_run"),
        )
    return found


def _check_account(record: OperationRecord, is_ours: Callable[[OperationRecord], bool]) -> None:
    """Refuse to judge another account's run: with this key it would look as if it did not exist."""
    if record.state.is_open and not is_ours(record):
        raise ConfigurationError(
            f"operation {record.operation_id!r} ({record.run_name}) was begun with the key of another account, and may "
            f"be billed there; use that key, or ask with on_open_run=new and without operation for a new training",
            ErrorContext(field="credentials"),
        )


def _continued(
    record: OperationRecord, request: TrainRequest, may_follow: Callable[[OperationRecord], bool]
) -> Operation:
    if request.attempt is not None and record.attempt != request.attempt:
        raise OperationBusyError(
            f"attempt {request.attempt} of operation {record.operation_id!r} is over, and attempt {record.attempt} was "
            f"begun since; nothing was started"
        )
    if record.can_try_again and request.adopt is None:  # who names a run wants that one, and no other
        if request.attempt is not None or not may_follow(record):
            raise _over(record)
        return Operation(id=record.operation_id, attempt=record.attempt + 1)
    return Operation(id=record.operation_id, attempt=record.attempt, again=True)


def _over(record: OperationRecord) -> TrainingError:
    outcome = record.outcome or OperationOutcome.FAILED
    return ENDS.get(outcome, TrainingFailedError)(
        f"attempt {record.attempt} of operation {record.operation_id!r} is over ({outcome}: {record.reason}); a flow "
        f"run that was brought back starts no other: retry it, or give the command again, for a new attempt",
        ErrorContext(operation="training.create", run_id=record.run_id),
    )
