"""The config.json that goes with a model: one form, whether the model was trained or scripted; importable anywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ModelFacts:
    """What a config.json says of its model; `input_shape` is (height, width) in pixels."""

    pipeline_type: str
    model_type: str
    architecture: str
    classes: Sequence[str]
    input_shape: tuple[int, int]
    name: str
    export_name: str


def model_config(facts: ModelFacts, training: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with which the vendor's client loads a model offline and repeats its training."""
    height, width = facts.input_shape
    head = {
        "schema_version": SCHEMA_VERSION,
        "pipeline": facts.pipeline_type,
        "model_type": facts.model_type,
        "architecture": facts.architecture,
        "class_mapping": {"classes": list(facts.classes)},
        "input_shape": [height, width],
        "name": facts.name,
        "export_name": facts.export_name,
    }
    return {"_pictograph": head, "training": {**training, "image_height": height, "image_width": width}}
