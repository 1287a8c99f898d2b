"""What the run report says: figures and sentences drawn from its values, for every form it takes."""

from __future__ import annotations

import json
import math
from urllib.parse import quote

from pipeline.models import (
    Finding,
    HostedReport,
    Money,
    RunReport,
    RunStatus,
    TrainingRun,
)
from pipeline.report.dossier import DONE

HEADLINE_METRICS = ("mAP50", "top1", "mIoU", "mAP", "accuracy", "f1", "precision", "recall")
"""Held-out figures worth a headline, best first; providers do not publish their names, so several are tried."""


def headline_metric(report: RunReport) -> tuple[str, float] | None:
    """Return the held-out figure that says most about the model, as the provider reports it."""
    metrics = report.artifact.model.metrics if report.artifact else {}
    for name in HEADLINE_METRICS:
        value = metrics.get(name)
        if isinstance(value, (int, float)) and math.isfinite(value):
            return name, float(value)
    return None


def all_findings(report: RunReport) -> tuple[Finding, ...]:
    """Return every stage's findings in the order of the stages."""
    export = report.export.findings if report.export else ()
    cost = report.cost.findings if report.cost else ()
    run = report.run.warnings if report.run else ()
    artifact = report.artifact.findings if report.artifact else ()
    smoke = report.smoke.findings if report.smoke else ()
    hosted = report.hosted.findings if report.hosted else ()
    return (*export, *cost, *run, *artifact, *smoke, *hosted)


def metric_line(report: RunReport) -> str:
    """Return the headline metric in words, with the number of pictures it was measured on where that is reported."""
    metric = headline_metric(report)
    if metric is None or report.artifact is None:
        return "none reported"
    images = report.artifact.model.metrics.get("evaluated_images")
    on = f" on {images} held-out images" if isinstance(images, int) else ""
    return f"{metric[0]} {metric[1]:.3f}{on}"


def summary_rows(report: RunReport) -> list[tuple[str, str]]:
    """Return what a person at a terminal wants to know after the verdict, as name and value."""
    rows = [("", "rehearsal in the sandbox: this model must not replace a hosted one")] if is_rehearsal(report) else []
    rows.append(("Money", money_line(report)))
    if report.artifact is not None:
        rows.append(("Held-out metric", metric_line(report)))
    if report.run is not None:
        rows.append(("Run", f"{report.run.handle.name} ({report.run.handle.run_id})"))
    if report.artifact is not None:
        rows += [("Model", str(report.artifact.path)), ("SHA-256", report.artifact.sha256)]
    if report.hosted is not None:
        rows.append(("Hosted model", describe_hosted(report.hosted)))
    if report.outcome not in DONE and (report.run is not None or report.outcome_unknown):
        rows.append(("Operation", report.operation_id))
    if report.plan is not None:
        rows.append(("Report", str(report.plan.output_dir / "report.md")))
    return rows


def describe_hosted(hosted: HostedReport) -> str:
    """Return what the model at the provider was asked and answered, in one line."""
    if hosted.inconclusive is not None:
        return f"{hosted.model_id}: inconclusive, {hosted.inconclusive}"
    agreement = "" if hosted.agreement is None else f", {hosted.agreement:.0%} agree with the labels"
    answers = f"{hosted.answered} of {hosted.asked} samples answered{agreement}"
    return f"{hosted.model_id}: {answers}, {hosted.latency_s:.1f} s at most"


def money_line(report: RunReport) -> str:
    """Return what it was priced at and what it cost, in one line."""
    priced = f"priced at {report.cost.total}" if report.cost is not None else "not priced"
    if report.settlement is not None:
        refund = f" ({report.settlement.refunded} refunded)" if report.settlement.refunded.amount else ""
        return f"{priced}, charged {report.settlement.charged}{refund}"
    if report.run is not None and report.plan is not None and not report.plan.profile.bills:
        return f"{priced}, and {report.plan.profile.title} names no charge"
    if report.run is not None:
        return f"{priced}, the charge is not in the ledger yet"
    return f"{priced}, {'it is not known whether it was spent' if report.outcome_unknown else 'nothing was spent'}"


def describe_progress(run: TrainingRun, spent: Money | None) -> str:
    """Return where the run stands in one line: status, percent, epoch, forecast, cost so far."""
    parts = [run.provider_status]
    if run.progress is not None and run.status is RunStatus.RUNNING:
        parts.append(f"{run.progress:.0f} %")
    if run.epoch is not None and run.total_epochs:
        parts.append(f"epoch {run.epoch}/{run.total_epochs}")
    if run.eta_s is not None and math.isfinite(run.eta_s) and run.status is RunStatus.RUNNING:
        parts.append(f"{duration(run.eta_s)} to go")
    if spent is not None:
        parts.append(f"{spent} so far")
    return "training: " + ", ".join(parts)


def is_rehearsal(report: RunReport) -> bool:
    """Tell whether the sandbox did the work."""
    return report.request.sandbox


def run_page(report: RunReport) -> str:
    """Return the address of the run's page at the provider; empty where it is not known."""
    if report.plan is None or report.run is None:
        return ""
    handle = report.run.handle
    run_id, dataset = quote(handle.run_id, safe=""), quote(handle.dataset, safe="")
    try:
        return report.plan.profile.run_page.format(run_id=run_id, dataset=dataset)
    except (ValueError, LookupError, AttributeError):  # a link is not worth the report of a run that was paid for
        return ""


def duration(seconds: float) -> str:
    """Return seconds in words a person reads at a glance."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def summary_json(report: RunReport) -> str:
    """Return the few figures a calling program wants, as one JSON line."""
    metric = headline_metric(report)
    return json.dumps(
        {
            "outcome": report.outcome.value,
            "message": report.message,
            "sandbox": is_rehearsal(report),
            "operation": report.operation_id,
            "run_id": report.run.handle.run_id if report.run else None,
            "run_name": report.plan.run_name if report.plan else None,
            "model": str(report.artifact.path) if report.artifact else None,
            "sha256": report.artifact.sha256 if report.artifact else None,
            "metric": {"name": metric[0], "value": metric[1]} if metric else None,
            "priced": report.cost.total.model_dump(mode="json") if report.cost else None,
            "charged": report.settlement.charged.model_dump(mode="json") if report.settlement else None,
            "report": str(report.plan.output_dir / "report.md") if report.plan else None,
        }
    )
