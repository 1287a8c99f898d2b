"""Planning: identity, names, limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import (
    AuthenticationError,
    ConfigurationError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    ProviderUnavailableError,
)
from pipeline.models import Operation
from pipeline.provider_requests import PictographRequest
from pipeline.requests import TrainConfig
from pipeline.start.planning import KEY_IN_NAME, check_reachable, fingerprint_request, resolve_plan
from tests.unit.conftest import POLICY, FakeProvider, Script, make_plan, make_profile, make_request

OP = Operation(id="op")
DECIDING: dict[str, Any] = {
    "sandbox": True,
    "dataset": "other",
    "export": "ex",
    "pipeline": "classification",
    "gpu": "a100",
    "config": TrainConfig(epochs=3),
    "class_filter": ("stop",),
    "status_filter": None,
}
NOT_DECIDING: dict[str, Any] = {
    "operation": "op-7",
    "credentials": "block",
    "max_export_bytes": 5,
    "name": "nice",
    "budget_usd": 3.0,
    "budget_credits": 3,
    "gpu_minutes": 60,
    "wait": "none",
    "on_open_run": "new",
    "attempt": 2,
    "if_changed": True,
    "on_out_of_memory": "larger_gpu",
    "approve_above": 5.0,
    "cancel_on_interrupt": True,
    "adopt": "run-7",
    "poll_interval_s": 9.0,
    "deadline_s": 60.0,
    "on_deadline": "cancel",
    "samples": 2,
    "min_agreement": 0.1,
    "max_model_bytes": 5,
    "output_dir": Path("elsewhere"),
}


def test_the_same_operation_gets_the_same_names() -> None:
    """A rerun finds what the first run made."""
    assert make_plan("op-1") == make_plan("op-1")


def test_another_operation_gets_other_names() -> None:
    """Tonight's retraining is not yesterday's."""
    one, two = make_plan("op-1"), make_plan("op-2")
    assert one.fingerprint == two.fingerprint
    assert one.operation_key != two.operation_key
    assert one.run_name != two.run_name
    assert one.export_name != two.export_name
    assert one.output_dir != two.output_dir


@pytest.mark.parametrize(
    "changes", [{"gpu": "a100"}, {"config": TrainConfig(epochs=3)}, {"name": "nice"}, {"samples": 2}]
)
def test_the_operation_alone_decides_whose_run_it_is(changes: dict[str, Any]) -> None:
    """Coming back with other options, or with a release that knows more of them, finds the run that was paid for."""
    first, again = make_plan("op-1"), make_plan("op-1", **changes)
    assert first.operation_key == again.operation_key
    assert again.owns(first.run_name)


@pytest.mark.parametrize("field", DECIDING)
def test_the_fingerprint_changes_with_what_is_trained(field: str) -> None:
    """Each deciding field counts."""
    assert fingerprint_request(make_request(**{field: DECIDING[field]})) != fingerprint_request(make_request())


@pytest.mark.parametrize("field", NOT_DECIDING)
def test_the_fingerprint_ignores_limits_and_waiting(field: str) -> None:
    """More patience or another folder is the same training."""
    assert fingerprint_request(make_request(**{field: NOT_DECIDING[field]})) == fingerprint_request(make_request())


def test_every_request_field_is_judged() -> None:
    """A new field of the request has to be put on one of the two lists."""
    assert {*DECIDING, *NOT_DECIDING, "provider"} == set(PictographRequest.model_fields)


def test_extra_keys_count_in_any_order() -> None:
    """The order in which a form lists keys decides nothing."""
    one, two = ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert fingerprint_request(make_request(config=TrainConfig(extra=one))) == fingerprint_request(
        make_request(config=TrainConfig(extra=two))
    )


@pytest.mark.parametrize("longest", [24, 40, 100])
@pytest.mark.parametrize("dataset", ["road-signs", "x" * 200, "Straßen & Schilder / 2", "道路標識", "--", "a-" * 100])
def test_run_names_fit_the_provider_and_carry_the_key(dataset: str, longest: int) -> None:
    """Whatever the data set is called, the name is legal, short enough and unique to the operation."""
    plan = make_plan(profile=make_profile(run_name_max=longest), dataset=dataset)
    assert len(plan.run_name) <= longest
    assert plan.run_name.endswith(f"-{plan.operation_key[:KEY_IN_NAME]}")
    assert set(plan.run_name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert "--" not in plan.run_name
    assert not plan.run_name.startswith("-")


def test_the_operation_key_is_32_hex_characters() -> None:
    """It is sent as an idempotency key, whose form is fixed."""
    key = make_plan().operation_key
    assert len(key) == 32
    assert int(key, 16) >= 0


def test_an_existing_export_keeps_its_name() -> None:
    """Only a fresh export is named after the run."""
    assert make_plan(export="mine").export_name == "mine"
    assert make_plan().export_name == make_plan().run_name


def test_names_cannot_leave_the_output_folder() -> None:
    """A data set's name is no path."""
    plan = make_plan(name="../../etc", output_dir=Path("runs"))
    assert plan.output_dir.parent == Path("runs")


def test_rehearsals_have_their_own_folder() -> None:
    """A sandbox model never lies where a hosted one is expected."""
    assert make_plan(profile=make_profile(sandbox=True)).output_dir.parent == Path("runs/sandbox")


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({"pipeline": "detectron2"}, "pipeline"),
        ({"gpu": "h100"}, "gpu"),
        ({"budget_usd": 1, "budget_credits": 1}, "budget_usd"),
        ({"export": "mine", "class_filter": ("a",)}, "class_filter"),
        ({"export": "mine", "status_filter": "review"}, "status_filter"),
    ],
)
def test_what_cannot_be_carried_out_names_its_field(request_fields: dict[str, Any], field: str) -> None:
    """The message and the context both say what to change."""
    with pytest.raises(ConfigurationError, match=field) as caught:
        make_plan(**request_fields)
    assert caught.value.context.field == field


@pytest.mark.parametrize("request_fields", [{"budget_usd": 1}, {"budget_credits": 1}, {"class_filter": ("a",)}])
def test_what_does_not_contradict_itself_is_planned(request_fields: dict[str, Any]) -> None:
    """One cap, or a filter on a fresh export, is nothing to complain about."""
    assert make_plan(**request_fields).request == make_request(**request_fields)


def test_a_name_without_a_legal_character_is_replaced() -> None:
    """There is always a readable part."""
    assert make_plan(name="道路").run_name.startswith("run-")


@pytest.mark.parametrize(
    ("refusal", "field"),
    [
        (NotFoundError("no data set 'road-signs'"), "dataset"),
        (AuthenticationError("401"), "credentials"),
        (PermissionDeniedError("403"), "credentials"),
    ],
)
def test_a_refused_account_names_the_field(refusal: ProviderError, field: str) -> None:
    """A wrong key or data set is found out by reading, and is the request's fault."""
    provider: Any = FakeProvider(check_account=Script(refusal))
    with pytest.raises(ConfigurationError, match=re.escape(str(refusal))) as caught:
        check_reachable(provider, make_plan())
    assert caught.value.context.field == field
    assert caught.value.__cause__ is refusal


def test_an_outage_is_not_the_requests_fault() -> None:
    """A provider that cannot be asked stays a provider's error, and an accepted account passes."""
    provider: Any = FakeProvider(check_account=Script(ProviderUnavailableError("503"), None))
    with pytest.raises(ProviderUnavailableError):
        check_reachable(provider, make_plan())
    check_reachable(provider, make_plan())
    assert provider.calls("check_account") == 2


def test_a_stored_request_plans_like_the_original() -> None:
    """Reading a request back sets every field; that alone must not make it contradictory."""
    request = make_request(export="mine")
    stored = PictographRequest.model_validate_json(request.model_dump_json())
    assert resolve_plan(stored, make_profile(), OP) == resolve_plan(request, make_profile(), OP)


def test_waiting_follows_the_profile_unless_told_otherwise() -> None:
    """The request's own figures win, one by one."""
    assert make_plan().poll == POLICY
    assert make_plan(deadline_s=9).poll == POLICY.model_copy(update={"deadline_s": 9})
    assert make_plan(poll_interval_s=3).poll == POLICY.model_copy(update={"interval_s": 3, "fixed": True})


def test_a_paid_training_goes_on_though_it_could_not_be_begun_now() -> None:
    """A data set or trainer that is gone is told, not raised; a refused key leaves nothing to go on with."""
    gone = FakeProvider(check_account=Script(NotFoundError("no such data set")))
    assert check_reachable(gone, make_plan(), paid=True) == "no such data set"  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no such data set"):
        check_reachable(gone, make_plan())  # type: ignore[arg-type]
    refused = FakeProvider(check_account=Script(AuthenticationError("revoked")))
    with pytest.raises(ConfigurationError, match="revoked"):
        check_reachable(refused, make_plan(), paid=True)  # type: ignore[arg-type]
    fine = FakeProvider(check_account=Script(None))
    assert check_reachable(fine, make_plan(), paid=True) is None  # type: ignore[arg-type]
