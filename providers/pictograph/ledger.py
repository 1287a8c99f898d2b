"""Which entries of Pictograph's ledger belong to one run; no call says so, so their words are read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from pipeline.models import RunHandle
from providers.pictograph.values import LedgerEntry


def back_to(entries: Iterable[LedgerEntry], created_at: datetime | None) -> Iterator[LedgerEntry]:
    """Yield entries until a ledger that runs from new to old has passed the run's creation."""
    previous: datetime | None = None
    for entry in entries:
        moment = entry.created_at
        backwards = previous is not None and moment is not None and moment < previous
        if backwards and created_at is not None and moment is not None and created_at - moment > timedelta(hours=1):
            return
        previous = moment
        yield entry


def is_about(entry: LedgerEntry, handle: RunHandle) -> bool:
    """Tell whether an entry names the run, by id anywhere or by its whole name in the description."""
    if handle.run_id in json.dumps(entry.metadata):
        return True
    words = entry.description or ""
    named = re.search(rf"(?<![\w-]){re.escape(handle.name)}(?![\w-])", words)
    return handle.run_id in words or named is not None
