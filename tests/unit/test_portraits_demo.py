"""The made-up person's pictures can be trained on, and are the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.data.portraits import inspect_portraits
from pipeline.models import Severity
from sandbox.portraits_demo import write_portraits


def test_the_pictures_pass_every_check(tmp_path: Path) -> None:
    """They are what a person would hand over."""
    write_portraits(tmp_path / "faces", 12)
    report = inspect_portraits(tmp_path / "faces")
    assert report.count == 12
    assert [finding for finding in report.findings if finding.severity is not Severity.INFO] == []


def test_the_same_seed_gives_the_same_pictures(tmp_path: Path) -> None:
    """And another one another person."""
    drawn = [
        [path.read_bytes() for path in write_portraits(tmp_path / name, 12, seed)]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


@pytest.mark.parametrize("count", [11, 21])
def test_a_number_that_cannot_be_trained_on_is_not_drawn(tmp_path: Path, count: int) -> None:
    """The message says how many can."""
    with pytest.raises(ValueError, match="12 to 20"):
        write_portraits(tmp_path, count)
