"""Tell what was found in training data on this machine in the words of an export, which every later stage reads."""

from __future__ import annotations

from pipeline.data.portraits import PortraitsReport
from pipeline.data.tiles import TilesReport
from pipeline.errors import ErrorContext, ExportRejectedError
from pipeline.models import ClassCount, Export, ExportReport, ExportStatus, Finding, Severity

_ID_LENGTH = 16
"""Characters of the content's digest that tell one state of the data from another."""


def tiles_as_export(report: TilesReport, name: str) -> ExportReport:
    """Return what was found in a file of tiles as an export; each tile carries one label, or one mask.

    Raises:
        ExportRejectedError: It cannot be trained on; the sentence holds every reason.
    """
    _refuse(report.findings, name, report.role)
    classes = tuple(
        ClassCount(name=str(label), images=report.shown[label], objects=count)
        for label, count in sorted(report.classes.items(), key=lambda item: (-item[1], item[0]))
    )
    export = local_export(name, report.sha256, image_count=report.count, size_bytes=report.size_bytes)
    return ExportReport(
        export=export.model_copy(update={"annotation_count": report.count}),
        classes=classes,
        findings=report.findings,
        content_fingerprint=report.content_fingerprint,
        samples=(),
    )


def portraits_as_export(report: PortraitsReport, name: str) -> ExportReport:
    """Return what was found in a folder of pictures as an export; such pictures carry no labels.

    Raises:
        ExportRejectedError: They cannot be trained on; the sentence holds every reason.
    """
    _refuse(report.findings, name, "dataset")
    return ExportReport(
        export=local_export(name, report.content_fingerprint, image_count=report.count, size_bytes=report.total_bytes),
        classes=(),
        findings=report.findings,
        content_fingerprint=report.content_fingerprint,
        samples=(),
    )


def local_export(name: str, digest: str, *, image_count: int | None, size_bytes: int) -> Export:
    """Return data on this machine as an export that is ready; ``digest`` tells one state of it from another."""
    return Export(
        id=digest[:_ID_LENGTH],
        name=name,
        dataset=name,
        status=ExportStatus.COMPLETED,
        provider_status="local",
        image_count=image_count,
        size_bytes=size_bytes,
        include_images=True,
    )


def _refuse(findings: tuple[Finding, ...], name: str, role: str) -> None:
    errors = [finding.message for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        text = f"{role} {name!r} cannot be trained on: " + "; ".join(errors)
        raise ExportRejectedError(text, ErrorContext(operation="local_data.inspect", field=role))
