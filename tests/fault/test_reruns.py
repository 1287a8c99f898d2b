"""Who may come back to a run that a killed process has left: another worker, a retry of Prefect's, two at once.

And what else may die: the provider itself, in the middle of a create and of a training.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.client import new_account
from sandbox.server import SandboxServer
from tests.fault.forks import ended_in_any_case
from tests.fault.scenes import LOST, Scene, furnish, open_scene
from tests.servers import free_port, running
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 4
"""Stories under way at the same time."""
BY_HAND = {
    "mode": "manual",
    "model": "uploaded",
    "steps": [{"status": "running", "epochs": 5}, {"status": "completed"}],
}
"""A training that goes on until the story says so."""
CHAIN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("create", {}),
    ("claim", {}),
    ("create", LOST),
    ("handle", {}),
    ("look", {}),
    ("smoke", {}),
    ("verdict", {}),
)
"""Deaths of one command after the other, each further than the one before."""


@dataclass(frozen=True)
class Ground:
    """Where a story takes place."""

    sandbox: SandboxServer
    api: str
    folder: Path

    def scene(self, **settings: Any) -> Scene:
        """Open an account and a folder for the story."""
        return open_scene(self.sandbox, self.api, self.folder / "user", **settings)


def looks(scene: Scene) -> int:
    """Return how often the run was looked at."""
    return len(scene.sent("look"))


def finish(scene: Scene) -> None:
    """Let every training of the account end."""
    for run in scene.account.bill()["runs"]:
        scene.account.advance(run["id"], ticks=2)


def a_command_that_dies_again_and_again(ground: Ground) -> None:
    """Killed seven times in a row, each time a little further, once before it had taken over: the eighth collects."""
    scene = ground.scene()
    for at, rule in CHAIN:
        scene.die(at, **rule)
    with ended_in_any_case(scene.start()) as last:
        assert last.wait() == 0, last.said
    scene.assert_collected()


def two_workers_with_the_same_command(ground: Ground) -> None:
    """Both look for something open before either begins, for a price takes a while: one trains, the other leaves it."""
    scene = ground.scene()
    with (
        scene.holding("quote", times=2, seconds=6),
        ended_in_any_case(scene.start()) as one,
        ended_in_any_case(scene.start()) as other,
    ):
        both = (one, other)
        assert [worker.wait() for worker in both] == [0, 0], one.said + other.said
    assert sorted(worker.result["outcome"] for worker in both) == ["accepted", "skipped"]
    scene.assert_collected()


def the_same_command_while_the_first_one_lives(ground: Ground) -> None:
    """Given again while the first process watches: it says who does, ends well, and touches nothing."""
    scene = ground.scene(script=BY_HAND)
    with ended_in_any_case(scene.start()) as first:
        first.until(lambda: looks(scene) >= 1, "its first look")
        with ended_in_any_case(scene.start()) as second:
            assert second.wait() == 0, second.said
        assert second.result["outcome"] == "skipped"
        assert f"process {first.pid} on {socket.gethostname()}" in second.result["message"]
        finish(scene)
        assert first.wait() == 0, first.said
    scene.assert_collected()


def a_second_training_on_purpose(ground: Ground) -> None:
    """With one open: ``fail`` refuses and names it, ``new`` pays for a second one, and the first one is still there."""
    scene = ground.scene()
    scene.die("look")
    (row,) = scene.operations()
    with ended_in_any_case(scene.start("--on-open-run", "fail")) as refusing:
        assert refusing.wait() == 2, refusing.said
    assert f"operation {row['operation_id']!r}" in refusing.result["message"]
    assert scene.account.bill()["started_runs"] == 1
    with ended_in_any_case(scene.start("--on-open-run", "new")) as second:
        assert second.wait() == 0, second.said
    assert [(row["state"], row["outcome"]) for row in scene.operations()] == [
        ("created", None),
        ("collected", "accepted"),
    ]
    with ended_in_any_case(scene.start()) as third:
        assert third.wait() == 0, third.said
    assert third.result["operation"] == row["operation_id"]
    scene.assert_collected(runs=2)


def another_worker(ground: Ground) -> None:
    """Of another machine's process nothing is known: its word is waited out, then the run is collected.

    By an interpreter with a folder and a Prefect home of its own; the journal is all it shares with the first one.
    """
    scene = ground.scene()
    scene.die("look")
    until_s = time.time() + 3
    with closing(sqlite3.connect(scene.journal)) as opened, opened:
        elsewhere = "UPDATE operations SET owner = json_set(owner, '$.host', 'elsewhere'), owner_until_s = ?"
        assert opened.execute(elsewhere, (until_s,)).rowcount == 1
    other = scene.folder / "worker"
    other.mkdir()
    done = command(scene, other, "-m", "flows.train_pipeline", *scene.order().arguments)
    assert done.returncode == 0, done.stderr
    assert time.time() > until_s
    scene.assert_collected()
    assert list(other.rglob("model.onnx"))


def a_retry_of_the_same_flow_run(ground: Ground) -> None:
    """What ``prefect flow-run retry`` does with a run whose process was killed: it goes on with the same operation."""
    scene = ground.scene()
    scene.die("look")
    (row,) = scene.operations()
    crashed = {"state": {"type": "CRASHED", "message": "its process is gone"}, "force": True}
    state = f"{ground.api}/flow_runs/{row['flow_run_id']}/set_state"
    eventually(lambda: httpx.post(state, json=crashed, timeout=30).is_success, "the state", pause_s=0.2)
    flow = f"{ROOT / 'flows' / 'train_pipeline.py'}:train_pipeline"
    done = command(scene, scene.folder, "-m", "prefect", "flow-run", "retry", row["flow_run_id"], "--entrypoint", flow)
    assert done.returncode == 0, done.stdout + done.stderr
    again = httpx.get(f"{ground.api}/flow_runs/{row['flow_run_id']}", timeout=30).json()
    assert (again["state"]["name"], again["run_count"]) == ("Completed", 2)
    scene.assert_collected()
    assert scene.operations()[0]["operation_id"] == row["operation_id"]


def the_provider_itself(ground: Ground) -> None:
    """Killed with the answer to the create still to be sent, and again in mid-training: the flow outlives both."""
    provider = Provider(ground.folder / "provider", free_port())
    with ExitStack() as until_the_end:
        with provider.killed() as url:
            account = new_account(url, engine="scripted", script=BY_HAND)
            scene = furnish(account, ground.api, ground.folder / "user")
            scene.hold("create", **LOST)
            flow = until_the_end.enter_context(ended_in_any_case(scene.start()))
            flow.until(lambda: scene.has_made("create"), "the effect of its create")
        with provider.killed():
            flow.until(lambda: looks(scene) >= 2, "its second look")
        with provider.killed():
            finish(scene)
            assert flow.wait() == 0, flow.said
            scene.assert_collected()
    (report,) = scene.reports()
    assert report.run is not None
    assert report.run.adopted


@dataclass(frozen=True)
class Provider:
    """A sandbox in a process of its own, always at the same address."""

    home: Path
    port: int

    @contextmanager
    def killed(self) -> Iterator[str]:
        """Serve until it is killed at the end; yields its address."""
        url = f"http://127.0.0.1:{self.port}"
        serve = [sys.executable, "-m", "sandbox", "--home", str(self.home), "--port", str(self.port)]
        log = self.home.with_suffix(".log")
        with running(serve, f"{url}/_sandbox/health", log, PYTHONPATH=python_path()) as process:
            yield url
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)


def python_path() -> str:
    """Return what an interpreter of its own needs to find this project, held to this machine."""
    return os.pathsep.join([os.environ["PYTHONPATH"], str(ROOT)])


def command(scene: Scene, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of its own interpreter in a folder, with a Prefect home there."""
    environment = {
        **os.environ,
        **scene.order().environment,
        "PREFECT_API_URL": scene.api,
        "PREFECT_HOME": str(folder / "prefect"),
        "PYTHONPATH": python_path(),
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


STORIES: tuple[Callable[[Ground], None], ...] = (
    a_command_that_dies_again_and_again,
    the_provider_itself,
    another_worker,
    a_retry_of_the_same_flow_run,
    a_second_training_on_purpose,
    two_workers_with_the_same_command,
    the_same_command_while_the_first_one_lives,
)


@pytest.fixture(scope="module")
def told(
    sandbox: SandboxServer,
    prefect_server: str,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[dict[str, Future[None]]]:
    """The stories that are asked for, some at a time: they mostly wait."""
    folder = tmp_path_factory.mktemp("stories")
    wanted = {item.name.partition("[")[2].rstrip("]") for item in request.session.items}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        names = [story for story in STORIES if story.__name__ in wanted]
        yield {
            story.__name__: pool.submit(story, Ground(sandbox, prefect_server, folder / story.__name__))
            for story in names
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_one_request_stays_one_paid_run(told: dict[str, Future[None]], story: Callable[[Ground], None]) -> None:
    """Whoever comes back, and however often: each story is a claim of its own."""
    told[story.__name__].result()
