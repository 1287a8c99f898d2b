"""The schema behind the run form: a choice of providers, and mistakes named by the field of the chosen one."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.utilities.schema_tools.validation import ValidationError, validate
from pydantic import BaseModel
from pydantic import ValidationError as RequestError

from pipeline.provider_requests import REQUESTS, AnyTrainRequest, read_request
from pipeline.requests import TrainRequest

TRAINER = f"owner/trainer:{'0' * 64}"
LEAST: dict[str, dict[str, Any]] = {
    "pictograph": {"dataset": "signs"},
    "replicate": {"provider": "replicate", "dataset": "d.zip", "trainer": TRAINER, "destination": "me/signs"},
    "bluesight": {"provider": "bluesight", "dataset": "tiles.h5"},
    "photogpt": {"provider": "photogpt", "dataset": "person", "age": 30, "gender": "Female"},
}
"""The shortest request each provider understands."""


class Parameters(BaseModel):
    """Stands for the parameters of a flow."""

    request: AnyTrainRequest


SCHEMA = Parameters.model_json_schema(ref_template="#/definitions/{model}")
SCHEMA["definitions"] = SCHEMA.pop("$defs")
FORM = SCHEMA["properties"]["request"]
SHOWN = dict(zip(REQUESTS, FORM["anyOf"], strict=True))


def refusal(request: object) -> str:
    """Return what the server answers to a request; nothing when it takes it."""
    try:
        validate({"request": request}, SCHEMA, raise_on_error=True)
    except ValidationError as error:
        return str(error)
    return ""


def test_a_provider_is_chosen_by_its_name() -> None:
    """The members of the choice have the vendors' own names, and there is no ``oneOf``, which one form cannot show."""
    assert [one["title"] for one in FORM["anyOf"]] == ["Pictograph", "Replicate", "Bluesight", "PhotoGPT"]
    assert "oneOf" not in FORM


@pytest.mark.parametrize("provider", REQUESTS)
def test_what_a_provider_can_be_asked_comes_first(provider: str) -> None:
    """Data set, provider, sandbox and credentials, then its own fields, then limits; positions say the same."""
    model, fields = REQUESTS[provider], SHOWN[provider]["properties"]
    names = list(fields)
    assert set(names) == set(model.model_fields)
    assert [fields[name]["position"] for name in names] == list(range(len(names)))
    own = [name for name in model.model_fields if name not in TrainRequest.model_fields]
    assert names[: 4 + len(own)] == ["dataset", "provider", "sandbox", "credentials", *own]
    assert SCHEMA["definitions"][model.__name__]["properties"].keys() == fields.keys()


@pytest.mark.parametrize("provider", REQUESTS)
def test_the_form_says_what_a_field_means_and_allows(provider: str) -> None:
    """Every field has its sentence, limits of numbers in words, and what has to be filled in is marked."""
    model, shown = REQUESTS[provider], SHOWN[provider]
    for name, field in model.model_fields.items():
        assert shown["properties"][name]["description"].startswith(str(field.description)), name
    most = 16 if provider == "bluesight" else 64
    assert shown["properties"]["samples"]["description"].endswith(f"Allowed: at least 1, at most {most}.")
    assert shown["required"] == [name for name, field in model.model_fields.items() if field.is_required()]


@pytest.mark.parametrize("provider", REQUESTS)
def test_the_provider_is_filled_in_and_cannot_be_mistyped(provider: str) -> None:
    """It is chosen already, from a list of one."""
    field = SHOWN[provider]["properties"]["provider"]
    assert (field["default"], field["enum"]) == (provider, [provider])


@pytest.mark.parametrize("provider", REQUESTS)
def test_a_request_that_can_be_read_is_taken(provider: str) -> None:
    """The shortest request of each provider, and the same with every field written out."""
    request = read_request(LEAST[provider])
    assert request.provider == provider
    assert refusal(LEAST[provider]) == ""
    assert refusal(request.model_dump(mode="json")) == ""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dataset": ""}, "field 'request.dataset'. Failure reason: '' should be non-empty"),
        ({"samples": 0}, "field 'request.samples'. Failure reason: 0 is less than the minimum of 1"),
        ({"surprise": 1}, "'surprise' was unexpected"),
        ({"attempt": 0, "deadline_s": 60}, "field 'request.attempt'. Failure reason: 0 is"),
    ],
)
@pytest.mark.parametrize("provider", REQUESTS)
def test_a_mistake_is_told_of_its_field(provider: str, wrong: dict[str, Any], said: str) -> None:
    """The server's sentence is about the field, and about the chosen provider's request only."""
    assert said in refusal({**LEAST[provider], **wrong})
    with pytest.raises(RequestError) as caught:
        read_request({**LEAST[provider], **wrong})
    assert len(caught.value.errors()) == 1


def test_what_is_left_out_is_named() -> None:
    """The first field that a provider needs and that was not given."""
    assert refusal({}).endswith("'dataset' is a required property")
    assert refusal({"provider": "replicate", "dataset": "d.zip"}).endswith("'trainer' is a required property")


def test_a_provider_is_never_guessed_from_the_fields() -> None:
    """Fields of another provider without its name are refused as Pictograph's: nothing is trained elsewhere."""
    for provider in ("replicate", "bluesight", "photogpt"):
        request = {**LEAST[provider], "wait": "hold", "attempt": None}
        if provider == "bluesight":
            request["task"] = "classification"
        del request["provider"]
        assert "unexpected" in refusal(request)
        with pytest.raises(RequestError):
            read_request(request)


def test_an_unknown_provider_is_refused() -> None:
    """Neither taken as Pictograph's nor passed through."""
    assert refusal({"provider": "other", "dataset": "d"}) != ""
