"""What a second of Replicate's hardware costs, and what a run of so many seconds costs an account."""

import math

from sandbox.accounts import Account

MICRO_USD_PER_S: dict[str, int] = {
    "cpu": 100,
    "gpu-t4": 225,
    "gpu-a40-small": 575,
    "gpu-a40-large": 725,
    "gpu-l40s": 975,
    "gpu-2x-l40s": 1950,
    "gpu-a100-large": 1400,
    "gpu-2x-a100-large": 2800,
    "gpu-h100": 1525,
}
NAMES = {
    "cpu": "CPU",
    "gpu-t4": "Nvidia T4 GPU",
    "gpu-a40-small": "Nvidia A40 GPU",
    "gpu-a40-large": "Nvidia A40 (Large) GPU",
    "gpu-l40s": "Nvidia L40S GPU",
    "gpu-2x-l40s": "2x Nvidia L40S GPU",
    "gpu-a100-large": "Nvidia A100 (80GB) GPU",
    "gpu-2x-a100-large": "2x Nvidia A100 (80GB) GPU",
    "gpu-h100": "Nvidia H100 GPU",
}
_MICRO_USD_PER_CREDIT = 10_000


def cost(account: Account, hardware: str, seconds: float) -> int:
    """Return what so many seconds cost in the account's unit; hardware nobody knows costs what a T4 does.

    The nearest millionth of a dollar, so that whoever multiplies the seconds shown with the rate comes to the bill;
    what ran at all is on it.
    """
    rate = MICRO_USD_PER_S.get(hardware, MICRO_USD_PER_S["gpu-t4"])
    micro_usd = max(1, round(seconds * rate)) if seconds > 0 else 0
    return micro_usd if account.settings.billing == "micro_usd" else math.ceil(micro_usd / _MICRO_USD_PER_CREDIT)
