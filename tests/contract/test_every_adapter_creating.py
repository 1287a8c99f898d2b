"""The one request that is paid for, each vendor's adapter against the sandbox: refused, unanswered, answered badly.

Paid runs are counted by the sandbox's own bill. What is expected is computed from the adapter's own profile.
"""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import (
    AuthenticationError,
    ConflictError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
    TransportError,
    UnexpectedResponseError,
    is_retryable,
)
from pipeline.models import GuaranteeLevel
from tests.contract.adapters import Bench, Ordered, in_flight, tried

PATIENCE_S, STALL_S = 0.3, 1.5
"""How long the adapter waits where a test makes it wait in vain, and for how long that would be."""
LOST: dict[str, tuple[dict[str, Any], type[ProviderError]]] = {
    "reset": ({"action": "reset"}, TransportError),
    "close": ({"action": "close"}, TransportError),
    "stall": ({"action": "stall", "seconds": STALL_S}, TransportError),
    "cut": ({"action": "truncate", "after_bytes": 7}, TransportError),
    "reset in mid-body": ({"action": "reset", "after_bytes": 7}, TransportError),
    "close in mid-body": ({"action": "close", "after_bytes": 7}, TransportError),
    "stall in mid-body": ({"action": "stall", "after_bytes": 7, "seconds": STALL_S}, TransportError),
    "500": ({"action": "status", "status": 500}, ProviderUnavailableError),
    "502 in HTML": ({"action": "body", "status": 502}, ProviderUnavailableError),
    "504": ({"action": "status", "status": 504}, ProviderUnavailableError),
    "408": ({"action": "status", "status": 408}, ProviderUnavailableError),
    "no JSON": ({"action": "body"}, UnexpectedResponseError),
    "another JSON": ({"action": "body", "body": "[7]"}, UnexpectedResponseError),
    "nothing": ({"action": "body", "status": 201, "body": ""}, UnexpectedResponseError),
}
"""Ways to lose the answer to a create that has had its effect, and what they are."""


def create_in_vain(bench: Bench, ready: Ordered, *, timeout_s: float = 5.0) -> ProviderError:
    """Return the error of a create."""
    provider = bench.adapter(timeout_s=timeout_s)
    with pytest.raises(ProviderError) as caught:
        bench.create(ready, provider)
    return caught.value


@pytest.mark.parametrize("how", LOST)
def test_a_lost_answer_says_that_the_run_may_exist(bench: Bench, how: str) -> None:
    """One request was sent and one run made; it is found by what was sent, by an adapter that knows nothing else."""
    fault, expected = LOST[how]
    ready = bench.order()
    bench.fault(bench.vendor.create, stage="after", **fault)
    error = create_in_vain(bench, ready, timeout_s=PATIENCE_S if fault["action"] == "stall" else 5.0)
    assert (type(error), error.context.outcome_unknown) == (expected, True)
    bench.control.clear_faults()
    assert (len(bench.asked(bench.vendor.create)), bench.started()) == (1, 1)
    found = bench.adapter().find_run(ready.plan, ready.order)
    assert (found is not None) is bench.profile.finds_runs
    by_name = bench.adapter().find_run(ready.plan)
    assert by_name is None or (found is not None and by_name.handle == found.handle)
    if found is not None:
        assert in_flight(found)
        assert (found.handle.name, found.warnings) == (ready.plan.run_name, ())
        assert bench.adapter().get_run(found.handle).handle == found.handle


@pytest.mark.parametrize("how", ["reset", "cut", "502 in HTML", "no JSON"])
def test_a_lost_answer_is_paid_for_once(bench: Bench, how: str) -> None:
    """By the core's rules the operation ends with its one run, or stops where nobody could tell; so again and again."""
    fault, _ = LOST[how]
    plan = bench.plan()
    bench.export(plan)
    bench.fault(bench.vendor.create, stage="after", times=1, **fault)
    tries = [tried(lambda: bench.create_once(plan)) for _ in range(3)]
    handles = [run.handle for run in tries if not isinstance(run, ProviderError)]
    assert all(error.context.outcome_unknown for error in tries if isinstance(error, ProviderError))
    once = bench.profile.guarantee is GuaranteeLevel.EXACTLY_ONCE
    assert (len(handles), len(set(handles))) == ((3, 1) if once else (0, 0))
    assert bench.started() == 1


@pytest.mark.parametrize("fault", [{"action": "reset"}, {"action": "status", "status": 503}], ids=["reset", "503"])
def test_a_create_that_had_no_effect_is_made_in_the_end(bench: Bench, fault: dict[str, Any]) -> None:
    """Nobody can tell it from a lost answer: where runs can be found it is sent again, else the operation stops."""
    plan = bench.plan()
    bench.export(plan)
    bench.fault(bench.vendor.create, stage="before", times=1, **fault)
    once = bench.profile.guarantee is GuaranteeLevel.EXACTLY_ONCE
    if once:
        assert bench.create_once(plan).handle == bench.create_once(plan).handle
    else:
        for _ in range(2):
            with pytest.raises(ProviderError) as caught:
                bench.create_once(plan)
            assert caught.value.context.outcome_unknown
            assert not is_retryable(caught.value), "nobody knows more a moment later"
    assert bench.started() == (1 if once else 0)


def test_a_slow_answer_to_a_create_is_an_answer(bench: Bench) -> None:
    """One within the timeout is as good as any; nothing is sent a second time meanwhile."""
    ready = bench.order()
    bench.fault(bench.vendor.create, action="stall", seconds=0.2, stage="after")
    assert in_flight(bench.create(ready))
    assert (len(bench.asked(bench.vendor.create)), bench.started()) == (1, 1)


def test_two_operations_are_told_apart(bench: Bench) -> None:
    """What one of them lost is not found by the other, by order or by name; both get a run of their own."""
    first, second = bench.order(), bench.order()
    bench.fault(bench.vendor.create, stage="after", action="reset", times=1)
    assert create_in_vain(bench, first).context.outcome_unknown
    assert bench.adapter().find_run(second.plan, second.order) is None
    assert bench.adapter().find_run(second.plan) is None
    run = bench.create(second)
    assert run.handle.name == second.plan.run_name
    found = bench.adapter().find_run(first.plan, first.order)
    assert found is None or found.handle.run_id != run.handle.run_id
    by_name = bench.adapter().find_run(first.plan)
    assert by_name is None or (found is not None and by_name.handle == found.handle)
    assert bench.started() == 2


def test_a_look_for_a_run_that_fails_is_not_its_absence(bench: Bench) -> None:
    """As long as the provider cannot be asked nothing is created; an adapter that never asks says so in its profile."""
    ready = bench.order()
    for route in (bench.vendor.look, bench.vendor.listing or bench.vendor.look):
        bench.fault(route, action="status", status=503)
    provider = bench.once
    if bench.profile.finds_runs:
        with pytest.raises(ProviderUnavailableError):
            provider.find_run(ready.plan, ready.order)
    else:
        assert provider.find_run(ready.plan, ready.order) is None
    assert bench.started() == 0


REFUSALS: dict[str, tuple[dict[str, Any], type[ProviderError]]] = {
    "401": ({"action": "status", "status": 401}, AuthenticationError),
    "402": ({"action": "status", "status": 402}, InsufficientCreditsError),
    "403": ({"action": "status", "status": 403}, PermissionDeniedError),
    "409": ({"action": "status", "status": 409}, ConflictError),
    "413": ({"action": "status", "status": 413}, InvalidRequestError),
    "422": ({"action": "status", "status": 422}, InvalidRequestError),
    # Long enough for an adapter that waits for room to give up after a few tries.
    "429": ({"action": "status", "status": 429, "retry_after": "900"}, RateLimitError),
    "302": ({"action": "status", "status": 302}, UnexpectedResponseError),
}
"""Refusals that mean the same wherever they come from."""
OWN: dict[str, type[ProviderError]] = {"refused": InvalidRequestError, "missing": NotFoundError}
"""Refusals in the vendors' own words."""


def test_a_refused_create_is_certain(bench: Bench) -> None:
    """It says why in its own kind of error and leaves nothing behind: the same order can be sent when it is mended."""
    ready = bench.order()
    own = {how: (getattr(bench.vendor, how).fault(), expected) for how, expected in OWN.items()}
    for how, (fault, expected) in {**REFUSALS, **own}.items():
        bench.fault(bench.vendor.create, **fault)
        error = create_in_vain(bench, ready)
        assert (type(error), error.context.outcome_unknown) == (expected, False), how
        assert error.context.status_code == fault["status"], how
        bench.control.clear_faults()
    assert bench.started() == 0
    assert in_flight(bench.create(ready))
    assert bench.started() == 1


def test_a_refusal_after_a_lost_answer_says_nothing_about_the_first(bench: Bench) -> None:
    """The operation stays unknown, or finds the run; it never believes that nothing was started."""
    plan = bench.plan()
    bench.export(plan)
    bench.fault(bench.vendor.create, action="reset", stage="after", times=1)
    bench.fault(bench.vendor.create, action="status", status=422)
    run = tried(lambda: bench.create_once(plan))
    assert isinstance(run, ProviderError) is not bench.profile.finds_runs
    assert run.context.outcome_unknown if isinstance(run, ProviderError) else in_flight(run)
    assert bench.started() == 1
