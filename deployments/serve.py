"""Offer the deployments of ``prefect.yaml`` from this machine, without a work pool: ``python -m deployments.serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml
from prefect import Flow, serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger
from prefect.schedules import Cron, Schedule
from prefect.types.entrypoint import EntrypointType

from flows.sweep_runs import sweep_runs
from flows.train_pipeline import train_pipeline

DEFINITIONS = Path(__file__).resolve().parent.parent / "prefect.yaml"
"""The one place deployments are defined in."""
FLOWS: dict[str, Flow[..., Any]] = {
    "flows/train_pipeline.py:train_pipeline": train_pipeline,
    "flows/sweep_runs.py:sweep_runs": sweep_runs,
}
"""What the entrypoints there stand for."""


def load_deployments(path: Path = DEFINITIONS) -> list[RunnerDeployment]:
    """Return the deployments as ``prefect.yaml`` defines them."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [_deployment(entry) for entry in document["deployments"]]


def _deployment(entry: dict[str, Any]) -> RunnerDeployment:
    limit = entry.get("concurrency_limit")
    made = FLOWS[entry["entrypoint"]].to_deployment(
        name=entry["name"],
        description=entry["description"],
        parameters=entry["parameters"],
        schedules=[_schedule(schedule) for schedule in entry.get("schedules", [])] or None,
        triggers=[DeploymentEventTrigger.model_validate(trigger) for trigger in entry.get("triggers", [])],
        concurrency_limit=ConcurrencyLimitConfig.model_validate(limit) if limit else None,
        # A file's folder is not updated where `prefect deploy` has made the deployment before, and runs crash there.
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return cast("RunnerDeployment", made)


def _schedule(entry: dict[str, Any]) -> Schedule:
    return Cron(entry["cron"], timezone=entry["timezone"], slug=entry["slug"], active=entry["active"])


if __name__ == "__main__":
    serve(*load_deployments())
