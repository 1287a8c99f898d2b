"""Stage: find or make the export, and refuse one that cannot give a model."""

from __future__ import annotations

import time

from prefect import task

from pipeline.collection import collect
from pipeline.exports import await_export, check_export, describe_data, inspect_archive
from pipeline.models import ExportReport, TrainPlan
from pipeline.own_data import inspect_own_data
from tasks.credentials import open_provider
from tasks.display import Display, artifact_key, say
from tasks.retrying import DELAYS_S, RETRIES, retry_if_safe

NO_FINDINGS = {"severity": "info", "code": "none", "message": "every check of the export passed"}
"""What the table of findings says when there are none."""


@task(
    name="validate-export",
    task_run_name="validate-{plan.export_name}",
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=retry_if_safe,
)
def validate_export(plan: TrainPlan) -> ExportReport:
    """Return what the export holds; raises before anything is spent."""
    report = _inspect_export(plan) if plan.profile.data == "export" else inspect_own_data(plan)
    # An empty table would look as if nothing had been checked.
    rows = [item.model_dump(mode="json") for item in report.findings] or [NO_FINDINGS]
    with Display() as display:
        display.table(rows, artifact_key("findings", plan.request), f"Export {report.export.name}")
    say(f"{'export' if plan.profile.data == 'export' else 'data'}: {describe_data(report)}")
    return report


def _inspect_export(plan: TrainPlan) -> ExportReport:
    archive = plan.output_dir / "export.zip"
    with open_provider(plan.request) as provider:
        export = await_export(provider, plan, time)
        check_export(export, plan)
        collect(
            lambda at: provider.open_export(export, at),
            archive,
            max_bytes=plan.request.max_export_bytes,
            clock=time,
            limit_field="max_export_bytes",
        )
    return inspect_archive(archive, export, plan, plan.output_dir / "samples")
