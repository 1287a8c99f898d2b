"""The window and the pages of a job listing, and the ids of models."""

import uuid

import pytest

from sandbox.photogpt.ids import time_ordered_id
from sandbox.photogpt.window import DAY_S, Window, WindowError, read_window, seq_of, token_of

NOW_S = 1_800_000_000.0
NOW = "2027-01-15T08:00:00Z"


def test_without_a_window_the_last_day_is_meant() -> None:
    """Neither start nor end: the 24 hours up to now."""
    assert read_window(None, None, NOW_S) == Window(NOW_S - DAY_S, NOW_S)


def test_an_end_alone_means_the_day_before_it() -> None:
    """The default length counts from the end that was given, whatever its zone."""
    assert read_window(None, "2027-01-10T10:00:00+02:00", NOW_S) == Window(NOW_S - 6 * DAY_S, NOW_S - 5 * DAY_S)


def test_seven_days_are_allowed_and_a_second_more_is_not() -> None:
    """The longest range is exactly a week."""
    assert read_window("2027-01-08T08:00:00Z", NOW, NOW_S).begin_s == NOW_S - 7 * DAY_S
    with pytest.raises(WindowError, match="over 7 days"):
        read_window("2027-01-08T07:59:59Z", NOW, NOW_S)


@pytest.mark.parametrize("text", ["yesterday", "2027-01-15", "2027-01-15T08:00:00", "1800000000", ""])
def test_what_is_no_instant_with_a_zone_is_refused(text: str) -> None:
    """Dates, local times and numbers are refused by name."""
    with pytest.raises(WindowError, match="start"):
        read_window(text, NOW, NOW_S)


def test_a_window_that_runs_backwards_is_refused() -> None:
    """Start after end."""
    with pytest.raises(WindowError, match="after"):
        read_window("2027-01-15T08:00:01Z", NOW, NOW_S)


def test_a_page_token_leads_back_to_its_item() -> None:
    """What the server made it can read."""
    assert [seq_of(token_of(seq)) for seq in (1, 77, 10**9)] == [1, 77, 10**9]


@pytest.mark.parametrize("token", ["", "x", "12", "!!!!", token_of(5)[:-2], "YmVmb3JlIA==", "NQ==", "é"])
def test_a_page_token_from_elsewhere_is_refused(token: str) -> None:
    """Damaged and invented ones."""
    with pytest.raises(WindowError):
        seq_of(token)


def test_a_model_id_tells_its_time_and_sorts_by_it() -> None:
    """Version 7, with the creation time in its first bits."""
    first, second = time_ordered_id(NOW_S), time_ordered_id(NOW_S + 0.001)
    assert uuid.UUID(first).version == 7
    assert int(first.replace("-", "")[:12], 16) == int(NOW_S * 1000)
    assert first < second
    assert time_ordered_id(NOW_S) != first
