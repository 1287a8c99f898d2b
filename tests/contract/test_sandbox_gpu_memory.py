"""GPU memory on the wire: runs too large for their tier, what auto takes, what a quote says of it."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from pictograph import Client

from sandbox.client import SandboxAccount
from sandbox.clock import ManualClock
from sandbox.server import SandboxServer
from tests.waiting import eventually

Ready = Callable[..., tuple[SandboxAccount, httpx.Client]]
LOOKS = [{"status": "queued"}, {"status": "running", "for_looks": 4, "epochs": 10}, {"status": "completed"}]
TIMED = [{"status": "queued", "for_s": 20}, {"status": "running", "for_s": 100}, {"status": "completed"}]
LARGE = {"image_size": 1280, "batch_size": 32}
MEDIUM = {"image_size": 1280, "batch_size": 16}


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

    def make(**settings: Any) -> tuple[SandboxAccount, httpx.Client]:
        account = server.new_account(**{"engine": "scripted", **settings})
        account.add_dataset("ds", count=6, size=64)
        manager = account.http(timeout=10)
        http = manager.__enter__()
        clients.append(manager)
        http.post("/exports/", json={"dataset_name": "ds", "name": "e", "include_images": True})
        eventually(lambda: http.get("/exports/?status=completed").json()["exports"], "the export")
        return account, http

    yield make
    for manager in clients:
        manager.__exit__(None, None, None)


def start(http: httpx.Client, **changes: Any) -> dict[str, Any]:
    """Create a run."""
    body = {"dataset_name": "ds", "export_name": "e", "pipeline_type": "yolox", "name": "r", **changes}
    answer = http.post("/training/", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json()["data"])


def quote(http: httpx.Client, **changes: Any) -> dict[str, Any]:
    """Ask what a run would be."""
    body = {"dataset_name": "ds", "export_name": "e", "pipeline_type": "yolox", **changes}
    answer = http.post("/training/quote", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["data"])


def look(http: httpx.Client, run: dict[str, Any]) -> dict[str, Any]:
    """Read a run."""
    return dict(http.get(f"/training/{run['id']}").json()["data"])


@pytest.mark.parametrize("mode", ["looks", "manual"])
@pytest.mark.parametrize("billing", ["credits", "micro_usd"])
def test_a_run_too_large_fails_after_it_was_seen_running(ready: Ready, mode: str, billing: str) -> None:
    """Queued, running, failed with the vendor's error: free, its model failed, and no later look changes it."""
    account, http = ready(script={"mode": mode, "steps": LOOKS}, billing=billing)
    run = start(http, config=LARGE)
    seen = []
    for _ in range(5):
        seen.append(look(http, run))
        if mode == "manual" and seen[-1]["status"] != "failed":
            account.advance(run["id"])
    assert [view["status"] for view in seen] == ["queued", "running", "failed", "failed", "failed"]
    assert seen[-1]["error_message"].startswith("CUDA out of memory. Tried to allocate 41.55 GiB (GPU 0; 24.00 GiB ")
    assert (seen[-1]["current_epoch"], seen[-1]["model_id"], seen[-1]["gpu_type"]) == (0, None, "a10g")
    assert (account.bill()["net"], account.bill()["paid_runs"]) == (0, 0)
    assert http.get("/models/?status=failed").json()["data"][0]["name"] == "r"


def test_by_the_clock_it_fails_soon_after_it_began(ready: Ready, clock: ManualClock) -> None:
    """Five seconds into a running step of a hundred, to the second, however late somebody looks."""
    _, http = ready(script={"steps": TIMED})
    run = start(http, config=LARGE)
    clock.advance(22)
    assert look(http, run)["status"] == "running"
    clock.advance(1000)
    ended = look(http, run)
    assert (ended["status"], ended["error_message"][:19]) == ("failed", "CUDA out of memory.")
    seconds = [float(ended[key][17:19]) for key in ("created_at", "started_at", "completed_at")]
    assert [(second - seconds[0]) % 60 for second in seconds] == [0, 20, 25]


@pytest.mark.parametrize(
    ("changes", "gpu_memory"),
    [
        ({"gpu_type": "h100", "config": LARGE}, "emulated"),
        ({"gpu_type": "a100", "config": MEDIUM}, "emulated"),
        ({"config": {**LARGE, "batch_size": 8}}, "emulated"),
        ({"gpu_type": "auto", "config": LARGE}, "emulated"),
        ({"config": LARGE}, "unlimited"),
    ],
)
def test_a_larger_tier_or_a_smaller_batch_helps(ready: Ready, changes: dict[str, Any], gpu_memory: str) -> None:
    """What failed on an a10g completes on a tier that has the memory, with a quarter of the batch, or with auto."""
    account, http = ready(script={"mode": "manual", "steps": LOOKS}, gpu_memory=gpu_memory)
    run = start(http, **changes)
    account.advance(run["id"], 9)
    assert look(http, run)["status"] == "completed"


@pytest.mark.parametrize(
    ("config", "gpu_type"),
    [({}, "a10g"), (MEDIUM, "a100"), (LARGE, "h100"), ({**LARGE, "batch_size": 64}, "h100")],
)
def test_auto_runs_on_the_cheapest_tier_that_fits(ready: Ready, config: dict[str, Any], gpu_type: str) -> None:
    """The run shows the tier and the choice, is charged its price, and the quote before it said the same."""
    account, http = ready(script={"mode": "manual", "steps": LOOKS}, billing="credits")
    told = quote(http, gpu_type="auto", config=config)
    run = start(http, gpu_type="auto", config=config)
    assert (told["requested_gpu_type"], told["gpu_type"], told["recommended_gpu_type"]) == ("auto", gpu_type, gpu_type)
    assert (run["gpu_type"], run["config"]["gpu_autoselect"]["gpu_type"]) == (gpu_type, gpu_type)
    assert told["estimate"]["total_micro_usd"] == 10_000 * account.bill()["charged"]
    assert told["config"] == run["config"]
    account.advance(run["id"], 9)
    assert look(http, run)["status"] == ("failed" if config.get("batch_size") == 64 else "completed")


@pytest.mark.parametrize("gpu_type", ["a10g", "auto"])
def test_the_choice_in_a_config_that_is_used_again_is_not_kept(ready: Ready, gpu_type: str) -> None:
    """What an earlier run was given is no word about this one, which names its own choice or none."""
    _, http = ready(script={"mode": "manual", "steps": LOOKS})
    old = start(http, gpu_type="auto", config=LARGE)["config"]["gpu_autoselect"]
    run = start(http, name="s", gpu_type=gpu_type, config={"gpu_autoselect": old})
    chosen = run["config"].get("gpu_autoselect")
    assert chosen is None if gpu_type == "a10g" else (chosen["gpu_type"], old["gpu_type"]) == ("a10g", "h100")


def test_a_quote_says_where_a_config_fits(ready: Ready) -> None:
    """By tier and for the tier asked for, with what auto would take; it can be started all the same."""
    _, http = ready()
    told = quote(http, pipeline_type="rfdetr_detection", config={"image_size": 864})
    assert [(tier["gpu_type"], tier["fits"]) for tier in told["tiers"]] == [
        ("a10g", False),
        ("a100", True),
        ("h100", True),
    ]
    assert (told["fits"], told["gpu_type"], told["recommended_gpu_type"]) == (False, "a10g", "a100")
    assert (told["can_start"], told["config"]) == (True, {"image_size": 864})
    assert quote(http, pipeline_type="rfdetr_detection", gpu_type="a100", config={"image_size": 864})["fits"] is True
    yolox = quote(http, config=LARGE)
    assert ([tier["fits"] for tier in yolox["tiers"]], yolox["fits"]) == ([None] * 3, None)


def test_the_published_client_reads_quote_and_failure(ready: Ready) -> None:
    """Today's client shows fits, the recommended tier and the choice, and the error of the run that was not helped."""
    account, _ = ready(script={"mode": "looks", "steps": LOOKS})
    with Client(api_key=account.api_key, base_url=account.url) as client:
        order = {"export_name": "e", "pipeline_type": "sm_pytorch", "config": {"image_size": 1024, "batch_size": 8}}
        told = client.training.quote("ds", **order)
        assert (told.fits, told.recommended_gpu_type, [tier.fits for tier in told.tiers]) == (
            False,
            "a100",
            [False, True, True],
        )
        assert told.gpu_autoselect is not None
        run = client.training.create("ds", **order, name="r", wait=False)
        for _ in range(3):
            run = client.training.get(run_id=run.id)
        assert (run.status, (run.error_message or "")[:39]) == ("failed", "CUDA out of memory. Tried to allocate 9")


def test_the_real_engine_fails_such_a_run_too(ready: Ready) -> None:
    """Nothing is trained for it: the run begins, fails and is free."""
    account, http = ready(engine="real")
    run = start(http, config=LARGE)
    eventually(lambda: look(http, run)["status"] == "failed", "the failure")
    ended = look(http, run)
    assert (ended["error_message"][:19], ended["started_at"] is None) == ("CUDA out of memory.", False)
    assert account.bill()["net"] == 0
