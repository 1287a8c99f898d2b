"""Exports and archives to try the export stage on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.data.exports import inspect_archive
from pipeline.models import Export, ExportReport
from tests.unit.conftest import (
    annotation,
    make_export,
    make_plan,
)

Write = Callable[[dict[str, Any]], Path]

FIVE = tuple(annotation(f"{number}.png", "a") for number in range(5))

SIX = tuple(annotation(f"{number}.png", "stop", "yield") for number in range(6))


def inspect(archive: Path, export: Export | None = None, **request: Any) -> ExportReport:
    """Inspect an archive as the stage does, keeping samples beside it."""
    return inspect_archive(archive, export or make_export(), make_plan(**request), archive.parent / "samples")


def codes(report: ExportReport) -> set[str]:
    """Return the codes of the findings."""
    return {finding.code for finding in report.findings}


def splits(report: ExportReport) -> list[str | None]:
    """Return the part of the data set each sample is from."""
    return [sample.split for sample in report.samples]
