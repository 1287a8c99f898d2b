"""Find connected regions in a mask, with numpy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_AREA_SHARE = 0.002
"""Regions under this share of the picture are noise, as in the provider's decoder."""
MAX_REGIONS = 100


@dataclass(frozen=True)
class Region:
    """Pixels that touch each other, sides or corners."""

    box: tuple[int, int, int, int]
    """x, y, width, height in mask pixels."""
    area: int
    """Pixels in it."""
    mean_score: float
    """Mean of the scores under it."""
    mask: NDArray[np.bool_]
    """(H, W), true inside."""


@dataclass(frozen=True)
class _Runs:
    """Horizontal runs of set pixels, in reading order; ``ends`` is exclusive."""

    rows: NDArray[np.intp]
    starts: NDArray[np.intp]
    ends: NDArray[np.intp]


def connected_regions(mask: NDArray[np.bool_], scores: NDArray[np.float32]) -> tuple[Region, ...]:
    """Return the regions of (H, W) ``mask`` that are no noise, largest first; the largest always counts."""
    runs = _find_runs(mask)
    if not runs.rows.size:
        return ()
    labels = _label_runs(runs, mask.shape[1])
    areas = np.bincount(labels, weights=runs.ends - runs.starts).astype(np.int64)
    order = np.argsort(-areas, kind="stable")[:MAX_REGIONS]
    kept = [int(label) for label in order if areas[label] >= MIN_AREA_SHARE * mask.size] or [int(order[0])]
    return tuple(_build_region(runs, labels == label, scores) for label in kept)


def _find_runs(mask: NDArray[np.bool_]) -> _Runs:
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded, axis=1)
    rows, starts = np.nonzero(steps == 1)
    _, ends = np.nonzero(steps == -1)
    return _Runs(rows, starts, ends)


def _label_runs(runs: _Runs, width: int) -> NDArray[np.intp]:
    """Give runs that touch in neighbouring rows the same number."""
    # One axis for the whole picture: a run below touches when it starts at or before our end and ends at or after
    # our start, ends being exclusive, so corners count.
    stride = width + 2
    below = (runs.rows + 1) * stride
    first = np.searchsorted(runs.rows * stride + runs.ends, below + runs.starts, side="left")
    last = np.searchsorted(runs.rows * stride + runs.starts, below + runs.ends, side="right")
    parent = list(range(runs.rows.size))
    for run in np.nonzero(last > first)[0].tolist():
        for neighbour in range(int(first[run]), int(last[run])):
            _join(parent, run, neighbour)
    roots = [_find_root(parent, run) for run in range(len(parent))]
    return np.unique(np.array(roots, dtype=np.intp), return_inverse=True)[1].astype(np.intp)


def _find_root(parent: list[int], run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


def _join(parent: list[int], one: int, other: int) -> None:
    first, second = _find_root(parent, one), _find_root(parent, other)
    parent[max(first, second)] = min(first, second)


def _build_region(runs: _Runs, chosen: NDArray[np.bool_], scores: NDArray[np.float32]) -> Region:
    rows, starts, ends = runs.rows[chosen], runs.starts[chosen], runs.ends[chosen]
    mask = np.zeros(scores.shape, dtype=np.bool_)
    for row, start, end in zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True):
        mask[row, start:end] = True
    x, y = int(starts.min()), int(rows.min())
    box = (x, y, int(ends.max()) - x, int(rows.max()) + 1 - y)
    return Region(box, int(mask.sum()), float(scores[mask].mean()), mask)
