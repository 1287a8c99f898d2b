"""Is the export worth training on? Facts from the provider first, then the archive's own content."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pipeline.clock import Clock
from pipeline.data.archive import Content, read_content
from pipeline.data.pairing import Label
from pipeline.data.samples import keep_samples, label_names
from pipeline.errors import (
    ConfigurationError,
    ErrorContext,
    ExportNotReadyError,
    ExportRejectedError,
    NotFoundError,
    PermissionDeniedError,
    TrainingLostError,
    TrainingTimedOutError,
)
from pipeline.models import (
    ClassCount,
    Export,
    ExportReport,
    ExportStatus,
    Finding,
    ModelTask,
    Severity,
    TrainPlan,
)
from pipeline.provider import Provider
from pipeline.watch.polling import observe

DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)
"""What reading a damaged, truncated, encrypted or exotic archive raises."""


def await_export(provider: Provider, plan: TrainPlan, clock: Clock) -> Export:
    """Find or make the plan's export and wait until it is built.

    Raises:
        ConfigurationError: The request names an export that does not exist, or the key may not make one.
        ExportNotReadyError: It was still being built at the profile's deadline.
        ExportRejectedError: It vanished at the provider while it was being built.
    """
    try:
        export = provider.find_or_create_export(plan)
    except NotFoundError as error:
        if plan.request.export_asked is None:
            raise
        raise ConfigurationError(str(error), ErrorContext(operation="exports.get", field="export")) from error
    except PermissionDeniedError as error:
        # As much a matter of the key as a wrong one, and found out just as early.
        raise ConfigurationError(str(error), replace(error.context, field="credentials")) from error
    if export.status.is_terminal:
        return export
    latest = export
    # Nothing is paid for yet: a refused key ends the run at once.
    policy = plan.profile.export_poll.model_copy(update={"refusal_grace_s": 0.0})
    try:
        for look in observe(lambda: provider.get_export(export), policy, clock):
            latest = look.seen or latest
    except TrainingLostError as error:
        raise _rejected(latest, f"is gone at the provider ({error}); run again with a new one") from error
    except TrainingTimedOutError as error:
        raise ExportNotReadyError(
            f"export {latest.name!r} was still {latest.provider_status!r} after "
            f"{plan.profile.export_poll.deadline_s:.0f} s; run again later",
            ErrorContext(operation="exports.get"),
        ) from error
    return latest


def check_export(export: Export, plan: TrainPlan) -> None:
    """Refuse what the provider's own facts already rule out.

    Raises:
        ExportRejectedError: It failed, holds too few images, no labels, or no image files.
    """
    if export.status is ExportStatus.FAILED:
        raise _rejected(export, f"failed at the provider: {export.error_message or 'no reason given'}; make a new one")
    if export.image_count == 0:
        raise _rejected(export, f"holds no image; {plan.request.data_remedy}")
    if export.image_count is not None and export.image_count < plan.profile.min_images:
        raise _rejected(
            export,
            f"holds {export.image_count} images, {plan.profile.title} needs at least {plan.profile.min_images}; "
            f"{plan.request.few_images_remedy}",
        )
    if export.annotation_count == 0 and plan.task is not ModelTask.CLASSIFICATION:
        raise _rejected(export, f"holds no label; {plan.request.data_remedy}")
    if not export.include_images:
        raise _rejected(export, "was made without the image files; make one with them, or leave export empty")


def inspect_archive(archive: Path, export: Export, plan: TrainPlan, sample_dir: Path) -> ExportReport:
    """Read the archive's content: classes, what is wrong with it, and pictures for the smoke test.

    Raises:
        ExportRejectedError: It is not a ZIP, is damaged, or its content cannot give a model for the task.
        OutputPathError: The sample pictures cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            content = read_content(opened)
            classes = _count_classes(content.labels, plan.task)
            findings = _findings(content, classes, export, plan)
            _refuse(findings, export)
            samples, remarks = keep_samples(opened, content, plan, sample_dir)
            _refuse(remarks, export)
    except DAMAGE as error:
        raise _rejected(export, f"is not a readable ZIP archive ({error}); make a new export") from error
    return ExportReport(
        export=_counted(export, content),
        classes=classes,
        findings=(*findings, *remarks),
        content_fingerprint=content.fingerprint(classes),
        samples=samples,
    )


def describe_data(report: ExportReport) -> str:
    """Return what the data holds in one line: counts, classes, and how much there is to remark on."""
    images = "images not counted" if report.export.image_count is None else f"{report.export.image_count} images"
    classes = ", ".join(f"{count.name} {count.objects}" for count in report.classes[:8])
    return f"{', '.join(part for part in (images, classes) if part)}; {len(report.findings)} findings"


def _counted(export: Export, content: Content) -> Export:
    """Return the export with the counts that nobody else has made."""
    if export.image_count is not None:
        return export
    labels = sum(len(label.boxes) or len(label.tags) for label in content.labels)
    known = {"annotation_count": labels} if content.labels else {}
    return export.model_copy(update={"image_count": len(content.pictures), **known})


def _count_classes(labels: tuple[Label, ...], task: ModelTask) -> tuple[ClassCount, ...]:
    images: Counter[str] = Counter()
    objects: Counter[str] = Counter()
    for label in labels:
        names = label_names(label, task)
        objects.update(names)
        images.update(set(names))
    return tuple(ClassCount(name=name, images=images[name], objects=count) for name, count in objects.most_common())


def _findings(
    content: Content, classes: tuple[ClassCount, ...], export: Export, plan: TrainPlan
) -> tuple[Finding, ...]:
    found = [
        Finding(severity=Severity.WARNING, code="unreadable_annotation", message=f"cannot read {name!r}")
        for name in content.unreadable[:10]
    ]
    if not content.labels:
        # The vendor's archive layout is not published: not recognising it must not stop a training that would work.
        message = "the archive's annotations were not recognised; classes are unknown and predictions go unchecked"
        return (Finding(severity=Severity.WARNING, code="unknown_layout", message=message), *found)
    found.extend(_pairing_findings(content))
    found.extend(_class_findings(classes, plan, whole=not content.unread))
    bare = sum(1 for label in content.labels if not label_names(label, plan.task))
    if bare:
        text = f"{bare} of {len(content.labels)} pictures carry no label for {plan.task.value}"
        found.append(Finding(severity=Severity.INFO, code="unlabelled_pictures", message=text))
    if export.image_count is not None and export.image_count != len(content.pictures):
        text = f"the provider counts {export.image_count} images, the archive holds {len(content.pictures)}"
        found.append(Finding(severity=Severity.WARNING, code="count_differs", message=text))
    return tuple(found)


def _pairing_findings(content: Content) -> Iterable[Finding]:
    if content.unread:
        text = f"{content.unread} annotation files were not read: there are too many; classes may be incomplete"
        yield Finding(severity=Severity.WARNING, code="annotations_unread", message=text)
    unclear = set(content.ambiguous)
    missing = [label for label in content.labels if label.picture is None and label.source not in unclear]
    if missing:
        text = f"{len(missing)} annotated pictures are not in the archive, such as {missing[0].file_name!r}"
        yield Finding(severity=Severity.WARNING, code="missing_pictures", message=text)
    if unclear:
        text = (
            f"{len(unclear)} annotation files fit several pictures of the same name, such as "
            f"{content.ambiguous[0]!r}; their pictures are not used as samples"
        )
        yield Finding(severity=Severity.WARNING, code="ambiguous_pictures", message=text)


def _class_findings(classes: tuple[ClassCount, ...], plan: TrainPlan, *, whole: bool) -> Iterable[Finding]:
    """Judge the labelled classes; what was read in part alone proves nothing to be missing."""
    grave = Severity.ERROR if whole else Severity.WARNING
    names = {count.name for count in classes}
    if not classes:
        yield Finding(severity=grave, code="no_labels", message=f"no label is left; {plan.request.data_remedy}")
    for name in plan.request.wanted_classes:
        if classes and name not in names:
            text = f"class_filter names {name!r}, which nothing is labelled with; labelled are {sorted(names)}"
            yield Finding(severity=grave, code="unknown_class", message=text)
    if plan.task is ModelTask.CLASSIFICATION and len(classes) == 1:
        text = f"classification needs two classes or more, there is only {classes[0].name!r}"
        yield Finding(severity=grave, code="single_class", message=text)
    for count in classes:
        if count.images < plan.profile.min_images:
            text = f"class {count.name!r} is on {count.images} pictures only; expect it to be learnt badly"
            yield Finding(severity=Severity.WARNING, code="rare_class", message=text)


def _refuse(findings: tuple[Finding, ...], export: Export) -> None:
    errors = [finding.message for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        raise _rejected(export, "cannot be trained on: " + "; ".join(errors))


def _rejected(export: Export, reason: str) -> ExportRejectedError:
    return ExportRejectedError(f"export {export.name!r} of {export.dataset!r} {reason}", ErrorContext(field="export"))
