"""When Prefect may run a stage again: only for faults that can pass by themselves."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State, TaskRun

from pipeline.errors import JournalError, is_retryable

RETRIES = 2
"""Runs of a stage after the first one; each already repeats its requests on its own."""
DELAYS_S = [5.0, 30.0]
"""Seconds before each of them."""


def retry_if_safe(task: Any, task_run: TaskRun, state: State[Any]) -> bool:
    """Tell Prefect to repeat a stage only when its fault was the provider's or the journal's, and may pass.

    Must stay a plain function: Prefect ignores partials and callable objects here.
    """
    outcome = state.result(raise_on_failure=False)
    return isinstance(outcome, JournalError) or (isinstance(outcome, BaseException) and is_retryable(outcome))
