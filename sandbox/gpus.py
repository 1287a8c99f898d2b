"""The GPU tiers of the emulated provider: one table, from which prices, minutes, `auto` and memory are answered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Unit = Literal["credits", "micro_usd"]

MIB_PER_GIB = 1024


@dataclass(frozen=True)
class GpuTier:
    """One size of GPU: its memory, its speed in units of the slowest, and what a minute costs."""

    name: str
    memory_mib: int
    relative_speed: float
    credits_per_minute: int
    micro_usd_per_minute: int

    def per_minute(self, unit: Unit) -> int:
        """Return the price of a minute in an account's unit."""
        return self.credits_per_minute if unit == "credits" else self.micro_usd_per_minute


TIERS: Mapping[str, GpuTier] = {
    tier.name: tier
    for tier in (
        GpuTier("a10g", 24 * MIB_PER_GIB, 1.0, credits_per_minute=10, micro_usd_per_minute=22_917),
        GpuTier("a100", 40 * MIB_PER_GIB, 2.5, credits_per_minute=60, micro_usd_per_minute=45_833),
        GpuTier("h100", 80 * MIB_PER_GIB, 4.0, credits_per_minute=120, micro_usd_per_minute=82_292),
    )
}
