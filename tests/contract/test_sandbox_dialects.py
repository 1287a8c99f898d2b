"""What an account's dialect, unit and words do to the answers: credits, jobs, bulk calls and config files."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from sandbox.client import SandboxAccount
from sandbox.launch import NO_TLS
from sandbox.server import SandboxServer

Ready = Callable[..., tuple[SandboxAccount, httpx.Client]]
ENDLESS = {"mode": "manual", "steps": [{"status": "running"}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    """A sandbox for the tests of this file."""
    with SandboxServer(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture
def ready(server: SandboxServer) -> Iterator[Ready]:
    """Make an account with a dataset "ds" and a finished export "e"."""
    clients: list[Any] = []

    def make(**settings: Any) -> tuple[SandboxAccount, httpx.Client]:
        account = server.new_account(**{"engine": "scripted", "script": ENDLESS, **settings})
        account.add_dataset("ds", count=6, size=64)
        clients.append(account.http(timeout=10))
        http = clients[-1].__enter__()
        order = {"dataset_name": "ds", "name": "e", "include_images": True}
        assert http.post("/exports/", json=order).status_code == 201
        for _ in range(2000):
            listed = http.get("/exports/?status=completed").json()
            if listed.get("exports") or listed.get("data"):
                return account, http
        pytest.fail("the export was not built")

    yield make
    for manager in clients:
        manager.__exit__(None, None, None)


def start(http: httpx.Client, **changes: Any) -> httpx.Response:
    """Create a run."""
    body = {"dataset_name": "ds", "export_name": "e", "pipeline_type": "yolox", "name": "r", **changes}
    return http.post("/training/", json=body)


@pytest.mark.parametrize("dialect", ["v1", "both"])
def test_credits_and_micro_usd_are_told_at_one_rate(ready: Ready, dialect: str) -> None:
    """An account in micro-USD tells old clients credits of 10 000 each: prices rounded up, what is left down."""
    _, http = ready(dialect=dialect, balance=1_234_567_890)
    price = http.get("/credits/estimate", params={"operation": "training_a10g", "quantity": 3}).json()
    assert (price["credits_per_unit"], price["total_credits"], price["credits_remaining"]) == (3, 7, 123_456)
    assert (price["micro_usd_per_unit"], price["total_micro_usd"]) == (22_917, 68_751)
    balance = http.get("/credits/balance").json()
    assert (balance["credits_remaining"], balance["credits_monthly_allowance"]) == (123_456, 100_000)


def test_credits_are_told_to_new_clients_at_the_same_rate(ready: Ready) -> None:
    """The other direction: an account in credits answers 10 000 micro-USD for each."""
    _, http = ready(billing="credits", balance=77)
    price = http.get("/credits/estimate", params={"operation": "training_a10g", "quantity": 3}).json()
    assert (price["credits_per_unit"], price["micro_usd_per_unit"], price["remaining_micro_usd"]) == (
        10,
        100_000,
        770_000,
    )


def test_usage_is_spending_alone(ready: Ready) -> None:
    """A balance that was lowered is no spending, and what came back is taken off."""
    script = {"steps": [{"status": "completed"}], "gpu_minutes": 10}
    account, http = ready(billing="credits", balance=1000, script=script)
    start(http, config={"epochs": 50})
    account.set_balance(5)
    usage = http.get("/credits/usage-by-operation").json()
    one = {"operation": "training_a10g", "total_micro_usd": 100 * 10_000, "event_count": 1}
    assert usage["operations"] == [one]
    assert (usage["total_micro_usd"], usage["total_events"]) == (1_000_000, 1)


@pytest.mark.parametrize("word", ["running", "paused"])
def test_a_job_is_active_until_it_ends_whatever_it_is_called(ready: Ready, word: str) -> None:
    """A word of a script's own does not make a live run finished."""
    _, http = ready(script={"mode": "manual", "steps": [{"status": word}]})
    run = start(http).json()["data"]

    def listed(status: str) -> list[str]:
        return [job["id"] for job in http.get("/jobs", params={"status": status, "type": "training"}).json()["data"]]

    assert (listed("active"), listed("finished")) == ([run["id"]], [])
    http.post(f"/training/{run['id']}/cancel")
    assert (listed("active"), listed("finished")) == ([], [run["id"]])


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("POST", "/training/quote", b"{}"),
        ("POST", "/training/quote", b"no JSON"),
        ("POST", "/training/bulk-cancel", b'{"run_ids": 5}'),
        ("POST", "/exports/bulk-delete", b"[]"),
        ("GET", "/credits/usage-by-operation?range=x", b""),
        ("GET", "/jobs?limit=many", b""),
        ("PATCH", "/models/m/current-version", b"{}"),
    ],
)
def test_a_path_of_the_other_era_is_not_there_for_any_request(
    ready: Ready, method: str, path: str, content: bytes
) -> None:
    """In a v1 account a path of today answers 404 before anybody looks at the body or the query."""
    account, http = ready(dialect="v1")
    account.configure(role="viewer")
    headers = {"Content-Type": "application/json"}
    assert http.request(method, path, content=content, headers=headers).status_code == 404
    account.configure(dialect="both", role="owner")
    assert http.request(method, path, content=content, headers=headers).status_code == 422


def test_a_run_named_twice_is_cancelled_once(ready: Ready) -> None:
    """Each id of a bulk cancel counts once, found or not."""
    _, http = ready()
    run = start(http).json()["data"]["id"]
    gone = "00000000-0000-4000-8000-000000000000"
    answer = http.post("/training/bulk-cancel", json={"run_ids": [run, gone, run, gone]}).json()["data"]
    assert answer == {"succeeded": [run], "not_found": [gone], "count": 1}


def test_a_downloaded_config_starts_the_same_pipeline_again_and_no_other(ready: Ready) -> None:
    """The head names pipeline, form, run and export; handed back it is unwrapped, or refused for another pipeline."""
    account, http = ready(script={"mode": "manual", "steps": [{"status": "completed"}]})
    start(http, name="first", config={"epochs": 7})
    account.advance(http.get("/training/first").json()["data"]["id"])
    version = http.get("/models/first/versions").json()["data"]["latest_version_id"]
    minted = http.get("/models/first/files/download", params={"version_id": version, "name": "config.json"}).json()
    config = httpx.get(minted["data"]["download_url"], trust_env=False, verify=NO_TLS).json()
    head = config["_pictograph"]
    assert [head[key] for key in ("schema_version", "pipeline", "name", "export_name")] == [1, "yolox", "first", "e"]
    assert config["training"] == {"epochs": 7, "image_height": 64, "image_width": 64}
    again = start(http, name="again", config=config)
    assert (again.status_code, again.json()["data"]["total_epochs"]) == (201, 7)
    assert start(http, config=config, pipeline_type="classification").status_code == 400


def test_a_pipeline_without_a_trainer_is_named_as_the_child_names_it(ready: Ready) -> None:
    """The refusal says what can be trained, and that there is the scripted engine."""
    _, http = ready(engine="real", dialect="v2")
    answer = start(http, pipeline_type="rfdetr_keypoint")
    assert answer.status_code == 422
    assert "'rfdetr_keypoint' is not trainable in the sandbox yet; use " in answer.text
    assert "the scripted engine" in answer.text
