"""Stage: settle the money, write the report, and show it."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from pipeline.errors import OutputPathError, PipelineError
from pipeline.journal.bookkeeping import settle_attempt
from pipeline.models import Outcome, RunReport, Settlement, TrainingRun, TrainPlan
from pipeline.report.figures import money_line, run_page
from pipeline.report.illustrations import Illustrations, embedded
from pipeline.report.rendering import render_markdown, write_report
from tasks.credentials import open_provider
from tasks.display import Display, announce, artifact_key, say
from tasks.journal import opened_journal


@task(name="settle", task_run_name="settle-{run.handle.name}", cache_policy=NO_CACHE)
def settle_costs(plan: TrainPlan, run: TrainingRun) -> Settlement | None:
    """Return what the run really cost; none where the provider's ledger does not say (yet)."""
    try:
        with open_provider(plan.request) as provider:
            settlement = provider.settle(run)
        with opened_journal() as journal:
            settle_attempt(journal, plan.operation_key, run, settlement)
    except PipelineError as error:
        say(f"the bill could not be settled: {error}", warning=True)
        return None
    return settlement


@task(name="report", task_run_name="report-{report.request.data_name}", cache_policy=NO_CACHE)
def publish_report(report: RunReport) -> None:
    """Write the report to disk and to Prefect; neither can change how the run ended."""
    if report.plan is not None and report.outcome is not Outcome.SKIPPED:  # else the folder is somebody else's
        try:
            markdown, _ = write_report(report, report.plan.output_dir)
            say(f"report: {markdown}")
        except OutputPathError as error:
            say(f"the report could not be written: {error}", warning=True)
    key = artifact_key("report", report.request)
    with Display() as display:
        text = render_markdown(report, _illustrations(report))
        display.markdown(text, key, f"{report.outcome.value}: {report.message}"[:1000])
        if page := run_page(report):
            display.link(page, f"Run at {report.plan.profile.title}" if report.plan else "Run", key + "-page")
    subject = f"run.{report.run.handle.run_id}" if report.run else f"dataset.{report.request.data_name}"
    payload = {"outcome": report.outcome.value, "message": report.message, "money": money_line(report)}
    announce(
        f"finished.{report.outcome.value}", subject, report.request.data_name, payload, rehearsal=report.request.sandbox
    )


def _illustrations(report: RunReport) -> Illustrations:
    try:
        return embedded(report)
    except OSError as error:
        say(f"the report on the run's page has no pictures: {error}", warning=True)
        return Illustrations()
