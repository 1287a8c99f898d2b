"""Which pictures of an export the model will be tried on; each is opened before anything is paid for."""

from __future__ import annotations

import zipfile
from collections import Counter
from contextlib import suppress
from pathlib import Path, PurePosixPath

from pipeline.data.archive import PICTURE_SUFFIXES, Content
from pipeline.data.pairing import Label
from pipeline.data.pictures import PictureError, read_picture
from pipeline.download.collection import check_output_dir
from pipeline.errors import ErrorContext, OutputPathError
from pipeline.models import Finding, ModelTask, SamplePicture, Severity, TrainPlan

MAX_PICTURE_BYTES = 64 * 1024**2
"""Largest sample picture kept."""
MAX_UNUSABLE = 100
"""Pictures that cannot be opened before no further one is tried."""
_RANK = {"test": 0, "val": 1, None: 2, "train": 3}


def label_names(label: Label, task: ModelTask) -> list[str]:
    """Return the classes a picture is labelled with, as far as the task looks at them."""
    if task is ModelTask.CLASSIFICATION:
        return list(label.tags)
    return [box.name for box in label.boxes]


def keep_samples(
    opened: zipfile.ZipFile, content: Content, plan: TrainPlan, sample_dir: Path
) -> tuple[tuple[SamplePicture, ...], tuple[Finding, ...]]:
    """Keep pictures that can be opened: unseen by the model first, labelled ones, as many classes as possible.

    Raises:
        OutputPathError: They cannot be written.
    """
    check_output_dir(sample_dir)
    waiting = _candidates(content, plan.task)
    kept: list[SamplePicture] = []
    unusable: list[str] = []
    seen: Counter[str] = Counter()
    while waiting and len(kept) < plan.request.samples and len(unusable) < MAX_UNUSABLE:
        label = waiting.pop(_best(waiting, plan.task, seen))
        info = content.pictures[label.picture or ""]
        path = sample_dir / _our_name(len(kept), info.filename)
        reason = _keep(opened, info, path)
        if reason is not None:
            unusable.append(f"{info.filename!r} ({reason})")
            continue
        seen.update(label_names(label, plan.task))
        kept.append(SamplePicture(path=path, split=label.split, boxes=label.boxes, tags=label.tags))
    return tuple(kept), _remarks(content, len(kept), unusable)


def _candidates(content: Content, task: ModelTask) -> list[Label]:
    labelled = [label for label in content.labels if label.picture is not None]
    found = labelled or [Label(source="", file_name=name, picture=name) for name in content.pictures]
    return sorted(
        found, key=lambda label: (_RANK.get(label.split, 2), not label_names(label, task), label.picture or "")
    )


def _best(waiting: list[Label], task: ModelTask, seen: Counter[str]) -> int:
    return min(
        range(len(waiting)), key=lambda at: (_RANK.get(waiting[at].split, 2), _staleness(waiting[at], task, seen))
    )


def _staleness(label: Label, task: ModelTask, seen: Counter[str]) -> float:
    """Return how often the picture's rarest class was already chosen; pictures without labels come last."""
    return min((seen[name] for name in label_names(label, task)), default=float("inf"))


def _our_name(number: int, archived: str) -> str:
    """Return a file name of our own: the archive's names decide nothing about where we write."""
    suffix = PurePosixPath(archived).suffix.lower()
    return f"sample-{number:02d}{suffix if suffix in PICTURE_SUFFIXES else '.picture'}"


def _keep(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> str | None:
    """Write a picture and open it the way the smoke test will; return why it is of no use, if it is not."""
    if info.file_size > MAX_PICTURE_BYTES:
        return f"{info.file_size} bytes, the limit is {MAX_PICTURE_BYTES}"
    content = opened.read(info)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise OutputPathError(
            f"sample picture {str(path)!r} cannot be written ({error.strerror or error}); make room or choose "
            f"another output_dir",
            ErrorContext(field="output_dir"),
        ) from error
    try:
        read_picture(path)
    except PictureError as error:
        with suppress(OSError):
            path.unlink()
        return error.reason
    return None


def _remarks(content: Content, kept: int, unusable: list[str]) -> tuple[Finding, ...]:
    if not kept:
        tried = f"none of {len(unusable)} tried can be opened, such as {unusable[0]}" if unusable else "there is none"
        text = f"it holds no picture the model could be tried on: {tried}; export JPEG or PNG files"
        return (Finding(severity=Severity.ERROR, code="no_usable_picture", message=text),)
    if unusable:
        text = f"{len(unusable)} pictures cannot be opened, such as {unusable[0]}; others were taken as samples"
        return (Finding(severity=Severity.WARNING, code="unusable_pictures", message=text),)
    return ()
