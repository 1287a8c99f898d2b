"""When a deferred flow run looks again."""

from __future__ import annotations

import pytest

from pipeline.watch.deferring import LEAST_S, MOST_S, next_look_s
from tests.unit.conftest import POLICY, make_run

NOW = 1_000.0


@pytest.mark.parametrize(
    ("eta_s", "expected"),
    [(None, LEAST_S), (10.0, LEAST_S), (600.0, 300.0), (1e6, MOST_S)],
    ids=["no-forecast", "nearly-done", "half-of-the-rest", "very-long"],
)
def test_half_of_the_rest_between_the_bounds(eta_s: float | None, expected: float) -> None:
    """Not so often that bringing the flow back is the work, not so rarely that a failed run is billed for long."""
    assert next_look_s(make_run(eta_s=eta_s), POLICY, None, NOW) == expected


def test_the_deadline_is_not_slept_through() -> None:
    """The last look comes at the deadline; after it the watch decides."""
    run = make_run(eta_s=600.0)
    assert next_look_s(run, POLICY, NOW + 100, NOW) == 100
    assert next_look_s(run, POLICY, NOW, NOW) is None
    assert next_look_s(run, POLICY, NOW - 1, NOW) is None


def test_a_fixed_interval_is_kept() -> None:
    """Whoever fixed it gets it, above the least."""
    policy = POLICY.model_copy(update={"fixed": True, "interval_s": 120.0})
    assert next_look_s(make_run(eta_s=4.0), policy, None, NOW) == 120.0
