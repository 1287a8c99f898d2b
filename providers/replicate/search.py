"""Find the training that an attempt created: by the address of its data, the one thing of ours that lists show."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from pydantic import JsonValue

from pipeline.errors import ConflictError, ErrorContext
from pipeline.local_requests import ReplicateRequest
from pipeline.models import Finding, RunStatus, Severity, TrainPlan
from providers.replicate.data import TrainingData, own_address
from providers.replicate.trainings import Trainings
from providers.replicate.values import SKEW, TrainingOrder, moment_of
from providers.replicate.wire import TrainingWire
from providers.retry import Clock

WINDOW = timedelta(days=14)
"""How far back the list is read where nothing says when a run was made."""
WINDOW_PAGES = 50
"""How many pages of it at most."""
_FAILED = frozenset({RunStatus.FAILED, RunStatus.CANCELLED})


class RunSearch:
    """Reads the account's trainings."""

    def __init__(self, trainings: Trainings, data: TrainingData, clock: Clock) -> None:
        self._trainings = trainings
        self._data = data
        self._clock = clock

    def recent(self) -> Iterator[TrainingWire]:
        """Yield the trainings of the last two weeks, newest first."""
        return self._trainings.iter(since=moment_of(self._clock) - WINDOW, pages=WINDOW_PAGES)

    def find(self, plan: TrainPlan, order: TrainingOrder | None) -> tuple[TrainingWire, ...]:
        """Return the trainings of an attempt, the one to go on with first; more than one means paid for twice.

        Raises:
            ConflictError: One may be the attempt's, but the provider has removed what it was given.
        """
        request = plan.asked_of(ReplicateRequest)
        if order is not None:
            return self._ordered(order, request.data_input)
        if request.dataset_url is not None:
            addresses: set[JsonValue] = {own_address(request.dataset_url, plan.operation_key)}
            return _best_first(row for row in self.recent() if row.input.get(request.data_input) in addresses)
        files = self._data.uploaded(plan)
        if not files:
            return ()
        addresses = {file.url for file in files if file.url is not None}
        since = min(file.created_at or moment_of(self._clock) - WINDOW for file in files) - SKEW
        rows = self._trainings.iter(since=since)
        return _best_first(row for row in rows if row.input.get(request.data_input) in addresses)

    def _ordered(self, order: TrainingOrder, data_input: str) -> tuple[TrainingWire, ...]:
        address = order.input.get(data_input)
        rows = list(self._trainings.iter(since=order.since - SKEW))
        ours = [row for row in rows if address is not None and row.input.get(data_input) == address]
        if not ours:
            _refuse_doubtful(rows, order, data_input)
        return _best_first(iter(ours))


def twins(others: tuple[TrainingWire, ...]) -> Iterator[Finding]:
    """Yield a warning for each further training of the same attempt."""
    for row in others:
        ended = row.run_status.is_terminal
        state = row.status if ended else f"{row.status} and billed: cancel it there"
        message = f"Training {row.id} was created with the same data for the same operation and is {state}."
        yield Finding(severity=Severity.WARNING, code="twin_run", message=message)


def _best_first(rows: Iterator[TrainingWire]) -> tuple[TrainingWire, ...]:
    """Order trainings: those that have not failed, the oldest first, before those that have."""
    oldest_first = reversed(list(rows))
    return tuple(sorted(oldest_first, key=lambda row: row.run_status in _FAILED))


def _refuse_doubtful(rows: list[TrainingWire], order: TrainingOrder, data_input: str) -> None:
    """Refuse to say that there is none while one could be: retention removes what a training was given."""
    trainer = order.trainer.partition(":")[0]
    for row in rows:
        stripped = row.run_status.is_terminal and data_input not in row.input and (row.data_removed or not row.input)
        elsewhere = row.output_version is not None and row.output_version.partition(":")[0] != order.destination
        if stripped and not elsewhere and row.model in {trainer, None}:
            message = (
                f"Training {row.id} ({row.status}) may be the one of this operation, but its inputs were removed: look "
                f"at it there, and adopt it with --adopt {row.id} or begin a new operation."
            )
            raise ConflictError(message, ErrorContext(operation="training.list", run_id=row.id))
