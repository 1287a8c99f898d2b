"""Sweep: find every training that is billed or open, see who looks after it, and do what the policies say.

Run it as ``python -m flows.sweep_runs``, on the schedule of the deployment ``sweep``, or for one flow run by the
deployment ``reconcile``, which Prefect starts when a flow run was cancelled or has crashed.
"""

from __future__ import annotations

from collections import Counter

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from pipeline.requests import SweepRequest, refused
from pipeline.sweep.accounts import Swept
from pipeline.sweep.sweeping import Action
from tasks.sweeping import address, publish_sweep, sweep_account

NOT_CANCELLED = "NotCancelled"
"""Name of the final state when something that was to be cancelled may go on."""
NOT_DONE = "NotDone"
"""The same when something else could not be done, such as closing a row of the journal."""

NOTHING = "nothing goes on and nothing is open"
"""What is said of an account without a training."""
NO_ACCOUNT = (
    "there is no account to sweep: the journal has nothing open and no key is set; name provider and credentials"
)
"""What is said where there is no account to sweep."""


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
        request: Which accounts, and what may be done about what is found.

    Raises:
        ConfigurationError: There is no account to look after.
    """
    accounts = address(request)
    if not accounts:
        if request.flow_run is None:  # nobody would notice that nothing is ever looked after
            raise refused("provider", NO_ACCOUNT)
        return Completed(message=NOTHING, data=NOTHING)
    swept = tuple(sweep_account(account, alone=len(accounts) == 1) for account in accounts)
    publish_sweep(accounts[0], swept)
    message = summarise(swept)
    failed = {done.action for one in swept for done in one.mended if done.failed}
    if failed or any(one.trouble is not None for one in swept):
        return Failed(name=NOT_CANCELLED if Action.CANCEL in failed else NOT_DONE, message=message)
    return Completed(message=message, data=message)


def summarise(swept: tuple[Swept, ...]) -> str:
    """Return what there is at each account with what was done, and how many that failed for."""
    told = "; ".join(f"at {one.title} {_summary(one)}" for one in swept)
    failed = [done.action is Action.CANCEL for one in swept for done in one.mended if done.failed]
    troubles = ((sum(failed), "could not be cancelled and may be billed"), (failed.count(False), "could not be done"))
    trouble = "".join(f"; {count} {what}, the next sweep tries again" for count, what in troubles if count)
    return told + trouble


def _summary(swept: Swept) -> str:
    """Return how many trainings there are of each class with what was done, or why nobody could look."""
    if swept.trouble is not None:
        return f"nothing could be looked after ({swept.trouble})"
    counts = Counter(f"{done.found.sort.value.replace('_', ' ')}: {done.action.value}" for done in swept.mended)
    return ", ".join(f"{count} {what}" for what, count in counts.most_common()) or NOTHING


if __name__ == "__main__":
    import sys

    from flows.sweep_command import main

    sys.exit(main())
