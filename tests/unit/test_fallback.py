"""What is tried after a run that did not fit into the GPU's memory."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import ConfigurationError
from pipeline.journal.records import OperationOutcome, OperationState
from pipeline.models import Operation, RunStatus, WatchedRun
from pipeline.requests import TrainConfig
from pipeline.start.fallback import after_attempt, next_attempt, where_it_stands
from tests.unit.conftest import make_estimate, make_plan, make_profile, make_request, make_run
from tests.unit.operations import make_record

OOM = "CUDA out of memory. Tried to allocate 2.00 GiB"


def _failed(message: str | None = OOM, **changes: Any) -> WatchedRun:
    return WatchedRun(run=make_run(RunStatus.FAILED, error_message=message, **changes))


def test_the_next_tier_is_a_new_attempt_of_the_same_operation() -> None:
    """Another key and another run name; for adoption it stays the training that was asked for."""
    plan = make_plan("op-1", on_out_of_memory="larger_gpu")
    following = next_attempt(plan, _failed())
    assert following is not None
    assert (following.request.gpu, following.operation.id, following.operation.attempt) == ("a100", "op-1", 2)
    assert following.operation_key != plan.operation_key
    assert following.run_name != plan.run_name
    assert (following.fingerprint, following.export_name) == (plan.fingerprint, plan.export_name)


def test_a_tier_the_provider_chose_is_followed_by_the_next_one() -> None:
    """With ``auto`` it is the run that says what it ran on."""
    plan = make_plan(on_out_of_memory="larger_gpu", gpu="a10g")
    following = next_attempt(plan, _failed(gpu="a100"))
    assert following is None  # the profile of these tests ends with a100
    assert next_attempt(plan, _failed(gpu="t4")) is None


def test_half_the_batch() -> None:
    """Halved again and again, down to one."""
    plan = make_plan(on_out_of_memory="half_batch", config=TrainConfig(batch_size=6))
    seen = []
    while (following := next_attempt(plan, _failed())) is not None:
        seen.append(following.request.config.batch_size)
        plan = following
    assert seen == [3, 1]
    assert plan.operation.attempt == 3


@pytest.mark.parametrize(
    "run",
    [
        _failed("num_samples=0"),
        _failed(None),
        WatchedRun(run=make_run(RunStatus.COMPLETED)),
        WatchedRun(run=make_run(error_message=OOM)),
        _failed().model_copy(update={"stopped": "over_budget"}),
        _failed().model_copy(update={"stopped": "cancelled"}),
    ],
    ids=["other-error", "no-reason", "completed", "still-running", "too-dear", "cancelled"],
)
def test_nothing_else_is_tried_again(run: WatchedRun) -> None:
    """Only a failure for want of memory is, and only of a run that nobody wanted ended."""
    assert next_attempt(make_plan(on_out_of_memory="larger_gpu"), run) is None


def test_it_is_tried_again_only_when_asked() -> None:
    """A larger GPU costs more: by default the run has failed."""
    assert next_attempt(make_plan(), _failed()) is None


def test_half_of_an_unknown_batch_is_refused_beforehand() -> None:
    """Before anything is spent, with the field to set."""
    with pytest.raises(ConfigurationError, match="set batch_size") as caught:
        make_plan(on_out_of_memory="half_batch")
    assert caught.value.context.field == "batch_size"


def test_an_open_attempt_is_carried_on_as_it_was_begun() -> None:
    """A rerun of the first command goes on with the larger tier its operation has got to."""
    asked = make_request(samples=3)
    attempted = make_request(gpu="a100", config=TrainConfig(batch_size=2), samples=9)
    assert asked.as_attempted(attempted) == make_request(gpu="a100", config=TrainConfig(batch_size=2), samples=3)


@pytest.mark.parametrize(
    ("outcome", "reason", "expected"),
    [
        (OperationOutcome.FAILED, OOM, "a100"),
        (OperationOutcome.FAILED, "num_samples=0", None),
        (OperationOutcome.CANCELLED, OOM, None),
    ],
)
def test_who_comes_back_between_two_attempts_goes_on_with_the_larger_one(
    outcome: OperationOutcome, reason: str, expected: str | None
) -> None:
    """After a crash, or a question to a person, the next attempt is the one that was about to be made."""
    request = make_request(on_out_of_memory="larger_gpu")
    ended = make_record(
        request=request, state=OperationState.CLOSED, outcome=outcome, reason=reason, estimate=make_estimate(gpu="a10g")
    )
    following = after_attempt(request, make_profile(), ended)
    assert (following.gpu if following is not None else None) == expected


def test_a_smaller_batch_is_made_of_the_same() -> None:
    """What the model is made of is what was asked for: the next night is not told that something changed."""
    plan = make_plan(on_out_of_memory="half_batch", config=TrainConfig(batch_size=6))
    following = next_attempt(plan, _failed())
    assert following is not None
    assert (following.request.config.batch_size, following.config_asked.batch_size) == (3, 6)


def test_an_operation_is_gone_on_with_where_it_stands() -> None:
    """The attempt that is open as it was begun; the one after a failure for want of memory a tier higher."""
    request, profile = make_request(on_out_of_memory="larger_gpu"), make_profile()
    assert where_it_stands(request, profile, Operation(id="op-1"), None) == request
    open_one = make_record(attempt=2, request=request.model_copy(update={"gpu": "a100"}))
    assert where_it_stands(request, profile, Operation(id="op-1", attempt=2), open_one).gpu == "a100"
    ended = {"state": OperationState.CLOSED, "outcome": OperationOutcome.FAILED, "estimate": make_estimate(gpu="a10g")}
    for reason, gpu in ((OOM, "a100"), ("num_samples=0", "a10g")):
        before = make_record(request=request, reason=reason, **ended)
        assert where_it_stands(request, profile, Operation(id="op-1", attempt=2), before).gpu == gpu
