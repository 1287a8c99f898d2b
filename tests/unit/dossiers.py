"""Dossiers of runs to report on, from empty to full."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.models import (
    ClassCount,
    CurvePoint,
    ExportReport,
    Finding,
    HostedReport,
    ModelArtifact,
    ModelFacts,
    ModelTask,
    Money,
    Operation,
    Prediction,
    RunStatus,
    SampleResult,
    Settlement,
    Severity,
    SmokeReport,
    Unit,
    WatchedRun,
)
from pipeline.report.dossier import Dossier
from tests.unit.conftest import make_estimate, make_export, make_plan, make_request, make_run

START = datetime(2026, 1, 1, 12, tzinfo=UTC)

END = START + timedelta(hours=1, minutes=5)

RUNS = Path("runs")


def make_finding(message: str, code: str = "odd") -> Finding:
    """Return a warning."""
    return Finding(severity=Severity.WARNING, code=code, message=message)


def make_export_report(*findings: Finding) -> ExportReport:
    """Return what was seen in an export."""
    classes = (ClassCount(name="stop", images=6, objects=12),)
    return ExportReport(
        export=make_export(), classes=classes, findings=findings, content_fingerprint="f" * 64, samples=()
    )


def make_artifact(verified_by: tuple[str, ...] = ("size", "md5 (ETag)"), **metrics: Any) -> ModelArtifact:
    """Return a downloaded model."""
    model = ModelFacts(
        model_id="m1", name="m", status="ready", task=ModelTask.OBJECT_DETECTION, classes=("stop",), metrics=metrics
    )
    return ModelArtifact(
        path=RUNS / "model.onnx", size_bytes=9, md5="a" * 32, sha256="b" * 64, verified_by=verified_by, model=model
    )


def make_smoke(*findings: Finding) -> SmokeReport:
    """Return a trial run on one picture."""
    seen = Prediction(name="stop", confidence=0.9, box=(1, 2, 3, 4))
    result = SampleResult(
        picture="a|b.png",
        predictions=(seen,),
        expected=1,
        found=1,
        latency_s=0.0123,
        overlay=RUNS / "overlays" / "a.png",
    )
    return SmokeReport(results=(result,), input_size=(64, 64), classes=("stop",), agreement=1.0, findings=findings)


def make_hosted(*findings: Finding, inconclusive: str | None = None) -> HostedReport:
    """Return a trial at the provider on two samples."""
    return HostedReport(
        model_id="m-hosted",
        asked=2,
        answered=2,
        agreement=0.5,
        latency_s=1.25,
        inconclusive=inconclusive,
        findings=findings,
    )


def make_curve(*losses: float) -> tuple[CurvePoint, ...]:
    """Return the losses, epoch by epoch."""
    return tuple(CurvePoint(epoch=number, loss=loss) for number, loss in enumerate(losses, 1))


def make_dossier(**request: Any) -> Dossier:
    """Return the dossier of a planned run."""
    dossier = Dossier(make_request(**request), Operation(id="op-1"), START)
    dossier.plan = make_plan(**request)
    return dossier


def full_dossier() -> Dossier:
    """Return the dossier of an accepted run, with nothing left out."""
    dossier = make_dossier()
    dossier.export = make_export_report(make_finding("from the export"))
    dossier.cost = make_estimate(findings=(make_finding("from the quote"),))
    ended = make_run(RunStatus.COMPLETED, warnings=(make_finding("from the run"),), started_at=START, completed_at=END)
    dossier.watched = WatchedRun(run=ended, curve=make_curve(1, 0.5), looks=3, failed_looks=1, watched_s=60.4)
    dossier.run = ended
    credits = Money(amount=90, unit=Unit.CREDITS)
    dossier.settlement = Settlement(charged=credits, refunded=Money(amount=10, unit=Unit.CREDITS), balance=credits)
    remarks = {"findings": (make_finding("from the weights"),)}
    dossier.artifact = make_artifact(mAP50=0.75).model_copy(update=remarks)
    dossier.smoke = make_smoke(make_finding("from the smoke test"))
    dossier.hosted = make_hosted(make_finding("from the hosted model"))
    dossier.accept()
    return dossier
