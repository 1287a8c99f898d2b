"""An adapter's notes kept in memory, for tests that need no journal."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import JsonValue


@dataclass
class MemoryNotes:
    """Implements ``pipeline.provider.Notes``; ``written`` is every state in turn."""

    written: list[dict[str, JsonValue]] = field(default_factory=list)
    """What was written, in order."""

    def read(self) -> dict[str, JsonValue]:
        """Return what was written last; empty at first."""
        return dict(self.written[-1]) if self.written else {}

    def write(self, notes: dict[str, JsonValue]) -> None:
        """Keep this instead."""
        self.written.append(dict(notes))
