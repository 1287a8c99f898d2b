"""A bound on coming back after a crash: what brings a flow run back knows no end by itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from prefect import get_client, runtime
from prefect.client.schemas.objects import State

from pipeline.errors import CrashLoopError

CRASHES_MOST = 20
"""Crashes after which a flow run is not carried out again."""
BACK_AFTER_CRASH = "BackAfterCrash"
"""Name of the state that puts a crashed run back on the schedule; counted, for a deferred run begins often as well."""

BROUGHT_BACK = frozenset({BACK_AFTER_CRASH, "AwaitingTraining"})
"""Names of the states from which a flow run begins again by itself; ``AwaitingRetry`` and ``Resuming`` are people's."""

_WAITING = frozenset({"Late", "AwaitingConcurrencySlot"})


def refuse_crash_loop() -> None:
    """End a flow run that crashed and came back again and again; its training goes on at the provider.

    Raises:
        CrashLoopError: It did.
    """
    begun = runtime.flow_run.run_count or 1
    if begun <= CRASHES_MOST:  # spares every usual run the question
        return
    crashes = _count_returns(str(runtime.flow_run.id))
    if crashes >= CRASHES_MOST:
        raise CrashLoopError(
            f"this flow run has crashed and come back {crashes} times: it is not carried out again; find out why its "
            f"process dies, then start a flow run with the operation of this one (see its log, or the sweep's table)"
        )


def was_brought_back() -> bool:
    """Tell whether this flow run runs again without a person having asked: after a crash, or a deferral.

    True as well when Prefect does not say: what is not known to be a wish starts nothing that is paid for.
    """
    if (runtime.flow_run.run_count or 1) <= 1:
        return False
    try:
        with get_client(sync_client=True) as client:
            states = client.read_flow_run_states(UUID(str(runtime.flow_run.id)))
    except Exception:  # whatever its client raises
        return True
    return _why_again(states) in BROUGHT_BACK


def _why_again(states: Iterable[State[Any]]) -> str | None:
    """Return the name of the state a flow run was scheduled with last; being late or queued is no reason of its own."""
    reasons = [state for state in states if state.is_scheduled() and state.name not in _WAITING]
    last = max(reasons, key=lambda state: state.timestamp, default=None)
    return last.name if last is not None else None


def _count_returns(flow_run_id: str) -> int:
    try:
        with get_client(sync_client=True) as client:
            states = client.read_flow_run_states(UUID(flow_run_id))
    except Exception:  # whatever its client raises: a run is not ended because Prefect is away
        return 0
    return sum(state.name == BACK_AFTER_CRASH for state in states)
