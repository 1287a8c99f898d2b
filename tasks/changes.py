"""Stage: is there anything to retrain for?"""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from pipeline.models import ExportReport, Skipped, TrainPlan
from pipeline.start.changes import compare_with_last
from tasks.display import announce, say
from tasks.journal import opened_journal


@task(name="compare", task_run_name="compare-{plan.export_name}", cache_policy=NO_CACHE)
def compare_content(plan: TrainPlan, export: ExportReport) -> Skipped | None:
    """Return why there is nothing to train for; none when there is, or when that was not asked."""
    with opened_journal() as journal:
        changed, reason = compare_with_last(journal, plan, export)
    if changed:
        say(f"since the last accepted model: {reason}")
        return None
    if not plan.request.if_changed:
        say(f"{reason}; training all the same (if_changed is off)")
        return None
    announce("unchanged", f"job.{plan.job}", plan.run_name, {"reason": reason}, rehearsal=plan.request.sandbox)
    return Skipped(stage="training", reason=reason)
