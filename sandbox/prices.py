"""What things cost: the arithmetic on the table of GPU tiers, and the other operations' prices, without state."""

import math
from dataclasses import dataclass
from typing import Any

from sandbox.gpus import TIERS, Unit
from sandbox.settings import AccountSettings

DEFAULT_EPOCHS = 50
MICRO_USD_PER_CREDIT = 10_000
PER_MINUTE_SUFFIX = "_per_minute"

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
    return chosen.get(gpu_type, TIERS[gpu_type].per_minute(settings.billing))


def minute_prices(settings: AccountSettings) -> dict[str, int]:
    """Return the price of one GPU minute by tier."""
    return {gpu_type: minute_price(settings, gpu_type) for gpu_type in TIERS}


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
    seconds = epochs * settings.seconds_per_epoch / TIERS[gpu_type].relative_speed
    return max(1, math.ceil(seconds / 60))


def gpu_seconds(settings: AccountSettings, gpu_type: str, trained_s: float) -> float:
    """Return the time on a tier's GPU that a training time on this machine stands for."""
    return trained_s * settings.gpu_seconds_per_second / TIERS[gpu_type].relative_speed


def used_minutes(seconds: float) -> int:
    """Return GPU minutes billed for a time on the GPU: every begun minute counts."""
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
    known = operation.startswith("training_") and gpu_type in TIERS
    return gpu_type if known else None
