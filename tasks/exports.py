"""Stage: find or make the export, and refuse one that cannot give a model."""

from __future__ import annotations

import time

from prefect import task
from prefect.cache_policies import NO_CACHE

from pipeline.data.exports import describe_data
from pipeline.data.training_data import inspect_data
from pipeline.models import ExportReport, TrainPlan
from tasks.credentials import open_provider
from tasks.display import Display, artifact_key, say
from tasks.retrying import DELAYS_S, RETRIES, retry_if_safe

NO_FINDINGS = {"severity": "info", "code": "none", "message": "every check of the export passed"}
"""What the table of findings says when there are none."""


@task(
    name="validate-export",
    task_run_name="validate-{plan.export_name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=retry_if_safe,
)
def validate_export(plan: TrainPlan) -> ExportReport:
    """Return what the export holds; raises before anything is spent."""
    with open_provider(plan.request) as provider:
        report = inspect_data(provider, plan, time)
    # An empty table would look as if nothing had been checked.
    rows = [item.model_dump(mode="json") for item in report.findings] or [NO_FINDINGS]
    with Display() as display:
        display.table(rows, artifact_key("findings", plan.request), f"Export {report.export.name}")
    say(f"{plan.profile.data}: {describe_data(report)}")
    return report
