"""Operations as the journal holds them, for the tests of the sweep."""

from __future__ import annotations

from typing import Any

from pipeline.journal.records import OperationRecord, OperationState, Owner
from pipeline.journal.rows import Intent
from pipeline.journal.store import Journal
from pipeline.models import RunHandle, TrainPlan
from tests.unit.conftest import FakeProvider, make_estimate, make_plan, make_profile

NOW_S = 1_800_000_000.0
"""When the tests look."""
OWNER = Owner(host="h", pid=1, born="1", flow_run_id="flow-1")
HANDLE = RunHandle(provider="pictograph", run_id="r1", name="run-1", dataset="road-signs")


class Account(FakeProvider):
    """A fake with the two facts a sweep asks for."""

    account = "account-1"
    profile = make_profile()


def make_record(**changes: Any) -> OperationRecord:
    """Return an attempt that was created an hour ago and whose process is gone."""
    plan = make_plan("op-1")
    facts: dict[str, Any] = {
        "key": plan.operation_key,
        "operation_id": "op-1",
        "attempt": 1,
        "provider": "pictograph",
        "account": "account-1",
        "sandbox": False,
        "fingerprint": plan.fingerprint,
        "job": plan.job,
        "run_name": plan.run_name,
        "request": plan.request,
        "state": OperationState.CREATED,
        "handle": HANDLE,
        "run_id": HANDLE.run_id,
        "flow_run_id": "flow-1",
        "estimate": make_estimate(100),
        "deadline_at_s": NOW_S + 3600,
        "created_at_s": NOW_S - 3600,
        "updated_at_s": NOW_S - 3600,
    }
    return OperationRecord(**{**facts, **changes})


def begin(journal: Journal, operation_id: str, *, handle: RunHandle | None = None, **request: Any) -> TrainPlan:
    """Write an attempt down, and its run where there is one; return its plan."""
    plan = make_plan(operation_id, **request)
    intent = Intent(plan, "account-1", {}, make_estimate(100), OWNER, owner_until_s=0.0)
    journal.intend(intent)
    if handle is not None:
        journal.created(plan.operation_key, handle)
    return plan
