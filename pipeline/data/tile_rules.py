"""What every sample of a Bluesight training file must be; the server checks part of it, and only after the upload."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.remarks import Remarks
from pipeline.data.tile_format import FIELDS, OPTICAL_BANDS, PLATFORMS, RADAR_BANDS, RADAR_PLATFORM, TileTask, shortened
from pipeline.models import Severity

MAX_LABELS = 4096
"""Different label values before the field is taken for something other than labels."""
LATEST_S = 7_258_118_400
"""The year 2200 in Unix seconds; times beyond it are milliseconds taken for seconds."""

Block = NDArray[np.void]
"""Consecutive samples: (n,), with the fields of ``tile_format.FIELDS``."""


@dataclass(frozen=True)
class TileFacts:
    """What all samples of a file share."""

    bands: tuple[str, ...]
    gsd: float
    platform: str | None


def facts_of(sample: np.void) -> TileFacts:
    """Return a sample's bands, metres a pixel, and platform; an empty platform is none."""
    bands = tuple(_text(name) for name in sample["bands"])
    return TileFacts(bands=bands, gsd=float(sample["gsd"]), platform=_text(sample["platform"]) or None)


class TileCheck:
    """Judges a file's samples block by block, counts their labels and takes their fingerprint."""

    def __init__(self, task: TileTask, num_classes: int | None, remarks: Remarks) -> None:
        self.facts: TileFacts | None = None
        self.labelled: Counter[int] = Counter()
        """Tiles, or pixels, that carry a label."""
        self.shown: Counter[int] = Counter()
        """Tiles that show a label."""
        self._task = task
        self._num_classes = num_classes
        self._remarks = remarks
        self._first: np.void | None = None
        self._digests = {name: hashlib.sha256() for name in FIELDS}
        self._types: dict[str, str] = {}
        self._flooded = False

    def look(self, start: int, block: Block) -> None:
        """Take the samples from number ``start`` on."""
        if self._first is None:
            self._first = block[0].copy()
            self.facts = facts_of(self._first)
            self._check_names(self.facts)
        for name in FIELDS:
            self._types[name] = f"{block.dtype[name].base.str}{block.dtype[name].shape}"
            self._digests[name].update(np.ascontiguousarray(block[name]).data)
        self._check_shared(start, block, self._first)
        self._check_pixels(start, block["pixels"])
        self._check_place_and_time(start, block)
        self._check_labels(start, block["label"])
        self._count(block["label"])

    def fingerprint(self) -> str:
        """Return a SHA-256 over every field's type and bytes in order; packing and file times do not count."""
        whole = hashlib.sha256()
        for name in FIELDS:
            whole.update(f"{name} {self._types.get(name)} {self._digests[name].hexdigest()}\n".encode())
        return whole.hexdigest()

    def finish(self) -> None:
        """Judge the labels of all samples together."""
        if self._flooded or len(self.labelled) != 1:
            return
        only = next(iter(self.labelled))
        if self._task == "classification":
            text = f"field 'label' is {only} in every sample; classification needs at least two values: add tiles"
            self._remarks.add(Severity.ERROR, "single_label", text)
        else:
            text = f"field 'label' is {only} at every pixel of every sample; the model will learn nothing else"
            self._remarks.add(Severity.WARNING, "single_label", text)

    def _check_names(self, facts: TileFacts) -> None:
        """Judge platform and bands of sample 0; the others are compared with it."""
        self._error_if(
            facts.platform is not None and facts.platform not in PLATFORMS,
            "unknown_platform",
            f"field 'platform' of sample 0 is {shortened(facts.platform)!r}; use one of "
            f"{', '.join(sorted(PLATFORMS))}, or leave it empty",
        )
        known = RADAR_BANDS if facts.platform == RADAR_PLATFORM else OPTICAL_BANDS
        if facts.platform is None:
            known = known | RADAR_BANDS
        for name in sorted(set(facts.bands) - known):
            text = f"field 'bands' of sample 0 names {shortened(name)!r}; use names out of {', '.join(sorted(known))}"
            self._remarks.add(Severity.ERROR, "unknown_band", text)
        for name in sorted(name for name, times in Counter(facts.bands).items() if times > 1):
            text = (
                f"field 'bands' of sample 0 names {shortened(name)!r} more than once; name each band of 'pixels' once"
            )
            self._remarks.add(Severity.WARNING, "repeated_band", text)
        gsd = facts.gsd
        text = f"field 'gsd' of sample 0 is {gsd}; write the metres a pixel covers"
        self._error_if(not np.isfinite(gsd), "bad_gsd", text)
        if gsd <= 0:
            self._remarks.add(Severity.WARNING, "bad_gsd", text)

    def _check_shared(self, start: int, block: Block, first: np.void) -> None:
        """Find samples that differ from sample 0 in what all must share."""
        for name, show in (("bands", _names), ("gsd", str), ("platform", _text_shown)):
            differs = block[name] != first[name]
            rows = differs.any(axis=1) if differs.ndim > 1 else differs
            # NaN differs from itself; that gsd was reported already.
            if name == "gsd" and not np.isfinite(first["gsd"]):
                rows = np.isfinite(block["gsd"])
            self._each(Severity.ERROR, f"{name}_differs", start, rows, _difference(name, show, start, block, first))

    def _check_pixels(self, start: int, pixels: NDArray[np.float32]) -> None:
        flat = pixels.reshape(len(pixels), -1)
        if np.isfinite(flat).all():
            return
        broken = (~np.isfinite(flat)).sum(axis=1)

        def say(place: int) -> str:
            return (
                f"field 'pixels' of sample {place} holds {broken[place - start]} values that are NaN or infinite; fill "
                f"them before writing the file"
            )

        self._each(Severity.WARNING, "pixels_not_finite", start, broken > 0, say)

    def _check_place_and_time(self, start: int, block: Block) -> None:
        points, times = block["point"], block["timestamp"]
        with np.errstate(invalid="ignore"):
            inside = (np.abs(points[:, 0]) <= 90) & (np.abs(points[:, 1]) <= 180)

        def say_point(place: int) -> str:
            shown = [float(value) for value in points[place - start]]
            return f"field 'point' of sample {place} is {shown}; write latitude, longitude in degrees, or zeros"

        def say_time(place: int) -> str:
            shown = int(times[place - start])
            return f"field 'timestamp' of sample {place} is {shown}; write Unix seconds (not milliseconds), or 0"

        self._each(Severity.WARNING, "bad_point", start, ~inside, say_point)
        self._each(Severity.WARNING, "bad_timestamp", start, (times < 0) | (times > LATEST_S), say_time)

    def _check_labels(self, start: int, labels: NDArray[np.int64]) -> None:
        """Find samples with a label outside 0..num_classes-1."""
        flat = labels.reshape(len(labels), -1)
        wrong = flat < 0
        if self._num_classes is not None:
            wrong |= flat >= self._num_classes
        allowed = "0 or more" if self._num_classes is None else f"0 to {self._num_classes - 1} (num_classes - 1)"

        def say(place: int) -> str:
            row = flat[place - start]
            value = int(row[np.argmax(wrong[place - start])])
            return f"field 'label' of sample {place} is {value}, expected {allowed}; relabel it or leave the sample out"

        # A classifier without num_classes takes any whole numbers; they are only harder to read.
        lenient = self._task == "classification" and self._num_classes is None
        severity = Severity.WARNING if lenient else Severity.ERROR
        self._each(severity, "label_out_of_range", start, np.asarray(wrong.any(axis=1)), say)

    def _count(self, labels: NDArray[np.int64]) -> None:
        for tile in labels.reshape(len(labels), -1) if labels.ndim > 1 else [labels]:
            if self._flooded:
                return
            counts = count_labels(tile)
            self.labelled.update(counts)
            self.shown.update(counts.keys() if labels.ndim > 1 else counts)
            if len(self.labelled) > MAX_LABELS:
                self._flooded = True
                text = f"field 'label' takes more than {MAX_LABELS} values; write class numbers, not measurements"
                self._remarks.add(Severity.ERROR, "too_many_labels", text)

    def _error_if(self, wrong: bool, code: str, message: str) -> None:
        if wrong:
            self._remarks.add(Severity.ERROR, code, message)

    def _each(
        self, severity: Severity, code: str, start: int, wrong: NDArray[np.bool_], say: Callable[[int], str]
    ) -> None:
        places = (start + int(row) for row in np.flatnonzero(wrong))
        self._remarks.add_each(severity, code, places, say)


def count_labels(labels: NDArray[np.int64]) -> dict[int, int]:
    """Return how often each value occurs."""
    if labels.size and labels.min() >= 0 and labels.max() < MAX_LABELS:
        # Counting is many times faster than sorting where labels are what they should be.
        counts = np.bincount(labels.reshape(-1))
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, numbers = np.unique(labels, return_counts=True)
    # One value over the limit tells that there are too many; millions of them would not fit into memory.
    return dict(zip(values[: MAX_LABELS + 1].tolist(), numbers[: MAX_LABELS + 1].tolist(), strict=True))


def _difference(
    name: str, show: Callable[[Any], str], start: int, block: Block, first: np.void
) -> Callable[[int], str]:
    def say(place: int) -> str:
        return (
            f"field {name!r} of sample {place} is {show(block[name][place - start])}, sample 0 has "
            f"{show(first[name])}; all samples of a file share it: write one file for each"
        )

    return say


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def _text_shown(value: bytes) -> str:
    return repr(_text(value[:60]))


def _names(values: NDArray[np.bytes_]) -> str:
    return repr([_text(value[:20]) for value in values[:16]])
