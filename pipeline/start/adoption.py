"""Come back to a training that an earlier attempt may have started: look before anything is priced or made."""

from __future__ import annotations

from dataclasses import replace

from pydantic import JsonValue

from pipeline.errors import ConfigurationError, ErrorContext, NotFoundError, ProviderError
from pipeline.journal.bookkeeping import ENDED, AttemptLog
from pipeline.models import RunHandle, RunStatus, TrainingRun, TrainPlan
from pipeline.provider import Provider


def find_earlier(
    provider: Provider,
    plan: TrainPlan,
    handle: RunHandle | None = None,
    order: dict[str, JsonValue] | None = None,
) -> TrainingRun | None:
    """Return the run an earlier attempt at the operation started, if any: by its handle where that is known.

    ``order`` is what its create sent, where that was written down.

    Raises:
        ProviderError: It could not be looked up; ``context.outcome_unknown`` is set, because it may exist.
        ConfigurationError: It trains something else than this request asks for.
    """
    try:
        found = provider.find_run(plan, order) if handle is None else _look(provider, handle)
    except ProviderError as error:
        message = f"an earlier attempt may have created {plan.run_name!r}, which could not be looked up: {error}"
        raise type(error)(message, replace(error.context, outcome_unknown=True)) from error
    return adopt(plan, found) if found is not None else None


def _look(provider: Provider, handle: RunHandle) -> TrainingRun:
    try:
        return provider.get_run(handle)
    except NotFoundError:
        # One 404 ends nothing: the watch, with its grace, decides whether the run is lost.
        return TrainingRun(handle=handle, status=RunStatus.UNKNOWN, provider_status="not found")


def adopt(plan: TrainPlan, run: TrainingRun) -> TrainingRun:
    """Return a run that was found, marked as such.

    Raises:
        ConfigurationError: It trains something else than this request asks for.
    """
    check_fit(plan, run)
    return run.model_copy(update={"adopted": True})


def take_by_id(provider: Provider, plan: TrainPlan, run_id: str) -> TrainingRun:
    """Return a run that was started by hand at the provider.

    Raises:
        ConfigurationError: There is no such run for this account, or it trains something else than this request.
        ProviderError: It could not be looked up.
    """
    dataset = plan.request.dataset
    try:
        found = provider.get_run(RunHandle(provider=plan.profile.name, run_id=run_id, name=run_id, dataset=dataset))
    except NotFoundError as error:
        message = f"adopt={run_id!r} is no run of this account ({error}); give the id the provider shows"
        raise ConfigurationError(message, ErrorContext(operation="training.get", field="adopt")) from error
    provider.check_adopted(plan, found)
    return adopt(plan, found)


def check_fit(plan: TrainPlan, run: TrainingRun) -> None:
    """Refuse to read a run's model as something that it is not.

    Raises:
        ConfigurationError: The operation's run was created with another pipeline, or on another data set.
    """
    asked, dataset = plan.request.kind, plan.request.dataset
    if run.pipeline is not None and run.pipeline != asked:
        raise ConfigurationError(
            f"operation {plan.operation.id!r} already trains pipeline {run.pipeline!r} (run {run.handle.run_id}), not "
            f"{asked!r}; ask for that pipeline to come back to it, or leave operation out to begin a new training",
            ErrorContext(field="operation", run_id=run.handle.run_id),
        )
    if run.handle.dataset not in {"", dataset}:
        raise ConfigurationError(
            f"operation {plan.operation.id!r} already trains on {run.handle.dataset!r} (run {run.handle.run_id}), not "
            f"on {dataset!r}; ask for that data set to come back to it, or leave operation out to begin a new training",
            ErrorContext(field="operation", run_id=run.handle.run_id),
        )


def take_back(provider: Provider, plan: TrainPlan, run_id: str, log: AttemptLog) -> TrainingRun:
    """Return a run whose attempt the journal has closed without a model, as its provider shows it now.

    The provider's word decides: where the run goes on, or has completed, its attempt is opened again; one that failed
    or was cancelled there stays closed. No other attempt is begun.

    Raises:
        ConfigurationError: There is no such run for this account, or it trains something else than this request.
        OperationBusyError: A process that lives was faster.
        ProviderError: It could not be looked up.
    """
    run = take_by_id(provider, plan, run_id)
    if run.status not in ENDED:
        log.reopened()
    return run
