"""The README's table of providers is what their profiles say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from docs.provider_table import FEATURES, HOW, PROFILES, features, guarantees
from pipeline.provider_requests import REQUESTS

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.mark.parametrize("table", [features, guarantees])
def test_the_readme_shows_the_tables(table: Callable[[], str]) -> None:
    """``python -m docs.provider_table`` prints what belongs there."""
    assert table() in README.read_text(encoding="utf-8")


def test_every_provider_that_can_be_asked_is_in_it() -> None:
    """In the order of the requests, and with no feature told twice."""
    assert [profile.name for profile in PROFILES] == list(REQUESTS)
    assert list(HOW) == list(REQUESTS)
    assert len({name for name, _ in FEATURES}) == len(FEATURES)


def test_no_column_repeats_another() -> None:
    """Four providers, four different sets of facts: a table that could not differ would prove nothing."""
    columns = {tuple(tell(profile) for _, tell in FEATURES) for profile in PROFILES}
    assert len(columns) == len(PROFILES)
