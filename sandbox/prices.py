"""What things cost: price tables as data and the arithmetic on them, without state."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from sandbox.settings import AccountSettings

Unit = Literal["credits", "micro_usd"]

GPU_TYPES = ("a10g", "a100", "h100")
GPU_MEMORY_MIB = {"a10g": 24_576, "a100": 40_960, "h100": 81_920}
RELATIVE_SPEED = {"a10g": 1.0, "a100": 2.5, "h100": 4.0}
DEFAULT_EPOCHS = 50
MICRO_USD_PER_CREDIT = 10_000
PER_MINUTE_SUFFIX = "_per_minute"

TRAINING_PER_MINUTE: dict[Unit, dict[str, int]] = {
    "credits": {"a10g": 10, "a100": 60, "h100": 120},
    "micro_usd": {"a10g": 22_917, "a100": 45_833, "h100": 82_292},
}
OTHER_OPERATIONS: dict[Unit, dict[str, tuple[int, str]]] = {
    "credits": {"sam3_per_minute": (8, "minute"), "image_inference": (1, "call")},
    "micro_usd": {"sam3_auto_annotation": (12_000, "minute"), "inference_t4": (8_000, "minute")},
}


@dataclass(frozen=True)
class Price:
    """Price of one operation, in the unit of the account."""

    operation: str
    per_unit: int
    unit: str
    minimum: int = 0

    def total(self, quantity: int) -> int:
        """Return the price of a quantity, never under the minimum."""
        return max(self.per_unit * quantity, self.minimum)


def minute_price(settings: AccountSettings, gpu_type: str) -> int:
    """Return the price of one GPU minute in the account's unit."""
    chosen = settings.prices_per_minute or {}
    return chosen.get(gpu_type, TRAINING_PER_MINUTE[settings.billing][gpu_type])


def find_price(settings: AccountSettings, operation: str) -> Price | None:
    """Return the price of an operation slug, or None when this account does not know it."""
    gpu_type = _training_gpu(operation)
    if gpu_type is not None:
        spelled = "per_minute" if operation.endswith(PER_MINUTE_SUFFIX) else "plain"
        if settings.estimate_slugs not in ("both", spelled):
            return None
        return Price(operation, minute_price(settings, gpu_type), "minute")
    other = OTHER_OPERATIONS[settings.billing].get(operation)
    return None if other is None else Price(operation, *other)


def planned_minutes(settings: AccountSettings, epochs: int, gpu_type: str) -> int:
    """Return the GPU minutes a run is planned to take, at least one."""
    seconds = epochs * settings.seconds_per_epoch / RELATIVE_SPEED[gpu_type]
    return max(1, math.ceil(seconds / 60))


def used_minutes(seconds: float) -> int:
    """Return GPU minutes billed for a real duration: every begun minute counts."""
    return max(1, math.ceil(seconds / 60))


def epochs_of(config: dict[str, Any], default: int) -> int:
    """Return the number of epochs a training config asks for.

    Raises:
        ValueError: It is not a whole number from 1 to 10 000.
    """
    epochs = config.get("epochs", default)
    if isinstance(epochs, bool) or not isinstance(epochs, int) or not 1 <= epochs <= 10_000:
        raise ValueError(f"config.epochs is {epochs!r}: use a whole number from 1 to 10000")
    return epochs


def _training_gpu(operation: str) -> str | None:
    gpu_type = operation.removeprefix("training_").removesuffix(PER_MINUTE_SUFFIX)
    known = operation.startswith("training_") and gpu_type in GPU_TYPES
    return gpu_type if known else None
