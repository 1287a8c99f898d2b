"""Replicate's own words, ids and instants."""

import secrets
from datetime import UTC, datetime

TRAINING, PREDICTION, MODEL, VERSION, FILE, DELIVERY = (
    f"replicate.{what}" for what in ("training", "prediction", "model", "version", "file", "delivery")
)
_WORDS = {
    "pending": "starting",
    "queued": "starting",
    "running": "processing",
    "completed": "succeeded",
    "cancelled": "canceled",
}
_NEUTRAL = {"starting": "queued", "processing": "running", "succeeded": "completed", "canceled": "cancelled"}
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_CHARS = 26


def word(status: str) -> str:
    """Return the vendor's word for a script's; words it has no other for pass through."""
    return _WORDS.get(status, status)


def neutral(status: str) -> str:
    """Return a script's word for the vendor's; other words pass through."""
    return _NEUTRAL.get(status, status)


def new_run_id() -> str:
    """Return a fresh id of a training or prediction."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARS))


def stamp(at_s: float | None, digits: int = 6) -> str | None:
    """Write an instant with so many digits after the second."""
    if at_s is None:
        return None
    nanoseconds = round(at_s * 1_000_000) * 1000
    second = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{second}.{nanoseconds % 1_000_000_000:09d}"[: len(second) + 1 + digits] + "Z"
