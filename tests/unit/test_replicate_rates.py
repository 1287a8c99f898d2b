"""Tests of what Replicate's hardware costs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from pipeline.errors import BudgetExceededError, ConfigurationError, NotOfferedError
from pipeline.local_requests import ReplicateRequest
from pipeline.models import Money, RunStatus, TrainingRun, Unit
from pipeline.start.pricing import check_affordable
from providers.replicate.rates import MICRO_USD_PER_S, Rates
from providers.replicate.values import ReplicateSetup
from tests.unit.scripted_replicate import EXPORT, HANDLE, RUN_ID, ago, api, done, ok, plan, problem, training

GET = f"GET /v1/trainings/{RUN_ID}"


def _usd(amount: int) -> Money:
    return Money(amount=amount, unit=Unit.MICRO_USD)


def _run(status: RunStatus = RunStatus.COMPLETED, **fields: Any) -> TrainingRun:
    return TrainingRun(handle=HANDLE, status=status, provider_status="x", **fields)


def test_minutes_that_were_named_are_priced() -> None:
    """20 minutes on a T4 at 225 millionths a second are $0.27."""
    estimate = api({}).provider.estimate_cost(plan(gpu_minutes=20), EXPORT)
    assert (estimate.total, estimate.per_minute, estimate.gpu) == (_usd(270_000), _usd(13_500), "gpu-t4")
    assert estimate.source == "estimate"


def test_a_cap_is_kept_with_the_minutes_named_and_not_without() -> None:
    """A guess is shown, and refused as soon as a cap is to be compared with it."""
    named, guessed = plan(gpu_minutes=20, budget_usd=0.2), plan(budget_usd=0.2)
    provider = api({}).provider
    with pytest.raises(BudgetExceededError):
        check_affordable(provider.estimate_cost(named, EXPORT), named.request)
    with pytest.raises(ConfigurationError, match="gpu_minutes"):
        check_affordable(provider.estimate_cost(guessed, EXPORT), guessed.request)


def test_hardware_without_a_rate_is_refused_with_what_has_one() -> None:
    """The sentence names the field and every name of the table."""
    with pytest.raises(ConfigurationError, match="gpu-h100-8x") as caught:
        api({}).provider.estimate_cost(plan(hardware="gpu-b200"), EXPORT)
    assert caught.value.context.field == "hardware"
    assert all(name in caught.value.message for name in MICRO_USD_PER_S)


def test_rates_can_be_overridden_and_added_to() -> None:
    """The table is data: a newer price wins, and new hardware gets one."""
    setup = ReplicateSetup(rates={"gpu-t4": 1_000, "gpu-b200": 2_500.5})
    provider = api({}, setup=setup).provider
    assert provider.estimate_cost(plan(gpu_minutes=1), EXPORT).total == _usd(60_000)
    assert provider.estimate_cost(plan(gpu_minutes=1, hardware="gpu-b200"), EXPORT).total == _usd(150_030)


@pytest.mark.parametrize(
    ("run", "charged"),
    [
        (_run(metrics={"predict_time": 100.0}), 22_500),
        (_run(RunStatus.CANCELLED, metrics={"predict_time": 3e-06}), 0),
        (_run(RunStatus.FAILED, metrics={"predict_time": 10}), 2_250),
        (_run(RunStatus.CANCELLED).model_copy(update={"provider_status": "aborted"}), 0),
        (
            _run(
                RunStatus.FAILED,
                started_at=datetime(2026, 1, 1, tzinfo=UTC),
                completed_at=datetime(2026, 1, 1, 0, 0, 40, tzinfo=UTC),
            ),
            9_000,
        ),
    ],
)
def test_an_ended_run_is_settled_from_its_seconds(run: TrainingRun, charged: int) -> None:
    """Seconds as measured, else as the times say; what never ran is free."""
    settled = api({}).provider.settle(run)
    assert settled is not None
    assert (settled.charged, settled.refunded) == (_usd(charged), _usd(0))


CANCELED = {"status": "canceled"}
BEGAN = {**CANCELED, "started_at": ago(seconds=50)}


@pytest.mark.parametrize(
    ("seen", "charged"),
    [
        ({**CANCELED, "metrics": {"predict_time": 10}}, 2_250),
        ({**BEGAN, "completed_at": ago(seconds=10)}, 9_000),
        ({"status": "failed"}, 0),
        (CANCELED, 0),
        ({"status": "aborted", "started_at": ago(seconds=50)}, 0),
    ],
)
@pytest.mark.parametrize("started_at", [None, datetime(2026, 1, 1, tzinfo=UTC)])
def test_an_ended_run_that_shows_no_seconds_is_looked_at_again(
    seen: dict[str, Any], charged: int, started_at: datetime | None
) -> None:
    """The answer to a cancel shows less than a look; it is free only if that shows no start either."""
    server = api({GET: ok(training(**seen))})
    settled = server.provider.settle(_run(RunStatus.CANCELLED, started_at=started_at))
    assert settled is not None
    assert settled.charged == _usd(charged)
    assert server.lines() == [GET]


@pytest.mark.parametrize(
    "answer",
    [
        ok(training(**BEGAN)),
        ok(training(**CANCELED, metrics={"predict_time": "long"})),
        ok(training()),
        problem(404),
    ],
    ids=["no end", "no figure", "goes on", "gone"],
)
def test_seconds_that_stay_unknown_are_not_taken_for_none(answer: httpx.Response) -> None:
    """Cancelled time is billed: an error leaves what is held for the run held."""
    with pytest.raises(NotOfferedError, match="does not show how long") as caught:
        api({GET: answer}).provider.settle(_run(RunStatus.CANCELLED))
    assert caught.value.context.run_id == HANDLE.run_id


def test_a_completed_run_that_shows_its_seconds_late_is_billed_by_them() -> None:
    """A row of a list shows none."""
    settled = api({GET: ok(done())}).provider.settle(_run())
    assert settled is not None
    assert settled.charged == _usd(22_500)


@pytest.mark.parametrize(
    "run", [_run(RunStatus.RUNNING, metrics={"predict_time": 1}), _run(), _run(metrics={"predict_time": True})]
)
def test_what_is_not_known_yet_is_not_settled(run: TrainingRun) -> None:
    """A run that goes on, and a completed one that shows no seconds, keep what is held for them."""
    assert api({}).provider.settle(run) is None


def test_the_hardware_a_run_was_made_with_wins() -> None:
    """The run's own, where it is known, and the adapter's else."""
    settled = api({}).provider.settle(_run(gpu="cpu", metrics={"predict_time": 100.0}))
    assert settled is not None
    assert settled.charged == _usd(10_000)


@pytest.mark.parametrize("hardware", [None, "gpu-b200"])
def test_a_run_of_unknown_hardware_is_not_taken_for_free(hardware: str | None) -> None:
    """Nothing said would book a failed run at nothing; an error leaves what is held for it held."""
    provider = api({}, setup=ReplicateSetup(hardware=hardware)).provider
    with pytest.raises(NotOfferedError, match="no rate here"):
        provider.settle(_run(RunStatus.FAILED, metrics={"predict_time": 100.0}))


@pytest.mark.parametrize(
    ("name", "same"), [("gpu-2x-a100-large", "gpu-a100-large-2x"), ("gpu-l40s-4x", "gpu-4x-l40s"), ("cpu", "cpu")]
)
def test_several_devices_are_spelled_either_way(name: str, same: str) -> None:
    """Lists and pages of the provider put the count before or behind."""
    assert Rates().of(name) == MICRO_USD_PER_S[same]
    assert Rates({name: 7}).of(name) == 7


def test_every_rate_is_above_nothing_and_doubles_with_the_devices() -> None:
    """A slip of the pen in the table shows as a device that costs another multiple."""
    assert all(rate > 0 for rate in MICRO_USD_PER_S.values())
    for name, rate in MICRO_USD_PER_S.items():
        for count in (2, 4, 8):
            for several in (f"{name}-{count}x", name.replace("gpu-", f"gpu-{count}x-", 1)):
                assert MICRO_USD_PER_S.get(several, rate * count) == rate * count or several == name


def test_the_request_decides_the_rate() -> None:
    """Rates read the request's hardware and minutes, nothing of the adapter."""
    request = plan(hardware="cpu", gpu_minutes=2).asked_of(ReplicateRequest)
    assert Rates().estimate(request).total == _usd(12_000)
