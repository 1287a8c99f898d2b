"""A webhook brings a deferred flow run forward, on a real Prefect server; forged and false ones pay nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.states import Cancelling, Running
from pydantic import SecretStr

import providers.pictograph.profile
from deployments.webhooks import create_app
from pipeline.models import ProviderProfile
from tasks.forwarding import bring_forward
from tasks.webhooks import Receiver, SigningSecret
from tests.deliveries import NOW_S, OTHER_SECRET, SECRET, delivery, send
from tests.fault.deployed import DeployedRun
from tests.fault.test_deferral_faults import AWAITING, STEPS, deferred, finish, record_of
from tests.fault.workbench import Workbench
from tests.waiting import eventually

LONG_S = 600.0
"""Sleeps of this length must end early for the test to end."""


@pytest.fixture
def bench(make_bench: Callable[..., Workbench]) -> Workbench:
    """An account whose trainings move on only when they are advanced."""
    return make_bench(script={"mode": "manual", "model": "uploaded", "steps": STEPS})


def due_in(run: DeployedRun) -> timedelta:
    """Return the time until a flow run is to come back."""
    state = run.facts().state
    assert state is not None
    assert state.state_details.scheduled_time is not None
    return timedelta(seconds=state.state_details.scheduled_time.timestamp() - time.time())


def is_due(run: DeployedRun) -> bool:
    """Tell whether a flow run is to come back now."""
    return due_in(run) <= timedelta(0)


def states_of(run: DeployedRun) -> list[State]:
    """Return the states a flow run was in, the first one first."""
    with get_client(sync_client=True) as client:
        return sorted(client.read_flow_run_states(run.id), key=lambda state: state.timestamp)


def inbox() -> FastAPI:
    """Return the receiver of deliveries about this provider's runs."""
    return create_app(Receiver(SigningSecret(None, SECRET), "pictograph", lambda: NOW_S))


def call(run: DeployedRun, delivery_id: str = "msg_1", secret: SecretStr = SECRET) -> httpx.Request:
    """Return a delivery about the training of a flow run."""
    return delivery(str(record_of(run).run_id), delivery_id, secret=secret, provider="pictograph")


def test_a_delivery_brings_the_flow_run_forward(bench: Workbench) -> None:
    """Received, verified, written down; the flow run is due at once, and ends with one training paid."""
    run = deferred(bench)
    assert due_in(run) > timedelta(seconds=20)
    finish(bench, run)
    assert send(inbox(), call(run), until=lambda: is_due(run)) == [204]
    assert run.state == AWAITING
    assert run.carry_out() == "Completed"
    assert bench.started() == 1
    assert not record_of(run).state.is_open


def test_a_delivery_wakes_the_flow_run_that_is_held(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes from its next look, it hears of the end, looks, and ends with the model."""
    usual = providers.pictograph.profile.pictograph_profile

    def calling(**facts: Any) -> ProviderProfile:
        return usual(**facts).model_copy(update={"sends_webhooks": True})

    monkeypatch.setattr(providers.pictograph.profile, "pictograph_profile", calling)
    monkeypatch.setattr("tasks.polling.time", time)  # it really sleeps
    statuses: list[int] = []

    def end_and_call() -> None:
        eventually(lambda: bench.sent("look"))
        run_id = str(bench.sent("look")[0]["path"]).rpartition("/")[2]
        bench.account.advance(run_id, ticks=2)
        statuses.extend(send(inbox(), delivery(run_id, provider="pictograph")))

    caller = threading.Thread(target=end_and_call, daemon=True)
    caller.start()
    began = time.monotonic()
    ended = bench.run(poll_interval_s=LONG_S)
    caller.join(LONG_S)
    assert (ended.state, statuses) == ("Completed", [204])
    assert time.monotonic() - began < LONG_S / 5
    assert len(bench.sent("look")) == 2


def test_a_false_delivery_costs_one_look(bench: Workbench) -> None:
    """The training goes on: looked at and deferred again; the same one again and a forged one move nothing."""
    run = deferred(bench)
    assert send(inbox(), call(run), until=lambda: is_due(run)) == [204]
    looks = len(bench.sent("look"))
    assert run.carry_out() == AWAITING
    assert len(bench.sent("look")) == looks + 1
    states = len(states_of(run))
    assert send(inbox(), call(run), call(run, "msg_2", OTHER_SECRET)) == [204, 401]
    assert not is_due(run)
    assert len(states_of(run)) == states
    assert bench.started() == 1


def test_one_that_is_about_to_come_back_is_left_alone(bench: Workbench) -> None:
    """A worker fetches it seconds before it is due: whoever set it then would start it a second time."""
    run = deferred(bench)
    run.bring_forward(AWAITING)
    states = len(states_of(run))
    assert bring_forward("pictograph", str(record_of(run).run_id)) is True
    assert len(states_of(run)) == states


def test_one_that_looks_right_now_is_asked_again(bench: Workbench) -> None:
    """It may have looked just before the training ended, and be about to leave: tried again, and left as it is."""
    run = deferred(bench)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Running(), force=True)
    assert bring_forward("pictograph", str(record_of(run).run_id)) is False
    assert run.state == "Running"


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_cancelled_flow_run_stays_cancelled(when: str, bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody wanted it to end, even in the very moment in which it was to be brought forward."""
    run = deferred(bench)
    set_state = SyncPrefectClient.set_flow_run_state

    def cancel() -> None:
        with get_client(sync_client=True) as client:
            set_state(client, run.id, Cancelling())

    def quicker(client: SyncPrefectClient, flow_run_id: Any, state: Any, force: bool = False) -> Any:
        if state.is_scheduled():
            cancel()
        return set_state(client, flow_run_id, state, force)

    if when == "before":
        cancel()
    else:
        monkeypatch.setattr(SyncPrefectClient, "set_flow_run_state", quicker)
    bring_forward("pictograph", str(record_of(run).run_id))
    assert run.state == "Cancelled"
    cancelled = [state for state in states_of(run) if state.is_cancelled()]
    assert len(cancelled) == (1 if when == "before" else 2)
