"""The Replicate adapter as a provider: its facts, and what it checks before anything is uploaded."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.errors import AuthenticationError, ConfigurationError, NotOfferedError
from pipeline.models import ExportStatus
from pipeline.provider import Provider
from pipeline.requests import PipelineType
from pipeline.start.planning import check_reachable
from providers.replicate import data
from providers.replicate.profile import replicate_profile
from tests.unit.scripted_replicate import (
    EXPORT,
    HEX,
    KEY,
    PROFILE,
    TRAINER_PATH,
    account,
    api,
    archive,
    ok,
    plan,
    problem,
    ready_routes,
    schema,
)


def test_the_adapter_is_a_provider() -> None:
    """The port's type is satisfied, method by method."""
    provider: Provider = api({}).provider
    assert provider.profile is PROFILE
    assert KEY not in provider.account


def test_every_pipeline_a_request_can_name_is_in_the_profile() -> None:
    """A pipeline that can be asked for has a task."""
    assert set(PROFILE.pipelines) == set(PipelineType.__args__)  # type: ignore[attr-defined]


def test_the_sandbox_is_looked_at_more_often() -> None:
    """Its runs last seconds, and looking costs nothing."""
    here = replicate_profile(sandbox=True)
    assert (here.poll.interval_s, here.poll.floor_s) == (1.0, 0.5)
    assert (PROFILE.poll.interval_s, PROFILE.poll.floor_s, PROFILE.poll.ceiling_s) == (10.0, 2.0, 120.0)
    assert PROFILE.poll.not_found_grace_s == here.poll.not_found_grace_s == 300.0


def test_checking_reads_only_and_sends_the_key_as_a_bearer(tmp_path: Path) -> None:
    """Account, trainer and destination are asked for with GET requests alone."""
    server = api(ready_routes())
    server.provider.check_account(plan(archive(tmp_path)))
    assert server.lines() == ["GET /v1/account", f"GET {TRAINER_PATH}", "GET /v1/models/me/signs"]
    assert {request.headers["Authorization"] for request in server.asked} == {f"Bearer {KEY}"}


def test_a_refused_key_is_a_matter_of_the_credentials(tmp_path: Path) -> None:
    """401 is named as such, with the vendor's title."""
    answer = problem(401, "You did not pass a valid authentication token", title="Unauthenticated")
    with pytest.raises(AuthenticationError, match="Unauthenticated: You did not pass"):
        api({"GET /v1/account": answer}).provider.check_account(plan(archive(tmp_path)))


@pytest.mark.parametrize(
    ("says", "sandbox", "variable"),
    [({"X-Train-Pipeline-Sandbox": "1"}, False, "REPLICATE_BASE_URL"), ({}, True, "TRAIN_PIPELINE_SANDBOX_URL")],
)
def test_the_wrong_side_is_refused(says: dict[str, str], sandbox: bool, variable: str, tmp_path: Path) -> None:
    """A rehearsal must not be paid for, and a sandbox's model must not pass for a hosted one."""
    routes = ready_routes(**{"GET /v1/account": httpx.Response(200, json=account(), headers=says)})
    server = api(routes, profile=replicate_profile(sandbox=sandbox))
    with pytest.raises(ConfigurationError, match=variable):
        server.provider.check_account(plan(archive(tmp_path)))


@pytest.mark.parametrize("answer", [problem(404), httpx.Response(404, text="<html>")])
def test_an_address_that_is_not_the_api_s_is_a_matter_of_its_variable(answer: httpx.Response, tmp_path: Path) -> None:
    """An address with /v1 is the usual mistake: not the data set is missing, and the key is as good as it was."""
    said = _refused("REPLICATE_BASE_URL", {"GET /v1/account": answer}, tmp_path)
    assert "REPLICATE_BASE_URL does not lead to Replicate's API, whose address is named without /v1" in said


def _refused(field: str, routes: dict[str, Any], tmp_path: Path, **request: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        check_reachable(api(ready_routes(**routes)).provider, plan(archive(tmp_path), **request))
    assert caught.value.context.field == field
    return caught.value.message


def test_an_unknown_trainer_is_named(tmp_path: Path) -> None:
    """A version that is not there is a matter of the field trainer, not of the data set."""
    assert HEX in _refused("trainer", {f"GET {TRAINER_PATH}": problem(404)}, tmp_path)


def test_a_version_that_only_predicts_is_no_trainer(tmp_path: Path) -> None:
    """Its schema has no way to train."""
    version = {"id": HEX, "openapi_schema": {"paths": {"/predictions": {}}}}
    assert "not train" in _refused("trainer", {f"GET {TRAINER_PATH}": ok(version)}, tmp_path)


def test_an_unknown_input_is_named_with_those_there_are(tmp_path: Path) -> None:
    """Before anything is uploaded."""
    said = _refused("inputs", {}, tmp_path, inputs={"epoch": 3})
    assert "'epoch'" in said
    assert "'epochs', 'train_data'" in said


def test_a_missing_required_input_is_named(tmp_path: Path) -> None:
    """The data's own input is filled by the pipeline and not missed."""
    trainer = schema({"properties": {"train_data": {}, "classes": {}}, "required": ["train_data", "classes"]})
    assert "lacks 'classes'" in _refused("inputs", {f"GET {TRAINER_PATH}": ok(trainer)}, tmp_path)


def test_a_data_input_the_trainer_does_not_have_is_named(tmp_path: Path) -> None:
    """The trainer would run on nothing."""
    said = _refused("data_input", {}, tmp_path, data_input="images")
    assert "'train_data'" in said


def test_the_data_input_may_not_be_set_by_hand(tmp_path: Path) -> None:
    """Its value finds the run again."""
    assert "'train_data'" in _refused("inputs", {}, tmp_path, inputs={"train_data": "https://elsewhere"})


@pytest.mark.parametrize(
    "version", [{"id": HEX}, {"id": HEX, "openapi_schema": None}, {"id": HEX, "cog_version": None}]
)
def test_a_trainer_without_a_schema_takes_anything(version: dict[str, Any], tmp_path: Path) -> None:
    """Nothing can be checked, so nothing is refused."""
    server = api(ready_routes(**{f"GET {TRAINER_PATH}": ok(version)}))
    server.provider.check_account(plan(archive(tmp_path), inputs={"whatever": 1}))


def test_a_missing_destination_that_may_not_be_made_is_named(tmp_path: Path) -> None:
    """Otherwise the create would be refused after the upload."""
    missing = {"GET /v1/models/me/signs": problem(404)}
    assert "create_destination" in _refused("destination", missing, tmp_path, create_destination=False)


def test_a_missing_destination_that_may_be_made_is_fine(tmp_path: Path) -> None:
    """It is made later, together with the upload."""
    server = api(ready_routes(**{"GET /v1/models/me/signs": problem(404)}))
    server.provider.check_account(plan(archive(tmp_path)))


def test_a_destination_of_somebody_else_cannot_be_made(tmp_path: Path) -> None:
    """Only the account's own names can."""
    said = _refused("destination", {}, tmp_path, destination="them/signs")
    assert "'me'" in said


def test_a_destination_of_somebody_else_that_exists_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be an organisation's: the vendor decides."""
    server = api(ready_routes(**{"GET /v1/models/them/signs": ok({"owner": "them", "name": "signs"})}))
    with caplog.at_level(logging.WARNING, "providers.replicate"):
        server.provider.check_account(plan(archive(tmp_path), destination="them/signs"))
    assert "'them/signs'" in caplog.text


def test_an_archive_that_is_missing_is_named(tmp_path: Path) -> None:
    """By its field and path."""
    with pytest.raises(ConfigurationError, match=r"nothing\.zip") as caught:
        api(ready_routes()).provider.check_account(plan(tmp_path / "nothing.zip"))
    assert caught.value.context.field == "dataset"


def test_an_archive_above_the_limit_names_the_way_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be uploaded can be kept elsewhere."""
    monkeypatch.setattr(data, "MAX_FILE_BYTES", 10)
    assert "set dataset_url" in _refused("dataset_url", {}, tmp_path)


def test_an_archive_kept_elsewhere_is_not_looked_for_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """However large it is."""
    monkeypatch.setattr(data, "MAX_FILE_BYTES", 0)
    api(ready_routes()).provider.check_account(plan("nothing.zip", dataset_url="https://store.example/d.zip"))


def test_exports_are_not_offered() -> None:
    """The training data is a local file, and the sentence says so."""
    provider = api({}).provider
    export = EXPORT.model_copy(update={"status": ExportStatus.PENDING})
    for call in (
        lambda: provider.find_or_create_export(plan()),
        lambda: provider.get_export(export),
        lambda: provider.open_export(export),
    ):
        with pytest.raises(NotOfferedError, match="on this machine"):
            call()
