"""Whether a training fits a tier's GPU memory, and which tier `auto` takes, as an account's settings have it."""

from collections.abc import Mapping
from typing import Any

from sandbox.gpus import TIERS
from sandbox.memory import UNESTIMATED, cheapest_fitting, out_of_memory, predicted_mib
from sandbox.prices import minute_prices
from sandbox.settings import AccountSettings

AUTO = "auto"
AUTOSELECT_KEY = "gpu_autoselect"
"""Where a run's config tells what became of `auto`."""


def need_mib(settings: AccountSettings, pipeline_type: str, config: Mapping[str, Any]) -> int:
    """Return the memory a training needs; nothing on an account whose GPUs never run out of it."""
    return predicted_mib(pipeline_type, config) if settings.gpu_memory == "emulated" else 0


def auto_choice(settings: AccountSettings, pipeline_type: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `auto` comes to: the cheapest tier that fits, the largest where none does."""
    need = need_mib(settings, pipeline_type, config)
    tier = cheapest_fitting(need, minute_prices(settings))
    predicted = None if pipeline_type in UNESTIMATED else need or None
    return {"requested": AUTO, "gpu_type": tier.name, "total_mib": tier.memory_mib, "predicted_mib": predicted}


def quoted_fits(settings: AccountSettings, pipeline_type: str, config: Mapping[str, Any], gpu_type: str) -> bool | None:
    """Return whether a quote says that a training fits a tier; None where the vendor's says nothing."""
    if pipeline_type in UNESTIMATED:
        return None
    return need_mib(settings, pipeline_type, config) <= TIERS[gpu_type].memory_mib


def memory_failure(settings: AccountSettings, run: Mapping[str, Any]) -> str | None:
    """Return the error with which a run's worker ends for want of GPU memory, or None."""
    need = need_mib(settings, run["pipeline_type"], run["config"])
    return out_of_memory(need, TIERS[run["gpu_type"]])
