"""Runs on the wire: scripts, money, idempotency, cancellation."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from sandbox.client import SandboxAccount
from sandbox.clock import ManualClock
from sandbox.server import SandboxServer
from tests.waiting import eventually

Ready = Callable[..., tuple[SandboxAccount, httpx.Client]]
LOOKS = [{"status": "queued"}, {"status": "running", "for_looks": 2, "epochs": 10}, {"status": "completed"}]


@pytest.fixture(scope="module")
def clock() -> ManualClock:
    """The time of the sandbox, moved by the tests alone."""
    return ManualClock()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, clock: ManualClock) -> Iterator[SandboxServer]:
    """A sandbox for the tests of this file."""
    with SandboxServer(tmp_path_factory.mktemp("home"), clock) as running:
        yield running


@pytest.fixture
def ready(server: SandboxServer) -> Iterator[Ready]:
    """Make an account with a dataset "ds" and a finished export "e"."""
    clients: list[Any] = []

    def make(*, images: bool = True, **settings: Any) -> tuple[SandboxAccount, httpx.Client]:
        account = server.new_account(**{"engine": "scripted", **settings})
        account.add_dataset("ds", count=6, size=64)
        manager = account.http(timeout=10)
        http = manager.__enter__()
        clients.append(manager)
        http.post("/exports/", json={"dataset_name": "ds", "name": "e", "include_images": images})
        eventually(lambda: http.get("/exports/?status=completed").json()["exports"], "the export")
        return account, http

    yield make
    for manager in clients:
        manager.__exit__(None, None, None)


def start(http: httpx.Client, *, headers: dict[str, str] | None = None, **changes: Any) -> dict[str, Any]:
    """Create a run."""
    body = {"dataset_name": "ds", "export_name": "e", "pipeline_type": "yolox", "name": "r", **changes}
    answer = http.post("/training/", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json()["data"])


def look(http: httpx.Client, run: dict[str, Any]) -> dict[str, Any]:
    """Read a run."""
    return dict(http.get(f"/training/{run['id']}").json()["data"])


def test_time_moves_a_run(ready: Ready, clock: ManualClock) -> None:
    """Status, epoch, progress and estimate follow the clock and the speed factor, start and end times are exact."""
    steps = [{"status": "queued", "for_s": 20}, {"status": "running", "for_s": 100}, {"status": "completed"}]
    _, http = ready(script={"steps": steps, "speed": 10})
    run = start(http, config={"epochs": 40})
    assert (run["status"], run["progress"], run["eta_seconds"]) == ("queued", 0, None)
    clock.advance(2 + 5)
    halfway = look(http, run)
    assert [halfway[key] for key in ("status", "progress", "current_epoch", "total_epochs")] == ["running", 50, 20, 40]
    assert halfway["eta_seconds"] == 5
    assert halfway["model_id"] is None
    clock.advance(1000)
    ended = look(http, run)
    assert (ended["status"], ended["progress"], ended["eta_seconds"]) == ("completed", 100, 0)
    assert ended["model_id"] is not None
    seconds = [float(ended[key][17:19]) for key in ("created_at", "started_at", "completed_at")]
    assert [(second - seconds[0]) % 60 for second in seconds] == [0, 2, 12]


def test_looks_move_a_run(ready: Ready) -> None:
    """Each GET shows the run and then moves it on, lists and jobs included; the bill does not move it."""
    account, http = ready(script={"mode": "looks", "steps": LOOKS})
    run = start(http)
    assert look(http, run)["status"] == "queued"
    account.bill()
    assert http.get("/training/").json()["data"][0]["progress"] == 0
    assert http.get("/jobs").json()["data"][0]["progress"] == 50
    assert look(http, run)["status"] == "completed"
    assert account.bill()["paid_runs"] == 1


def test_a_control_call_moves_a_run(ready: Ready) -> None:
    """A manual script stands still under any number of looks until it is told to go on."""
    account, http = ready(script={"mode": "manual", "steps": LOOKS})
    run = start(http)
    assert [look(http, run)["status"] for _ in range(3)] == ["queued"] * 3
    assert account.advance(run["id"])["status"] == "running"
    assert account.advance(run["id"], 2)["status"] == "completed"


def test_a_script_may_say_what_no_vendor_says(ready: Ready) -> None:
    """Unknown words, progress that falls and a missing estimate can all be scripted."""
    steps = [
        {"status": "running", "progress": 70},
        {"status": "paused", "progress": 10, "eta_seconds": 9, "error_message": "node lost"},
        {"status": "running", "for_looks": 4},
    ]
    _, http = ready(script={"mode": "looks", "steps": steps})
    run = start(http)
    shown = [look(http, run) for _ in range(3)]
    assert [(view["status"], view["progress"]) for view in shown] == [("running", 70), ("paused", 10), ("running", 0)]
    assert (shown[1]["eta_seconds"], shown[1]["error_message"]) == (9, "node lost")


@pytest.mark.parametrize("billing", ["credits", "micro_usd"])
def test_a_failed_run_costs_nothing(ready: Ready, billing: str) -> None:
    """Whatever was taken in advance comes back, and the model is marked as failed."""
    script = {"mode": "looks", "steps": [{"status": "running"}, {"status": "failed"}], "fail_message": "num_samples=0"}
    account, http = ready(script=script, billing=billing)
    run = start(http)
    look(http, run)
    ended = look(http, run)
    assert (ended["status"], ended["error_message"]) == ("failed", "num_samples=0")
    assert account.bill()["net"] == 0
    assert http.get("/models/?status=failed").json()["data"][0]["name"] == "r"


def test_credits_are_taken_at_create_and_given_back_at_the_end(ready: Ready) -> None:
    """Fifty epochs are 25 planned minutes; ten were used, fifteen come back as a refund entry."""
    script = {"mode": "manual", "steps": LOOKS, "gpu_minutes": 10}
    account, http = ready(script=script, billing="credits", balance=1000)
    run = start(http, config={"epochs": 50})
    assert account.bill()["balance"] == 750
    account.advance(run["id"], 3)
    bill = account.bill()
    assert (bill["charged"], bill["refunded"], bill["balance"]) == (250, 150, 900)
    entries = http.get("/credits/history").json()["entries"]
    operations = [(entry["operation"], entry["amount"], entry["balance_after"]) for entry in entries]
    assert operations == [("training_refund_a10g", 150, 900), ("training_a10g", -250, 750)]


def test_a_cancelled_run_pays_for_what_it_ran(ready: Ready) -> None:
    """In credits the share of epochs that ran is kept; in micro-USD nothing is charged; cancelling again is a 400."""
    for billing, net in (("credits", 130), ("micro_usd", 0)):
        account, http = ready(script={"mode": "manual", "steps": LOOKS}, billing=billing)
        run = start(http, config={"epochs": 50})
        account.advance(run["id"], 2)
        assert http.post(f"/training/{run['id']}/cancel").json()["data"]["status"] == "cancelled"
        assert account.bill()["net"] == net
        assert http.post(f"/training/{run['id']}/cancel").status_code == 400
        account.advance(run["id"], 5)
        assert look(http, run)["status"] == "cancelled"


def test_micro_usd_are_charged_once_and_on_success(ready: Ready) -> None:
    """Nothing is taken while the run goes on, and looking at the finished run again takes nothing more."""
    account, http = ready(script={"mode": "manual", "steps": LOOKS, "gpu_minutes": 7})
    run = start(http)
    account.advance(run["id"], 2)
    assert account.bill()["charged"] == 0
    account.advance(run["id"])
    for _ in range(3):
        look(http, run)
    assert account.bill()["charged"] == 7 * 22_917
    assert http.get("/credits/usage-by-operation").json()["total_micro_usd"] == 7 * 22_917


def test_an_idempotency_key_is_honoured_for_a_day(ready: Ready, clock: ManualClock) -> None:
    """The same key replays the first answer; with another body it is refused; after 24 hours it is forgotten."""
    account, http = ready()
    key = {"Idempotency-Key": "0" * 32}
    first = start(http, headers=key)
    assert start(http, headers=key) == first
    body = {"dataset_name": "ds", "export_name": "e", "pipeline_type": "yolox", "name": "other"}
    assert http.post("/training/", json=body, headers=key).status_code == 409
    assert account.bill()["started_runs"] == 1
    clock.advance(24 * 3600 + 1)
    assert start(http, headers=key)["id"] != first["id"]


def test_a_refused_request_leaves_its_key_free(ready: Ready) -> None:
    """A create that failed for want of money succeeds with the same key once there is some."""
    account, http = ready(balance=0)
    key = {"Idempotency-Key": "k"}
    body = {"dataset_name": "ds", "export_name": "e", "pipeline_type": "yolox", "name": "r"}
    assert http.post("/training/", json=body, headers=key).status_code == 402
    account.set_balance(5_000_000)
    assert http.post("/training/", json=body, headers=key).status_code == 201


def test_the_same_key_at_the_same_time_starts_one_run(ready: Ready) -> None:
    """Eight requests race with one key: one run, eight equal answers."""
    account, http = ready()
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: start(http, headers={"Idempotency-Key": "race"})["id"], range(8)))
    assert len(set(runs)) == 1
    assert account.bill()["started_runs"] == 1


def test_a_cancel_is_replayed_too(ready: Ready) -> None:
    """A repeated cancel with its key answers as the first did, and not with 400."""
    _, http = ready(script={"mode": "manual", "steps": LOOKS})
    run = start(http)
    answers = [http.post(f"/training/{run['id']}/cancel", headers={"Idempotency-Key": "c"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[1].headers["x-sandbox-replayed"] == "true"


def test_a_training_needs_the_images(ready: Ready) -> None:
    """An export without image files is accepted and fails in the worker, as the vendor's does."""
    account, http = ready(images=False, script={"mode": "manual", "steps": LOOKS})
    run = start(http)
    account.advance(run["id"])
    ended = look(http, run)
    assert ended["status"] == "failed"
    assert "image_ids" in ended["error_message"]


def test_the_weights_can_be_any_file(ready: Ready) -> None:
    """An uploaded file is served as the weights, byte for byte, with the classes and size it was said to have."""
    account, http = ready(script={"mode": "manual", "steps": LOOKS})
    content = b"not a model at all" * 100
    account.upload_model(content, classes="cat,dog", architecture="yolox-s", side=416)
    run = start(http)
    account.advance(run["id"], 9)
    model = http.get(f"/models/{look(http, run)['model_id']}").json()["data"]
    assert (model["class_mapping"], model["architecture"]) == ({"classes": ["cat", "dog"]}, "yolox-s")
    assert model["training_config"]["image_height"] == 416
    url = http.get(f"/models/{model['id']}/download").json()["download_url"]
    assert httpx.get(url, trust_env=False).content == content


def test_each_run_has_weights_of_its_own(ready: Ready) -> None:
    """Two runs of one export deliver files with different digests, so a mix-up can be seen."""
    account, http = ready(script={"mode": "manual", "steps": LOOKS})
    digests = set()
    for name in ("a", "b"):
        run = start(http, name=name)
        account.advance(run["id"], 9)
        url = http.get(f"/models/{look(http, run)['model_id']}/download").json()["download_url"]
        digests.add(hashlib.md5(httpx.get(url, trust_env=False).content, usedforsecurity=False).hexdigest())
    assert len(digests) == 2


@pytest.mark.parametrize("status", [400, 409])
def test_a_model_is_not_ready_while_its_run_trains(ready: Ready, status: int) -> None:
    """The model exists with status training, and its download is refused with the account's choice of status."""
    account, http = ready(script={"mode": "manual", "steps": LOOKS}, not_ready_status=status)
    run = start(http)
    assert http.get("/models/").json()["data"] == []
    account.advance(run["id"])
    model = http.get("/models/?status=training").json()["data"][0]
    assert http.get(f"/models/{model['id']}/download").status_code == status
    account.advance(run["id"], 9)
    assert http.get(f"/models/{model['id']}/download").status_code == 200
    assert http.get(f"/models/{model['id']}/download?format=pytorch").status_code == 409


def test_a_reset_forgets_everything_but_the_key(ready: Ready) -> None:
    """Runs, exports, log and money are as new, the key and the settings stay."""
    account, http = ready(balance=5_000_000)
    start(http)
    account.reset()
    assert http.get("/training/").json()["data"] == []
    assert account.bill()["started_runs"] == 0
    assert account.bill()["balance"] == 1_000_000_000
    assert len(account.requests()) == 1


def test_the_rate_limit_counts_down_and_then_refuses(ready: Ready, clock: ManualClock) -> None:
    """Each answer tells what is left; beyond it come 429 and Retry-After, until the oldest request is an hour old."""
    account, http = ready()
    account.reset()
    account.configure(rate_limit=2)
    answers = [http.get("/credits/balance")]
    clock.advance(600)
    answers += [http.get("/credits/balance") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]
    assert answers[2].headers["retry-after"] == "3000"
    assert answers[2].json()["error"]["code"] == "rate_limited"
    clock.advance(3001)
    assert [http.get("/credits/balance").status_code for _ in range(2)] == [200, 429]
