"""The runs that are waited for in ``bench/waiting.py``, and the rules for the next look that are compared over them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pipeline.models import TrainingRun


class VirtualTime:
    """The sandbox's clock and both waiters' ``time`` module in one: sleeping is what makes time pass."""

    def __init__(self) -> None:
        self._now_s = 1_800_000_000.0

    def now_s(self) -> float:
        """Return seconds since the epoch."""
        return self._now_s

    def monotonic(self) -> float:
        """Return the same."""
        return self._now_s

    def sleep(self, seconds: float, /) -> None:
        """Move on."""
        self._now_s += seconds


@dataclass(frozen=True)
class Scenario:
    """One kind of run."""

    name: str
    """For the table."""
    eta_noise: float = 0.0
    """Relative error of the provider's prediction, drawn anew each epoch."""
    stepwise: bool = False
    """Progress and prediction move ten times in the whole run, as where they are worked out once an epoch."""
    tail: bool = False
    """After the last epoch the run stays at 99 % with a prediction of 0 for a quarter of its time, 3 min at most."""
    eta_factor: float | None = 1.0
    """What our waiter sees of the prediction; none hides it. The published client's loop does not use it."""

    def steps(self, minutes: int, draw: float) -> list[dict[str, Any]]:
        """Return the sandbox's script of a run of this kind."""
        length_s = minutes * 60.0 * (1.0 + 0.05 * draw)
        running: list[dict[str, Any]] = [{"status": "running", "for_s": length_s, "epochs": 50}]
        if self.stepwise:
            running = [
                {
                    "status": "running",
                    "for_s": length_s / 10,
                    "progress": 10 * number,
                    "eta_seconds": round(length_s * (10 - number) / 10),
                }
                for number in range(10)
            ]
        if self.tail:
            stuck = {"status": "running", "progress": 99, "eta_seconds": 0}
            running.append({**stuck, "for_s": min(180.0, length_s / 4)})
        return [{"status": "queued", "for_s": 10.0 + 5.0 * draw}, *running, {"status": "completed"}]


SCENARIOS = (
    Scenario("prediction exact"),
    Scenario("prediction +-30 %", eta_noise=0.3),
    Scenario("prediction +-60 %", eta_noise=0.6),
    Scenario("prediction 40 % short", eta_factor=0.6),
    Scenario("prediction 50 % long", eta_factor=1.5),
    Scenario("no prediction", eta_factor=None),
    Scenario("prediction in 10 steps", stepwise=True),
    Scenario("progress in 10 steps", stepwise=True, eta_factor=None),
    Scenario("stuck at 99 %", tail=True),
)


class Forecast(Protocol):
    """Predicts the rest of one run."""

    def __call__(self, run: TrainingRun) -> float | None:
        """Return the seconds to go."""


@dataclass(frozen=True)
class Rule:
    """A way to choose the next look."""

    name: str
    """For the table."""
    policy: dict[str, Any] = field(default_factory=dict)
    """Changes to the profile's policy."""
    share: float = 0.5
    """Share of the predicted rest to let pass; the real rule takes a half."""
    literal: bool = False
    """True takes the provider's prediction at its word, without our correction for age and without a pace."""


RULES = (
    Rule("chosen"),
    Rule("at its word, floor 5 s", {"floor_s": 5.0}, literal=True),
    Rule("at its word, floor 2 s", literal=True),
    Rule("floor 5 s", {"floor_s": 5.0}),
    Rule("floor 3 s", {"floor_s": 3.0}),
    Rule("60 % of the rest", share=0.6),
    Rule("70 % of the rest", share=0.7),
    Rule("90 % of the rest", share=0.9),
    Rule("ceiling 120 s", {"ceiling_s": 120.0}),
    Rule("ceiling 300 s", {"ceiling_s": 300.0}),
)


def as_seen(run: TrainingRun, scenario: Scenario) -> TrainingRun:
    """Return a look with the prediction our waiter is shown."""
    if run.eta_s is None or scenario.eta_factor == 1.0:
        return run
    eta_s = None if scenario.eta_factor is None else run.eta_s * scenario.eta_factor
    return run.model_copy(update={"eta_s": eta_s})


def forecast_of(rule: Rule, clock: VirtualTime) -> Forecast:
    """Return what a rule predicts for the rest of one run."""
    from pipeline.models import RunStatus
    from pipeline.watch.forecasting import RunForecast

    corrected = RunForecast(clock)

    def forecast(run: TrainingRun) -> float | None:
        at_its_word = run.eta_s if run.status is RunStatus.RUNNING else None
        rest_s = at_its_word if rule.literal else corrected(run)
        # The loop takes half of what it is told, so another share is told as another rest.
        return rest_s * rule.share / 0.5 if rest_s is not None and rest_s > 0 else rest_s

    return forecast
