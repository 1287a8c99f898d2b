"""Trainings, always addressed by id below ``/v1/trainings``. Source: OpenAPI 1.0.0-a1, checked 2026-11-20.

The addresses in a create's reply lead to ``/v1/predictions`` and stop working after half an hour: they are not used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from pydantic import JsonValue

from pipeline.errors import ConflictError, ErrorContext, InvalidRequestError, NotFoundError, UnexpectedResponseError
from providers.calls import ApiRequest
from providers.http import path_segment
from providers.replicate.session import ReplicateSession, get, version_path
from providers.replicate.wire import TrainingWire


class Trainings:
    """Trainings of the account, by whatever way they were started."""

    def __init__(self, session: ReplicateSession) -> None:
        self._session = session

    def create(self, trainer: str, body: Mapping[str, JsonValue]) -> TrainingWire:
        """Start a paid training. Sent once: the API has no idempotency key, so the caller looks before sending again.

        Raises:
            NotFoundError: The destination, or the trainer, is not there; the context names the field.
            ProviderError: With ``context.outcome_unknown`` when the run may exist although no usable answer came.
        """
        path = f"{version_path(trainer)}/trainings"
        try:
            return self._session.read(ApiRequest("training.create", "POST", path, body=body, effect=True), TrainingWire)
        except NotFoundError as error:
            raise _missing(error, trainer, body) from error

    def get(self, run_id: str) -> TrainingWire:
        """Return a training.

        Raises:
            NotFoundError: There is none of this id, or not yet.
            UnexpectedResponseError: The answer is about another one.
        """
        return _same(self._session.read(get("training.get", _path(run_id)), TrainingWire), run_id)

    def iter(self, *, since: datetime | None = None, pages: int | None = None) -> Iterator[TrainingWire]:
        """Yield trainings, newest first, down to those created before ``since``; list items carry no logs."""
        for row in self._session.iter_rows(get("training.list", "/v1/trainings"), TrainingWire, pages=pages):
            if since is not None and row.created_at is not None and row.created_at < since:
                return
            yield row

    def cancel(self, run_id: str) -> TrainingWire:
        """Ask for the end of a training; one that has already ended is returned as it is.

        Raises:
            NotFoundError: There is none of this id.
        """
        request = ApiRequest("training.cancel", "POST", f"{_path(run_id)}/cancel", repeatable=True, effect=True)
        try:
            reply = self._session.call(request)
        except (InvalidRequestError, ConflictError, NotFoundError):
            found = self.get(run_id)
            if found.run_status.is_terminal:
                return found
            raise
        if reply.payload is None:
            return self.get(run_id)
        return _same(self._session.parse(reply, TrainingWire), run_id)


def _path(run_id: str) -> str:
    return f"/v1/trainings/{path_segment(run_id)}"


def _same(training: TrainingWire, run_id: str) -> TrainingWire:
    if training.id != run_id:
        message = f"Asked about training {run_id!r}, the answer is about {training.id!r}: look again."
        raise UnexpectedResponseError(message, ErrorContext(operation="training.get", run_id=run_id))
    return training


def _missing(error: NotFoundError, trainer: str, body: Mapping[str, JsonValue]) -> NotFoundError:
    field = "destination" if "destination does not exist" in error.message else "trainer"
    named = f"destination={body.get('destination')!r}" if field == "destination" else f"trainer={trainer!r}"
    message = f"{named} is not there for this account, and nothing was started: {error.message}"
    return NotFoundError(message, replace(error.context, field=field))
