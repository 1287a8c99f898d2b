"""The pictures of a PhotoGPT request, read from this machine: known by number and digest, never by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data.portraits import inspect_portraits
from pipeline.errors import ErrorContext, ExportRejectedError
from pipeline.models import Severity, TrainPlan

_KEY_LENGTH = 16


@dataclass(frozen=True)
class Picture:
    """A picture that is wanted in the model."""

    number: int
    """Its number in the order of names, from 1."""
    key: str
    """The begin of its digest: what tells it apart when preparing is resumed."""
    format: str
    """``jpg``, ``png``, ``webp`` or ``heic``."""
    path: Path = field(repr=False)
    """The file."""

    def read(self) -> bytes:
        """Return the file.

        Raises:
            ExportRejectedError: It cannot be read any more; its name is not said.
        """
        try:
            return self.path.read_bytes()
        except OSError as error:
            reason = error.strerror or "an error of the disk"
            message = f"picture {self.number} (in the order of names) cannot be read: {reason}; run again once it can"
            raise ExportRejectedError(message, ErrorContext(operation="images.upload", field="dataset")) from None


def read_portraits(plan: TrainPlan) -> tuple[Picture, ...]:
    """Return the pictures in the order of their names.

    Raises:
        ConfigurationError: There is no such folder.
        ExportRejectedError: They cannot be trained on; the sentence holds every reason.
    """
    report = inspect_portraits(Path(plan.request.dataset))
    errors = [finding.message for finding in report.findings if finding.severity is Severity.ERROR]
    if errors:
        message = f"dataset {plan.request.data_name!r} cannot be trained on: {'; '.join(errors)}"
        raise ExportRejectedError(message, ErrorContext(operation="images.upload", field="dataset"))
    found = zip(report.paths, report.digests, report.formats, strict=True)
    return tuple(
        Picture(number, digest[:_KEY_LENGTH], format_, path)
        for number, (path, digest, format_) in enumerate(found, start=1)
    )
