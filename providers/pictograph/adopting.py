"""Whether a run that was started by hand trains the data set that is asked for."""

from __future__ import annotations

from contextlib import suppress

from pipeline.errors import ConfigurationError, ErrorContext, NotFoundError
from pipeline.models import TrainingRun
from providers.pictograph.exports import Datasets


def check_dataset(datasets: Datasets, asked: str, run: TrainingRun) -> None:
    """Compare what a run shows of its data set, the id, the name or nothing, with what is asked for, by id or name.

    Raises:
        ConfigurationError: It is another one.
    """
    shown, run_id = run.trained_on, run.handle.run_id
    if not shown or asked in shown:
        return
    with suppress(NotFoundError):
        there = datasets.get(asked)
        if there.id in shown or there.name in shown:
            return
    message = f"adopt={run_id!r} trains on data set {shown[-1]!r}, not {asked!r}; give that one as dataset"
    raise ConfigurationError(message, ErrorContext(operation="training.get", field="dataset", run_id=run_id))
