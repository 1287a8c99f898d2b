"""Each thing about a run is shown once."""

from __future__ import annotations

import math

import pytest

from pipeline.models import RunStatus
from pipeline.watch.progress import LONGEST_LINE, MOST_LINES, Shown
from tests.unit.conftest import make_run


def test_a_word_is_news_once() -> None:
    """The provider's own word counts, not ours for it."""
    shown = Shown()
    words = ["queued", "queued", "warming_up", "provisioning", "provisioning", "queued"]
    news = [shown.new_word(make_run(RunStatus.UNKNOWN, provider_status=word)) for word in words]
    assert news == [True, False, True, True, False, True]


def test_a_line_is_news_once() -> None:
    """The same line again is not written again."""
    shown = Shown()
    assert [shown.new_line(make_run(), line) for line in ("a", "a", "b", "a")] == [True, False, True, True]


@pytest.mark.parametrize(
    ("progress", "percent"),
    [(None, 40.0), (0.0, 0.0), (55.5, 55.5), (100.0, 100.0), (-1.0, 40.0), (250.0, 40.0), (math.nan, 40.0)],
)
def test_percent_follow_the_run(progress: float | None, percent: float) -> None:
    """A run that begins again begins at nothing; what is no percentage changes nothing."""
    shown = Shown()
    shown.new_line(make_run(progress=40.0), "a")
    shown.new_line(make_run(progress=progress), "b")
    assert shown.percent == percent


def test_only_a_completed_run_is_whole() -> None:
    """A failed one stays where it was."""
    shown = Shown()
    shown.new_line(make_run(progress=40.0), "a")
    shown.new_line(make_run(RunStatus.FAILED), "b")
    assert shown.percent == 40.0
    shown.new_line(make_run(RunStatus.COMPLETED, progress=98.0), "c")
    assert shown.percent == 100.0


def test_a_stall_is_news_when_it_begins() -> None:
    """And again after the run has moved."""
    shown = Shown()
    assert [shown.new_stall(idle_s) for idle_s in (None, 50.0, 60.0, None, 50.0)] == [False, True, False, False, True]


# -- what a trainer prints --------------------------------------------------------------------------------------------


def test_each_line_of_a_log_is_shown_once_and_whole() -> None:
    """A line that is still being written waits for its end; the last one does not have to have one."""
    shown = Shown()
    looks = ["epoch 1\nepo", "epoch 1\nepoch 2\n", "epoch 1\nepoch 2\ndone"]
    seen = [shown.new_log_lines(make_run(logs=text)) for text in looks]
    assert seen == [["epoch 1"], ["epoch 2"], []]
    assert shown.new_log_lines(make_run(RunStatus.COMPLETED, logs=looks[-1])) == ["done"]


@pytest.mark.parametrize("lost", [None, "", "epoch 1\n"])
def test_a_log_that_shrinks_is_not_shown_again(lost: str | None) -> None:
    """The provider forgets it, or shows less of it for a while."""
    shown = Shown()
    shown.new_log_lines(make_run(logs="epoch 1\nepoch 2\n"))
    assert shown.new_log_lines(make_run(logs=lost)) == []
    assert shown.new_log_lines(make_run(logs="epoch 1\nepoch 2\nepoch 3\n")) == ["epoch 3"]


def test_bars_are_left_to_the_progress_and_floods_are_cut() -> None:
    """What is left is said to be the last of more; one line has its limit as well."""
    shown = Shown()
    bar = " 38%|###8      | 6/16 [00:00<00:01, 7.83it/s]\n"
    assert shown.new_log_lines(make_run(logs=f"{bar}loaded\n{bar}")) == ["loaded"]
    lines = Shown().new_log_lines(make_run(logs="".join(f"line {number}\n" for number in range(60))))
    assert (lines[0], lines[1], len(lines)) == ("(10 lines left out)", "line 10", MOST_LINES + 1)
    assert len(Shown().new_log_lines(make_run(logs="x" * 1000 + "\n"))[0]) == LONGEST_LINE
