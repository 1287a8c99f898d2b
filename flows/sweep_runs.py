"""Sweep: find every training that is billed or open, see who looks after it, and do what the policies say.

Run it as ``python -m flows.sweep_runs``, on the schedule of the deployment ``sweep``, or for one flow run by the
deployment ``reconcile``, which Prefect starts when a flow run was cancelled or has crashed.
"""

from __future__ import annotations

from collections import Counter

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from pipeline.requests import SweepRequest
from pipeline.sweep.mending import Mended
from pipeline.sweep.sweeping import Action
from tasks.sweeping import address, mend_found, publish_sweep, survey_account

NOT_CANCELLED = "NotCancelled"
"""Name of the final state when something that was to be cancelled may go on."""
NOT_DONE = "NotDone"
"""The same when something else could not be done, such as closing a row of the journal."""

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
    failed = {done.action for done in mended if done.failed}
    if failed:
        return Failed(name=NOT_CANCELLED if Action.CANCEL in failed else NOT_DONE, message=message)
    return Completed(message=message, data=message)


def summarise(mended: tuple[Mended, ...]) -> str:
    """Return how many trainings there are of each class with what was done, and how many that failed for."""
    counts = Counter(f"{done.found.sort.value.replace('_', ' ')}: {done.action.value}" for done in mended)
    told = ", ".join(f"{count} {what}" for what, count in counts.most_common())
    failed = [done.action is Action.CANCEL for done in mended if done.failed]
    troubles = ((sum(failed), "could not be cancelled and may be billed"), (failed.count(False), "could not be done"))
    trouble = "".join(f"; {count} {what}, the next sweep tries again" for count, what in troubles if count)
    return (told or NOTHING) + trouble


if __name__ == "__main__":
    import sys

    from flows.sweep_command import main

    sys.exit(main())
