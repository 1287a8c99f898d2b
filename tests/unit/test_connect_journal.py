"""The journal and the caps as the environment names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError
from pipeline.journal.budget import NO_CAPS, Caps
from providers import connect as module
from providers.connect import open_journal, read_caps
from providers.settings import read_settings

PASSWORD = "pg_canary-0b5e55ed"  # noqa: S105 - of nothing
CAPS = {
    "TRAIN_PIPELINE_DAY_CAP_USD": "day_usd",
    "TRAIN_PIPELINE_MONTH_CAP_USD": "month_usd",
    "TRAIN_PIPELINE_DAY_CAP_CREDITS": "day_credits",
    "TRAIN_PIPELINE_MONTH_CAP_CREDITS": "month_credits",
}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start every test without any of the variables."""
    for name in (*CAPS, "TRAIN_PIPELINE_JOURNAL"):
        monkeypatch.delenv(name, raising=False)


def test_the_journal_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's path, blanks around it taken off."""
    monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", f"  {tmp_path}/team.db ")
    open_journal().close()
    assert (tmp_path / "team.db").is_file()


@pytest.mark.parametrize("value", [None, "", "  "])
def test_without_a_word_it_is_this_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """Under the home folder, which nobody else may read."""
    monkeypatch.setenv("HOME", str(tmp_path))
    if value is not None:
        monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", value)
    open_journal().close()
    made = tmp_path / ".local" / "share" / "train-pipeline"
    assert (made / "journal.db").is_file()
    assert made.stat().st_mode & 0o077 == 0


def test_an_address_that_cannot_be_used_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not repeated: it may hold a password."""
    monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", f"mysql://team:{PASSWORD}@db/journal")
    with pytest.raises(ConfigurationError, match="TRAIN_PIPELINE_JOURNAL") as caught:
        open_journal()
    assert PASSWORD not in str(caught.value)
    assert PASSWORD not in repr(read_settings()) + repr(vars(module))


def test_no_variable_is_no_cap() -> None:
    """Spending is then limited by the request alone."""
    assert read_caps() == NO_CAPS


@pytest.mark.parametrize(("variable", "field"), CAPS.items())
def test_each_variable_sets_its_own_cap(variable: str, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no other."""
    monkeypatch.setenv(variable, "12")
    assert read_caps() == Caps(**{field: 12})


@pytest.mark.parametrize("variable", CAPS)
@pytest.mark.parametrize("value", ["0", "-1", "much", "nan", "inf"])
def test_a_cap_that_is_none_names_its_variable(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cap that cannot be read is not taken for no cap."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=variable) as caught:
        read_caps()
    assert caught.value.context.field == variable
