"""The commands of ``train_pipeline`` for the providers whose training data lies on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.help import DefaultFormatter, HelpPanel
from pydantic import Field
from rich.console import Console, ConsoleOptions

from flows.usage import read_value
from pipeline.local_requests import BluesightRequest, PhotogptRequest, ReplicateRequest
from pipeline.request_form import FIRST
from pipeline.requests import TrainRequest

Json = Annotated[bool, Parameter(name="--json", negative="")]
Verbose = Annotated[bool, Parameter(name=("--verbose", "-v"), negative="")]
_Values = Annotated[dict[str, Any], Parameter(negative="")]


@dataclass(frozen=True)
class Asked:
    """What a command asks for, and how it is to be shown."""

    request: TrainRequest
    as_json: bool
    verbose: bool


class _Replicate(ReplicateRequest):
    """The request, with inputs as the shell hands them over."""

    provider: Annotated[Literal["replicate"], Parameter(show=False)] = "replicate"
    inputs: _Values = Field(default_factory=dict, description=ReplicateRequest.model_fields["inputs"].description)
    smoke_input: _Values = Field(
        default_factory=dict, description=ReplicateRequest.model_fields["smoke_input"].description
    )


class _Bluesight(BluesightRequest):
    provider: Annotated[Literal["bluesight"], Parameter(show=False)] = "bluesight"


class _Photogpt(PhotogptRequest):
    provider: Annotated[Literal["photogpt"], Parameter(show=False)] = "photogpt"


def replicate(
    *, options: Annotated[_Replicate, Parameter(name="*")], as_json: Json = False, verbose: Verbose = False
) -> Asked:
    """Train with a trainer at Replicate, watch it, collect its weights, and accept the model only when it works.

    The token is read from REPLICATE_API_TOKEN (or --credentials), unless --sandbox is given. A value of --inputs is a
    number, a truth value, a JSON list or object, or else text: --inputs.epochs 5 --inputs.size '[640, 480]'.

    Args:
        options: What to train.
        as_json: Print one JSON line on standard output instead of the summary.
        verbose: Also show Prefect's own log lines.
    """
    given = _given(options)
    for name in {"inputs", "smoke_input"} & set(given):
        given[name] = {key: read_value(value) for key, value in given[name].items()}
    return Asked(ReplicateRequest(**given), as_json, verbose)


def bluesight(
    *, options: Annotated[_Bluesight, Parameter(name="*")], as_json: Json = False, verbose: Verbose = False
) -> Asked:
    """Fine-tune Bluesight's satellite model on labelled tiles, and try it there on some of them.

    The hosted server has no accounts; BLUESIGHT_BASE_URL names another one, BLUESIGHT_API_KEY its key where it has any.

    Args:
        options: What to train.
        as_json: Print one JSON line on standard output instead of the summary.
        verbose: Also show Prefect's own log lines.
    """
    return Asked(BluesightRequest(**_given(options)), as_json, verbose)


def photogpt(
    *, options: Annotated[_Photogpt, Parameter(name="*")], as_json: Json = False, verbose: Verbose = False
) -> Asked:
    """Train PhotoGPT's model of one person on 12 to 20 pictures.

    The key is read from PHOTOGPT_API_KEY (or --credentials), unless --sandbox is given.

    Args:
        options: What to train.
        as_json: Print one JSON line on standard output instead of the summary.
        verbose: Also show Prefect's own log lines.
    """
    return Asked(PhotogptRequest(**_given(options)), as_json, verbose)


COMMANDS = (replicate, bluesight, photogpt)


def _given(options: TrainRequest) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.model_fields_set}


class OwnFirst(DefaultFormatter):
    """Shows what a provider can be asked first, then limits and patience, as the run form does."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Render one panel of a help page."""
        entries = sorted(panel.entries, key=_place) if panel.format == "parameter" else panel.entries
        super().__call__(console, options, panel.copy(entries=list(entries)))


_SHARED = {f"--{name.replace('_', '-')}" for name in TrainRequest.model_fields}
_FIRST = {f"--{name}" for name in (*FIRST, "demo")}


def _place(entry: Any) -> int:
    names = set(entry.positive_names)
    if names & _FIRST:
        return 0
    if names & _SHARED:
        return 2
    return 3 if names & {"--json", "--verbose"} else 1
