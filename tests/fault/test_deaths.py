"""P1 and P2: killed wherever it stands, one request stays one paid training, and the same command collects it.

Every durable step is followed by a request or by a write into the journal, so a process is killed while the request is
held back at the provider, or while the write hangs before its commit. Real processes, SIGKILL, HTTP and SQLite; nothing
in the program knows of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from sandbox.server import SandboxServer
from tests.fault.forks import ended_in_any_case
from tests.fault.scenes import LOST, Left, Scene, open_scene

AT_ONCE = 4
"""Deaths under way at the same time."""


@dataclass(frozen=True)
class Death:
    """Where a process dies, and what it leaves behind."""

    name: str
    at: str
    """The request that is held back, the write that hangs, or the smoke test."""
    left: Left
    """What the journal and the bill say afterwards."""
    rule: dict[str, Any] = field(default_factory=dict)
    """Which of the requests, and whether it has its effect."""

    @property
    def adopted(self) -> bool:
        """Whether there is a run to come back to."""
        return self.left.runs == 1


NOTHING = Left(None, 0)
INTENT = Left("intent", 0)
SENT = Left("intent", 1)
CREATED = Left("created", 1)
ENDED = Left("terminal", 1)
DEATHS = (
    Death("account", "account", NOTHING),
    Death("export-never-arrived", "export-create", NOTHING),
    Death("export-answer-lost", "export-create", NOTHING, LOST),
    Death("export-made", "export-mint", NOTHING),
    Death("export-bytes", "export-bytes", NOTHING, {"after_bytes": 1000}),
    Death("quote", "quote", NOTHING),
    Death("first-search", "find", NOTHING),
    Death("intent-not-committed", "intent", NOTHING),
    Death("create-never-arrived", "create", INTENT),
    Death("create-answer-lost", "create", SENT, LOST),
    Death("handle-not-committed", "handle", SENT),
    Death("first-look", "look", CREATED),
    Death("mid-training", "look", CREATED, {"skip": 1}),
    Death("end-not-committed", "end", CREATED),
    Death("end-committed", "model", ENDED),
    Death("link", "mint", ENDED),
    Death("model-bytes", "bytes", ENDED, {"after_bytes": 1000}),
    Death("smoke-test", "smoke", ENDED),
    Death("model-in-place", "ledger", ENDED),
    Death("charge-not-committed", "charge", ENDED),
    Death("verdict-not-committed", "verdict", ENDED),
)


@dataclass(frozen=True)
class Rerun:
    """What came of the same command, given once more."""

    scene: Scene
    left: Left
    """What the first process left behind."""
    reported: bool
    """Whether that was a report."""
    code: int
    """What the second one returned."""
    said: str
    """And told."""


def die_and_run_again(scene: Scene, death: Death) -> Rerun:
    """Kill the command there, and give it once more."""
    scene.die(death.at, **death.rule)
    left, reported = scene.left(), bool(scene.reports())
    with ended_in_any_case(scene.start()) as again:
        return Rerun(scene, left, reported, again.wait(), again.said)


@pytest.fixture(scope="module")
def reruns(
    sandbox: SandboxServer,
    prefect_server: str,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[dict[str, Future[Rerun]]]:
    """All deaths that are asked for, some at a time: a process mostly waits."""
    wanted = {item.callspec.params["death"].name for item in request.session.items if "death" in _params(item)}
    folder = tmp_path_factory.mktemp("deaths")

    def one(death: Death) -> Rerun:
        return die_and_run_again(open_scene(sandbox, prefect_server, folder / death.name), death)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {death.name: pool.submit(one, death) for death in DEATHS if death.name in wanted}
        pool.shutdown(cancel_futures=True)


def _params(item: pytest.Item) -> dict[str, Any]:
    found = getattr(item, "callspec", None)
    return dict(found.params) if found is not None and item.path.name == "test_deaths.py" else {}


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death.name)
def test_the_same_command_collects_what_a_killed_one_paid_for(reruns: dict[str, Future[Rerun]], death: Death) -> None:
    """Killed there, and given once more: one run is paid, its model is accepted, its operation closed and settled."""
    rerun = reruns[death.name].result()
    assert rerun.left == death.left
    assert rerun.reported is (death.at == "verdict"), "the verdict is written last: once it is, nothing is done again"
    assert rerun.code == 0, rerun.said
    rerun.scene.assert_collected()
    (report,) = rerun.scene.reports()
    assert report.run is not None
    assert report.run.adopted is death.adopted
