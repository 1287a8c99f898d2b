"""A price above ``approve_above`` is asked about once; without a yes nothing is started."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from typing import Any

import pytest
from prefect import get_client

from pipeline.models import Outcome
from tests.fault.deployed import DeployedRun, deploy
from tests.fault.workbench import Workbench, status

LOW = 0.01
"""Dollars that any training here costs more than."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note what is announced about approvals."""
    noted: list[str] = []
    monkeypatch.setattr("tasks.approval.announce", lambda event, *_, **__: noted.append(event))
    return noted


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Give this process a terminal to read from; what is written here was typed."""
    ours, its = pty.openpty()
    with os.fdopen(its, encoding="utf-8") as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        yield ours
    os.close(ours)


def form_of(run: DeployedRun) -> str:
    """Return what the form on the flow run's page says."""
    state = run.facts().state
    assert state is not None
    assert state.state_details.run_input_keyset is not None
    with get_client(sync_client=True) as client:
        return client.read_flow_run_input(run.id, state.state_details.run_input_keyset["description"])


def test_a_yes_trains(bench: Workbench, asked: list[str]) -> None:
    """Suspended with price, images, balance and what changed; answered, it trains, and is not asked again."""
    run = deploy(bench, approve_above=LOW)
    assert run.carry_out() == "Suspended"
    assert bench.started() == 0
    form = form_of(run)
    for part in ("**$0.5729**", "8 images of `ds`", "balance is $1000.00", "no model of this data set and pipeline"):
        assert part in form
    run.answer(approved=True)
    bench.break_stage("create", [status(503, times=None)])
    assert run.carry_out() == "Failed"
    bench.account.clear_faults()
    assert run.come_back() == "Completed"
    assert bench.started() == 1
    assert asked[0] == "approval.asked"
    assert set(asked[1:]) == {"approval.given"}


@pytest.mark.parametrize("form", [{"approved": False, "reason": "too much for a test"}, {}], ids=["no", "empty"])
def test_anything_but_a_yes_starts_nothing(form: dict[str, Any], bench: Workbench, asked: list[str]) -> None:
    """OverBudget, with the reason that was given; run again by a person, it asks again."""
    run = deploy(bench, approve_above=LOW)
    assert run.carry_out() == "Suspended"
    run.answer(**form)
    assert run.carry_out() == "OverBudget"
    assert run.report is not None
    assert run.report.outcome is Outcome.OVER_BUDGET
    assert f"was not approved{' (too much for a test)' if form else ''}; nothing was started" in run.report.message
    assert bench.started() == 0
    assert asked == ["approval.asked", "approval.refused"]
    assert run.come_back() == "Suspended"


def test_an_answer_that_never_came_is_a_no(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect ends the flow run when its time is over, whatever is said then; run again, it asks again."""
    monkeypatch.setattr("tasks.approval.EXPIRES_S", 0)
    run = deploy(bench, approve_above=LOW)
    assert run.carry_out() in {"Suspended", "Failed"}
    run.answer(approved=True)
    assert run.state == "Failed"
    monkeypatch.setattr("tasks.approval.EXPIRES_S", 600)
    assert run.come_back() == "Suspended"
    run.answer(approved=True)
    assert run.carry_out() == "Completed"
    assert bench.started() == 1


def test_below_the_limit_nobody_is_asked(bench: Workbench, asked: list[str]) -> None:
    """The price is not above it: the flow run goes through."""
    assert deploy(bench, approve_above=0.6).carry_out() == "Completed"
    assert (bench.started(), asked) == (1, [])


@pytest.mark.parametrize(("typed", "outcome"), [("y\n", Outcome.ACCEPTED), ("\n", Outcome.OVER_BUDGET)])
def test_on_a_terminal_it_is_asked_there(
    typed: str, outcome: Outcome, keyboard: int, bench: Workbench, caplog: pytest.LogCaptureFixture
) -> None:
    """Yes trains; anything else, such as a mere return, does not."""
    os.write(keyboard, typed.encode())
    assert bench.run(approve_above=LOW).report.outcome is outcome
    assert bench.started() == (outcome is Outcome.ACCEPTED)
    assert "for $0.5729" in caplog.text
    assert "[y/N]" in caplog.text


def test_where_nobody_can_be_asked_it_is_refused(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No deployment and no terminal: refused before anything is spent, and told how to go on."""
    with open(os.devnull, encoding="utf-8") as nothing:  # noqa: PTH123 -- a device, not a file of ours
        monkeypatch.setattr("sys.stdin", nothing)
        ended = bench.run(approve_above=LOW)
    assert ended.state == "OverBudget"
    assert "nobody can be asked here: raise it, or start from a deployment" in ended.message
    assert bench.started() == 0
