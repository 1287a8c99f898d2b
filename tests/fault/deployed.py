"""Flow runs of a deployment, carried out in this process each time a worker would."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow_sync
from prefect.states import Scheduled

from pipeline.models import RunReport
from pipeline.report.dossier import read_report
from tests.fault.workbench import Workbench


@dataclass
class DeployedRun:
    """One flow run of a deployment that no worker serves."""

    id: UUID
    report: RunReport | None = None
    """What it ended with."""

    def facts(self) -> FlowRun:
        """Return the flow run as the server knows it."""
        with get_client(sync_client=True) as client:
            return client.read_flow_run(self.id)

    @property
    def state(self) -> str:
        """Return its state's name."""
        state = self.facts().state
        assert state is not None
        return str(state.name)

    def bring_forward(self, name: str | None = None) -> None:
        """Make it due now, as anybody may through the API; in a state of this name, as what brings runs back does."""
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(self.id, Scheduled(scheduled_time=datetime.now(UTC), name=name))

    def answer(self, **form: Any) -> None:
        """Fill in the form it is suspended for."""
        with get_client(sync_client=True) as client:
            client.resume_flow_run(self.id, run_input=form)

    def carry_out(self) -> str:
        """Run the flow from its top until it leaves or ends, and return the state it is in then."""
        from flows.train_pipeline import train_pipeline

        found = self.facts()
        try:
            state = run_flow_sync(
                train_pipeline, flow_run=found, parameters=dict(found.parameters), return_type="state"
            )
        except Pause:
            return self.state
        self.report = read_report(state.result(raise_on_failure=False))
        assert self.report is not None, f"{state.name}: {state.message}"
        return str(state.name)

    def come_back(self) -> str:
        """Carry it out at its next look, which is now."""
        self.bring_forward()
        return self.carry_out()


def deploy(bench: Workbench, **request: Any) -> DeployedRun:
    """Make a flow run of a deployment with this request."""
    from flows.train_pipeline import train_pipeline

    asked = {"request": bench.request(**request).model_dump(mode="json")}
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(train_pipeline)
        deployment_id = client.create_deployment(flow_id, name="nobody-serves-it")
        made = client.create_flow_run_from_deployment(deployment_id, parameters=asked)
    return DeployedRun(made.id)
