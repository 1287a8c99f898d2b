"""A run on a real Prefect server, read back over plain HTTP: what a person sees, and what automations can react to."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from flows.train_pipeline import FINAL_STATES
from pipeline.models import Outcome
from sandbox.client import SandboxAccount
from tests.e2e.conftest import QUICK_STEPS, STEPS, FlowRun


def subject_of(event: dict[str, Any]) -> str:
    """Return the resource an event is about."""
    return str(event["resource"]["prefect.resource.id"])


class TestRunPage:
    """What the page of a finished run shows."""

    def test_the_run_is_named_for_its_job(self, accepted: FlowRun) -> None:
        """Name from data set and pipeline; state Completed with the verdict as its message."""
        facts = accepted.facts
        assert facts["name"] == "rehearse-road-signs-yolox"
        assert (facts["state"]["type"], facts["state"]["name"]) == ("COMPLETED", "Completed")
        assert facts["state"]["message"] == accepted.report.message

    def test_every_stage_is_a_task_run_with_a_speaking_name(self, accepted: FlowRun) -> None:
        """Ten stages in order, named for what they work on, all completed at the first attempt."""
        assert accepted.report.plan is not None
        name = accepted.report.plan.run_name
        runs = accepted.task_runs()
        assert [run["name"] for run in runs] == [
            "plan-road-signs",
            f"validate-{name}",
            f"compare-{name}",
            f"price-{name}",
            f"create-{name}",
            f"await-{name}",
            f"download-{name}",
            f"smoke-{name}",
            f"settle-{name}",
            "report-road-signs",
        ]
        assert {run["state_name"] for run in runs} == {"Completed"}
        assert {run["run_count"] for run in runs} == {1}

    def test_one_progress_artifact_is_updated_in_place(self, accepted: FlowRun) -> None:
        """One, whatever the number of looks: at the end it stands at 100, with epoch and cost in its description."""
        assert accepted.report.watched is not None
        assert accepted.report.watched.looks >= STEPS[0]["for_looks"] + STEPS[1]["for_looks"]
        (progress,) = accepted.artifacts("progress")
        assert progress["key"] == "rehearsal-progress-road-signs-yolox"
        assert progress["data"] == 100
        assert re.fullmatch(r"training: completed, epoch 6/6, \$\d+\.\d+ so far", progress["description"])
        assert datetime.fromisoformat(progress["updated"]) > datetime.fromisoformat(progress["created"])

    def test_the_findings_are_a_table(self, accepted: FlowRun) -> None:
        """Severity, code and message of every remark; a clean export says that it was checked."""
        assert accepted.report.export is not None
        (table,) = accepted.artifacts("table")
        found = [finding.model_dump(mode="json") for finding in accepted.report.export.findings]
        rows = re.findall(r'"code": "(\w+)"', table["data"])
        assert rows == ([row["code"] for row in found] or ["none"])

    def test_the_report_carries_curve_and_pictures(self, accepted: FlowRun) -> None:
        """One Markdown artifact with money, metric, the loss curve and the predictions inside it, below 300 kB."""
        (report,) = accepted.artifacts("markdown")
        text = report["data"]
        assert report["key"] == "rehearsal-report-road-signs-yolox"
        assert report["description"].startswith("accepted: ")
        assert "# Accepted: road-signs-yolox-" in text
        assert "| Money | priced at $" in text
        assert "mAP50 0.980 on 20 held-out images" in text
        assert "> **Rehearsal.**" in text
        contents = dict(re.findall(r"\(data:(image/[\w+]+);base64,([\w+/=]+)\)", text))
        assert base64.b64decode(contents["image/svg+xml"]).startswith(b"<svg ")
        assert base64.b64decode(contents["image/jpeg"]).startswith(b"\xff\xd8")
        assert len(text) < 300_000

    def test_the_lines_of_the_stages_are_on_the_page(self, accepted: FlowRun) -> None:
        """Plan, export, price, creation, progress, model and smoke test each leave a line."""
        lines = accepted.log_lines("report: ")
        for words in (
            "plan: ",
            "export: ",
            "price: $",
            "training created: ",
            "training: running, ",
            "model: ",
            "smoke",
        ):
            assert [line for line in lines if line.startswith(words)], words


class TestEvents:
    """What automations can react to."""

    def test_every_status_change_is_an_event(self, accepted: FlowRun) -> None:
        """Priced, created, each status once, the end: in this order, each about the thing it happened to."""
        assert accepted.report.run is not None
        assert accepted.report.plan is not None
        run = f"train-pipeline.run.{accepted.report.run.handle.run_id}"
        seen = [
            (event["event"].removeprefix("train-pipeline.rehearsal."), subject_of(event))
            for event in accepted.events("train-pipeline.rehearsal.finished.accepted")
        ]
        assert seen == [
            ("priced", f"train-pipeline.operation.{accepted.report.plan.operation_key}"),
            ("run.created", run),
            ("run.queued", run),
            ("run.running", run),
            ("run.completed", run),
            ("finished.accepted", run),
        ]

    def test_payloads_say_enough_to_act_on(self, accepted: FlowRun) -> None:
        """The price, the provider's word, the outcome and the money are in the events."""
        payloads = {
            event["event"]: event["payload"] for event in accepted.events("train-pipeline.rehearsal.finished.accepted")
        }
        assert payloads["train-pipeline.rehearsal.priced"]["total"]["unit"] == "micro_usd"
        assert payloads["train-pipeline.rehearsal.run.running"]["status"] == "running"
        assert payloads["train-pipeline.rehearsal.finished.accepted"]["outcome"] == "accepted"
        assert "charged $" in payloads["train-pipeline.rehearsal.finished.accepted"]["money"]


FAILING = ({"status": "running"}, {"status": "failed", "error_message": "CUDA out of memory"})
CANCELLED = ({"status": "running"}, {"status": "cancelled"})
ENDLESS = ({"status": "running", "for_looks": 1},)
ENDS: dict[Outcome, tuple[dict[str, Any], dict[str, Any], str]] = {
    Outcome.ACCEPTED: ({}, {}, "ran on real pictures"),
    Outcome.SUBMITTED: ({}, {"wait": "none"}, "goes on at the provider"),
    Outcome.REJECTED: ({"model": "tiny"}, {}, "model"),
    Outcome.FAILED: ({"steps": FAILING}, {}, "CUDA out of memory"),
    Outcome.OVER_BUDGET: ({}, {"budget_usd": 0.001}, "budget_usd"),
    Outcome.TIMED_OUT: ({"steps": ENDLESS}, {"deadline_s": 0.3}, "goes on"),
    Outcome.CANCELLED: ({"steps": CANCELLED}, {}, "cancelled"),
    Outcome.SKIPPED: ({}, {"if_changed": True}, "nothing changed"),
    Outcome.USAGE: ({}, {"dataset": "no-such-signs"}, "no-such-signs"),
}
"""For each outcome: the account's script, the request, and words of the reason."""


def test_every_outcome_is_brought_about() -> None:
    """No way to end is left out below; the one that no model of Pictograph's comes to is in test_every_provider.py."""
    assert set(ENDS) | {Outcome.UNTRIED} == set(Outcome) == set(FINAL_STATES)


@pytest.mark.parametrize("outcome", [outcome for outcome in ENDS if outcome is not Outcome.ACCEPTED])
def test_the_final_state_is_named_for_what_happened(
    outcome: Outcome, scripted: Callable[..., SandboxAccount], run_flow: Callable[..., FlowRun]
) -> None:
    """State name, type and message say it; so do the report on the page and the last event."""
    script, request, words = ENDS[outcome]
    account = scripted(**{"steps": QUICK_STEPS, **script})
    if outcome is Outcome.SKIPPED:
        assert run_flow(account).report.outcome is Outcome.ACCEPTED  # the model that nothing has changed since
    run = run_flow(account, **request)
    factory, name = FINAL_STATES[outcome]
    state = run.facts["state"]
    assert (state["name"], state["type"]) == (name, factory(name=name).type.value)
    assert words.lower() in state["message"].lower()  # whichever fault of a useless model is found first
    (report,) = run.artifacts("markdown")
    assert report["description"].startswith(f"{outcome.value}: ")
    finished = run.events(f"train-pipeline.rehearsal.finished.{outcome.value}")[-1]
    assert finished["payload"]["outcome"] == outcome.value
    paid = run.report.run is not None
    skipped = outcome is Outcome.SKIPPED
    assert len(account.bill()["runs"]) == int(paid or skipped)
    assert paid == (outcome not in {Outcome.OVER_BUDGET, Outcome.USAGE, Outcome.SKIPPED})
