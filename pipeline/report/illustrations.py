"""The report's pictures: as files beside it, or as addresses that carry their own content."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pipeline.models import RunReport
from pipeline.report.contactsheet import contact_sheet
from pipeline.report.curve import draw_curve

CURVE_FILE = "loss.svg"


@dataclass(frozen=True)
class Illustrations:
    """Where the report's pictures are."""

    curve: str = ""
    """Address of the loss curve; empty when there is none."""
    predictions: tuple[str, ...] = ()
    """Addresses of pictures with predictions drawn."""


def curve_of(report: RunReport) -> str:
    """Return the loss curve as SVG; empty when too little was seen of it."""
    return draw_curve(report.watched.curve) if report.watched else ""


def overlays_of(report: RunReport) -> list[Path]:
    """Return the pictures with predictions drawn."""
    return [result.overlay for result in report.smoke.results if result.overlay] if report.smoke else []


def filed(report: RunReport, folder: Path) -> Illustrations:
    """Return addresses relative to the report's folder; the curve is expected there as ``loss.svg``."""
    pictures = tuple(
        quote(path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix())
        for path in overlays_of(report)
    )
    return Illustrations(curve=CURVE_FILE if curve_of(report) else "", predictions=pictures)


def embedded(report: RunReport) -> Illustrations:
    """Return addresses that carry their content, for places that cannot read our files: one sheet of all pictures.

    Raises:
        OSError: A picture is not there any more.
    """
    curve, overlays = curve_of(report), overlays_of(report)
    return Illustrations(
        curve=data_uri(curve.encode(), "image/svg+xml") if curve else "",
        predictions=(data_uri(contact_sheet(overlays), "image/jpeg"),) if overlays else (),
    )


def data_uri(content: bytes, kind: str) -> str:
    """Return an address that carries its own content."""
    return f"data:{kind};base64," + base64.b64encode(content).decode()
