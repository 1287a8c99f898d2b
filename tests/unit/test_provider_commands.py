"""The command line's commands for each provider: what is asked arrives as the provider's request, mistakes by name."""

from __future__ import annotations

from typing import Any

import pytest

from flows import commandline, sweep_command
from flows.commandline import EXIT_CODES, main
from pipeline.local_requests import BluesightRequest, PhotogptRequest, ReplicateRequest
from pipeline.models import Outcome
from pipeline.provider_requests import REQUESTS, PictographRequest
from pipeline.requests import ProviderName, SweepRequest, TrainConfig, TrainRequest

TRAINER = f"owner/trainer:{'0' * 64}"
REPLICATE = ("replicate", "--dataset", "d.zip", "--trainer", TRAINER, "--destination", "me/signs")
PHOTOGPT = ("photogpt", "--dataset", "person", "--age", "30", "--gender", "Female")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainRequest, dict[str, Any]]]:
    """What would have been carried out, and how it would have been shown."""
    seen: list[tuple[TrainRequest, dict[str, Any]]] = []

    def execute(request: TrainRequest, **how: Any) -> int:
        seen.append((request, how))
        return 0

    monkeypatch.setattr(commandline, "execute", execute)
    return seen


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        (("pictograph", "--dataset", "signs"), PictographRequest(dataset="signs")),
        (
            ("--dataset", "signs", "--extra.k", "3"),
            PictographRequest(dataset="signs", config=TrainConfig(extra={"k": 3})),
        ),
        (REPLICATE, ReplicateRequest(dataset="d.zip", trainer=TRAINER, destination="me/signs")),
        (
            ("bluesight", "--dataset", "t.h5", "--task", "segmentation", "--num-classes", "4", "--sandbox"),
            BluesightRequest(dataset="t.h5", task="segmentation", num_classes=4, sandbox=True),
        ),
        ((*PHOTOGPT, "--smoke"), PhotogptRequest(dataset="person", age=30, gender="Female", smoke=True)),
    ],
)
def test_the_command_names_the_provider(
    asked: list[tuple[TrainRequest, dict[str, Any]]], arguments: tuple[str, ...], request_: TrainRequest
) -> None:
    """The plain request of the provider, of its own class; without a command it is Pictograph's."""
    assert main([*arguments, "--json"]) == 0
    ((request, how),) = asked
    assert type(request) is type(request_)
    assert request == request_
    assert how == {"as_json": True, "verbose": False}


def test_what_was_left_out_stays_left_out(asked: list[tuple[TrainRequest, dict[str, Any]]]) -> None:
    """Only what was given counts as given."""
    assert main(REPLICATE) == 0
    assert asked[0][0].model_fields_set == {"dataset", "trainer", "destination"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("1e-3", 0.001),
        ("true", True),
        ("adam", "adam"),
        ("[640, 480]", [640, 480]),
        ('{"a": 1}', {"a": 1}),
        ("null", "null"),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
        ("[1, -1e999]", "[1, -1e999]"),
        pytest.param("[" * 100_000, "[" * 100_000, id="deep"),
        ('"5"', '"5"'),
    ],
)
def test_a_trainers_inputs_are_values(
    asked: list[tuple[TrainRequest, dict[str, Any]]], text: str, value: object
) -> None:
    """Numbers, truth values, JSON lists and objects are read; everything else is text, as it was typed."""
    assert main([*REPLICATE, "--inputs.x", text, "--smoke-input.y", text]) == 0
    request = asked[0][0]
    assert isinstance(request, ReplicateRequest)
    assert (request.inputs, request.smoke_input) == ({"x": value}, {"y": value})
    assert type(request.inputs["x"]) is type(value)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (("replicate",), ["--dataset is required", "--trainer is required", "--destination is required"]),
        (("replicate", "--trainer", TRAINER), ["--dataset is required", "--destination is required"]),
        (("replicate", "--dataset=d.zip", "--destination=me/m"), ["--trainer is required"]),
        (("bluesight", "--json"), ["--dataset is required"]),
        (("pictograph",), ["--dataset is required"]),
        (("photogpt", "--age", "17"), ["--dataset is required", "--age '17'", "--gender is required"]),
        ((*PHOTOGPT[:-1], "man"), ["--gender 'man': Input should be 'Male' or 'Female'"]),
        (("bluesight", "--dataset", "t.h5", "--samples", "17"), ["--samples '17': Input should be less than or equal"]),
        ((*REPLICATE[:4], "owner/trainer", *REPLICATE[5:]), ["--trainer 'owner/trainer': String should match pattern"]),
        (("bluesight", "--dataset", "~no-such-user-here/t.h5"), ["--dataset '~no-such-user-here/t.h5': Value error"]),
        ((*REPLICATE, "--budget-usd", "inf"), ["--budget-usd 'inf': Input should be a finite number"]),
        (("--dataset", "signs", "--budget-usd", "1e999"), ["--budget-usd '1e999': Input should be a finite number"]),
        (("bluesight", "--dataset", "t.h5", "--epochs", "3"), ["Unknown option: --epochs"]),
        (("bluesight", "--dataset"), ["--dataset requires an argument"]),
        (("replicant", "--dataset", "d"), ["'replicant' is neither pictograph, replicate, bluesight, photogpt nor"]),
        (("--provider", "replicate", "--dataset", "d"), ["--provider 'replicate': Input should be 'pictograph'; give"]),
    ],
)
def test_every_mistake_is_one_line(
    asked: list[tuple[TrainRequest, dict[str, Any]]],
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    lines: list[str],
) -> None:
    """Exit code 2; the option, the value, what is allowed; every option that is missing; nothing is carried out."""
    assert main(arguments) == EXIT_CODES[Outcome.USAGE]
    said = capsys.readouterr()
    assert said.out == ""
    found = said.err.splitlines()
    assert len(found) == len(lines), said.err
    for line, words in zip(found, lines, strict=True):
        assert line.startswith("error: ")
        assert words in line
    assert asked == []


@pytest.mark.parametrize("provider", REQUESTS)
def test_help_shows_what_the_provider_can_be_asked_first(provider: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own options stand between the data set and the limits; the provider, which the command says, is left out."""
    assert main([provider, "--help"]) == 0
    said = capsys.readouterr().out.partition("─ Parameters ─")[2]
    assert "--provider" not in said
    model = REQUESTS[provider]
    own = [name for name in model.model_fields if name not in TrainRequest.model_fields and name != "config"]
    for name in own:
        option = f"--{name.replace('_', '-')} "
        assert said.index("--credentials") < said.index(option) < said.index("--budget-usd"), option
    assert said.index("--budget-usd") < said.index("--json")


@pytest.mark.parametrize("provider", REQUESTS)
def test_every_providers_account_can_be_swept(provider: ProviderName, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--provider`` of the sweep takes all four."""
    seen: list[SweepRequest] = []

    def execute(request: SweepRequest, **_: object) -> int:
        seen.append(request)
        return 0

    monkeypatch.setattr(sweep_command, "execute", execute)
    assert sweep_command.main(["--provider", provider]) == 0
    assert seen == [SweepRequest(provider=provider)]


def test_a_sweep_of_somebody_else_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """One line with the providers there are."""
    assert sweep_command.main(["--provider", "other"]) == 2
    assert capsys.readouterr().err == (
        "error: --provider 'other': Input should be 'pictograph', 'replicate', 'bluesight' or 'photogpt'\n"
    )
