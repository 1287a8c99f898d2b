"""The command line of ``train_pipeline``: options, live progress, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from pydantic import Field, ValidationError
from rich.console import Console
from rich.markup import escape

from flows.live import carry_out
from flows.provider_commands import COMMANDS, Asked, Json, OwnFirst, Verbose
from flows.usage import UsageError, explain, read_scalar
from flows.verdicts import keeping
from pipeline.models import Outcome, RunReport
from pipeline.provider_requests import PictographRequest
from pipeline.report.dossier import read_report
from pipeline.report.figures import summary_json, summary_rows
from pipeline.requests import TrainConfig, TrainRequest

DemoName = Literal["road-signs", "digits"]

EXIT_CODES = {
    Outcome.ACCEPTED: 0,
    Outcome.UNTRIED: 0,
    Outcome.SUBMITTED: 0,
    Outcome.FAILED: 1,
    Outcome.USAGE: 2,
    Outcome.REJECTED: 3,
    Outcome.OVER_BUDGET: 4,
    Outcome.TIMED_OUT: 5,
    Outcome.CANCELLED: 6,
    Outcome.SKIPPED: 0,
}
"""What the process returns for each outcome."""
INTERRUPTED = 130
"""What the process returns after Ctrl-C; the training goes on."""
DEMOS: dict[DemoName, tuple[str, str]] = {
    "road-signs": ("road-signs", "drawn road signs"),
    "digits": ("digits-scenes", "handwritten digits in photographs"),
}
"""The built-in data set of each rehearsal, and what is to be seen on it."""
DEMO = PictographRequest(dataset=DEMOS["road-signs"][0], sandbox=True)
"""What runs when nothing at all is asked."""
PROMISE = "No account is used, no real money is spent, and the model must not replace a hosted one."
DEMO_LINE = f"Rehearsal: no arguments given, so this trains a small detector in the local sandbox. {PROMISE}"

HELP = """Train a vision model at a hosted provider, watch it, verify the file, and accept it only when it works.

Without any argument this runs a rehearsal in the local sandbox, with --demo digits one on real pictures. Otherwise it
talks to the hosted provider that the command names (its --help lists what it can be asked), and to Pictograph without a
command, whose key it reads from PICTOGRAPH_API_KEY (or --credentials), unless --sandbox is given.

Exit codes: 0 accepted, submitted (--wait none) or skipped - 1 failed, or Prefect's API does not answer - 2 usage or
configuration - 3 export or model rejected - 4 over budget or balance - 5 timed out, the run goes on - 6 cancelled
(where a cancel is advice, the job may go on) - 130 interrupted.
"""

app = App(name="python -m flows.train_pipeline", help=HELP, help_formatter=OwnFirst(), result_action="return_value")


class _Options(PictographRequest):
    """The request with its hyperparameters flattened: ``--epochs``, not ``--config.epochs``."""

    dataset: Annotated[
        str, Field(description=PictographRequest.model_fields["dataset"].description), Parameter(show_default=False)
    ] = ""
    provider: Annotated[Literal["pictograph"], Parameter(show=False)] = "pictograph"
    config: Annotated[TrainConfig, Parameter(name="*")] = TrainConfig()

    def to_request(self, demo: DemoName | None = None) -> TrainRequest:
        """Return the plain request, remembering what was given and what was left out.

        Raises:
            UsageError: There is no usable data set, or the rehearsal asked for has another one.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        if demo is not None:
            given = _rehearsed(demo, given)
        elif "dataset" not in given:
            raise UsageError("--dataset is required.")
        extra = {name: read_scalar(value) for name, value in self.config.extra.items()}
        given["config"] = TrainConfig(**{**self.config.model_dump(exclude={"extra"}), "extra": extra})
        try:
            return PictographRequest(**given)
        except ValidationError as error:
            raise UsageError("the options cannot be used together") from error


def _rehearsed(demo: DemoName, given: dict[str, Any]) -> dict[str, Any]:
    """Add what a rehearsal means to what was given, which must not say the opposite."""
    means = {"dataset": DEMOS[demo][0], "sandbox": True}
    if given.get("sandbox") is False:
        raise UsageError(f"--no-sandbox contradicts --demo {demo}, which runs in the sandbox: leave one of them out.")
    asked = given.get("dataset", means["dataset"])
    if asked != means["dataset"]:
        raise UsageError(
            f"--dataset {asked!r} contradicts --demo {demo}, which trains on {means['dataset']!r}: leave one of them "
            "out, and give --sandbox to rehearse with a data set of your choice."
        )
    return {**given, **means}


@app.default
def run(
    *,
    options: Annotated[_Options, Parameter(name="*")] = _Options(),  # noqa: B008 -- a frozen value
    demo: DemoName | None = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> Asked:
    """Train on a data set at Pictograph: what is meant without a command as well.

    Args:
        options: What to train; --dataset is required without --demo.
        demo: Rehearse in the sandbox on a built-in data set: drawn road signs, or handwritten digits in photographs.
        as_json: Print one JSON line on standard output instead of the summary.
        verbose: Also show Prefect's own log lines.
    """
    request = options.to_request(demo)
    if demo is not None:
        line = f"Rehearsal: this trains a small model on {DEMOS[demo][1]} in the local sandbox. {PROMISE}"
        _announce(line, as_json=as_json)
    return Asked(request, as_json, verbose)


app.command(run, name="pictograph")
for _command in COMMANDS:
    app.command(_command)


def _announce(line: str, *, as_json: bool) -> None:
    """Say what is about to happen, out of the way of the JSON line."""
    Console(stderr=as_json, soft_wrap=True).print(line, highlight=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if set(given) <= {"--json", "--verbose", "-v"}:  # these say how to show a run, none says what to run
        as_json = "--json" in given
        _announce(DEMO_LINE, as_json=as_json)
        return execute(DEMO, as_json=as_json, verbose=len(given) > as_json)
    try:
        result = app(given, exit_on_error=False, print_error=False)
    except (CycloptsError, UsageError) as error:
        return refuse(error)
    if not isinstance(result, Asked):  # --help and --version have been answered
        return 0
    return execute(result.request, as_json=result.as_json, verbose=result.verbose)


def refuse(error: CycloptsError | UsageError) -> int:
    """Say what is wrong with a command line, and return the exit code."""
    for line in explain(error):
        Console(stderr=True, soft_wrap=True).print(f"error: {line}", highlight=False, markup=False)
    return EXIT_CODES[Outcome.USAGE]


def execute(request: TrainRequest, *, as_json: bool = False, verbose: bool = False) -> int:
    """Run the flow for one request, show it, and return the exit code."""
    from flows.train_pipeline import train_pipeline

    console = Console(stderr=True, soft_wrap=True)
    try:
        with keeping() as kept:
            state = carry_out(train_pipeline, request, console, verbose=verbose)
    except KeyboardInterrupt:
        return INTERRUPTED
    result = state.result(raise_on_failure=False) if state is not None else None
    report = read_report(result) or next(iter(kept), None)
    if report is None:
        if state is not None:
            console.print(f"[red]error:[/] {escape(str(result or state.message))}", highlight=False)
        return EXIT_CODES[Outcome.FAILED]
    if as_json:
        sys.stdout.write(summary_json(report) + "\n")
    else:
        _print_summary(report)
    return EXIT_CODES[report.outcome]


def _print_summary(report: RunReport) -> None:
    console = Console(soft_wrap=True, highlight=False)
    colour = "green" if report.outcome in {Outcome.ACCEPTED, Outcome.UNTRIED, Outcome.SUBMITTED} else "red"
    verdict = report.outcome.value.replace("_", " ").upper()
    console.print(f"{'Verdict':<16} [{colour}]{verdict}[/]: {escape(report.message)}")
    for name, value in summary_rows(report):
        console.print(f"{name:<16} {value}", markup=False)
