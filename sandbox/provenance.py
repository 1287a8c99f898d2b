"""One row of what the sandbox emulates, and the words for how it is known."""

from dataclasses import dataclass
from typing import Literal

Provenance = Literal["wire", "sdk", "src", "doc", "issue", "seed", "guess"]


@dataclass(frozen=True)
class Route:
    """One emulated call."""

    method: str
    path: str
    dialects: str
    """Versions of the vendor's API that have it; nothing where there is one version alone."""
    known: tuple[Provenance, ...]
    note: str = ""


@dataclass(frozen=True)
class Behaviour:
    """One emulated behaviour."""

    topic: str
    text: str
    known: tuple[Provenance, ...]
