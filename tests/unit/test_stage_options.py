"""What every stage tells Prefect, read off the tasks themselves."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
from prefect import Task
from prefect.cache_policies import NO_CACHE

import tasks


def _stages() -> Iterator[tuple[str, Task[..., Any]]]:
    for found in iter_modules([str(Path(tasks.__file__).parent)]):
        module = import_module(f"tasks.{found.name}")
        for name, value in vars(module).items():
            if isinstance(value, Task) and value.fn.__module__ == module.__name__:
                yield f"{found.name}.{name}", value


STAGES = dict(_stages())


def test_the_stages_are_found() -> None:
    """Of the training's and of the sweep's, as far as the two flows use them."""
    import flows.sweep_runs
    import flows.train_pipeline

    used = [*vars(flows.sweep_runs).values(), *vars(flows.train_pipeline).values()]
    stages = [value for value in used if isinstance(value, Task)]
    assert stages
    assert {id(stage) for stage in stages} <= {id(stage) for stage in STAGES.values()}


@pytest.mark.parametrize("name", STAGES)
def test_no_stage_is_replayed_from_a_cache(name: str) -> None:
    """Where results are persisted by default, a flow run's second beginning would be told what its first one saw."""
    assert STAGES[name].cache_policy is NO_CACHE
