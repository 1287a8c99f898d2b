"""Deliveries all the way: signed and sent by the sandbox, verified by the receiver, heard by the watch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from deployments.webhooks import create_app
from pipeline.journal.store import Journal
from pipeline.local_requests import ReplicateRequest
from pipeline.models import Operation, PollPolicy, RunHandle, RunStatus, TrainingRun, TrainPlan, WatchedRun
from pipeline.start.planning import resolve_plan
from pipeline.watch.watching import watch_run
from providers.calls import ClientOptions
from providers.replicate.adapter import ReplicateProvider
from providers.replicate.profile import replicate_profile
from sandbox.replicate.models import TRAINER, TRAINER_VERSION
from sandbox.server import SandboxServer
from tasks.deliveries import Deliveries
from tasks.interruption import OwnState
from tasks.webhooks import Receiver, SigningSecret
from tests.deliveries import served
from tests.waiting import eventually

DESTINATION = "sandbox-user/signs"
LONG_S = 600.0
"""The watch's interval: whatever ends a test sooner was a delivery."""
SCRIPT = {"steps": [{"status": "running", "for_s": 1.0}, {"status": "completed"}]}


@dataclass
class Gate:
    """The receiver, and the status of every answer it gave."""

    app: Any
    statuses: list[int] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass everything on and note what is answered."""

        async def noted(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])
            await send(message)

        await self.app(scope, receive, noted)


@dataclass
class Scene:
    """An account whose trainings call the receiver."""

    provider: ReplicateProvider
    gate: Gate
    webhook: str

    def train(self) -> TrainingRun:
        """Start a training of a second."""
        given = {"train_data": "data:application/zip;base64,UEsFBg==", "pipeline": "classification"}
        body: dict[str, Any] = {"destination": DESTINATION, "input": given, "webhook": self.webhook}
        body["webhook_events_filter"] = ["start", "completed"]
        made = self.provider.trainings.create(f"{TRAINER}:{TRAINER_VERSION}", body)
        return made.to_value(RunHandle(provider="replicate", run_id=made.id, name="run", dataset="signs"))

    def watch(self, run: TrainingRun, interval_s: float = LONG_S) -> WatchedRun:
        """Watch it as the stage does, looking this rarely by itself."""
        policy = PollPolicy(interval_s=interval_s, floor_s=interval_s, ceiling_s=interval_s, deadline_s=10 * LONG_S)
        own = OwnState()
        with own, Deliveries(_plan(), run, own.wake):
            clock = own.interrupting(time)
            return watch_run(run, lambda: self.provider.get_run(run.handle), policy, clock, lambda *_: None)


def _plan() -> TrainPlan:
    asked = ReplicateRequest(dataset="a.zip", trainer=f"{TRAINER}:{TRAINER_VERSION}", destination=DESTINATION)
    return resolve_plan(asked, replicate_profile(sandbox=True), Operation(id="op-1"))


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    """The journal that receiver and watch share."""
    monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", str(tmp_path / "journal.db"))
    with closing(Journal(str(tmp_path / "journal.db"))) as opened:
        yield opened


@pytest.fixture
def make_scene(server: SandboxServer, journal: Journal) -> Iterator[Callable[..., Scene]]:
    """Return a function that opens an account with these quirks, and serves a receiver for it."""
    assert journal
    with ExitStack() as stack:

        def make(**quirks: Any) -> Scene:
            account = server.new_account(engine="scripted", script=SCRIPT, replicate=quirks)
            options, profile = ClientOptions(base_url=server.url), replicate_profile(sandbox=True)
            provider = stack.enter_context(closing(ReplicateProvider(SecretStr(account.api_key), options, profile)))
            provider.models.ensure(DESTINATION, hardware="cpu")
            gate = Gate(create_app(Receiver(SigningSecret(provider.accounts.webhook_secret))))
            return Scene(provider, gate, f"{stack.enter_context(served(gate))}/webhooks/replicate?for=signs")

        yield make


def test_a_watch_that_sleeps_hears_of_the_end(make_scene: Callable[..., Scene], journal: Journal) -> None:
    """Ten minutes from its next look, it notices within moments, and takes one look for each delivery."""
    scene = make_scene()
    run = scene.train()
    watched = scene.watch(run)
    assert watched.run.status is RunStatus.COMPLETED
    assert watched.watched_s < LONG_S / 10
    assert watched.looks <= 3
    eventually(lambda: scene.gate.statuses == [204, 204], f"two answers, {scene.gate.statuses}", within_s=20)
    assert journal.deliveries_about("replicate", run.handle.run_id) == 2


def test_doubled_and_reordered_ones_count_once(make_scene: Callable[..., Scene], journal: Journal) -> None:
    """Three copies of each, the start after the end: the training ends as it ended."""
    scene = make_scene(webhook_copies=3, webhook_reorder=True)
    run = scene.train()
    watched = scene.watch(run)
    eventually(lambda: len(scene.gate.statuses) == 6, "three copies of two", within_s=20)
    assert scene.gate.statuses == [204] * 6
    assert journal.deliveries_about("replicate", run.handle.run_id) == 2
    assert watched.run.status is RunStatus.COMPLETED


def test_what_is_never_delivered_is_found_by_looking(make_scene: Callable[..., Scene], journal: Journal) -> None:
    """Without a single call the watch looks as often as it does anyway."""
    scene = make_scene(webhook_drop=["start", "completed"])
    run = scene.train()
    assert scene.watch(run, interval_s=0.5).run.status is RunStatus.COMPLETED
    assert scene.gate.statuses == []
    assert journal.deliveries_about("replicate", run.handle.run_id) == 0


def test_the_terminal_one_comes_again_after_an_outage(
    make_scene: Callable[..., Scene], journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answered 503 while the journal is away, taken in once it is back; the start, which is not sent again, is lost."""
    scene = make_scene(webhook_retry_s=0.1)
    (tmp_path / "taken").write_text("not a folder")
    with monkeypatch.context() as away:
        away.setenv("TRAIN_PIPELINE_JOURNAL", str(tmp_path / "taken" / "journal.db"))
        run = scene.train()
        eventually(lambda: len(scene.gate.statuses) >= 2, "start and end", within_s=20)
    assert scene.watch(run).run.status is RunStatus.COMPLETED
    eventually(lambda: scene.gate.statuses[-1] == 204, "the end again", within_s=20)
    assert set(scene.gate.statuses[:-1]) == {503}
    assert journal.deliveries_about("replicate", run.handle.run_id) == 1


def test_another_accounts_deliveries_are_refused(make_scene: Callable[..., Scene], journal: Journal) -> None:
    """Its trainings may call here, signed with its own secret: nothing is written down."""
    mine, other = make_scene(), make_scene()
    other.webhook = mine.webhook
    run = other.train()
    assert other.watch(run, interval_s=0.5).run.status is RunStatus.COMPLETED
    eventually(lambda: len(mine.gate.statuses) >= 2, "start and end", within_s=20)
    assert set(mine.gate.statuses) == {401}
    assert journal.deliveries_about("replicate", run.handle.run_id) == 0
