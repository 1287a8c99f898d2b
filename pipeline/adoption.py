"""Come back to a training that an earlier attempt may have started: look before anything is priced or made."""

from __future__ import annotations

from dataclasses import replace

from pipeline.errors import ConfigurationError, ErrorContext, ProviderError
from pipeline.models import TrainingRun, TrainPlan
from pipeline.provider import Provider


def find_earlier(provider: Provider, plan: TrainPlan) -> TrainingRun | None:
    """Return the run an earlier attempt at the operation started, if any.

    Raises:
        ProviderError: It could not be looked up; ``context.outcome_unknown`` is set, because it may exist.
        ConfigurationError: It trains something else than this request asks for.
    """
    try:
        found = provider.find_run(plan)
    except ProviderError as error:
        message = f"an earlier attempt may have created {plan.run_name!r}, which could not be looked up: {error}"
        raise type(error)(message, replace(error.context, outcome_unknown=True)) from error
    return adopt(plan, found) if found is not None else None


def adopt(plan: TrainPlan, run: TrainingRun) -> TrainingRun:
    """Return a run that was found, marked as such.

    Raises:
        ConfigurationError: It trains something else than this request asks for.
    """
    check_fit(plan, run)
    return run.model_copy(update={"adopted": True})


def check_fit(plan: TrainPlan, run: TrainingRun) -> None:
    """Refuse to read a run's model as something that it is not.

    Raises:
        ConfigurationError: The operation's run was created with another pipeline.
    """
    asked = plan.request.pipeline
    if run.pipeline is not None and run.pipeline != asked:
        raise ConfigurationError(
            f"operation {plan.operation.id!r} already trains pipeline {run.pipeline!r} (run {run.handle.run_id}), not "
            f"{asked!r}; ask for that pipeline to come back to it, or leave operation out to begin a new training",
            ErrorContext(field="operation", run_id=run.handle.run_id),
        )
