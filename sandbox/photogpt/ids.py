"""The forms of PhotoGPT's identifiers."""

import secrets
import uuid


def time_ordered_id(now_s: float) -> str:
    """Return a UUID of version 7: its first 48 bits are the time in ms, so that ids sort by creation."""
    bits = int(now_s * 1000) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=bits & (1 << 128) - 1))


def job_id() -> str:
    """Return a fresh job id."""
    return f"job_{secrets.token_hex(12)}"


def secret() -> str:
    """Return the part of a picture's address that nobody guesses."""
    return secrets.token_hex(24)
