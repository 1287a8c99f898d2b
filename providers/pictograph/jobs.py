"""Pictograph's list of everything that goes on. Source: the vendor's published client 1.69, checked 2026-11-20."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from pipeline.errors import ProviderError
from pipeline.models import TrainingRun
from providers.pictograph.session import Listing, PictographSession, filters
from providers.pictograph.training import ROUTE_MISSING, Training
from providers.pictograph.wire import RunWire
from providers.wire import JsonObject, Moment, Real, Text, Wire

ACTIVE_WORDS = ("pending", "queued", "running")
"""Statuses of runs that have not ended, in the order a run goes through them."""
_ACTIVE = Listing("jobs.list", "/jobs", "jobs", filters(status="active", type="training"))


class JobWire(Wire):
    """A training as a job: the id is the run's; when a GPU took it is not said, nor the data set's name."""

    id: str
    name: str
    status: str
    progress: Real = None
    error: Text = None
    created_at: Moment = None
    completed_at: Moment = None
    detail: JsonObject = Field(default_factory=dict)

    def to_value(self) -> TrainingRun:
        """Convert, by the rules of a run."""
        known = self.model_dump(exclude={"detail", "error"})
        return RunWire.model_validate({**self.detail, **known, "error_message": self.error}).to_value()


class Jobs:
    """Trainings that have not ended, whatever their data set."""

    def __init__(self, session: PictographSession, training: Training) -> None:
        self._session = session
        self._training = training

    def iter_active(self) -> Iterator[TrainingRun]:
        """Yield them, a hundred a request; an older server is asked for each status that is no end.

        The vendor's list holds the newest 1 000 of them. A run that ends between two pages may push another one out of
        sight: what must not be overlooked is looked at by its id.
        """
        try:
            yield from (row.to_value() for row in self._session.iter_rows(_ACTIVE, JobWire))
        except ProviderError as error:
            if error.context.status_code not in ROUTE_MISSING:
                raise
            yield from self._iter_listed()

    def _iter_listed(self) -> Iterator[TrainingRun]:
        seen: set[str] = set()
        for word in ACTIVE_WORDS:
            for run in self._training.iter(status=word):
                if run.handle.run_id not in seen:
                    seen.add(run.handle.run_id)
                    yield run
