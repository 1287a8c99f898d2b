"""Tests of reading progress out of what a trainer prints."""

from __future__ import annotations

import pytest

from providers.replicate.logs import LogProgress, read_progress


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (" 38%|###8      | 6/16 [00:00<00:01, 7.83it/s]", LogProgress(38.0, 6, 16, 1.0)),
        ("100%|██████████| 16/16 [00:02<00:00,  7.89it/s]", LogProgress(100.0, 16, 16, 0.0)),
        ("  0%|          | 0/16 [00:00<?, ?it/s]", LogProgress(0.0, 0, 16, None)),
        (" 12%|█▏        | 12/100 [1:02:03<7:35:02, 310s/it]", LogProgress(12.0, 12, 100, 27_302.0)),
        ("50%|#####     | 5/10", LogProgress(50.0, 5, 10, None)),
        ("140%|##########| 14/10 [00:01<00:00]", LogProgress(100.0, 14, 10, 0.0)),
    ],
)
def test_a_bar_is_read(line: str, expected: LogProgress) -> None:
    """Percent, steps and the time to go, where the bar shows one."""
    assert read_progress(f"starting\n{line}\nsaved something\n") == expected


def test_the_last_of_several_bars_counts() -> None:
    """A second bar starts again at 0, and that is where the trainer is; rewritten lines are lines."""
    logs = " 50%|##  | 1/2 [00:01<00:01]\r100%|####| 2/2 [00:02<00:00]\nepoch 2\n 10%|#   | 1/10 [00:01<00:09, 1it/s]\n"
    assert read_progress(logs) == LogProgress(10.0, 1, 10, 9.0)


@pytest.mark.parametrize(
    "logs",
    [
        None,
        "",
        "loss 0.3 after 38% of it | 6/16",
        " 24%|##4       | 1.2M/5M [00:01<00:02, 1.1MB/s]",
        " 24%|##4       | 120/500M [00:01<00:02, 1.1MB/s]",
        " 24%|##4       | 1.2/5.0 [00:01<00:02, 1.1MB/s]",
        "Epoch 1: 100%|##########| 5/5 [00:01<00:00]",
    ],
)
def test_what_is_no_bar_of_steps_is_no_progress(logs: str | None) -> None:
    """Downloads count bytes with units, and a bar with a title measures a part."""
    assert read_progress(logs) is None


def test_a_bar_far_back_says_nothing_of_now() -> None:
    """Only the end of a long log is searched."""
    assert read_progress(" 38%|###8      | 6/16 [00:00<00:01]\n" + "x" * 70_000) is None
