"""Stage: prove that the model runs on real pictures."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from pipeline.models import (
    ExportReport,
    HostedReport,
    ModelArtifact,
    Severity,
    Skipped,
    SmokeReport,
    TrainingRun,
    TrainPlan,
)
from pipeline.smoke.judging import SmokeOptions, check_hosted, smoke_test
from tasks.credentials import open_provider
from tasks.display import say
from tasks.retrying import DELAYS_S, RETRIES, retry_if_safe


@task(name="smoke-test", task_run_name="smoke-{plan.run_name}", cache_policy=NO_CACHE)
def smoke_test_model(plan: TrainPlan, export: ExportReport | None, artifact: ModelArtifact) -> SmokeReport | Skipped:
    """Return what the model saw, or why it could not be tried; raises when it must not be promoted."""
    report = smoke_test(
        artifact,
        export.samples if export is not None else (),
        min_agreement=plan.request.min_agreement,
        output_dir=plan.output_dir,
        labels=tuple(count.name for count in export.classes) if export is not None else (),
        options=SmokeOptions(asked_size=plan.request.config_asked.sides),
    )
    if isinstance(report, Skipped):
        say(f"no smoke test: {report.reason}", warning=True)
        return report
    agreement = "labels unknown" if report.agreement is None else f"{report.agreement:.0%} of the labels found"
    say(f"smoke test: {len(report.results)} real pictures, {agreement}")
    return report


@task(
    name="try-hosted-model",
    task_run_name="try-{plan.run_name}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS_S,
    retry_condition_fn=retry_if_safe,
)
def try_hosted_model(plan: TrainPlan, run: TrainingRun, export: ExportReport | None) -> HostedReport:
    """Return what the model answered at the provider; raises when it must not be used."""
    with open_provider(plan.request) as provider:
        report = provider.hosted_inference(plan, run, export)
    for finding in report.findings:
        say(finding.message, warning=finding.severity is not Severity.INFO)
    check_hosted(report, min_agreement=plan.request.min_agreement)
    agreement = (
        "nothing to compare with" if report.agreement is None else f"{report.agreement:.0%} agree with the labels"
    )
    said = f"inconclusive: {report.inconclusive}" if report.inconclusive else f"{report.answered} answers, {agreement}"
    say(f"hosted model {report.model_id}: {said}")
    return report
