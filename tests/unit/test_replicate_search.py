"""The Replicate adapter finds the run of an attempt again: by the address of its data, in a list that is bounded."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from pipeline.errors import ConflictError, ProviderUnavailableError, UnexpectedResponseError
from pipeline.models import RunStatus, Severity
from providers.replicate.data import own_address
from tests.unit.scripted_replicate import (
    DESTINATION,
    FILE_URL,
    KEY,
    RUN_ID,
    Api,
    ago,
    api,
    done,
    ok,
    order,
    page,
    plan,
    problem,
    training,
    uploaded,
)

LIST = "GET /v1/trainings"
OTHER = {"train_data": FILE_URL + "0"}


def _found(server: Api, **changes: Any) -> Any:
    return server.provider.find_run(plan(), order(**changes))


def test_a_run_is_found_by_the_address_of_its_data() -> None:
    """Trainer version and destination are not looked at: the one may be substituted, the other is never shown."""
    run = _found(api({LIST: page(training(id="x", input=OTHER), training(version="hidden"))}))
    assert (run.handle.run_id, run.handle.name, run.gpu) == (RUN_ID, plan().run_name, "gpu-t4")
    assert run.warnings == ()


def test_a_run_of_other_data_is_not_taken() -> None:
    """Nor one without inputs that is too old to be ours, nor one whose trainer takes it elsewhere."""
    rows = (training(input=OTHER), training(input={"other": FILE_URL}), training(input={}))
    assert _found(api({LIST: page(*rows)})) is None


def test_the_search_ends_at_the_time_of_the_order() -> None:
    """Older pages are not read: an account may have thousands of trainings."""
    after = "https://api.replicate.com/v1/trainings?cursor=two"
    pages = [page(training(input=OTHER), following=after), page(training(created_at=ago(minutes=16)), following=after)]
    server = api({LIST: pages})
    assert _found(server) is None
    assert server.lines() == [LIST, f"{LIST}?cursor=two"]


def test_the_clocks_may_differ() -> None:
    """A run a little older than its order is found."""
    assert _found(api({LIST: page(training(created_at=ago(minutes=14)))})) is not None


def test_of_the_next_page_only_the_query_is_used() -> None:
    """Whoever answers cannot send the key to another host or another path."""
    evil = "http://evil.example/steal?cursor=cD0yMDI2%3D%3D"
    server = api({LIST: [page(training(input=OTHER), following=evil), page(training())]})
    assert _found(server).handle.run_id == RUN_ID
    assert [(request.url.host, request.url.path) for request in server.asked] == [
        ("api.replicate.com", "/v1/trainings")
    ] * 2
    assert server.asked[1].url.params["cursor"] == "cD0yMDI2=="


def test_pages_that_run_in_a_circle_are_an_error() -> None:
    """A list that cannot be read to its end proves nothing about what is not in it."""
    server = api({LIST: page(training(input=OTHER), following="https://api.replicate.com/v1/trainings?cursor=a")})
    with pytest.raises(UnexpectedResponseError, match="read already"):
        _found(server)
    assert len(server.asked) == 2


def test_a_list_that_fails_is_no_denial() -> None:
    """The error is passed on after the usual repetitions."""
    server = api({LIST: httpx.Response(502, text="<html>no</html>")})
    with pytest.raises(ProviderUnavailableError, match="a page of HTML"):
        _found(server)
    assert len(server.asked) == 4


def test_of_several_the_oldest_that_did_not_fail_is_taken() -> None:
    """The others are warned of, those that go on with the advice to end them."""
    rows = [
        training(id="new"),
        done(id="won"),
        training(id="old", status="starting"),
        training(id="lost", status="failed", error="x"),
    ]
    run = _found(api({LIST: page(*rows)}))
    assert run.handle.run_id == "old"
    said = [finding.message for finding in run.warnings]
    assert [finding.severity for finding in run.warnings] == [Severity.WARNING] * 3
    assert "won" in said[0]
    assert "cancel it there" in said[1]
    assert "cancel it there" not in said[0] + said[2]


def test_a_failed_run_is_found_when_there_is_no_other() -> None:
    """One attempt is one run at most."""
    assert _found(api({LIST: page(training(status="aborted"))})).status is RunStatus.CANCELLED


@pytest.mark.parametrize(
    "row",
    [
        done(input={}, data_removed=True),
        training(status="succeeded", input={}, output=None),
        training(status="failed", input={}, data_removed=True),
    ],
)
def test_a_run_whose_inputs_were_removed_is_not_denied(row: dict[str, Any]) -> None:
    """It may be ours: creating another one on that ground could pay twice."""
    with pytest.raises(ConflictError, match=rf"--adopt {RUN_ID}"):
        _found(api({LIST: page(row)}))


@pytest.mark.parametrize(
    "change",
    [
        {"model": "another/trainer"},
        {"output": {"version": f"me/other:{'0' * 64}"}},
        {"created_at": ago(minutes=30)},
        {"input": OTHER, "data_removed": False},
    ],
)
def test_a_run_that_cannot_be_ours_does_not_stop_us(change: dict[str, Any]) -> None:
    """Another trainer's, another destination's, an older one, or one that shows other data."""
    row = done(**{"input": {}, "data_removed": True}) | change
    assert _found(api({LIST: page(row)}), destination=DESTINATION) is None


def test_a_run_that_shows_its_data_settles_the_doubt() -> None:
    """Of several runs in the window one is certain."""
    rows = (done(id="gone", input={}, data_removed=True), training())
    assert _found(api({LIST: page(*rows)})).handle.run_id == RUN_ID


def test_without_an_order_uploaded_files_lead_to_the_run() -> None:
    """The file carries the operation's key; its own time bounds the list."""
    ours = uploaded(metadata={"train_pipeline_operation": plan().operation_key})
    files = page(uploaded(id="f", metadata={"train_pipeline_operation": "x"}, urls={"get": "u"}), ours)
    server = api(
        {"GET /v1/files": files, LIST: page(training(input=OTHER), training(), training(created_at=ago(days=1)))}
    )
    run = server.provider.find_run(plan())
    assert run is not None
    assert run.handle.run_id == RUN_ID


def test_without_an_order_or_a_file_there_is_no_run() -> None:
    """A new operation asks one question, not for every training of the account."""
    server = api({"GET /v1/files": page(uploaded(metadata=None))})
    assert server.provider.find_run(plan()) is None
    assert server.lines() == ["GET /v1/files"]


def test_without_an_order_data_kept_elsewhere_leads_to_the_run() -> None:
    """Its address is this operation's own; the list is read for two weeks at most."""
    url = "https://store.example/d.zip"
    asked = plan(dataset_url=url)
    ours = training(input={"train_data": own_address(url, asked.operation_key)})
    server = api({LIST: page(training(input={"train_data": url}), ours, training(created_at=ago(days=15)))})
    run = server.provider.find_run(asked)
    assert run is not None
    assert len(server.asked) == 1


def test_the_key_goes_nowhere_else() -> None:
    """Every request of a search is the API's own."""
    server = api({"GET /v1/files": problem(404), LIST: page(), "GET /v1/account": ok({})})
    _found(server)
    assert {request.url.host for request in server.asked} == {"api.replicate.com"}
    assert all(KEY in request.headers["Authorization"] for request in server.asked)
