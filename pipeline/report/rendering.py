"""The run report as Markdown for people, and both its files on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.download.collection import check_output_dir
from pipeline.errors import OutputPathError
from pipeline.models import (
    ExportReport,
    Finding,
    HostedReport,
    ModelArtifact,
    RunReport,
    Skipped,
    SmokeReport,
)
from pipeline.report.figures import (
    all_findings,
    describe_hosted,
    duration,
    is_rehearsal,
    metric_line,
    money_line,
    run_page,
)
from pipeline.report.illustrations import CURVE_FILE, Illustrations, curve_of, filed


def write_report(report: RunReport, folder: Path) -> tuple[Path, Path]:
    """Write ``report.md``, ``report.json`` and the loss curve they show; return the first two's paths.

    Raises:
        OutputPathError: The folder cannot be written.
    """
    check_output_dir(folder)
    markdown, data = folder / "report.md", folder / "report.json"
    files = {markdown: render_markdown(report, filed(report, folder)), data: report.model_dump_json(indent=2)}
    if curve := curve_of(report):
        files[folder / CURVE_FILE] = curve
    for path, text in files.items():
        part = path.with_suffix(path.suffix + ".part")
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OutputPathError(f"{str(path)!r} could not be written ({error.strerror or error})") from error
    return markdown, data


def render_markdown(report: RunReport, illustrations: Illustrations | None = None) -> str:
    """Return the report as GitHub-flavoured Markdown, with these pictures."""
    shown = illustrations or Illustrations()
    parts = [
        _header(report),
        _summary(report),
        f"## Training loss\n\n![training loss by epoch]({shown.curve})" if shown.curve else "",
        _pictures(report.smoke, shown.predictions),
        _classes(report.export),
        _findings(all_findings(report)),
        _skipped(report.skipped),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(report: RunReport) -> str:
    name = report.plan.run_name if report.plan else report.request.dataset
    lines = [f"# {report.outcome.value.replace('_', ' ').capitalize()}: {_escape(name)}", "", _escape(report.message)]
    if is_rehearsal(report):
        lines += ["", "> **Rehearsal.** This model was trained by the local sandbox; it must not replace a hosted one."]
    return "\n".join(lines)


def _tier(report: RunReport) -> str | None:
    return report.cost.gpu if report.cost else report.request.tier


def _summary(report: RunReport) -> str:
    rows = [
        ("Data set", report.request.dataset),
        ("Pipeline", " on ".join(part for part in (report.request.kind, _tier(report)) if part)),
        ("Money", money_line(report)),
        ("Held-out metric", metric_line(report)),
        ("Took", duration((report.ended_at - report.started_at).total_seconds())),
    ]
    rows += _run_rows(report) + _artifact_rows(report.artifact, report.smoke) + _hosted_rows(report.hosted)
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
        rows.append(("Watched", f"{duration(report.watched.watched_s)}, {report.watched.looks} looks{failed}"))
    rows.append(("Operation", f"`{report.operation_id}`"))
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


def _hosted_rows(hosted: HostedReport | None) -> list[tuple[str, str]]:
    return [("Hosted model", describe_hosted(hosted))] if hosted is not None else []


def _pictures(smoke: SmokeReport | None, addresses: tuple[str, ...]) -> str:
    if smoke is None:
        return ""
    lines = ["## Predictions on real pictures", ""]
    if addresses:
        lines += [" ".join(f"![predictions]({address})" for address in addresses), ""]
    lines += [
        "| picture | sees | labels found | ms |",
        "| --- | --- | --- | --- |",
    ]
    for result in smoke.results:
        seen = ", ".join(f"{p.name} {p.confidence:.0%}" for p in result.predictions[:5]) or "nothing"
        found = f"{result.found} of {result.expected}"
        lines.append(f"| {_escape(result.picture)} | {_escape(seen)} | {found} | {result.latency_s * 1000:.1f} |")
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


def _escape(text: str) -> str:
    """Keep foreign text from breaking out of a table cell or opening markup."""
    one_line = " ".join(text.splitlines()).replace("\\", "\\\\").replace("|", "\\|")
    return one_line.replace("<", "&lt;").replace("](", "]\\(")
