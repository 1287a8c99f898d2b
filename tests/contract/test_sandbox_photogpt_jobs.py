"""The emulated PhotoGPT API: the trigger and a training's life, the listing of jobs, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from sandbox import documents
from sandbox.clock import ManualClock
from sandbox.core import open_sandbox
from sandbox.launch import NO_TLS
from sandbox.server import SandboxServer
from tests.contract.photogpt_calls import (
    AT_ONCE,
    ENDLESS,
    PERSON,
    QUICK,
    SMALL,
    Caller,
    NewCaller,
    callers,
    fetched,
    picture,
    upload,
)

LIFE = {
    "mode": "manual",
    "steps": [{"status": "pending"}, {"status": "queued"}, {"status": "running"}, {"status": "completed"}],
}
FAILING = {
    "mode": "manual",
    "steps": [{"status": "running"}, {"status": "failed", "error_message": "no face in 3 images"}],
}


@pytest.fixture
def new_caller(server: SandboxServer) -> Iterator[NewCaller]:
    """Give a function that opens an account with these settings of PhotoGPT."""
    with callers(server) as make:
        yield make


@pytest.mark.parametrize("count", [11, 12, 20])
def test_a_training_needs_twelve_pictures(new_caller: NewCaller, count: int) -> None:
    """Auxiliary ones do not count; the trigger answers a sentence and no id."""
    caller = new_caller(LIFE)
    ref = caller.model(count)
    caller.ask("POST", "/images/upload", **upload(ref, picture(), "auxiliaryType"))
    if count < 12:
        status, message = caller.refused("GET", f"/models/{ref}/train")
        assert (status, "the model has 11" in message) == (400, True)
        assert (caller.status(ref), caller.account.bill()["started_runs"]) == ("new", 0)
    else:
        assert caller.http.get(f"/models/{ref}/train").json() == {"status": "OK", "result": "Training triggered"}


def test_a_model_goes_from_new_to_ready(new_caller: NewCaller) -> None:
    """It may still be new for a while after the trigger; the training's job has its own words."""
    caller = new_caller(LIFE)
    ref = caller.model(12)
    caller.trigger(ref)
    job, seen = caller.training(), []
    for _ in range(4):
        seen.append((caller.status(ref), caller.ask("GET", f"/jobs/{job}")["status"]))
        caller.account.advance(job)
    assert seen == [("new", "created"), ("training", "queued"), ("training", "running"), ("ready", "success")]
    assert caller.ask("GET", f"/models/{ref}")["updatedAt"] > caller.ask("GET", f"/models/{ref}")["createdAt"]


def test_looks_at_the_model_move_a_training_that_is_scripted_so(new_caller: NewCaller) -> None:
    """Each answer shows the model before its look counts."""
    caller = new_caller({**LIFE, "mode": "looks"})
    ref = caller.model(12)
    caller.trigger(ref)
    assert [caller.status(ref) for _ in range(5)] == ["new", "training", "training", "ready", "ready"]


def test_a_training_takes_its_time(tmp_path: Any) -> None:
    """By the clock: training for twenty minutes, ready then, whichever engine the account has."""
    clock = ManualClock()
    with SandboxServer(tmp_path, clock) as server, callers(server) as make:
        caller = make({"steps": [{"status": "running", "for_s": 1200}, {"status": "completed"}]})
        ref = caller.model(12)
        caller.trigger(ref)
        sandbox = open_sandbox(tmp_path)
        with sandbox.store.read() as tx:
            assert documents.open_real(tx) == []
        sandbox.store.close()
        clock.advance(1199)
        assert caller.status(ref) == "training"
        clock.advance(2)
        assert caller.status(ref) == "ready"
        ends = caller.ask("GET", f"/models/{ref}")["updatedAt"]
        assert datetime.fromisoformat(ends).timestamp() == clock.now_s() - 1


@pytest.mark.parametrize("word", ["processing", "error", "canceled", "cancelled", "deleted"])
def test_words_of_a_script_are_told_as_they_are(new_caller: NewCaller, word: str) -> None:
    """Words outside the documented four reach the client; those that end a training end it."""
    caller = new_caller({"mode": "manual", "steps": [{"status": word}]})
    ref = caller.model(12)
    caller.trigger(ref)
    assert caller.status(ref) == word
    assert caller.account.bill()["active_runs"] == (word == "processing")


@pytest.mark.parametrize("shown", ["failed", "new"])
def test_a_failed_training_is_free_and_may_look_new(new_caller: NewCaller, shown: str) -> None:
    """The job tells why; the credits come back, and the model can be trained again."""
    caller = new_caller(FAILING, failed_training=shown)
    ref = caller.model(12)
    caller.trigger(ref)
    job = caller.training()
    assert (caller.status(ref), caller.account.bill()["net"]) == ("training", 500)
    caller.account.advance(job)
    assert caller.status(ref) == shown
    detail = caller.ask("GET", f"/jobs/{job}")
    assert (detail["status"], detail["error"], detail["modelId"]) == ("failed", "no face in 3 images", ref)
    bill = caller.account.bill()
    assert (bill["charged"], bill["refunded"], bill["balance"], bill["paid_runs"]) == (500, 500, 10_000, 0)
    (item,) = caller.ask("GET", "/jobs")["jobs"]
    assert (item["errorMessage"], item["credits"]) == ("no face in 3 images", 0)
    assert caller.trigger(ref) == 200
    assert (caller.status(ref), caller.account.bill()["started_runs"]) == ("training", 2)


RULES = [("conflict", 409, 1), ("limit", 429, 1), ("invalid", 400, 1), ("accepted", 200, 1), ("again", 200, 2)]


@pytest.mark.parametrize(("rule", "status", "trainings"), RULES)
def test_a_second_trigger_does_what_is_set(new_caller: NewCaller, rule: str, status: int, trainings: int) -> None:
    """While the model trains: refused in three ways, accepted without effect, or another training that costs."""
    caller = new_caller(second_trigger=rule)
    ref = caller.model(12)
    assert (caller.trigger(ref), caller.trigger(ref)) == (200, status)
    bill = caller.account.bill()
    assert (bill["started_runs"], bill["net"], caller.status(ref)) == (trainings, 500 * trainings, "training")


@pytest.mark.parametrize(("rule", "status", "trainings"), RULES)
def test_a_trigger_of_a_ready_model_does_what_is_set(
    new_caller: NewCaller, rule: str, status: int, trainings: int
) -> None:
    """The same words, in a setting of its own."""
    caller = new_caller(AT_ONCE, trained_trigger=rule, second_trigger="accepted")
    ref = caller.trained()
    assert caller.trigger(ref) == status
    assert caller.account.bill()["paid_runs"] == trainings


def test_a_deleted_model_is_not_trained(new_caller: NewCaller) -> None:
    """Nor is one deleted while it trains, or changed: those answer 409."""
    caller = new_caller()
    ref = caller.model(12)
    image = caller.ask("GET", f"/models/{ref}/images")[0]["id"]
    caller.trigger(ref)
    assert caller.refused("DELETE", f"/models/{ref}")[0] == 409
    assert caller.refused("DELETE", f"/images/{image}")[0] == 409
    assert caller.refused("POST", "/images/upload", **upload(ref, picture()))[0] == 409
    assert caller.status(ref) == "training"


def test_only_so_many_trainings_run_at_once(new_caller: NewCaller) -> None:
    """One more answers 429 and starts nothing; there is room again when one ends."""
    caller = new_caller(LIFE, max_trainings=1)
    first, second = caller.model(12), caller.model(12)
    assert (caller.trigger(first), caller.trigger(second), caller.status(second)) == (200, 429, "new")
    caller.account.advance(caller.training(), 3)
    assert caller.trigger(second) == 200


def test_triggers_at_once_start_one_training(new_caller: NewCaller) -> None:
    """Eight at the same time: one is accepted, seven are refused."""
    caller = new_caller()
    ref = caller.model(12)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: caller.trigger(ref), range(8)))
    assert (sorted(statuses), caller.account.bill()["net"]) == ([200] + [409] * 7, 500)


def test_a_plan_may_forbid_training(new_caller: NewCaller) -> None:
    """403, in the envelope."""
    caller = new_caller(plan_allows_training=False)
    assert caller.refused("GET", f"/models/{caller.model(12)}/train")[0] == 403


@pytest.mark.parametrize("status", [402, 400, 200])
def test_a_short_balance_refuses_with_the_status_that_is_set(new_caller: NewCaller, status: int) -> None:
    """It may come as a 2xx with NOK; nothing starts. The exact price is enough."""
    caller = new_caller(balance=499, insufficient_status=status)
    ref = caller.model(12)
    assert caller.refused("GET", f"/models/{ref}/train") == (status, "insufficient credits")
    assert (caller.status(ref), caller.account.bill()["started_runs"]) == ("new", 0)
    caller.account.set_balance(500)
    assert caller.trigger(ref) == 200
    assert caller.account.bill()["balance"] == 0


def test_books_in_micro_usd_count_a_credit_as_a_cent(server: SandboxServer, new_caller: NewCaller) -> None:
    """The price in credits is booked at the rate the sandbox has; jobs tell credits all the same."""
    caller = new_caller()
    other = server.new_account(script=ENDLESS)
    caller.http.headers["Authorization"] = f"Bearer {other.api_key}"
    caller.trigger(caller.model(12))
    assert other.bill()["net"] == 5_000_000
    assert caller.ask("GET", "/jobs")["jobs"][0]["credits"] == 500


def test_jobs_are_listed_without_model_and_kind(new_caller: NewCaller) -> None:
    """Trainings and generations together, newest first; the detail tells the model."""
    caller = new_caller(AT_ONCE, **QUICK)
    ref = caller.trained()
    job = caller.generate(ref)["jobId"]
    listed = caller.ask("GET", "/jobs")
    fields = {"jobId", "status", "createdAt", "updatedAt", "credits", "errorMessage"}
    assert [set(item) for item in listed["jobs"]] == [fields, fields]
    assert [item["credits"] for item in listed["jobs"]] == [10, 500]
    assert (listed["jobs"][0]["jobId"], listed["nextPageToken"]) == (job, None)
    training = caller.ask("GET", f"/jobs/{listed['jobs'][1]['jobId']}")
    assert (training["modelId"], training["images"], training["videos"], training["error"]) == (ref, [], [], None)
    assert caller.refused("GET", "/jobs/job_0")[0] == 404


def test_trainings_may_be_missing_from_the_jobs(new_caller: NewCaller) -> None:
    """By setting the listing leaves them out, their detail does not name the model, and success has another word."""
    settings: dict[str, Any] = {"jobs_show_trainings": False, "training_jobs_name_model": False}
    caller = new_caller(AT_ONCE, success_word="completed", **settings, **QUICK)
    ref = caller.trained()
    assert caller.ask("GET", "/jobs")["jobs"] == []
    detail = caller.ask("GET", f"/jobs/{caller.training()}")
    assert ("modelId" in detail, detail["status"]) == (False, "completed")
    assert caller.generate(ref)["modelId"] == ref
    assert [item["status"] for item in caller.ask("GET", "/jobs")["jobs"]] == ["completed"]


def test_jobs_come_in_pages(new_caller: NewCaller) -> None:
    """Each job once, whatever begins meanwhile; a token from elsewhere is refused."""
    caller = new_caller(AT_ONCE, jobs_page_size=2, **QUICK)
    ref = caller.trained()
    made = [caller.generate(ref)["jobId"] for _ in range(4)][::-1]
    page = caller.ask("GET", "/jobs")
    seen = [item["jobId"] for item in page["jobs"]]
    caller.generate(ref)
    while page["nextPageToken"]:
        page = caller.ask("GET", "/jobs", params={"pageToken": page["nextPageToken"]})
        seen += [item["jobId"] for item in page["jobs"]]
    assert seen == [*made, caller.training()]
    assert caller.refused("GET", "/jobs?pageToken=abc")[0] == 400


def test_jobs_are_listed_by_time(tmp_path: Any) -> None:
    """A day by default, a week at most; the window is about when a job began."""
    clock = ManualClock()
    with SandboxServer(tmp_path, clock) as server, callers(server) as make:
        caller = make()
        caller.trigger(caller.model(12))
        begun = datetime.fromtimestamp(clock.now_s(), UTC)
        clock.advance(25 * 3600)

        def count(**window: timedelta) -> int:
            times = {name: (begun + offset).isoformat() for name, offset in window.items()}
            return len(caller.ask("GET", "/jobs", params=times)["jobs"])

        minute, week = timedelta(minutes=1), timedelta(days=7)
        assert count() == 0
        assert count(start=-minute) == count(start=-minute, end=minute) == count(end=minute) == 1
        assert count(start=minute) == count(start=-2 * minute, end=-minute) == 0
        assert count(start=-minute, end=week - minute) == 1
        for words in ({"start": begun - minute, "end": begun + week}, {"start": begun + minute, "end": begun}):
            times = {name: at.isoformat() for name, at in words.items()}
            assert caller.refused("GET", "/jobs", params=times)[0] == 400
        assert caller.refused("GET", "/jobs?start=today")[0] == 400


def test_what_began_goes_on_after_a_restart(tmp_path: Any) -> None:
    """Models, pictures, a training under way and a generation's hidden images outlive the server."""
    clock = ManualClock()
    script = {"steps": [{"status": "running", "for_s": 60}, {"status": "completed"}]}
    settings = {"generation_queued_s": 60}
    with SandboxServer(tmp_path, clock) as server, callers(server) as make:
        caller = make(script, **settings)
        done, running = caller.model(12), caller.model(12)
        caller.trigger(done)
        clock.advance(60)
        caller.trigger(running)
        job = caller.ask("POST", "/images/generation", json={"modelID": done, **SMALL})["jobId"]
        headers = dict(caller.http.headers)
    clock.advance(120)
    with SandboxServer(tmp_path, clock) as server:
        url = f"{server.url}/api"
        with httpx.Client(base_url=url, headers=headers, trust_env=False, verify=NO_TLS) as http:
            again = Caller(server, caller.account, http)
            assert [again.status(ref) for ref in (done, running)] == ["ready", "ready"]
            (image,) = again.ask("GET", f"/jobs/{job}")["images"]
            assert fetched(image["url"]).status_code == 200
            assert len(again.ask("GET", f"/models/{running}/images")) == 12


def test_other_vendors_paths_keep_their_keys(new_caller: NewCaller) -> None:
    """A PhotoGPT call with another vendor's header is nobody's."""
    caller = new_caller()
    headers = {"X-API-Key": caller.account.api_key, "User-Agent": "tests/1", "API-Version": "1"}
    url = f"{caller.account.url}/api/models"
    answer = httpx.post(url, json=PERSON, headers=headers, trust_env=False, verify=NO_TLS)
    assert answer.status_code == 401
