"""PhotoGPT's models read as runs: words, jobs, and how one is found again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.errors import (
    NotFoundError,
    PermissionDeniedError,
)
from pipeline.models import RunStatus
from providers.photogpt.jobs import MOST_DETAILS, Window
from tests.unit.scripted_photogpt import Server, handle_of, make_plan, moment, nok, ok

PLAN = make_plan(Path("anna"))


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("new", RunStatus.PENDING), ("training", RunStatus.RUNNING), ("Ready", RunStatus.COMPLETED),
        ("deleted", RunStatus.FAILED), ("FAILED", RunStatus.FAILED), ("error", RunStatus.FAILED),
        ("cancelled", RunStatus.FAILED), ("canceled", RunStatus.FAILED),
        ("queued", RunStatus.UNKNOWN), ("something else", RunStatus.UNKNOWN),
    ],
)  # fmt: skip
def test_status_words_are_compared_in_lower_case(word: str, status: RunStatus) -> None:
    """The vendor's own word is kept; one that is not known is no end; only a ready model is named."""
    server = Server()
    server.add_model("m1", word)
    run = server.provider.get_run(handle_of("m1"))
    assert (run.status, run.provider_status) == (status, word)
    assert run.model_id == ("m1" if status is RunStatus.COMPLETED else None)
    assert (run.completed_at is not None) is status.is_terminal
    assert run.handle == handle_of("m1")


def test_a_model_that_went_back_to_new_has_failed() -> None:
    """Its job says so, and why; whoever looks need not have seen it training."""
    server = Server()
    server.add_model("m1")
    server.add_job("m1", "failed", errorMessage="no face found on 3 pictures")
    run = server.provider.get_run(handle_of("m1"))
    assert (run.status, run.error_message) == (RunStatus.FAILED, "no face found on 3 pictures")


def test_the_newest_training_counts() -> None:
    """One that failed before the one that goes on does not end it."""
    server = Server()
    server.add_model("m1")
    server.add_job("m1", "failed")
    server.now_s += 1
    server.add_job("m1", "running")
    assert server.provider.get_run(handle_of("m1")).status is RunStatus.PENDING


def test_a_failed_model_says_why() -> None:
    """By its job where there is one; a deleted one was deleted."""
    server = Server()
    server.add_model("m1", "failed")
    server.add_job("m1", "failed", errorMessage="bad light")
    server.add_model("m2", "deleted")
    assert server.provider.get_run(handle_of("m1")).error_message == "bad light"
    assert "deleted" in (server.provider.get_run(handle_of("m2")).error_message or "")


def test_a_look_bears_a_jobs_list_that_fails() -> None:
    """The model's status is the source of truth; the jobs only explain it."""
    server = Server(faults={"GET /jobs": [nok(403)]})
    server.add_model("m1")
    assert server.provider.get_run(handle_of("m1")).status is RunStatus.PENDING


def test_a_running_model_needs_one_request() -> None:
    """Nobody looks for jobs while the status says it all."""
    server = Server()
    server.add_model("m1", "training")
    server.provider.get_run(handle_of("m1"))
    assert server.lines() == ["GET /models/m1"]


def test_an_unknown_model_is_not_found() -> None:
    """The watch, with its grace, decides what that means."""
    with pytest.raises(NotFoundError):
        Server().provider.get_run(handle_of("m1"))


def test_both_casings_of_ids_are_read() -> None:
    """The vendor mixes them."""
    detail = {"jobID": "j1", "status": "failed", "modelID": "m1", "error": "odd", "createdAt": moment(1_800_000_000)}
    item = {"jobID": "j1", "status": "failed", "createdAt": moment(1_800_000_000), "credits": 0}
    server = Server(faults={"GET /jobs": [ok({"jobs": [item]})], "GET /jobs/j1": [ok(detail)]})
    server.add_model("m1")
    assert server.provider.get_run(handle_of("m1")).error_message == "odd"


def test_the_age_of_a_model_is_read_from_its_id() -> None:
    """Where the answer leaves it out: the first 48 bits of such an id are the time."""
    model_id = "01890a5d-ac96-774b-bcce-b302099a8057"
    answer = ok({"id": model_id, "status": "training"})
    run = Server(faults={f"GET /models/{model_id}": [answer]}).provider.get_run(handle_of(model_id))
    assert run.created_at is not None
    assert run.created_at.year == 2023


def test_jobs_are_read_page_by_page_and_strangers_once() -> None:
    """A job of another model is not looked at again by the same adapter."""
    server = Server()
    server.add_model("m1")
    for _ in range(3):
        server.add_job("other")
    server.add_job("m1", "created")
    provider = server.provider
    provider.get_run(handle_of("m1"))
    assert server.count("GET /jobs") == 4
    assert server.count("GET /jobs/job_.") == 4
    provider.get_run(handle_of("m1"))
    assert server.count("GET /jobs/job_.") == 5


def test_the_window_is_seven_days_at_most() -> None:
    """The server in memory asserts it; of a model that is older the last days count."""
    server = Server()
    server.add_model("m1")
    server.now_s += 30 * 86_400
    server.add_job("m1", "failed")
    assert server.provider.get_run(handle_of("m1")).status is RunStatus.FAILED


def test_a_busy_account_is_not_looked_through_to_the_end() -> None:
    """The newest jobs count."""
    rows = [{"jobId": f"j{number}", "status": "success", "createdAt": moment(number)} for number in range(250)]
    server = Server(faults={"GET /jobs": [ok({"jobs": rows})]})
    server.provider.jobs.of_model("m1", Window(since=datetime.fromtimestamp(0, UTC)))
    assert server.count("GET /jobs/.*") == MOST_DETAILS
    assert server.lines()[1] == "GET /jobs/j249"


def test_a_page_token_that_comes_back_ends_the_list() -> None:
    """A server that repeats itself is not followed for ever."""
    page = ok({"jobs": [], "nextPageToken": "t"})
    server = Server(faults={"GET /jobs": [page, page, page]})
    assert server.provider.jobs.items(Window()) == ()
    assert server.count("GET /jobs") == 2


def test_without_an_order_a_run_is_found_by_its_name_only() -> None:
    """Where the list shows names; one that is new was never triggered, and one that failed had an order."""
    server = Server(shows_name=True)
    server.add_model("m1", name=PLAN.run_name)
    assert server.provider.find_run(PLAN) is None
    server.add_model("m2", "failed", name=PLAN.run_name)
    assert server.provider.find_run(PLAN) is None
    server.add_model("m3", "training", name="somebody-else-0123456789")
    assert server.provider.find_run(PLAN) is None
    server.add_model("m4", "training", name=PLAN.run_name)
    server.add_model("m0", "ready", name=PLAN.run_name)
    found = server.provider.find_run(PLAN)
    assert found is not None
    assert (found.handle.run_id, found.handle.name, found.handle.dataset) == ("m0", PLAN.run_name, "anna")
    server.shows_name = False
    assert server.provider.find_run(PLAN) is None


@pytest.mark.parametrize(
    ("status", "job", "found"),
    [("new", None, None), ("new", "running", RunStatus.PENDING), ("new", "failed", RunStatus.FAILED),
     ("training", None, RunStatus.RUNNING), ("ready", None, RunStatus.COMPLETED), ("odd", None, RunStatus.UNKNOWN),
     ("failed", None, RunStatus.FAILED), (None, None, None)],
)  # fmt: skip
def test_an_order_leads_to_its_model(status: str | None, job: str | None, found: RunStatus | None) -> None:
    """A model that is still new has a run only when a job names it."""
    server = Server()
    if status is not None:
        server.add_model("m1", status)
    if job is not None:
        server.add_job("other", "running")
        server.add_job("m1", job)
    run = server.provider.find_run(PLAN, {"model_id": "m1"})
    assert (run.status if run is not None else None) is found


def test_jobs_that_cannot_be_read_are_no_absence() -> None:
    """Finding nothing means sending again, so a list that fails must be an error."""
    server = Server(faults={"GET /jobs": [nok(403)]})
    server.add_model("m1")
    with pytest.raises(PermissionDeniedError):
        server.provider.find_run(PLAN, {"model_id": "m1"})


def test_many_runs_are_one_list() -> None:
    """Unknown ones are left out, handles are kept."""
    server = Server()
    server.add_model("m1", "training")
    server.add_model("m2", "ready")
    runs = server.provider.get_runs((handle_of("m2"), handle_of("m1"), handle_of("gone")))
    assert [(run.handle.run_id, run.status) for run in runs] == [("m2", RunStatus.COMPLETED), ("m1", RunStatus.RUNNING)]
    assert server.lines() == ["GET /models", "GET /models/gone"]


def test_live_runs_are_models_in_training() -> None:
    """Neither new ones nor ended ones; a word that is not known may be a paid training."""
    server = Server(shows_name=True)
    for status in ("new", "training", "ready", "deleted", "failed", "queued"):
        server.add_model(status, status, name=f"name of {status}")
    runs = server.provider.live_runs()
    assert {(run.handle.run_id, run.handle.name) for run in runs} == {
        ("training", "name of training"), ("queued", "name of queued"),
    }  # fmt: skip
