"""The command line of ``sweep_runs``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from flows.commandline import INTERRUPTED, refuse
from flows.live import carry_out
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.requests import SweepRequest

HELP = """Find every training that is billed or waits to be collected, and do what the policies say.

It sweeps every account that has something open in the journal or whose key is in the environment (PICTOGRAPH_API_KEY,
REPLICATE_API_TOKEN, PHOTOGPT_API_KEY), the one at the --provider named, whose key may be in --credentials, or the local
sandbox (--sandbox).

Exit codes: 0 done - 1 something could not be cancelled or closed, an account could not be swept, the sweep failed, or
Prefect's API does not answer - 2 usage or configuration.
"""

EVERYTHING = SweepRequest()
"""What is swept when nothing at all is asked."""

app = App(name="python -m flows.sweep_runs", help=HELP, result_action="return_value")


@app.default
def run(
    *,
    request: Annotated[SweepRequest, Parameter(name="*")] = EVERYTHING,
    verbose: Annotated[bool, Parameter(name=("--verbose", "-v"), negative="")] = False,
) -> int:
    """Look after every training of every account, or of one.

    Args:
        request: Which accounts, and what may be done about what is found.
        verbose: Also show Prefect's own log lines.
    """
    return execute(request, verbose=verbose)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = app(given, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        return refuse(error)
    return result if isinstance(result, int) else 0


def execute(request: SweepRequest, *, verbose: bool = False) -> int:
    """Run the flow for one request, show it, and return the exit code."""
    from flows.sweep_runs import sweep_runs

    console = Console(stderr=True, soft_wrap=True)
    try:
        state = carry_out(sweep_runs, request, console, verbose=verbose)
    except KeyboardInterrupt:
        return INTERRUPTED
    if state is None:
        return 1
    if state.is_completed():
        Console(soft_wrap=True, highlight=False).print(state.message, markup=False)
        return 0
    outcome = state.result(raise_on_failure=False)
    reason = outcome if isinstance(outcome, PipelineError) else state.message
    console.print(f"error: {reason}", highlight=False, markup=False)
    return 2 if isinstance(outcome, ConfigurationError) else 1
