"""What a trainer's config.json says of the model beside it; nothing in it is trusted further than it can be checked."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

MAX_CLASSES = 10_000
"""Most classes believed."""
MAX_METRICS = 200
"""Most figures believed."""
MAX_WORD_CHARS = 200
"""Longest class name, or name of an architecture or a task, believed."""
MAX_SIDE = 16_384
"""Largest side of a network's input believed, in pixels."""
MAX_WHOLE = 2**53
"""Largest whole number believed as a figure; the readers of a report may know no larger one exactly."""


@dataclass(frozen=True)
class TrainedConfig:
    """What a config.json says and is plausible; what is not there or is not plausible is empty."""

    classes: tuple[str, ...] = ()
    architecture: str | None = None
    task: str | None = None
    input_size: tuple[int, int] | None = None
    """Height and width in pixels."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Held-out figures by name."""


def read_config(content: bytes) -> TrainedConfig:
    """Read a config.json, or a classes.json that is a list of names."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return TrainedConfig()
    if isinstance(document, list):
        return TrainedConfig(classes=_classes(document))
    if not isinstance(document, dict):
        return TrainedConfig()
    return TrainedConfig(
        _classes(document.get("classes")),
        _word(document.get("architecture")),
        _word(document.get("task")),
        _size(document.get("input_size")),
        _metrics(document.get("metrics")),
    )


def _classes(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_CLASSES:
        return ()
    names = tuple(word for entry in value if (word := _word(entry)) is not None)
    # All or none: with one name left out, every number after it would mean another class.
    return names if len(names) == len(value) == len(set(names)) else ()


def _metrics(value: Any) -> dict[str, float]:
    """Return the figures among the values; what is nested or no number is left out."""
    rows = list(value.items())[:MAX_METRICS] if isinstance(value, dict) else []
    return {name: figure for name, figure in rows if _word(name) and _is_figure(figure)}


def _is_figure(value: Any) -> bool:
    return abs(value) <= MAX_WHOLE if type(value) is int else type(value) is float and math.isfinite(value)


def _word(value: Any) -> str | None:
    fits = isinstance(value, str) and 0 < len(value) <= MAX_WORD_CHARS and value.isprintable()
    return value if fits else None


def _size(value: Any) -> tuple[int, int] | None:
    sides = value if isinstance(value, list) else [value, value]
    if len(sides) != 2 or not all(type(side) is int and 0 < side <= MAX_SIDE for side in sides):
        return None
    return sides[0], sides[1]
