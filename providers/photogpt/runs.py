"""A PhotoGPT model read as a training run: one word of status, and the jobs list for what that word leaves open."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from pipeline.errors import ProviderError
from pipeline.models import RunHandle, RunStatus, TrainingRun
from providers.photogpt.jobs import Job, Jobs, Window, training_among
from providers.photogpt.profile import PROVIDER
from providers.photogpt.wire import DELETED, FAILED_MODEL, NEW, READY, TRAINING, ModelWire

logger = logging.getLogger(__name__)

_STATUSES = {NEW: RunStatus.PENDING, TRAINING: RunStatus.RUNNING, READY: RunStatus.COMPLETED}


def status_of(model: ModelWire) -> RunStatus:
    """Return our word; one that is not known is not an end."""
    return RunStatus.FAILED if model.word in FAILED_MODEL else _STATUSES.get(model.word, RunStatus.UNKNOWN)


def handle_of(model: ModelWire, dataset: str = "") -> RunHandle:
    """Return the handle of a model's training; what it was trained on is not shown."""
    return RunHandle(provider=PROVIDER, run_id=model.id, name=model.name or model.id, dataset=dataset)


@dataclass(frozen=True)
class Runs:
    """Reads models as runs."""

    jobs: Jobs
    """The second source."""

    def seen(self, model: ModelWire, handle: RunHandle) -> TrainingRun:
        """Return the run of a model that was triggered, or may have been."""
        job = None
        if status_of(model) in {RunStatus.PENDING, RunStatus.FAILED} and model.word != DELETED:
            try:
                job = self._training(model)
            except ProviderError as error:
                logger.info("the jobs of model %s could not be read: %s", model.id, error)
        return _run(model, handle, job)

    def triggered(self, model: ModelWire, handle: RunHandle) -> TrainingRun | None:
        """Return the run of a model if its training was triggered, as far as the provider shows it.

        Raises:
            ProviderError: The jobs could not be read, which here must not pass for their absence.
        """
        if model.word != NEW:
            return self.seen(model, handle)
        job = self._training(model)
        return _run(model, handle, job) if job is not None else None

    def _training(self, model: ModelWire) -> Job | None:
        return training_among(self.jobs.of_model(model.id, Window(since=model.made_at)))


def _run(model: ModelWire, handle: RunHandle, job: Job | None) -> TrainingRun:
    """Join a model and its training; a model that went back to new after a failure has failed."""
    status = status_of(model)
    if status is RunStatus.PENDING and job is not None and job.has_failed:
        status = RunStatus.FAILED
    reason = job.error if job is not None else None
    if status is RunStatus.FAILED and reason is None:
        reason = "the model was deleted at the provider" if model.word == DELETED else None
    return TrainingRun(
        handle=handle,
        status=status,
        provider_status=model.status or "",
        model_id=model.id if status is RunStatus.COMPLETED else None,
        error_message=reason if status is RunStatus.FAILED else None,
        created_at=model.made_at,
        started_at=job.created_at if job is not None else None,
        completed_at=model.updated_at if status.is_terminal else None,
    )
