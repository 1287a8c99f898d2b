"""Is the export worth training on? Facts from the provider first, then the archive's own content."""

from __future__ import annotations

import hashlib
import json
import lzma
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.collection import check_output_dir
from pipeline.errors import (
    ConfigurationError,
    ErrorContext,
    ExportNotReadyError,
    ExportRejectedError,
    NotFoundError,
    OutputPathError,
    TrainingLostError,
    TrainingTimedOutError,
)
from pipeline.models import (
    ClassCount,
    Export,
    ExportReport,
    ExportStatus,
    Finding,
    LabelledBox,
    ModelTask,
    SamplePicture,
    Severity,
    TrainPlan,
)
from pipeline.polling import Clock, observe
from pipeline.provider import Provider

MAX_SIDE_FILE_BYTES = 16 * 1024**2
"""Largest annotation file read; a larger one is not an annotation."""
MAX_PICTURE_BYTES = 64 * 1024**2
"""Largest sample picture kept."""
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
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})


def await_export(provider: Provider, plan: TrainPlan, clock: Clock) -> Export:
    """Find or make the plan's export and wait until it is built.

    Raises:
        ConfigurationError: The request names an export that does not exist.
        ExportNotReadyError: It was still being built at the profile's deadline.
        ExportRejectedError: It vanished at the provider while it was being built.
    """
    try:
        export = provider.find_or_create_export(plan)
    except NotFoundError as error:
        if plan.request.export is None:
            raise
        raise ConfigurationError(str(error), ErrorContext(operation="exports.get", field="export")) from error
    if export.status.is_terminal:
        return export
    latest = export
    try:
        for look in observe(lambda: provider.get_export(export), plan.profile.export_poll, clock):
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
        raise _rejected(export, f"holds no image; {_filters(plan)}")
    if export.image_count is not None and export.image_count < plan.profile.min_images:
        raise _rejected(
            export,
            f"holds {export.image_count} images, {plan.profile.title} needs at least {plan.profile.min_images}; "
            f"label more images, or relax status_filter={plan.request.status_filter!r}",
        )
    if export.annotation_count == 0 and plan.task is not ModelTask.CLASSIFICATION:
        raise _rejected(export, f"holds no label; {_filters(plan)}")
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
            content = _read_content(opened)
            classes = _count_classes(content.labels, plan.task)
            findings = _findings(content, classes, export, plan)
            _refuse(findings, export)
            samples = _keep_samples(opened, content, plan, sample_dir)
    except DAMAGE as error:
        raise _rejected(export, f"is not a readable ZIP archive ({error}); make a new export") from error
    return ExportReport(
        export=export,
        classes=classes,
        findings=findings,
        content_fingerprint=content.fingerprint(classes),
        samples=samples,
    )


@dataclass(frozen=True)
class _Label:
    """One picture's labels as the archive gives them."""

    file_name: str
    split: str | None
    boxes: tuple[LabelledBox, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True)
class _Content:
    """What the archive holds."""

    pictures: dict[str, zipfile.ZipInfo]
    labels: tuple[_Label, ...]
    unreadable: tuple[str, ...]

    def fingerprint(self, classes: tuple[ClassCount, ...]) -> str:
        """Return a SHA-256 over pictures, labels and class names, independent of their order in the archive."""
        digest = hashlib.sha256()
        for name, info in sorted(self.pictures.items()):
            digest.update(f"{name}:{info.file_size}:{info.CRC:08x}\n".encode())
        for label in sorted(self.labels, key=lambda label: label.file_name):
            boxes = sorted((box.name, *box.box) for box in label.boxes)
            digest.update(json.dumps([label.file_name, boxes, sorted(label.tags)]).encode())
        digest.update(json.dumps(sorted(count.name for count in classes)).encode())
        return digest.hexdigest()


def _read_content(opened: zipfile.ZipFile) -> _Content:
    pictures: dict[str, zipfile.ZipInfo] = {}
    labels: list[_Label] = []
    unreadable: list[str] = []
    for info in opened.infolist():
        path = PurePosixPath(info.filename)
        if path.suffix.lower() in PICTURE_SUFFIXES:
            pictures[path.name] = info
        elif path.suffix == ".json" and "annotations" in path.parts[:-1]:
            label = _read_label(opened, info)
            if label is None:
                unreadable.append(info.filename)
            else:
                labels.append(label)
    return _Content(pictures, tuple(labels), tuple(unreadable))


def _read_label(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Label | None:
    if info.file_size > MAX_SIDE_FILE_BYTES:
        return None
    try:
        document = json.loads(opened.read(info))
        image = document["image"]
        split = image.get("split")
        return _Label(
            file_name=PurePosixPath(str(image["file_name"])).name,
            split=split if isinstance(split, str) else None,
            boxes=tuple(_boxes(document.get("annotations") or [])),
            tags=tuple(str(tag) for tag in document.get("tags") or []),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _boxes(annotations: list[dict[str, Any]]) -> Iterable[LabelledBox]:
    for annotation in annotations:
        corner = _corner(annotation)
        if corner is None:
            continue
        if not all(map(math.isfinite, corner)):
            raise ValueError(f"a box of {annotation['name']!r} is not finite")
        yield LabelledBox(name=str(annotation["name"]), box=corner)


def _corner(annotation: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """Return an annotation's box as x, y, width, height; a polygon without one is given its own."""
    if box := annotation.get("bounding_box"):
        return float(box["x"]), float(box["y"]), float(box["w"]), float(box["h"])
    points = [point for path in (annotation.get("polygon") or {}).get("paths", []) for point in path]
    if not points:
        return None
    xs, ys = [float(point["x"]) for point in points], [float(point["y"]) for point in points]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _count_classes(labels: tuple[_Label, ...], task: ModelTask) -> tuple[ClassCount, ...]:
    images: Counter[str] = Counter()
    objects: Counter[str] = Counter()
    for label in labels:
        names = _names(label, task)
        objects.update(names)
        images.update(set(names))
    return tuple(ClassCount(name=name, images=images[name], objects=count) for name, count in objects.most_common())


def _names(label: _Label, task: ModelTask) -> list[str]:
    if task is ModelTask.CLASSIFICATION:
        return list(label.tags)
    return [box.name for box in label.boxes]


def _findings(
    content: _Content, classes: tuple[ClassCount, ...], export: Export, plan: TrainPlan
) -> tuple[Finding, ...]:
    found = [
        Finding(severity=Severity.WARNING, code="unreadable_annotation", message=f"cannot read {name!r}")
        for name in content.unreadable[:10]
    ]
    if not content.labels:
        # The vendor's archive layout is not published: not recognising it must not stop a training that would work.
        message = "the archive's annotations were not recognised; classes are unknown and predictions go unchecked"
        return (Finding(severity=Severity.WARNING, code="unknown_layout", message=message), *found)
    missing = [label.file_name for label in content.labels if label.file_name not in content.pictures]
    if missing:
        text = f"{len(missing)} annotated pictures are not in the archive, such as {missing[0]!r}"
        found.append(Finding(severity=Severity.WARNING, code="missing_pictures", message=text))
    found.extend(_class_findings(classes, plan))
    bare = sum(1 for label in content.labels if not _names(label, plan.task))
    if bare:
        text = f"{bare} of {len(content.labels)} pictures carry no label for {plan.task.value}"
        found.append(Finding(severity=Severity.INFO, code="unlabelled_pictures", message=text))
    if export.image_count is not None and export.image_count != len(content.pictures):
        text = f"the provider counts {export.image_count} images, the archive holds {len(content.pictures)}"
        found.append(Finding(severity=Severity.WARNING, code="count_differs", message=text))
    return tuple(found)


def _class_findings(classes: tuple[ClassCount, ...], plan: TrainPlan) -> Iterable[Finding]:
    asked = plan.request.class_filter
    names = {count.name for count in classes}
    if not classes:
        yield Finding(severity=Severity.ERROR, code="no_labels", message=f"no label is left; {_filters(plan)}")
    for name in asked:
        if classes and name not in names:
            text = f"class_filter names {name!r}, which nothing is labelled with; labelled are {sorted(names)}"
            yield Finding(severity=Severity.ERROR, code="unknown_class", message=text)
    if plan.task is ModelTask.CLASSIFICATION and len(classes) == 1:
        text = f"classification needs two classes or more, there is only {classes[0].name!r}"
        yield Finding(severity=Severity.ERROR, code="single_class", message=text)
    for count in classes:
        if count.images < plan.profile.min_images:
            text = f"class {count.name!r} is on {count.images} pictures only; expect it to be learnt badly"
            yield Finding(severity=Severity.WARNING, code="rare_class", message=text)


def _refuse(findings: tuple[Finding, ...], export: Export) -> None:
    errors = [finding.message for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        raise _rejected(export, "cannot be trained on: " + "; ".join(errors))


def _keep_samples(
    opened: zipfile.ZipFile, content: _Content, plan: TrainPlan, sample_dir: Path
) -> tuple[SamplePicture, ...]:
    check_output_dir(sample_dir)
    kept = []
    for number, label in enumerate(_choose(content, plan)):
        info = content.pictures[label.file_name]
        # Our own file name: the archive's names decide nothing about where we write.
        path = sample_dir / f"sample-{number:02d}{PurePosixPath(label.file_name).suffix.lower()}"
        content_bytes = opened.read(info)
        try:
            path.write_bytes(content_bytes)
        except OSError as error:
            raise OutputPathError(
                f"sample picture {str(path)!r} cannot be written ({error.strerror or error}); make room or choose "
                f"another output_dir",
                ErrorContext(field="output_dir"),
            ) from error
        kept.append(SamplePicture(path=path, split=label.split, boxes=label.boxes, tags=label.tags))
    return tuple(kept)


def _choose(content: _Content, plan: TrainPlan) -> list[_Label]:
    """Pick pictures the model was not trained on first, labelled ones first, and as many classes as possible."""
    labels = content.labels or tuple(_Label(name, None, (), ()) for name in content.pictures)
    usable = [
        label
        for label in labels
        if label.file_name in content.pictures and content.pictures[label.file_name].file_size <= MAX_PICTURE_BYTES
    ]
    rank = {"test": 0, "val": 1, None: 2, "train": 3}
    usable.sort(key=lambda label: (rank.get(label.split, 2), not _names(label, plan.task), label.file_name))
    chosen: list[_Label] = []
    seen: Counter[str] = Counter()
    while usable and len(chosen) < plan.request.samples:
        best = min(usable, key=lambda label: (rank.get(label.split, 2), _staleness(label, plan.task, seen)))
        usable.remove(best)
        chosen.append(best)
        seen.update(_names(best, plan.task))
    return chosen


def _staleness(label: _Label, task: ModelTask, seen: Counter[str]) -> float:
    """Return how often the picture's rarest class was already chosen; pictures without labels come last."""
    return min((seen[name] for name in _names(label, task)), default=float("inf"))


def _filters(plan: TrainPlan) -> str:
    request = plan.request
    if request.export:
        return f"make a new export of {request.dataset!r} that holds labelled images"
    return (
        f"nothing in {request.dataset!r} passes status_filter={request.status_filter!r} and "
        f"class_filter={list(request.class_filter)!r}; relax them or label images"
    )


def _rejected(export: Export, reason: str) -> ExportRejectedError:
    return ExportRejectedError(f"export {export.name!r} of {export.dataset!r} {reason}", ErrorContext(field="export"))
