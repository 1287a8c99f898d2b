"""Is the training data worth training on? An export made at the provider, or data on this machine before it is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from pipeline.clock import Clock
from pipeline.data.exports import await_export, check_export, inspect_archive
from pipeline.data.local_data import local_export, portraits_as_export, tiles_as_export
from pipeline.data.portraits import inspect_portraits
from pipeline.data.tiles import inspect_tiles
from pipeline.download.collection import check_output_dir, collect
from pipeline.errors import ConfigurationError, ErrorContext, ExportRejectedError, NotFoundError, PipelineError
from pipeline.local_requests import BluesightRequest
from pipeline.models import ExportReport, TrainPlan
from pipeline.provider import Provider

_DATA_FIELDS = frozenset({"dataset", "export", "validation"})


def is_gone_for_good(error: PipelineError, plan: TrainPlan) -> bool:
    """Tell whether data that was trained on cannot be read again, whoever tries and however often.

    A key that is refused, a disk that is full or broken, a storage that does not answer are mended, or pass.
    """
    field = error.context.field
    if isinstance(error, ConfigurationError):
        here = plan.profile.data != "export" and field is not None
        return field in _DATA_FIELDS and not (here and Path(getattr(plan.request, str(field)) or ".").exists())
    return isinstance(error, (ExportRejectedError, NotFoundError))


def inspect_data(provider: Provider, plan: TrainPlan, clock: Clock) -> ExportReport:
    """Return what the request's training data holds, wherever it is.

    Raises:
        ConfigurationError: There is no such export, file or folder.
        ExportError: It is not ready, or cannot give a model; the sentence holds every reason.
    """
    if plan.profile.data == "export":
        return _export(provider, plan, clock)
    return _OWN[plan.profile.data](plan)


def _export(provider: Provider, plan: TrainPlan, clock: Clock) -> ExportReport:
    archive, export = plan.output_dir / "export.zip", await_export(provider, plan, clock)
    check_export(export, plan)
    collect(
        lambda at: provider.open_export(export, at),
        archive,
        max_bytes=plan.request.max_export_bytes,
        clock=clock,
        limit_field="max_export_bytes",
    )
    return inspect_archive(archive, export, plan, plan.output_dir / "samples")


def _archive(plan: TrainPlan) -> ExportReport:
    path = _file(plan.request.dataset, "dataset")
    check_output_dir(plan.output_dir)
    export = local_export(plan.request.data_name, _digest(path), image_count=None, size_bytes=path.stat().st_size)
    report = inspect_archive(path, export, plan, plan.output_dir / "samples")
    check_export(report.export, plan)
    return report


def _tiles(plan: TrainPlan) -> ExportReport:
    request = plan.asked_of(BluesightRequest)
    path = _file(request.dataset, "dataset")
    report = inspect_tiles(path, task=request.task, num_classes=request.num_classes)
    found = tiles_as_export(report, request.data_name)
    if request.validation is None:
        return found
    beside = inspect_tiles(
        _file(request.validation, "validation"), task=request.task, num_classes=request.num_classes, role="validation"
    )
    return found.model_copy(update={"findings": (*found.findings, *tiles_as_export(beside, "validation").findings)})


def _pictures(plan: TrainPlan) -> ExportReport:
    folder = Path(plan.request.dataset)
    if not folder.is_dir():
        raise _missing(plan.request.dataset, "dataset", "folder")
    return portraits_as_export(inspect_portraits(folder), plan.request.data_name)


_OWN: dict[str, Callable[[TrainPlan], ExportReport]] = {
    "archive": _archive,
    "tiles": _tiles,
    "pictures": _pictures,
}


def _file(name: str, field: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise _missing(name, field, "file")
    return path


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        message = f"dataset={str(path)!r} cannot be read ({error.strerror}); make it readable"
        raise ConfigurationError(message, ErrorContext(field="dataset")) from error


def _missing(name: str, field: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{field}={name!r} is no {what} on this machine; correct the path", ErrorContext(field=field)
    )
