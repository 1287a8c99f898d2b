"""Pictograph's JSON about data sets, exports, runs and models, private to the adapter; one conversion each.

Source: https://docs.pictograph.io and the seed documents, checked 2026-11-20.
"""

from __future__ import annotations

import re

from pydantic import Field, JsonValue

from pipeline.models import (
    Export,
    ExportStatus,
    Finding,
    ModelFacts,
    ModelTask,
    RunHandle,
    RunStatus,
    Severity,
    TrainingRun,
)
from providers.pictograph.values import Dataset, ModelFile, ModelRecord, ModelVersion
from providers.wire import Flag, JsonObject, Moment, Names, Objects, Real, Text, Whole, Wire, names_of

PROVIDER = "pictograph"
_LABEL = re.compile(r"\d{1,9}")
MODEL_TASKS: dict[str, ModelTask] = {task.value: task for task in ModelTask}


class DatasetWire(Wire):
    """A data set."""

    id: str
    name: str
    image_count: Whole = None
    completed_image_count: Whole = None
    classes: Names = ()

    def to_value(self) -> Dataset:
        """Convert."""
        return Dataset(**self.model_dump())


class ExportWire(Wire):
    """An export."""

    id: str
    name: str
    status: str
    dataset_name: Text = None
    image_count: Whole = None
    annotation_count: Whole = None
    file_size: Whole = None
    include_images: Flag = None
    class_filter: Names = ()
    error_message: Text = None

    def to_value(self, dataset: str = "") -> Export:
        """Convert; a status word that is not known counts as not ready."""
        known = {status.value for status in ExportStatus}
        return Export(
            id=self.id,
            name=self.name,
            dataset=self.dataset_name or dataset,
            status=ExportStatus(self.status) if self.status in known else ExportStatus.UNKNOWN,
            provider_status=self.status,
            image_count=self.image_count,
            annotation_count=self.annotation_count,
            size_bytes=self.file_size,
            include_images=bool(self.include_images),
            class_filter=self.class_filter,
            error_message=self.error_message,
        )


class RunWire(Wire):
    """A training run; pipeline and GPU words of other eras are plain text, so that no old row breaks a list."""

    id: str
    name: str
    status: str
    dataset_id: Text = None
    dataset_name: Text = None
    pipeline_type: Text = None
    gpu_type: Text = None
    progress: Real = None
    current_epoch: Whole = None
    total_epochs: Whole = None
    eta_seconds: Real = None
    metrics: JsonObject = Field(default_factory=dict)
    model_id: Text = None
    error_message: Text = None
    warnings: Objects = ()
    created_at: Moment = None
    started_at: Moment = None
    completed_at: Moment = None

    def to_value(self, dataset: str = "") -> TrainingRun:
        """Convert; a status word that is not known is not an end."""
        known = {status.value for status in RunStatus}
        return TrainingRun(
            handle=RunHandle(
                provider=PROVIDER, run_id=self.id, name=self.name, dataset=dataset or self.dataset_name or ""
            ),
            status=RunStatus(self.status) if self.status in known else RunStatus.UNKNOWN,
            provider_status=self.status,
            progress=None if self.progress is None else min(100.0, max(0.0, self.progress)),
            epoch=self.current_epoch,
            total_epochs=self.total_epochs,
            eta_s=self.eta_seconds,
            pipeline=self.pipeline_type,
            trained_on=tuple(name for name in (self.dataset_id, self.dataset_name) if name),
            gpu=self.gpu_type,
            metrics=self.metrics,
            model_id=self.model_id,
            error_message=self.error_message,
            warnings=tuple(_warning(entry) for entry in self.warnings),
            created_at=self.created_at,
            started_at=self.started_at,
            completed_at=self.completed_at,
        )


def _warning(entry: dict[str, JsonValue]) -> Finding:
    code = str(entry.get("code") or "provider_warning")
    return Finding(severity=Severity.WARNING, code=code, message=str(entry.get("message") or code))


def read_classes(mapping: object) -> tuple[str, ...]:
    """Return class names in label order from ``{"classes": [...]}``, ``{"class_names": [...]}`` or ``{"0": "a"}``."""
    if not isinstance(mapping, dict):
        return names_of(mapping)
    listed = mapping.get("classes", mapping.get("class_names"))
    if listed is not None:
        return read_classes(listed)
    indexed = {int(key): name for key, name in mapping.items() if _LABEL.fullmatch(str(key)) and isinstance(name, str)}
    return tuple(indexed[index] for index in sorted(indexed))


class ModelWire(Wire):
    """A model."""

    id: str
    name: str
    status: str
    model_type: str
    architecture: Text = None
    version: Text = None
    class_mapping: JsonValue = None
    metrics: JsonObject = Field(default_factory=dict)
    created_at: Moment = None

    def to_value(self) -> ModelRecord:
        """Convert."""
        known = self.model_dump(exclude={"class_mapping"})
        return ModelRecord(**known, classes=read_classes(self.class_mapping))


def to_facts(model: ModelRecord) -> ModelFacts | None:
    """Return the pipeline's view of a model; None when its type is one the pipeline has no reader for."""
    task = MODEL_TASKS.get(model.model_type)
    if task is None:
        return None
    return ModelFacts(
        model_id=model.id,
        name=model.name,
        status=model.status,
        task=task,
        architecture=model.architecture,
        classes=model.classes,
        metrics=model.metrics,
    )


class VersionWire(Wire):
    """A model version."""

    version_id: str
    version_number: Whole = None
    version_label: Text = None
    status: Text = None
    is_current: Flag = None
    precision: Text = None

    def to_value(self) -> ModelVersion:
        """Convert."""
        return ModelVersion(
            id=self.version_id,
            number=self.version_number,
            label=self.version_label,
            status=self.status or "",
            is_current=bool(self.is_current),
            precision=self.precision,
        )


class FileWire(Wire):
    """A file of a model version."""

    version_id: str
    name: str
    kind: str
    format: Text = None
    size_bytes: Whole = None

    def to_value(self) -> ModelFile:
        """Convert."""
        return ModelFile(**self.model_dump())


class FilesWire(Wire):
    """GET /models/{model}/files."""

    files: tuple[FileWire, ...]


class BulkWire(Wire):
    """Answer of the bulk calls."""

    succeeded: tuple[str, ...] = ()
    not_found: tuple[str, ...] = ()
