"""The command line of ``train_pipeline``: options, live progress, exit codes."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from pydantic import Field, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.status import Status

from pipeline.dossier import read_report
from pipeline.models import Outcome, RunReport
from pipeline.provider_requests import BluesightRequest, PhotogptRequest, PictographRequest, ReplicateRequest
from pipeline.report import summary_json, summary_rows
from pipeline.requests import TrainConfig, TrainRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

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
SERVER_START_S = 120
"""Seconds Prefect's temporary server may take to start."""
DEMOS: dict[DemoName, tuple[str, str]] = {
    "road-signs": ("road-signs", "drawn road signs"),
    "digits": ("digits-scenes", "handwritten digits in photographs"),
}
"""The built-in data set of each rehearsal, and what is to be seen on it."""
DEMO = PictographRequest(dataset=DEMOS["road-signs"][0], sandbox=True)
"""What runs when nothing at all is asked."""
PROMISE = "No account is used, no real money is spent, and the model must not replace a hosted one."
DEMO_LINE = f"Rehearsal: no arguments given, so this trains a small detector in the local sandbox. {PROMISE}"

RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")
"""Prefect's loggers for the lines of a run; what stages say goes through them to the run's page."""

HELP = """Train a vision model at a hosted provider, watch it, verify the file, and accept it only when it works.

Without any argument this runs a rehearsal in the local sandbox, with --demo digits one on real pictures. Otherwise it
talks to the hosted provider, whose key it reads from PICTOGRAPH_API_KEY (or --credentials), unless --sandbox is given.

Exit codes: 0 accepted, submitted (--wait none) or skipped - 1 failed - 2 usage or configuration - 3 export or model
rejected - 4 over budget or balance - 5 timed out, the run goes on - 6 cancelled, no run goes on - 130 interrupted.
"""

app = App(name="python -m flows.train_pipeline", help=HELP, result_action="return_value")


class _UsageError(ValueError):
    """Options that are right one by one and wrong together."""


class _Options(PictographRequest):
    """The request with its hyperparameters flattened: ``--epochs``, not ``--config.epochs``."""

    dataset: Annotated[
        str, Field(description=PictographRequest.model_fields["dataset"].description), Parameter(show_default=False)
    ] = ""
    config: Annotated[TrainConfig, Parameter(name="*")] = TrainConfig()

    def to_request(self, demo: DemoName | None = None) -> TrainRequest:
        """Return the plain request, remembering what was given and what was left out.

        Raises:
            _UsageError: There is no usable data set, or the rehearsal asked for has another one.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        if demo is not None:
            given = _rehearsed(demo, given)
        elif "dataset" not in given:
            raise _UsageError("--dataset is required.")
        extra = {name: _scalar(value) for name, value in self.config.extra.items()}
        given["config"] = TrainConfig(**{**self.config.model_dump(exclude={"extra"}), "extra": extra})
        try:
            return PictographRequest(**given)
        except ValidationError as error:
            raise _UsageError("the options cannot be used together") from error


def _rehearsed(demo: DemoName, given: dict[str, Any]) -> dict[str, Any]:
    """Add what a rehearsal means to what was given, which must not say the opposite."""
    means = {"dataset": DEMOS[demo][0], "sandbox": True}
    if given.get("sandbox") is False:
        raise _UsageError(f"--no-sandbox contradicts --demo {demo}, which runs in the sandbox: leave one of them out.")
    asked = given.get("dataset", means["dataset"])
    if asked != means["dataset"]:
        raise _UsageError(
            f"--dataset {asked!r} contradicts --demo {demo}, which trains on {means['dataset']!r}: leave one of them "
            "out, and give --sandbox to rehearse with a data set of your choice."
        )
    return {**given, **means}


def _scalar(value: bool | float | str) -> bool | int | float | str:
    """Read a number or truth value out of what the shell hands over as text."""
    if not isinstance(value, str):
        return value
    try:
        read = json.loads(value)
    except ValueError:
        return value
    return read if isinstance(read, (bool, int, float)) else value


@app.default
def run(
    *,
    options: Annotated[_Options, Parameter(name="*")] = _Options(),  # noqa: B008 -- a frozen value
    demo: DemoName | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    verbose: Annotated[bool, Parameter(name=("--verbose", "-v"), negative="")] = False,
) -> int:
    """Train, watch, collect and accept one model.

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
    return execute(request, as_json=as_json, verbose=verbose)


_Json = Annotated[bool, Parameter(name="--json", negative="")]
_Verbose = Annotated[bool, Parameter(name=("--verbose", "-v"), negative="")]
app.command(run, name="pictograph")


@app.command
def replicate(
    *, options: Annotated[ReplicateRequest, Parameter(name="*")], as_json: _Json = False, verbose: _Verbose = False
) -> int:
    """Train with a trainer at Replicate, watch it, collect its weights, and accept the model only when it works.

    Args:
        options: What to train; the token is read from REPLICATE_API_TOKEN (or --credentials), unless --sandbox is.
        as_json: Print one JSON line on standard output instead of the summary.
        verbose: Also show Prefect's own log lines.
    """
    return execute(options, as_json=as_json, verbose=verbose)


@app.command
def bluesight(
    *, options: Annotated[BluesightRequest, Parameter(name="*")], as_json: _Json = False, verbose: _Verbose = False
) -> int:
    """Fine-tune Bluesight's satellite model on labelled tiles, and try it there on some of them.

    Args:
        options: What to train; Bluesight has no accounts, BLUESIGHT_BASE_URL names another server of it.
        as_json: Print one JSON line on standard output instead of the summary.
        verbose: Also show Prefect's own log lines.
    """
    return execute(options, as_json=as_json, verbose=verbose)


@app.command
def photogpt(
    *, options: Annotated[PhotogptRequest, Parameter(name="*")], as_json: _Json = False, verbose: _Verbose = False
) -> int:
    """Train PhotoGPT's model of one person on 12 to 20 pictures.

    Args:
        options: What to train; the key is read from PHOTOGPT_API_KEY (or --credentials), unless --sandbox is given.
        as_json: Print one JSON line on standard output instead of the summary.
        verbose: Also show Prefect's own log lines.
    """
    return execute(options, as_json=as_json, verbose=verbose)


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
    except (CycloptsError, _UsageError) as error:
        return refuse(error)
    return result if isinstance(result, int) else 0


def refuse(error: CycloptsError | _UsageError) -> int:
    """Say what is wrong with a command line, and return the exit code."""
    for line in explain(error):
        Console(stderr=True, soft_wrap=True).print(f"error: {line}", highlight=False, markup=False)
    return EXIT_CODES[Outcome.USAGE]


def explain(error: CycloptsError | _UsageError) -> list[str]:
    """Return one line for each mistake: the option, the value, what is allowed."""
    cause = error.__cause__
    if not isinstance(cause, ValidationError):
        return [f"{error} Try --help."]
    lines = []
    for item in cause.errors(include_url=False):
        option = "--" + str(item["loc"][-1]).replace("_", "-")
        missing = item["type"] == "missing"
        lines.append(f"{option} is required. Try --help." if missing else f"{option} {item['input']!r}: {item['msg']}")
    return lines


def execute(request: TrainRequest, *, as_json: bool = False, verbose: bool = False) -> int:
    """Run the flow for one request, show it, and return the exit code."""
    from flows.train_pipeline import train_pipeline

    console = Console(stderr=True, soft_wrap=True)
    try:
        with shown(console, verbose=verbose):
            state = train_pipeline(request, return_state=True)
            result = state.result(raise_on_failure=False)
    except KeyboardInterrupt:
        return INTERRUPTED
    report = read_report(result)
    if report is None:
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


class _LineHandler(logging.Handler):
    """Shows our own log lines: a live line on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, status: Status | None) -> None:
        super().__init__(logging.INFO)
        self._console = console
        self._status = status

    def emit(self, record: logging.LogRecord) -> None:
        """Show one line."""
        if not getattr(record, "train_pipeline", False):
            return
        line = record.getMessage()
        if self._status is not None:  # an answer is being typed where it would be drawn
            self._status.stop() if getattr(record, "asks", False) else self._status.start()
        if self._status is not None and getattr(record, "percent", None) is not None:
            self._status.update(line)
            return
        style = "yellow" if record.levelno >= logging.WARNING else None
        self._console.print(f"{self._time(record)} {line}", style=style, highlight=False, markup=False)

    @staticmethod
    def _time(record: logging.LogRecord) -> str:
        return logging.Formatter().formatTime(record, "%H:%M:%S")


def hush_server() -> None:
    """Keep the temporary server, which Prefect starts when none is configured, from writing between our lines."""
    os.environ.setdefault("PREFECT_SERVER_LOGGING_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    logging.getLogger("prefect").setLevel(logging.WARNING)
    for name in RUN_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)


@contextmanager
def shown(console: Console, *, verbose: bool) -> Iterator[None]:
    """Show what a flow says while it runs, with or without Prefect's own lines, and give its server time to start."""
    from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, temporary_settings

    # Prefect gives its temporary server 20 s; a busy machine with a new database needs more.
    patience_s = max(PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value(), SERVER_START_S)
    if not verbose:
        hush_server()
    with (
        live_lines(console, verbose=verbose),
        temporary_settings({PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: patience_s}),
    ):
        yield


@contextmanager
def live_lines(console: Console, *, verbose: bool) -> Iterator[None]:
    """Show our lines, and Prefect's own only when asked."""
    loggers = [logging.getLogger(name) for name in (*RUN_LOGGERS, "train_pipeline")]
    status = console.status("starting Prefect") if console.is_terminal else None
    handler = _LineHandler(console, status)
    quieted: list[tuple[Any, int]] = []
    if not verbose:
        for noisy in logging.getLogger().handlers:
            quieted.append((noisy, noisy.level))
            noisy.setLevel(logging.CRITICAL)
    for logger in loggers:
        logger.addHandler(handler)
    if status is not None:
        status.start()
    try:
        yield
    finally:
        if status is not None:
            status.stop()
        for logger in loggers:
            logger.removeHandler(handler)
        for noisy, level in quieted:
            noisy.setLevel(level)
