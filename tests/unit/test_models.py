"""The values: frozen, strict, documented, and the same after JSON."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline import models
from pipeline.models import Money, RunStatus, TrainingRun, Unit
from pipeline.provider_requests import PictographRequest
from pipeline.requests import TrainConfig
from pipeline.value import Value
from tests.unit.conftest import make_estimate, make_export, make_plan, make_request, make_run

VALUES = [kind for _, kind in inspect.getmembers(models, inspect.isclass) if issubclass(kind, Value)]


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_values_are_frozen_and_refuse_unknown_fields(kind: type[Value]) -> None:
    """A misspelt field is an error, not a default."""
    assert kind.model_config["frozen"]
    assert kind.model_config["extra"] == "forbid"


@pytest.mark.parametrize("kind", VALUES, ids=lambda kind: kind.__name__)
def test_every_field_is_explained(kind: type[Value]) -> None:
    """The run form and the JSON schema show a sentence for each field."""
    assert [name for name, field in kind.model_fields.items() if not field.description] == []


def test_a_value_cannot_be_changed() -> None:
    """What a stage was given is what it was given."""
    with pytest.raises(ValidationError, match="frozen"):
        make_request().dataset = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [
        {"provider": "nobody"},
        {"pipeline": "yolo99"},
        {"gpu": "tpu"},
        {"epochs": 3},
        {"dataset": ""},
        {"name": "x" * 61},
        {"samples": 0},
        {"min_agreement": 1.5},
        {"deadline_s": 0},
        {"budget_usd": -1},
        {"config": {"epochs": 0}},
        {"config": {"learning_rate": 0}},
        {"status_filter": "all"},
    ],
)
def test_requests_are_checked_before_anything_happens(wrong: dict[str, Any]) -> None:
    """A value out of its range does not get as far as the provider."""
    with pytest.raises(ValidationError):
        PictographRequest.model_validate(wrong)


@pytest.mark.parametrize(
    "value",
    [
        make_request(config=TrainConfig(epochs=3, extra={"model_size": "m"}), class_filter=("a", "b")),
        make_plan(),
        make_export(),
        make_estimate(),
        make_run(metrics={"history": [{"epoch": 1, "loss": 0.5}]}, started_at=datetime(2026, 1, 2, tzinfo=UTC)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_survive_json(value: Value) -> None:
    """Stored results read back equal."""
    assert type(value).model_validate_json(value.model_dump_json()) == value


def test_times_carry_their_zone() -> None:
    """A naive time is refused."""
    with pytest.raises(ValidationError):
        TrainingRun.model_validate(make_run().model_dump() | {"started_at": "2026-01-02T03:04:05"})


def test_config_sends_only_what_was_set() -> None:
    """The provider's defaults stay the provider's; named fields win over extras."""
    config = TrainConfig(epochs=3, extra={"epochs": 9, "model_size": "m"})
    assert config.to_wire() == {"epochs": 3, "model_size": "m"}
    assert TrainConfig().to_wire() == {}


@pytest.mark.parametrize(
    ("money", "text"),
    [
        (Money(amount=12, unit=Unit.CREDITS), "12 credits"),
        (Money(amount=1_234_500, unit=Unit.MICRO_USD), "$1.2345"),
        (Money(amount=2_000_000, unit=Unit.MICRO_USD), "$2.00"),
        (Money(amount=22_917, unit=Unit.MICRO_USD), "$0.0229"),
        (Money(amount=100_000_000, unit=Unit.MICRO_USD), "$100.00"),
    ],
)
def test_money_is_written_with_its_unit(money: Money, text: str) -> None:
    """Nobody has to guess what a number counts."""
    assert str(money) == text


@pytest.mark.parametrize(
    ("words", "ends"),
    [
        (RunStatus, {"completed", "failed", "cancelled"}),
        (models.ExportStatus, {"completed", "failed"}),
    ],
)
def test_only_real_ends_are_terminal(words: type[StrEnum], ends: set[str]) -> None:
    """A word we do not know is not an end."""
    assert {word.value for word in words if word.is_terminal} == ends  # type: ignore[attr-defined]
