"""Bluesight's training jobs: made, looked at and cancelled by id; there is no list of them."""

from __future__ import annotations

from pydantic import JsonValue

from pipeline.errors import ConflictError, ErrorContext, UnexpectedResponseError
from pipeline.models import RunHandle, TrainingRun
from providers.bluesight.errors import CREATE
from providers.bluesight.session import BluesightSession
from providers.bluesight.wire import JobWire
from providers.calls import ApiRequest
from providers.http import path_segment
from providers.wire import read_wire


class Jobs:
    """Training jobs."""

    def __init__(self, session: BluesightSession) -> None:
        self._session = session

    def create(self, order: dict[str, JsonValue], name: str, dataset: str) -> TrainingRun:
        """Start a training; sent again only as long as no connection was made.

        Raises:
            InvalidRequestError: The order was refused.
            ProviderError: With ``context.outcome_unknown`` when the job may exist although no usable answer came.
        """
        request = ApiRequest(
            CREATE,
            "POST",
            "/training/jobs",
            body=order,
            repeatable=True,
            look_first=True,
            effect=True,
            timeout_s=self._session.times.create_s,
        )
        return self._session.read(request, JobWire).to_value(name, dataset)

    def get(self, handle: RunHandle) -> TrainingRun:
        """Return a job.

        Sent once: a look that meets a training takes all its time, and whoever watches looks again anyway.

        Raises:
            NotFoundError: There is none of this id.
            UnexpectedResponseError: The answer is about another job.
        """
        return self._look(ApiRequest("training.get", "GET", _path(handle)), handle)

    def cancel(self, handle: RunHandle) -> TrainingRun:
        """Advise the server to end a job; one that has already ended is returned as it is.

        Raises:
            NotFoundError: There is none of this id.
        """
        request = ApiRequest("training.cancel", "DELETE", _path(handle))
        try:
            return self._look(request, handle)
        except ConflictError:
            return self.get(handle)

    def _look(self, request: ApiRequest, handle: RunHandle) -> TrainingRun:
        reply = self._session.call(request)
        run = read_wire(reply, reply.payload, JobWire).to_value(handle.name, handle.dataset)
        if run.handle.run_id != handle.run_id:
            message = f"Asked about job {handle.run_id!r}, the answer is about {run.handle.run_id!r}: look again."
            raise UnexpectedResponseError(message, ErrorContext(operation=request.operation, run_id=handle.run_id))
        return run


def _path(handle: RunHandle) -> str:
    return f"/training/jobs/{path_segment(handle.run_id)}"
