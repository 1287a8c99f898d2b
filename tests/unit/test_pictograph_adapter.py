"""The Pictograph adapter as a provider: its facts, the account check and exports."""

from __future__ import annotations

import httpx
import pytest

from pipeline.errors import (
    ConfigurationError,
    ConflictError,
    NotFoundError,
)
from pipeline.models import ExportStatus, ModelTask
from pipeline.provider import Provider
from pipeline.provider_requests import PictographRequest
from providers.pictograph.exports import export_key
from providers.pictograph.profile import pictograph_profile
from providers.pictograph.values import TrainingSpec
from tests.unit.scripted_pictograph import (
    EXPORT,
    PROFILE,
    QUOTE,
    Answer,
    api,
    export_row,
    new_server,
    ok,
    plan,
    refused,
    run_row,
)


def test_the_adapter_is_a_provider() -> None:
    """The port's type is satisfied, method by method."""
    provider: Provider = api({}).provider
    assert provider.profile is PROFILE


def test_an_unknown_data_set_is_answered_with_the_nearest() -> None:
    """The message names what was asked and up to ten that exist, nearest first."""
    names = [*(f"other-{number}" for number in range(30)), "road-sign"]
    rows = [{"id": name, "name": name} for name in names]
    pages: list[Answer] = [ok({"data": []}), ok({"data": rows, "pagination": {"has_more": False}})]
    server = api({"GET /credits/balance": ok({}), "GET /datasets/": pages})
    with pytest.raises(NotFoundError, match=r"'road-signs' does not exist.*: 'road-sign'") as caught:
        server.provider.check_account(plan())
    assert caught.value.message.count("'other-") <= 9
    assert caught.value.context.field == "dataset"


def test_checking_the_account_reads_only() -> None:
    """Key and data set are checked with GET requests alone."""
    server = api({"GET /credits/balance": ok({}), **new_server("road-signs")})
    server.provider.check_account(plan())
    assert {request.method for request in server.asked} == {"GET"}


SAYS_SANDBOX = {"X-Train-Pipeline-Sandbox": "1"}


@pytest.mark.parametrize("sandbox", [True, False])
def test_hosted_and_sandbox_are_never_taken_for_each_other(sandbox: bool) -> None:
    """Whoever answers says who it is; on the wrong side the run ends before anything is made, naming the variable."""
    right, wrong = (SAYS_SANDBOX, {}) if sandbox else ({}, SAYS_SANDBOX)
    for headers in (right, wrong):
        balance = httpx.Response(200, json={}, headers=headers)
        server = api({"GET /credits/balance": balance, **new_server("road-signs")})
        server.profile = pictograph_profile(sandbox=sandbox)
        if headers is right:
            server.provider.check_account(plan())
            continue
        said = "SANDBOX_URL does not lead to a sandbox" if sandbox else "BASE_URL leads to a sandbox: use --sandbox"
        with pytest.raises(ConfigurationError, match=said):
            server.provider.check_account(plan())
        assert {request.method for request in server.asked} == {"GET"}


def test_an_asked_for_export_is_never_made() -> None:
    """A named export that does not exist is NotFoundError with the ones that do; nothing is created."""
    server = api({
        "GET /datasets/": ok({"data": []}),
        "GET /exports/": ok({"data": [export_row(name="night")], "pagination": {"has_more": False}}),
    })  # fmt: skip
    with pytest.raises(NotFoundError, match=r"no export 'nigth'; exports that exist: 'night'"):
        server.provider.find_or_create_export(plan(export="nigth"))
    assert all(request.method == "GET" for request in server.asked)


def test_a_fresh_export_carries_images_filters_and_its_own_key() -> None:
    """The export is asked for with images and filters; its idempotency key is its own, derived from the operation's."""
    server = api({"POST /exports/": ok({"data": export_row(status="pending")}, 201)})
    asked = plan(class_filter=("stop",), status_filter="complete")
    export = server.provider.find_or_create_export(asked)
    assert (export.status, export.dataset) == (ExportStatus.PENDING, "road-signs")
    assert server.bodies("POST /exports/") == [
        {"dataset_name": "road-signs", "name": asked.export_name, "format": "pictograph", "include_images": True,
         "class_filter": ["stop"], "status_filter": "complete"}
    ]  # fmt: skip
    key = server.asked[0].headers["Idempotency-Key"]
    assert key == export_key(asked.operation_key) != asked.operation_key
    assert len(key) == 32


def test_filters_that_were_not_asked_for_are_not_sent() -> None:
    """Absent filters are absent keys."""
    server = api({"POST /exports/": ok({"export": export_row()})})
    server.provider.find_or_create_export(plan(status_filter=None))
    assert server.bodies("POST /exports/")[0].keys() == {"dataset_name", "name", "format", "include_images"}


@pytest.mark.parametrize("status", [409, 400, 422])
def test_an_export_made_by_an_earlier_attempt_is_taken(status: int) -> None:
    """A taken name that carries our operation key is ours."""
    name = plan().export_name
    server = api({
        "POST /exports/": refused(status, "already exists"),
        "GET /datasets/": ok({"data": []}),
        f"GET /exports/{name}": ok({"data": export_row(name=name)}),
    })  # fmt: skip
    assert server.provider.find_or_create_export(plan()).name == name


def test_a_conflict_that_is_not_about_the_name_is_raised() -> None:
    """A data set in cold storage gives its conflict, not 'export not found'."""
    cold = ok({"error": {"code": "dataset_cold", "message": "cold"}}, 409)
    server = api({"POST /exports/": cold, "GET /datasets/": ok({"data": []})})
    with pytest.raises(ConflictError, match="cold") as caught:
        server.provider.find_or_create_export(plan())
    assert caught.value.context.code == "dataset_cold"


def test_an_unknown_export_status_is_not_ready() -> None:
    """A word we do not know is neither completed nor failed, and the provider's word is kept."""
    server = api({**new_server("road-signs"), "GET /exports/ex%201": ok({"data": export_row(status="thawing")})})
    export = server.provider.get_export(EXPORT)
    assert (export.status, export.provider_status, export.status.is_terminal) == (
        ExportStatus.UNKNOWN,
        "thawing",
        False,
    )


def test_the_profile_states_the_vendors_figures() -> None:
    """Interval, deadline, limits and pipelines are the published ones, and the sandbox only waits less."""
    sandbox = pictograph_profile(sandbox=True)
    assert (PROFILE.poll.interval_s, PROFILE.poll.deadline_s, PROFILE.export_poll.deadline_s) == (5, 7200, 300)
    assert (PROFILE.min_images, PROFILE.run_name_max, PROFILE.sandbox) == (5, 100, False)
    assert PROFILE.pipelines["detectron2"] is ModelTask.INSTANCE_SEGMENTATION
    assert (sandbox.poll.floor_s, sandbox.sandbox, sandbox.pipelines) == (0.5, True, PROFILE.pipelines)


def test_every_pipeline_and_gpu_a_request_can_name_is_in_the_profile() -> None:
    """The request's choices and the profile's facts are the same lists."""
    schema = PictographRequest.model_json_schema()
    assert set(schema["properties"]["pipeline"]["enum"]) == set(PROFILE.pipelines)
    assert set(schema["properties"]["gpu"]["enum"]) == set(PROFILE.gpus)


def test_a_spec_prices_and_creates_alike() -> None:
    """Quote and create send the same body but for the name."""
    server = api({"POST /training/quote": ok({"data": QUOTE}), "POST /training/": ok({"data": run_row()})})
    spec = TrainingSpec(dataset="d", export="e", pipeline="sm_pytorch", config={"epochs": 1})
    training = server.provider.training
    training.quote(spec)
    training.create(spec, "n", key="0" * 32)
    quoted, created = server.bodies("POST /training/quote")[0], server.bodies("POST /training/")[0]
    assert created == {**quoted, "name": "n"}
