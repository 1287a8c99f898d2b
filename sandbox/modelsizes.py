"""The words of `model_size`, by pipeline, and what each stands for: here channels, on the hosted service memory.

The words are the vendor's for yolox and the RF-DETR pipelines. The others choose their networks by other keys there;
here they take the same few words as everyone.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ModelSize:
    """One size of a pipeline's network."""

    word: str
    channel_factor: float
    """Channels of the network trained here, 1 being those of the default size."""
    parameters_m: float
    """Millions of weights of the hosted network."""
    memory: float
    """Memory an image takes in the hosted network, 1 being that of the default size at the same image side."""
    side: int
    """Image side in pixels that the hosted network trains at when none is asked for."""


def _words(*sizes: ModelSize) -> Mapping[str, ModelSize]:
    return {size.word: size for size in sizes}


_YOLOX = _words(
    ModelSize("nano", 0.5, 0.9, 0.35, 640),
    ModelSize("tiny", 0.625, 5.1, 0.45, 640),
    ModelSize("s", 0.75, 9.0, 0.6, 640),
    ModelSize("m", 1.0, 25.3, 1.0, 640),
    ModelSize("l", 1.25, 54.2, 1.5, 640),
    ModelSize("x", 1.5, 99.1, 2.1, 640),
)
_RFDETR = _words(
    ModelSize("nano", 0.5, 30.5, 0.9, 384),
    ModelSize("small", 0.75, 32.1, 0.95, 512),
    ModelSize("medium", 1.0, 33.7, 1.0, 576),
    ModelSize("base", 1.0, 29.0, 1.0, 560),
    ModelSize("large", 1.5, 128.0, 2.0, 704),
)
_RFDETR_SEGMENTATION = _words(
    ModelSize("nano", 0.5, 33.6, 0.9, 312),
    ModelSize("small", 0.75, 33.7, 0.95, 384),
    ModelSize("medium", 1.0, 35.7, 1.0, 432),
    ModelSize("preview", 1.0, 34.0, 1.0, 432),
    ModelSize("large", 1.25, 36.2, 1.1, 504),
    ModelSize("xlarge", 1.5, 38.1, 1.2, 624),
    ModelSize("2xlarge", 1.75, 38.6, 1.3, 768),
)


def _plain(parameters_m: float, side: int) -> Mapping[str, ModelSize]:
    return _words(
        ModelSize("nano", 0.5, 0.25 * parameters_m, 0.4, side),
        ModelSize("small", 0.75, 0.5 * parameters_m, 0.7, side),
        ModelSize("medium", 1.0, parameters_m, 1.0, side),
        ModelSize("large", 1.5, 2 * parameters_m, 1.8, side),
    )


SIZES: Mapping[str, Mapping[str, ModelSize]] = {
    "yolox": _YOLOX,
    "rfdetr_detection": _RFDETR,
    "rfdetr_segmentation": _RFDETR_SEGMENTATION,
    "rfdetr_keypoint": _words(ModelSize("preview", 1.0, 34.0, 1.0, 576)),
    "detectron2": _plain(44.0, 800),
    "sm_pytorch": _plain(8.0, 512),
    "classification": _plain(25.0, 224),
}
DEFAULT_SIZES: Mapping[str, str] = {kind: "medium" for kind in SIZES} | {"yolox": "m", "rfdetr_keypoint": "preview"}


def find_size(pipeline_type: str, word: object) -> ModelSize | None:
    """Return the size a config names, None for a word the pipeline has not; no word is the default.

    Case does not count, nor does the vendor's prefix of yolox sizes: yolox-s is s.
    """
    if word is None:
        return SIZES[pipeline_type][DEFAULT_SIZES[pipeline_type]]
    if not isinstance(word, str):
        return None
    plain = word.lower()
    if pipeline_type == "yolox":
        plain = plain.removeprefix("yolox").lstrip("-_ ")
    return SIZES[pipeline_type].get(plain)
