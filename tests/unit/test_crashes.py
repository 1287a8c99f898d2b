"""Who wanted a flow run to run again: a person, or what brings runs back by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from prefect.states import Crashed, Pending, Running, Scheduled

from tasks.crashes import BROUGHT_BACK, _why_again, was_brought_back

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("names", "by_itself"),
    [
        (["Scheduled", "BackAfterCrash"], True),
        (["Scheduled", "AwaitingTraining", "Late"], True),
        (["Scheduled", "BackAfterCrash", "AwaitingConcurrencySlot", "Late"], True),
        (["Scheduled", "AwaitingRetry", "Resuming"], False),
        (["Scheduled", "Resuming", "BackAfterCrash"], True),
        (["Scheduled", "AwaitingTraining", "AwaitingRetry"], False),
        (["Scheduled", "AwaitingRetry", "Late"], False),
        (["Scheduled"], False),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_the_last_reason_counts(names: list[str], by_itself: bool) -> None:
    """Being late or waiting for a slot is no reason of its own, in whatever order the server tells its states."""
    states = [
        Scheduled(name=name, scheduled_time=START, timestamp=START + timedelta(minutes=minute))
        for minute, name in enumerate(names)
    ]
    between = [Pending(timestamp=START), Running(timestamp=START), Crashed(timestamp=START + timedelta(hours=1))]
    assert (_why_again([*between, *reversed(states)]) in BROUGHT_BACK) is by_itself


@pytest.mark.parametrize(("begun", "brought_back"), [(1, False), (2, True)])
def test_what_prefect_does_not_say_is_no_wish(begun: int, brought_back: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Prefect away a flow run that begins again starts nothing that is paid for; one that begins is a wish."""

    def away(**_: object) -> None:
        raise ConnectionError("Prefect is away")

    monkeypatch.setattr("tasks.crashes.get_client", away)
    monkeypatch.setattr("tasks.crashes.runtime", SimpleNamespace(flow_run=SimpleNamespace(run_count=begun, id="f")))
    assert was_brought_back() is brought_back
