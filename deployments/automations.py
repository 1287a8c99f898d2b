"""Let crashed flow runs come back by themselves: ``python -m deployments.automations``, as often as you like.

Two automations on the Prefect server. One finds out that a flow run's process died without a word: no sign of life for
three of its heartbeats, so the run is marked as crashed. The other puts a crashed run of a deployment back on the
schedule; the flow then goes on with its operation, and ends itself after too many crashes (``tasks/crashes.py``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta

from prefect import get_client
from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY

from flows.train_pipeline import train_pipeline
from tasks.crashes import BACK_AFTER_CRASH

SILENT = "train-pipeline: a flow run gives no sign of life"
"""Name of the automation that marks silent runs as crashed."""
BACK = "train-pipeline: a crashed flow run comes back"
"""Name of the automation that puts crashed runs back on the schedule."""
MISSED_BEATS = 3
"""Heartbeats that must be missing in a row."""
LEAST_S = 10.0
"""The shortest silence Prefect can watch for."""
_OF_OUR_FLOW = {"prefect.resource.role": "flow", "prefect.resource.name": train_pipeline.name}
_BEGUN = [f"{digit}*" for digit in range(1, 10)]
_OF_A_DEPLOYMENT = {"prefect.resource.role": "deployment", "prefect.resource.id": "prefect.deployment.*"}


def define(silence_s: float) -> tuple[AutomationCore, AutomationCore]:
    """Return both automations; ``silence_s`` is how long a run may go without a sign of life."""
    silent = AutomationCore(
        name=SILENT,
        description="Marks a flow run as crashed when its process gives no sign of life any more.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},  # its next heartbeat, or any change of its state
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related=_OF_OUR_FLOW,
            for_each={"prefect.resource.id"},
            within=timedelta(seconds=max(silence_s, LEAST_S)),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name="Crashed",
                message=f"no sign of life from its process for {silence_s:.0f} s",
            )
        ],
    )
    back = AutomationCore(
        name=BACK,
        description="Puts a crashed run of a deployment back on the schedule; it goes on with its training.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            expect={"prefect.flow-run.Crashed"},
            # A process that never came as far as the flow would never come as far as its bound either.
            match={"prefect.resource.id": "prefect.flow-run.*", "prefect.run-count": _BEGUN},
            match_related=[_OF_OUR_FLOW, _OF_A_DEPLOYMENT],
            for_each={"prefect.resource.id"},
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED, name=BACK_AFTER_CRASH, message="it crashed, and goes on with its training"
            )
        ],
    )
    return silent, back


def apply(silence_s: float | None = None) -> list[str]:
    """Create the automations, or bring those there are up to date; return what was done, a line each.

    Without ``silence_s`` it is three of the heartbeats that are set for this environment, which must be the workers'.
    """
    period_s = PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value()
    if silence_s is None and period_s is None:
        return ["PREFECT_FLOWS_HEARTBEAT_FREQUENCY is off: no sign of life could be missed; nothing was changed"]
    within_s = silence_s if silence_s is not None else float(MISSED_BEATS * period_s)
    with get_client(sync_client=True) as client:
        return [_put(client, automation) for automation in define(within_s)]


def _put(client: SyncPrefectClient, automation: AutomationCore) -> str:
    known = client.read_automations_by_name(automation.name)
    if not known:
        client.create_automation(automation)
        return f"created: {automation.name}"
    # Whoever switched it off meant that.
    client.update_automation(known[0].id, automation.model_copy(update={"enabled": known[0].enabled}))
    for twin in known[1:]:  # names are not unique, and two of one kind would act twice
        client.delete_automation(twin.id)
    return f"updated: {automation.name}"


def main(arguments: Sequence[str] = ()) -> int:
    """Create or update the automations on the configured Prefect server and say so."""
    if arguments:
        sys.stderr.write("python -m deployments.automations takes no arguments\n")
        return 2
    sys.stdout.write("\n".join(apply()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
