"""The real engine and the GPU a run was ordered on: memory, minutes, the cap and the device; nothing trains here."""

import json
from typing import Any

import pytest
from sqlalchemy import update

from sandbox.accounts import Account, change_settings
from sandbox.core import Sandbox
from sandbox.store import runs as run_table
from sandbox.trainer import Trainer
from tests.unit.real_runs import FakeChild, run_of, start_run

TOO_LARGE = {"image_size": 1280, "batch_size": 32}


def configure(sandbox: Sandbox, account: Account, **settings: Any) -> None:
    """Change settings of the account."""
    with sandbox.store.write() as tx:
        change_settings(tx, account, settings)


def on_gpu(sandbox: Sandbox, run_id: str, gpu_type: str) -> None:
    """Move a run to another tier."""
    with sandbox.store.write() as tx:
        tx.execute(update(run_table).where(run_table.c.id == run_id).values(gpu_type=gpu_type))


def test_a_run_too_large_for_its_gpu_begins_and_fails(
    sandbox: Sandbox, account: Account, children: list[FakeChild]
) -> None:
    """It is seen running, then fails with the vendor's error at no cost; no child is started, no folder stays."""
    run_id = start_run(sandbox, account, **TOO_LARGE)
    engine = Trainer(sandbox)
    engine.tick()
    begun = run_of(sandbox, run_id)
    assert (begun["status"], begun["started_at"], begun["draft_model_id"] is None) == (
        "running",
        sandbox.clock.now_s(),
        False,
    )
    engine.tick()
    ended = run_of(sandbox, run_id)
    assert (ended["status"], ended["charged"], ended["model_id"]) == ("failed", 0, None)
    assert ended["error_message"].startswith("CUDA out of memory. Tried to allocate 41.55 GiB (GPU 0; 24.00 GiB")
    assert (children, list(sandbox.jobs.iterdir())) == ([], [])


def test_a_run_out_of_memory_holds_nobody_up(sandbox: Sandbox, account: Account, children: list[FakeChild]) -> None:
    """The run behind it trains at once, and the failure does not wait for that one to end."""
    large, small = start_run(sandbox, account, "large", **TOO_LARGE), start_run(sandbox, account, "small")
    engine = Trainer(sandbox)
    engine.tick()
    engine.tick()
    assert (run_of(sandbox, large)["status"], engine.is_busy) == ("failed", True)
    assert [child.folder.name for child in children] == [small]


def test_a_run_out_of_memory_fails_after_a_restart_too(
    sandbox: Sandbox, account: Account, children: list[FakeChild]
) -> None:
    """A server that died between beginning and failing leaves no run that runs for ever."""
    run_id = start_run(sandbox, account, **TOO_LARGE)
    Trainer(sandbox).tick()
    later = Trainer(sandbox)
    later.tick()
    later.tick()
    assert (run_of(sandbox, run_id)["status"], children) == ("failed", [])


@pytest.mark.parametrize("way", ["tier", "batch", "unlimited"])
def test_what_fits_is_trained(sandbox: Sandbox, account: Account, children: list[FakeChild], way: str) -> None:
    """A larger tier, a quarter of the batch, or an account without limits: each makes the same order train."""
    config = {**TOO_LARGE, "batch_size": 8 if way == "batch" else 32}
    run_id = start_run(sandbox, account, **config)
    if way == "tier":
        on_gpu(sandbox, run_id, "h100")
    if way == "unlimited":
        configure(sandbox, account, gpu_memory="unlimited")
    Trainer(sandbox).tick()
    assert (run_of(sandbox, run_id)["status"], len(children)) == ("queued", 1)


def test_a_config_that_cannot_be_used_is_said_before_memory(
    sandbox: Sandbox, account: Account, children: list[FakeChild]
) -> None:
    """The worker reads its config before it takes memory."""
    run_id = start_run(sandbox, account, **TOO_LARGE, model_size="huge")
    Trainer(sandbox).tick()
    ended = run_of(sandbox, run_id)
    assert (ended["status"], "model_size is 'huge'" in ended["error_message"], children) == ("failed", True, [])


@pytest.mark.parametrize(
    ("factor", "gpu_type", "minutes"), [(1.0, "a10g", 2), (60.0, "a10g", 61), (60.0, "h100", 16), (0.01, "a100", 1)]
)
def test_training_time_is_billed_as_time_on_the_gpu(
    sandbox: Sandbox, account: Account, children: list[FakeChild], factor: float, gpu_type: str, minutes: int
) -> None:
    """61 seconds here, times the account's factor, by the tier's speed, in begun minutes."""
    configure(sandbox, account, gpu_seconds_per_second=factor)
    run_id = start_run(sandbox, account)
    on_gpu(sandbox, run_id, gpu_type)
    engine = Trainer(sandbox)
    engine.tick()
    children[0].finish()
    engine.tick()
    ended = run_of(sandbox, run_id)
    assert (ended["status"], ended["training_minutes"]) == ("completed", minutes)
    assert ended["charged"] == minutes * ended["minute_price"]


@pytest.mark.parametrize(("gpu_type", "status"), [("a10g", "failed"), ("h100", "running")])
def test_the_cap_is_in_time_on_the_gpu(
    sandbox: Sandbox, account: Account, children: list[FakeChild], gpu_type: str, status: str
) -> None:
    """A hundred times 100 s are more than two hours on an a10g, and less on a GPU of four times its speed."""
    configure(sandbox, account, gpu_seconds_per_second=100)
    run_id = start_run(sandbox, account)
    on_gpu(sandbox, run_id, gpu_type)
    engine = Trainer(sandbox)
    engine.tick()
    children[0].report(100.0)
    engine.tick()
    engine.tick()
    assert run_of(sandbox, run_id)["status"] == status


@pytest.mark.parametrize("device", ["cpu", "cuda", "auto"])
def test_the_job_says_what_to_train_on(
    sandbox: Sandbox, account: Account, children: list[FakeChild], device: str
) -> None:
    """The account's setting reaches the child."""
    configure(sandbox, account, device=device)
    run_id = start_run(sandbox, account)
    Trainer(sandbox).tick()
    assert json.loads((sandbox.jobs / run_id / "job.json").read_text())["device"] == device
    assert len(children) == 1
