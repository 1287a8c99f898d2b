"""Sweep: find every training that is billed or open, see who looks after it, and do what the policies say.

Run it as ``python -m flows.sweep_runs``, on the schedule of the deployment ``sweep``, or for one flow run by the
deployment ``reconcile``, which Prefect starts when a flow run was cancelled or has crashed.
"""

from __future__ import annotations

from collections import Counter

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from pipeline.mending import Mended
from pipeline.models import SweepRequest
from tasks.sweeping import address, mend_found, publish_sweep, survey_account

NOT_CANCELLED = "NotCancelled"
"""Name of the final state when something that was to be cancelled may go on."""

NOTHING = "nothing goes on and nothing is open"
"""What is said of a sweep that found no training."""


def _name_run() -> str:
    request = runtime.flow_run.parameters["request"]
    sandbox, flow_run = (
        request.get(name) if isinstance(request, dict) else getattr(request, name, None)
        for name in ("sandbox", "flow_run")
    )
    return f"{'reconcile' if flow_run else 'sweep'}{'-rehearsal' if sandbox else ''}"


@flow(name="sweep-runs", flow_run_name=_name_run, validate_parameters=True)
def sweep_runs(request: SweepRequest) -> State[str]:
    """Look after every training that may be billed or waits to be collected.

    Args:
        request: Which account, and what may be done about what is found.
    """
    account = address(request)
    if account is None:
        return Completed(message=NOTHING, data=NOTHING)
    mended = mend_found(account, survey_account(account))
    publish_sweep(account, mended)
    message = summarise(mended)
    if any(done.failed for done in mended):
        return Failed(name=NOT_CANCELLED, message=message)
    return Completed(message=message, data=message)


def summarise(mended: tuple[Mended, ...]) -> str:
    """Return how many trainings there are of each class with what was done, and how many could not be cancelled."""
    counts = Counter(f"{done.found.sort.value.replace('_', ' ')}: {done.action.value}" for done in mended)
    told = ", ".join(f"{count} {what}" for what, count in counts.most_common())
    failed = sum(done.failed for done in mended)
    trouble = f"; {failed} could not be cancelled and may be billed, the next sweep tries again" if failed else ""
    return (told or NOTHING) + trouble


if __name__ == "__main__":
    import sys

    from flows.sweep_command import main

    sys.exit(main())
