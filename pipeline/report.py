"""The run report: gathered while the stages go by, written as Markdown for people and JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

from pipeline.collection import check_output_dir
from pipeline.errors import (
    BudgetExceededError,
    ConfigurationError,
    ExportRejectedError,
    InsufficientCreditsError,
    OutputPathError,
    PipelineError,
    SmokeTestError,
    TrainingCancelledError,
    TrainingTimedOutError,
)
from pipeline.models import (
    CostEstimate,
    CurvePoint,
    ExportReport,
    Finding,
    ModelArtifact,
    Money,
    Outcome,
    RunReport,
    RunStatus,
    Settlement,
    Skipped,
    SmokeReport,
    TrainingRun,
    TrainPlan,
    TrainRequest,
    WatchedRun,
)

OUTCOMES: tuple[tuple[type[PipelineError], Outcome], ...] = (
    (TrainingCancelledError, Outcome.CANCELLED),
    (TrainingTimedOutError, Outcome.TIMED_OUT),
    (BudgetExceededError, Outcome.OVER_BUDGET),
    (InsufficientCreditsError, Outcome.OVER_BUDGET),
    (ConfigurationError, Outcome.USAGE),
    (OutputPathError, Outcome.USAGE),
    (ExportRejectedError, Outcome.REJECTED),
    (SmokeTestError, Outcome.REJECTED),
    (PipelineError, Outcome.FAILED),
)
"""Errors to outcomes, most specific first."""

HEADLINE_METRICS = ("mAP50", "top1", "mIoU", "mAP", "accuracy", "f1", "precision", "recall")
"""Held-out figures worth a headline, best first; providers do not publish their names, so several are tried."""


class Dossier:
    """Collects each stage's value as it is made, so that a run that stops half-way still reports what it knows."""

    def __init__(self, request: TrainRequest, operation_id: str, started_at: datetime) -> None:
        self.request = request
        self.operation_id = operation_id
        self.started_at = started_at
        self.plan: TrainPlan | None = None
        self.export: ExportReport | None = None
        self.cost: CostEstimate | None = None
        self._run: TrainingRun | None = None
        self.watched: WatchedRun | None = None
        self.settlement: Settlement | None = None
        self.artifact: ModelArtifact | None = None
        self.smoke: SmokeReport | None = None
        self.skipped: list[Skipped] = []
        self.outcome = Outcome.FAILED
        self.message = "the run did not reach an end"
        self.outcome_unknown = False

    @property
    def run(self) -> TrainingRun | None:
        """Return the run as last seen."""
        return self._run

    @run.setter
    def run(self, seen: TrainingRun) -> None:
        # That a run was adopted is known from its creation only; later looks do not say it.
        adopted = seen.adopted or (self._run is not None and self._run.adopted)
        self._run = seen.model_copy(update={"adopted": adopted})

    def accept(self) -> None:
        """Record that every stage passed."""
        self.outcome = Outcome.ACCEPTED
        self.message = "the model was trained, verified, and ran on real pictures"

    def submit(self, reason: str) -> None:
        """Record that the run was left to itself on purpose."""
        self.outcome = Outcome.SUBMITTED
        self.message = "the run was created and goes on at the provider"
        self.skipped.extend(Skipped(stage=stage, reason=reason) for stage in ("watch", "download", "smoke test"))

    def fail(self, error: PipelineError) -> None:
        """Record why the run stopped."""
        self.outcome = next(outcome for kind, outcome in OUTCOMES if isinstance(error, kind))
        self.message = str(error)
        self.outcome_unknown = error.context.outcome_unknown

    def farewell(self) -> str | None:
        """Return what to tell a person who stops us now; none when no paid run is left to itself."""
        if self.run is None or self.run.status.is_terminal:
            return None
        return (
            f"interrupted: training {self.run.handle.name} ({self.run.handle.run_id}) goes on at the provider and is "
            f"billed; the same command with --operation {self.operation_id} comes back to it"
        )

    def report(self, ended_at: datetime) -> RunReport:
        """Return everything gathered."""
        return RunReport(
            outcome=self.outcome,
            message=self.message,
            outcome_unknown=self.outcome_unknown,
            request=self.request,
            plan=self.plan,
            started_at=self.started_at,
            ended_at=ended_at,
            export=self.export,
            cost=self.cost,
            settlement=self.settlement,
            run=self.run,
            watched=self.watched,
            artifact=self.artifact,
            smoke=self.smoke,
            skipped=tuple(self.skipped),
        )


def write_report(report: RunReport, folder: Path) -> tuple[Path, Path]:
    """Write ``report.md`` and ``report.json``; return their paths.

    Raises:
        OutputPathError: The folder cannot be written.
    """
    check_output_dir(folder)
    markdown, data = folder / "report.md", folder / "report.json"
    for path, text in ((markdown, render_markdown(report, folder)), (data, report.model_dump_json(indent=2))):
        part = path.with_suffix(path.suffix + ".part")
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    return markdown, data


def render_markdown(report: RunReport, folder: Path | None = None) -> str:
    """Return the report as GitHub-flavoured Markdown; pictures are linked relative to ``folder`` where it is given."""
    parts = [
        _header(report),
        _summary(report),
        _curve(report.watched.curve if report.watched else ()),
        _pictures(report.smoke, folder),
        _classes(report.export),
        _findings(all_findings(report)),
        _skipped(report.skipped),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


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
    smoke = report.smoke.findings if report.smoke else ()
    return (*export, *cost, *run, *smoke)


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
    if report.plan is not None:
        rows.append(("Report", str(report.plan.output_dir / "report.md")))
    return rows


def money_line(report: RunReport) -> str:
    """Return what it was priced at and what it cost, in one line."""
    if report.cost is None:
        return "nothing was priced, nothing was spent"
    priced = f"priced at {report.cost.total}"
    if report.settlement is not None:
        refund = f" ({report.settlement.refunded} refunded)" if report.settlement.refunded.amount else ""
        return f"{priced}, charged {report.settlement.charged}{refund}"
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
        parts.append(f"{_duration(run.eta_s)} to go")
    if spent is not None:
        parts.append(f"{spent} so far")
    return "training: " + ", ".join(parts)


def is_rehearsal(report: RunReport) -> bool:
    """Tell whether the sandbox did the work, by request or because that is where the provider's address leads."""
    return report.request.sandbox or (report.plan is not None and report.plan.profile.sandbox)


def run_page(report: RunReport) -> str:
    """Return the address of the run's page at the provider; empty where it is not known."""
    if report.plan is None or report.run is None:
        return ""
    handle = report.run.handle
    run_id, dataset = quote(handle.run_id, safe=""), quote(handle.dataset, safe="")
    return report.plan.profile.run_page.format(run_id=run_id, dataset=dataset)


def _header(report: RunReport) -> str:
    name = report.plan.run_name if report.plan else report.request.dataset
    lines = [f"# {report.outcome.value.replace('_', ' ').capitalize()}: {_escape(name)}", "", _escape(report.message)]
    if is_rehearsal(report):
        lines += ["", "> **Rehearsal.** This model was trained by the local sandbox; it must not replace a hosted one."]
    return "\n".join(lines)


def _summary(report: RunReport) -> str:
    rows = [
        ("Data set", report.request.dataset),
        ("Pipeline", f"{report.request.pipeline} on {report.cost.gpu if report.cost else report.request.gpu}"),
        ("Money", money_line(report)),
        ("Held-out metric", metric_line(report)),
        ("Took", _duration((report.ended_at - report.started_at).total_seconds())),
    ]
    rows += _run_rows(report) + _artifact_rows(report.artifact, report.smoke)
    body = "\n".join(f"| {key} | {_escape(value)} |" for key, value in rows)
    return f"| | |\n| --- | --- |\n{body}"


def _run_rows(report: RunReport) -> list[tuple[str, str]]:
    if report.run is None:
        return []
    handle = report.run.handle
    how = "found and taken over" if report.run.adopted else "started"
    rows = [("Run", f"{handle.name} (`{handle.run_id}`), {how}, {report.run.provider_status}")]
    if report.watched is not None:
        failed = f", {report.watched.failed_looks} more failed" if report.watched.failed_looks else ""
        rows.append(("Watched", f"{_duration(report.watched.watched_s)}, {report.watched.looks} looks{failed}"))
    if page := run_page(report):
        rows.append(("Page", page))
    return rows


def _artifact_rows(artifact: ModelArtifact | None, smoke: SmokeReport | None) -> list[tuple[str, str]]:
    rows = []
    if artifact is not None:
        digest = any("(" in item for item in artifact.verified_by)
        checked = ", ".join(artifact.verified_by) or "nothing"
        note = "" if digest else "; the storage offered no digest"
        rows.append(("Model", f"`{artifact.path}`, {artifact.size_bytes} bytes"))
        rows.append(("Verified by", checked + note))
        rows.append(("SHA-256", f"`{artifact.sha256}`"))
    if smoke is not None:
        agreement = "labels unknown" if smoke.agreement is None else f"{smoke.agreement:.0%} of the labels found"
        rows.append(("Smoke test", f"{len(smoke.results)} real pictures, {agreement}"))
    return rows


def _curve(points: tuple[CurvePoint, ...]) -> str:
    if len(points) < 2:
        return ""
    step = max(1, len(points) // 30)
    shown = [*points[:-1:step], points[-1]]
    epochs = ", ".join(str(point.epoch) for point in shown)
    losses = ", ".join(_plain(point.loss) for point in shown)
    return (
        f'## Loss\n\n```mermaid\nxychart-beta\n    title "Training loss"\n    x-axis "epoch" [{epochs}]\n'
        f'    y-axis "loss"\n    line [{losses}]\n```'
    )


def _pictures(smoke: SmokeReport | None, folder: Path | None) -> str:
    if smoke is None:
        return ""
    lines = [
        "## Predictions on real pictures",
        "",
        "| picture | sees | labels found | ms |",
        "| --- | --- | --- | --- |",
    ]
    for result in smoke.results:
        seen = ", ".join(f"{p.name} {p.confidence:.0%}" for p in result.predictions[:5]) or "nothing"
        found = f"{result.found} of {result.expected}"
        lines.append(f"| {_escape(result.picture)} | {_escape(seen)} | {found} | {result.latency_s * 1000:.1f} |")
    if folder is not None:
        overlays = [result.overlay for result in smoke.results if result.overlay]
        lines += ["", " ".join(f"![{path.stem}]({_relative(path, folder)})" for path in overlays)]
    return "\n".join(lines)


def _classes(export: ExportReport | None) -> str:
    if export is None or not export.classes:
        return ""
    rows = "\n".join(f"| {_escape(count.name)} | {count.images} | {count.objects} |" for count in export.classes)
    return f"## Classes in the export\n\n| class | images | labels |\n| --- | --- | --- |\n{rows}"


def _findings(findings: Iterable[Finding]) -> str:
    rows = [f"| {item.severity.value} | {_escape(item.code)} | {_escape(item.message)} |" for item in findings]
    return "## Findings\n\n| severity | code | what |\n| --- | --- | --- |\n" + "\n".join(rows) if rows else ""


def _skipped(skipped: tuple[Skipped, ...]) -> str:
    rows = [f"- {item.stage}: {_escape(item.reason)}" for item in skipped]
    return "## Skipped\n\n" + "\n".join(rows) if rows else ""


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _escape(text: str) -> str:
    """Keep foreign text from breaking out of a table cell or opening markup."""
    one_line = " ".join(text.splitlines()).replace("\\", "\\\\").replace("|", "\\|")
    return one_line.replace("<", "&lt;").replace("](", "]\\(")


def _plain(number: float) -> str:
    """Return four significant digits without an exponent, which Mermaid cannot read."""
    return f"{Decimal(f'{number:.4g}'):f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def utc_now() -> datetime:
    """Return the current time, aware."""
    return datetime.now(UTC)


def summary_json(report: RunReport) -> str:
    """Return the few figures a calling program wants, as one JSON line."""
    metric = headline_metric(report)
    return json.dumps(
        {
            "outcome": report.outcome.value,
            "message": report.message,
            "sandbox": is_rehearsal(report),
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
