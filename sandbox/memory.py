"""How much GPU memory the hosted pipeline would need for a config, which tier has it, and what it says when not.

    need = 1200 MiB                     CUDA itself and its libraries
         + 16 bytes x weights           weights, gradients and AdamW's two moments, 4 bytes each
         + batch x image MiB x size x (height x width) / (usual side)^2

`image MiB` is what one image's activations take at the default size and its usual side, by pipeline (below); `size` is
the model_size's factor and the usual side the default size's (`sandbox.modelsizes`). So half the batch, or half the
pixels, takes half of the last line. A key that is absent or no positive number counts as its default; what the trainers
here refuse is theirs to refuse. All constants are estimates of ours, none was measured on the service.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.gpus import MIB_PER_GIB, TIERS, GpuTier
from sandbox.modelsizes import DEFAULT_SIZES, SIZES, find_size

_CUDA_MIB = 1200
_BYTES_PER_WEIGHT = 16
_BYTES_PER_MIB = 1024 * 1024
_LARGEST = 1_000_000_000  # JSON numbers have no end, floats have


@dataclass(frozen=True)
class Appetite:
    """What one pipeline takes: memory of an image at the default size and its usual side, and the default batch."""

    image_mib: int
    batch_size: int


APPETITES: Mapping[str, Appetite] = {
    "yolox": Appetite(512, 16),
    "rfdetr_detection": Appetite(1024, 16),
    "rfdetr_segmentation": Appetite(1024, 16),
    "rfdetr_keypoint": Appetite(1024, 16),
    "detectron2": Appetite(1024, 16),
    "sm_pytorch": Appetite(1024, 8),
    "classification": Appetite(96, 16),
}
"""By pipeline; the batches are those of the trainers here. The service tunes its own, nobody knows to what."""
UNESTIMATED = frozenset({"yolox"})
"""Pipelines of which the vendor's quote says nothing, although they run out of memory like the others."""


def predicted_mib(pipeline_type: str, config: Mapping[str, Any]) -> int:
    """Return the peak GPU memory of a training on the hosted service, in MiB."""
    appetite = APPETITES[pipeline_type]
    usual = SIZES[pipeline_type][DEFAULT_SIZES[pipeline_type]]
    size = find_size(pipeline_type, config.get("model_size")) or usual
    batch = _positive(config.get("batch_size"), appetite.batch_size)
    height, width = _sides(config, size.side)
    image_mib = appetite.image_mib * size.memory * (height * width) / usual.side**2
    weights_mib = size.parameters_m * 1e6 * _BYTES_PER_WEIGHT / _BYTES_PER_MIB
    return math.ceil(_CUDA_MIB + weights_mib + batch * image_mib)


def out_of_memory(need_mib: int, tier: GpuTier) -> str | None:
    """Return what a worker says when a training needs more memory than its GPU has, or None."""
    if need_mib <= tier.memory_mib:
        return None
    missing_gib = math.ceil(100 * (need_mib - tier.memory_mib) / MIB_PER_GIB) / 100
    total_gib = tier.memory_mib / MIB_PER_GIB
    is_largest = all(other.memory_mib <= tier.memory_mib for other in TIERS.values())
    return (
        f"CUDA out of memory. Tried to allocate {missing_gib:.2f} GiB (GPU 0; {total_gib:.2f} GiB total capacity; "
        f"{total_gib:.2f} GiB already allocated): lower batch_size or image_size"
        f"{'' if is_largest else f', or take a larger gpu_type than {tier.name}'}"
    )


def cheapest_fitting(need_mib: int, prices: Mapping[str, int]) -> GpuTier:
    """Return the tier with the cheapest minute of those with enough memory; the largest when none has.

    Args:
        need_mib: What the training needs.
        prices: Price of a minute by tier.
    """
    fitting = [tier for tier in TIERS.values() if need_mib <= tier.memory_mib]
    if not fitting:
        return max(TIERS.values(), key=lambda tier: tier.memory_mib)
    return min(fitting, key=lambda tier: (prices[tier.name], tier.memory_mib))


def _sides(config: Mapping[str, Any], usual: int) -> tuple[float, float]:
    asked = config.get("image_size")
    height, width = asked if isinstance(asked, list | tuple) and len(asked) == 2 else (asked, asked)
    return (
        _positive(config.get("image_height"), _positive(height, usual)),
        _positive(config.get("image_width"), _positive(width, usual)),
    )


def _positive(value: object, default: float) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        return default
    return float(min(value, _LARGEST))
