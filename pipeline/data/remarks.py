"""Collect findings: the first few of a kind in full, the rest as a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from pipeline.models import Finding, Severity

MOST_OF_A_KIND = 5
"""Findings of one code that are told in full; the thousandth says nothing that the fifth did not."""


class Remarks:
    """Findings in the order they were made."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self._seen: Counter[tuple[Severity, str]] = Counter()

    def add(self, severity: Severity, code: str, message: str) -> None:
        """Take one finding."""
        self.add_each(severity, code, [0], lambda _: message)

    def add_each(self, severity: Severity, code: str, where: Iterable[int], say: Callable[[int], str]) -> None:
        """Take one finding for every place; ``say`` is asked only for those told in full."""
        for place in where:
            self._seen[severity, code] += 1
            if self._seen[severity, code] <= MOST_OF_A_KIND:
                self._found.append(Finding(severity=severity, code=code, message=say(place)))

    @property
    def failed(self) -> bool:
        """True once there is an error."""
        return any(severity is Severity.ERROR for severity, _ in self._seen)

    def findings(self) -> tuple[Finding, ...]:
        """Return what was found; what was not told in full is counted."""
        told = list(self._found)
        for (severity, code), count in self._seen.items():
            if count > MOST_OF_A_KIND:
                text = f"{count - MOST_OF_A_KIND} more findings of the kind {code!r} are not listed"
                told.append(Finding(severity=severity, code=code, message=text))
        return tuple(told)
