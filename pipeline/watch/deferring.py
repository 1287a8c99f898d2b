"""When to look again at a training that nobody keeps a process for."""

from __future__ import annotations

from pipeline.models import PollPolicy, TrainingRun
from pipeline.watch.polling import next_wait_s

LEAST_S = 30.0
"""Bringing a flow run back takes its worker some ten seconds: looking more often keeps it busier than waiting would."""
BACK_S = 30.0
"""What bringing it back may take on a busy worker."""
MOST_S = 900.0
"""A run that fails early is billed until somebody looks."""
LATE_S = 3600.0
"""Seconds after it was due from which a flow run counts as one that nobody brings back."""


def next_look_s(run: TrainingRun, policy: PollPolicy, deadline_at_s: float | None, now_s: float) -> float | None:
    """Return the seconds until the next look; none when the deadline is here and the watch has to decide."""
    rare = policy.model_copy(
        update={
            "floor_s": max(policy.floor_s, LEAST_S),
            "interval_s": max(policy.interval_s, LEAST_S),
            "ceiling_s": max(policy.ceiling_s, MOST_S),
        }
    )
    wait_s = next_wait_s(rare, run.eta_s)
    if deadline_at_s is None:
        return wait_s
    left_s = deadline_at_s - now_s
    return None if left_s <= 0 else min(wait_s, max(left_s, 1.0))
