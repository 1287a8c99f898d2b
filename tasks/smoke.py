"""Stage: prove that the model runs on real pictures."""

from __future__ import annotations

from prefect import task

from pipeline.models import ExportReport, ModelArtifact, SmokeReport, TrainPlan
from pipeline.smoke import smoke_test
from tasks.display import say


@task(name="smoke-test", task_run_name="smoke-{plan.run_name}")
def smoke_test_model(plan: TrainPlan, export: ExportReport | None, artifact: ModelArtifact) -> SmokeReport:
    """Return what the model saw; raises when it must not be promoted."""
    report = smoke_test(
        artifact,
        export.samples if export is not None else (),
        min_agreement=plan.request.min_agreement,
        output_dir=plan.output_dir,
        labels=tuple(count.name for count in export.classes) if export is not None else (),
    )
    agreement = "labels unknown" if report.agreement is None else f"{report.agreement:.0%} of the labels found"
    say(f"smoke test: {len(report.results)} real pictures, {agreement}")
    return report
