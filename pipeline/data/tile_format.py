"""What a Bluesight training file must look like before a single sample is read.

One HDF5 dataset ``data`` of shape (N,), whose compound type holds the fields of ``FIELDS``. Source: the provider's
published server and guides. What the server checks only after the upload, or fails on while it
trains, is checked here before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline.data.remarks import Remarks
from pipeline.models import Severity

TileTask = Literal["classification", "segmentation"]
"""What is trained on tiles."""

FIELDS = ("bands", "gsd", "pixels", "platform", "point", "timestamp", "label")
"""Every field a sample must have."""
PLATFORMS = frozenset({"sentinel-2-l2a", "landsat-c2l1", "landsat-c2l2-sr", "naip", "linz", "sentinel-1-rtc"})
"""Platforms the provider knows; an empty name stands for none."""
RADAR_PLATFORM = "sentinel-1-rtc"
RADAR_BANDS = frozenset({"vv", "vh"})
OPTICAL_BANDS = frozenset(
    {"blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22"}
)

SIDE_MULTIPLE = 8
"""Height and width of a tile are a multiple of this, in pixels."""
MAX_SAMPLE_BYTES = 256 * 1024**2
"""Largest sample read, all of its fields together."""
MAX_CONTENT_BYTES = 64 * 1024**3
"""Largest content read, uncompressed: a small file can declare any size."""

DType = np.dtype[Any]


@dataclass(frozen=True)
class _Field:
    """What a field must be: its type, and the names of its axes."""

    type_name: str
    axes: tuple[str, ...] = ()

    def fits(self, dtype: DType) -> bool:
        """Tell whether the type is the one asked for; of texts any width will do."""
        if self.type_name == "text":
            return dtype.base.kind == "S" and dtype.base.itemsize > 0
        return dtype.base == np.dtype(self.type_name)

    def wanted(self) -> str:
        """Return the type and shape in words."""
        kind = "a fixed-width byte string such as S20" if self.type_name == "text" else self.type_name
        return f"{kind} of shape ({', '.join(self.axes)})" if self.axes else f"{kind}, one value"


_RULES = {
    "bands": _Field("text", ("bands",)),
    "gsd": _Field("float32"),
    "pixels": _Field("float32", ("bands", "height", "width")),
    "platform": _Field("text"),
    "point": _Field("float32", ("2",)),
    "timestamp": _Field("int64"),
}
_LABEL = {"classification": _Field("int64"), "segmentation": _Field("int64", ("height", "width"))}


@dataclass(frozen=True)
class TileShape:
    """Bands, height and width of every tile."""

    bands: int
    height: int
    width: int


def check_format(dtype: DType, shape: tuple[int, ...], task: TileTask, remarks: Remarks) -> TileShape | None:
    """Judge the type and shape of ``data``; return the tiles' shape when samples can be read."""
    if len(shape) != 1:
        text = f"'data' has the shape {shape}, expected (N,); write one record for each sample, in one dimension"
        remarks.add(Severity.ERROR, "data_shape", text)
        return None
    if not shape[0]:
        remarks.add(Severity.ERROR, "no_samples", "'data' holds no sample; write at least one labelled tile")
    if dtype.names is None or dtype.fields is None:
        text = f"'data' is of type {shortened(dtype)}, expected a compound type with the fields {', '.join(FIELDS)}"
        remarks.add(Severity.ERROR, "not_compound", text)
        return None
    extra = sorted(set(dtype.names) - set(FIELDS))
    if extra:
        text = (
            f"'data' has fields that are uploaded but not used: {shortened(extra)}; leave them out to save the upload"
        )
        remarks.add(Severity.INFO, "extra_fields", text)
    fitting = [_check_field(name, dtype, task, remarks) for name in FIELDS]
    if not all(fitting):
        return None
    return _check_sides(dtype, remarks) if _check_size(dtype.itemsize, shape[0], remarks) else None


def _check_field(name: str, dtype: DType, task: TileTask, remarks: Remarks) -> bool:
    """Judge one field's presence, type and number of axes."""
    fields: Mapping[str, Any] = dtype.fields or {}
    rule = _LABEL[task] if name == "label" else _RULES[name]
    if name not in fields:
        text = f"field {name!r} is missing in 'data'; add it as {rule.wanted()}"
        remarks.add(Severity.ERROR, "field_missing", text)
        return False
    found = fields[name][0]
    if not rule.fits(found):
        text = (
            f"field {name!r} is {shortened(found.base)}, expected {rule.wanted()}; convert it before writing the file"
        )
        remarks.add(Severity.ERROR, "field_dtype", text)
        return False
    if len(found.shape) != len(rule.axes) or (name == "point" and found.shape != (2,)):
        for_task = f" for {task}" if name == "label" else ""
        text = f"field {name!r} has the shape {found.shape} in each sample, expected {rule.wanted()}{for_task}"
        remarks.add(Severity.ERROR, "label_shape" if name == "label" else "field_shape", text)
        return False
    return True


def _check_sides(dtype: DType, remarks: Remarks) -> TileShape:
    """Judge how the fields' sizes go together."""
    fields: Mapping[str, Any] = dtype.fields or {}
    named = fields["bands"][0].shape[0]
    bands, height, width = fields["pixels"][0].shape
    if named != bands:
        text = f"field 'bands' names {named} bands, 'pixels' holds {bands}; name each band of 'pixels' once, in order"
        remarks.add(Severity.ERROR, "band_count", text)
    if height != width:
        text = f"field 'pixels' is {height} high and {width} wide in every sample; cut square tiles"
        remarks.add(Severity.ERROR, "not_square", text)
    if height % SIDE_MULTIPLE or width % SIDE_MULTIPLE:
        text = (
            f"field 'pixels' is {height}x{width} in every sample; height and width must be a multiple of "
            f"{SIDE_MULTIPLE}: cut or pad the tiles"
        )
        remarks.add(Severity.ERROR, "side_multiple", text)
    mask = fields["label"][0].shape
    if mask and mask != (height, width):
        text = f"field 'label' is {mask} in each sample, 'pixels' is {(height, width)}; give each pixel one label"
        remarks.add(Severity.ERROR, "label_shape", text)
    return TileShape(bands, height, width)


def _check_size(sample_bytes: int, count: int, remarks: Remarks) -> bool:
    """Refuse to read what is declared larger than any training file."""
    if sample_bytes > MAX_SAMPLE_BYTES:
        text = f"a sample of 'data' takes {sample_bytes} bytes, the limit is {MAX_SAMPLE_BYTES}; cut smaller tiles"
        remarks.add(Severity.ERROR, "sample_too_large", text)
        return False
    if sample_bytes * count > MAX_CONTENT_BYTES:
        text = (
            f"'data' declares {count} samples of {sample_bytes} bytes, the limit is {MAX_CONTENT_BYTES} bytes in all; "
            f"train on fewer samples"
        )
        remarks.add(Severity.ERROR, "content_too_large", text)
        return False
    return True


def shortened(value: object) -> str:
    """Show a value from the file; it may be as long as its author liked."""
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."
