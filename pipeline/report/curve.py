"""The loss curve as a small SVG: it shows wherever a report is read, with nothing to install and no script to run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

from pipeline.models import CurvePoint

WIDTH, HEIGHT = 640, 260
"""Size of the picture, in its own units."""
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 16, 40
"""Margins around the plot."""
MOST_DOTS = 60
"""With more points than this the line alone is drawn."""
STYLE = (
    "text{font:12px sans-serif;fill:#475569}.axis{stroke:#94a3b8}.grid{stroke:#e2e8f0}"
    ".line{fill:none;stroke:#2563eb;stroke-width:2}.dot{fill:#2563eb}"
)


def draw_curve(points: Sequence[CurvePoint]) -> str:
    """Return the curve as an SVG document; empty when there are fewer than two epochs to draw."""
    shown = [point for point in points if math.isfinite(point.loss)]
    if len({point.epoch for point in shown}) < 2:
        return ""
    epochs, losses = [point.epoch for point in shown], [point.loss for point in shown]
    low, high = min(losses), max(losses)
    ranges = (min(epochs), max(epochs)), (low, high if high > low else low + 1)
    at = [_place(point, ranges) for point in shown]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
    dots = (
        "".join(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in at)
        if len(at) <= MOST_DOTS
        else ""
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
        f'<style>{STYLE}</style><rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>'
        f'{_frame(ranges)}<polyline class="line" points="{line}"/>{dots}</svg>'
    )


Ranges = tuple[tuple[int, int], tuple[float, float]]


def _place(point: CurvePoint, ranges: Ranges) -> tuple[float, float]:
    (first, last), (low, high) = ranges
    x = LEFT + (point.epoch - first) / (last - first) * (WIDTH - LEFT - RIGHT)
    return x, HEIGHT - BOTTOM - (point.loss - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _frame(ranges: Ranges) -> str:
    """Draw axes, a few grid lines, and the figures beside them."""
    (first, last), (low, high) = ranges
    right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
    drawn = []
    for step in range(5):
        y = floor - step / 4 * (floor - TOP)
        kind = "grid" if step else "axis"
        drawn.append(f'<line class="{kind}" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        figure = plain_number(low + step / 4 * (high - low))
        drawn.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{figure}</text>')
    for epoch in sorted({round(first + step / 4 * (last - first)) for step in range(5)}):
        x = LEFT + (epoch - first) / (last - first) * (right - LEFT)
        drawn.append(f'<text x="{x:.1f}" y="{floor + 18}" text-anchor="middle">{epoch}</text>')
    drawn.append(f'<text x="{(LEFT + right) / 2:.1f}" y="{HEIGHT - 6}" text-anchor="middle">epoch</text>')
    return "".join(drawn)


def plain_number(number: float) -> str:
    """Return three significant digits without an exponent."""
    return f"{Decimal(f'{number:.3g}'):f}"
