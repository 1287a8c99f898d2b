"""What can be asked of each provider, and which provider a request is meant for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.errors import ConfigurationError
from pipeline.local_requests import BluesightRequest, PhotogptRequest, ReplicateRequest
from pipeline.models import Operation, TrainPlan
from pipeline.provider_requests import REQUESTS, PictographRequest, read_request
from pipeline.report.dossier import Dossier
from pipeline.requests import TrainConfig, TrainRequest
from pipeline.start.planning import fingerprint_request, resolve_plan
from tests.unit.conftest import make_profile, make_request
from tests.unit.dossiers import START

TRAINER = "acme/trainer:" + "0" * 64
ASKED: dict[str, dict[str, Any]] = {
    "pictograph": {"dataset": "road-signs"},
    "replicate": {"dataset": "signs.zip", "trainer": TRAINER, "destination": "acme/signs"},
    "bluesight": {"dataset": "tiles.h5"},
    "photogpt": {"dataset": "faces", "age": 30, "gender": "Female"},
}
"""The least that must be said to each provider."""


@pytest.mark.parametrize("provider", ASKED)
def test_a_request_is_read_as_its_providers(provider: str) -> None:
    """And is the same after it was stored."""
    request = read_request({"provider": provider, **ASKED[provider]})
    assert type(request) is REQUESTS[provider]
    assert read_request(request.model_dump(mode="json")) == request


def test_a_request_that_names_no_provider_is_pictographs() -> None:
    """As it was before there were others: stored requests and schedules go on."""
    assert isinstance(read_request(ASKED["pictograph"]), PictographRequest)


def test_a_mistake_is_told_of_the_provider_that_was_asked() -> None:
    """Not of the three others as well."""
    with pytest.raises(ValidationError) as caught:
        read_request({"provider": "bluesight", "dataset": "tiles.h5", "task": "detection"})
    assert [error["loc"] for error in caught.value.errors()] == [("bluesight", "task")]


@pytest.mark.parametrize(
    ("kind", "fields", "field"),
    [
        (PictographRequest, {"on_out_of_memory": "half_batch"}, "batch_size"),
        (PictographRequest, {"attempt": 2}, "attempt"),
        (PictographRequest, {"operation": "a", "adopt": "b"}, "adopt"),
        (PictographRequest, {"budget_usd": 1, "budget_credits": 1}, "budget_usd"),
        (PictographRequest, {"export": "e", "class_filter": ("stop",)}, "class_filter"),
        (BluesightRequest, {"task": "segmentation"}, "num_classes"),
        (ReplicateRequest, {"inputs": {"train_data": "https://elsewhere.example"}}, "inputs"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(
    kind: type[TrainRequest], fields: dict[str, Any], field: str
) -> None:
    """The error names the field to change."""
    provider = next(name for name, request in REQUESTS.items() if request is kind)
    with pytest.raises(ConfigurationError) as caught:
        kind(**{"provider": provider, **ASKED[provider], **fields}).check()
    assert caught.value.context.field == field


@pytest.mark.parametrize(
    ("facts", "asked", "field"),
    [
        ({"cancels": "no"}, {"on_deadline": "cancel"}, "on_deadline"),
        ({"cancels": "no"}, {"cancel_on_interrupt": True}, "cancel_on_interrupt"),
        ({"prices": "none"}, {"budget_usd": 5}, "budget_usd"),
        ({"prices": "none"}, {"budget_credits": 5}, "budget_credits"),
    ],
)
def test_what_a_provider_cannot_do_is_refused_before_anything_is_made(
    facts: dict[str, Any], asked: dict[str, Any], field: str
) -> None:
    """A wish that would be ignored later is an error now; the same wish elsewhere is none."""
    with pytest.raises(ConfigurationError, match="Pictograph") as caught:
        _plan(facts, asked)
    assert caught.value.context.field == field
    assert _plan({}, asked).request.provider == "pictograph"


def _plan(facts: dict[str, Any], asked: dict[str, Any]) -> TrainPlan:
    return resolve_plan(make_request(**asked), make_profile(**facts), Operation(id="op-1"))


@pytest.mark.parametrize("provider", ASKED)
def test_only_what_decides_the_model_is_in_the_fingerprint(provider: str) -> None:
    """Limits and patience are not; every deciding field is one the request has."""
    kind = REQUESTS[provider]
    request = kind(**{"provider": provider, **ASKED[provider]})
    patient = request.model_copy(update={"deadline_s": 5.0, "wait": "none", "output_dir": Path("elsewhere")})
    assert fingerprint_request(patient) == fingerprint_request(request)
    other = request.model_copy(update={"dataset": "another"})
    assert fingerprint_request(other) != fingerprint_request(request)
    assert set(kind.model_fields) >= kind.DECIDING >= {"dataset", "provider", "sandbox"}


def test_the_command_that_comes_back_names_what_is_trained() -> None:
    """What is as usual is left out."""
    assert PictographRequest(dataset="ds", pipeline="sm_pytorch").options() == [
        "--dataset",
        "ds",
        "--pipeline",
        "sm_pytorch",
    ]
    assert PhotogptRequest(dataset="faces", age=30, gender="Male").options() == [
        "--dataset",
        "faces",
        "--age",
        "30",
        "--gender",
        "Male",
    ]


@pytest.mark.parametrize(
    ("smoke", "has_weights", "here", "there"),
    [
        ("auto", True, True, False),
        ("auto", False, False, True),
        ("onnx", True, True, False),
        ("onnx", False, False, False),
        ("hosted", True, False, True),
        ("none", True, False, False),
        ("none", False, False, False),
    ],
)
def test_a_trained_version_is_tried_as_it_was_asked(smoke: str, has_weights: bool, here: bool, there: bool) -> None:
    """Its ONNX here, the hosted version there, neither, or whichever there is."""
    request = ReplicateRequest(**{**ASKED["replicate"], "smoke": smoke})
    assert request.tries_here(has_weights=has_weights) is here
    assert request.tries_there(has_weights=has_weights) is there


def test_a_generated_picture_is_billed_and_so_only_made_when_asked() -> None:
    """The others try a model that stays at the provider in any case."""
    assert not PhotogptRequest(**ASKED["photogpt"]).tries_there(has_weights=False)
    assert PhotogptRequest(**{**ASKED["photogpt"], "smoke": True}).tries_there(has_weights=False)
    assert BluesightRequest(**ASKED["bluesight"]).tries_there(has_weights=False)


def test_local_data_is_named_by_its_file() -> None:
    """A path never gets into names of runs and artifacts."""
    assert BluesightRequest(dataset="/home/me/secret-project/tiles.h5").data_name == "tiles"


def test_reports_do_not_show_what_is_as_good_as_a_password() -> None:
    """Neither the signature of an address, nor what is said of a person in free words; what is sent is as before."""
    signed = ReplicateRequest(**ASKED["replicate"], dataset_url="https://store.example/d.zip?X-Signature=canary")
    person = PhotogptRequest(**ASKED["photogpt"], ethnicity="canary", eye_color="canary", smoke_prompt="canary")
    for request in (signed, person):
        assert "canary" in request.model_dump_json()
        assert "canary" not in request.shown().model_dump_json()
        dossier = Dossier(request, Operation(id="op-1"), START)
        assert "canary" not in dossier.report(START).model_dump_json()
    plain = ReplicateRequest(**ASKED["replicate"], dataset_url="https://store.example/d.zip")
    assert plain.shown() == plain


SIGNED = "https://store.example/w.bin?sig=canary"


def test_no_address_in_a_request_is_shown_whole(tmp_path: Path) -> None:
    """Not in the trainer's inputs either, however deep, nor in the plan made of them; what is sent is as before."""
    inputs = {
        "base": SIGNED,
        "user": "https://me:canary@store.example/w.bin#canary",
        "text": f"weights from {SIGNED}&x=1 and more",
        "spaced": "https://store.example/w?a=b canary",
        "deep": [{"urls": {SIGNED: [r"https:\/\/store.example\/w?sig=canary"]}}],
        "epochs": 5,
    }
    request = ReplicateRequest(
        **ASKED["replicate"], dataset_url="https://me:canary@s.example/d.zip?canary", inputs=inputs, smoke_input=inputs
    )
    dossier = Dossier(request, Operation(id="op-1"), START)
    dossier.plan = resolve_plan(
        request.model_copy(update={"dataset_url": None}), make_profile(name="replicate", gpus=()), Operation(id="op-1")
    )
    assert "canary" in dossier.plan.model_dump_json()
    shown = dossier.report(START).model_dump_json()
    assert "canary" not in shown
    assert shown.count("https://store.example/w.bin?[redacted]") == 3 * 2 * 2 + 2
    assert request.shown().inputs["epochs"] == 5
    assert dossier.plan.request.inputs == inputs


def test_hyperparameters_are_shown_without_the_queries_of_their_addresses() -> None:
    """Further keys may hold one."""
    request = PictographRequest(dataset="ds", config=TrainConfig(epochs=3, extra={"base": SIGNED, "k": 1}))
    assert request.shown().config == TrainConfig(
        epochs=3, extra={"base": "https://store.example/w.bin?[redacted]", "k": 1}
    )


@pytest.mark.parametrize(
    "url", ["https://me:canary@s.example/d.zip", "http://canary@s.example/d.zip", "https://me:can/ary@s.example/d.zip"]
)
def test_data_at_an_address_that_names_a_user_is_refused(url: str) -> None:
    """It would be stored and shown with the request; the reason does not repeat it."""
    with pytest.raises(ConfigurationError, match="names a user") as caught:
        ReplicateRequest(**ASKED["replicate"], dataset_url=url).check()
    assert caught.value.context.field == "dataset_url"
    assert "can" not in str(caught.value).replace("cannot", "")
    ReplicateRequest(**ASKED["replicate"], dataset_url="https://s.example:8443/d@1.zip?x=a@b").check()


def test_the_command_that_comes_back_shows_no_signature() -> None:
    """The operation, which it names as well, has the input."""
    request = ReplicateRequest(**ASKED["replicate"], inputs={"base": [SIGNED], "epochs": 5})
    options = request.options()
    assert options[options.index("--inputs") + 1] == '{"epochs": 5}'
    assert "--inputs" not in ReplicateRequest(**ASKED["replicate"], inputs={"base": SIGNED}).options()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "fields",
    [
        lambda number: {"provider": "pictograph", "budget_usd": number},
        lambda number: {"provider": "pictograph", "approve_above": number},
        lambda number: {"provider": "pictograph", "config": {"extra": {"k": number}}},
        lambda number: {"provider": "replicate", "inputs": {"a": [{"b": number}]}},
        lambda number: {"provider": "replicate", "smoke_input": {"a": number}},
    ],
    ids=["budget", "approval", "extra", "inputs", "smoke_input"],
)
def test_numbers_that_cannot_be_sent_are_refused(fields: Callable[[float], dict[str, Any]], number: float) -> None:
    """A cap without an end is none, and JSON has no word for them."""
    asked = fields(number)
    with pytest.raises(ValidationError, match=r"finite|greater than 0"):
        read_request({**ASKED[asked["provider"]], **asked})


@pytest.mark.parametrize(
    ("config", "sides"),
    [
        ({"image_size": 320}, (320, 320)),
        ({"image_size": 320, "extra": {"image_width": 256}}, (320, 256)),
        ({"extra": {"image_height": 96, "image_width": 64}}, (96, 64)),
        ({"extra": {"image_height": 96}}, None),
        ({"extra": {"image_size": True}}, None),
        ({"extra": {"image_size": "320"}}, None),
        ({}, None),
    ],
)
def test_the_size_that_was_asked_for_is_known(config: dict[str, Any], sides: tuple[int, int] | None) -> None:
    """One side for both, or each by its name; anything else is not a size."""
    assert TrainConfig(**config).sides == sides
    if "extra" in config and "image_size" not in config:
        assert ReplicateRequest(**ASKED["replicate"], inputs=config["extra"]).config_asked.sides == sides


def test_home_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage means the same file."""
    monkeypatch.setenv("HOME", "/home/me")
    request = BluesightRequest(dataset="~/tiles.h5", validation="~/more.h5")
    assert (request.dataset, request.validation) == ("/home/me/tiles.h5", "/home/me/more.h5")


def test_the_home_of_nobody_is_a_mistake_of_its_field() -> None:
    """With what to write instead."""
    with pytest.raises(ValidationError, match="write the whole path") as caught:
        BluesightRequest(dataset="tiles.h5", validation="~no-such-user-here/more.h5")
    assert [error["loc"] for error in caught.value.errors()] == [("validation",)]
