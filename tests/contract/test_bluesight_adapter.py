"""The Bluesight adapter against the sandbox over real sockets: trainings, lost answers, cancels, broken servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.errors import ProviderError, ProviderUnavailableError, UnexpectedResponseError
from pipeline.journal.bookkeeping import AttemptLog
from pipeline.journal.store import Journal
from pipeline.local_requests import BluesightRequest
from pipeline.models import Export, ExportStatus, Operation, RunStatus, TrainingRun, TrainPlan, WatchedRun
from pipeline.start.creation import Creating, create_once
from pipeline.start.planning import resolve_plan
from pipeline.watch.watching import watch_run
from providers.bluesight.adapter import BluesightProvider
from providers.bluesight.profile import bluesight_profile
from providers.bluesight.session import CONNECT_S, USUAL_TIMES, AnswerTimes
from providers.calls import ClientOptions
from providers.retry import RetryPolicy
from sandbox.client import SandboxAccount
from sandbox.server import SandboxServer
from sandbox.tiles_demo import Demonstration, write_demonstration
from tests.intents import intent_of

pytest.importorskip("h5py")
PROFILE = bluesight_profile(sandbox=True)
EXPORT = Export(id="e", name="tiles", dataset="tiles", status=ExportStatus.COMPLETED, provider_status="local")
STEPS = [{"status": word} for word in ("pending", "running", "completed")]


@dataclass
class Workplace:
    """An account at the sandbox, a journal, and tiles to train on."""

    control: SandboxAccount
    folder: Path
    times: AnswerTimes = USUAL_TIMES
    opened: list[BluesightProvider] = field(default_factory=list)

    def provider(self) -> BluesightProvider:
        """Return an adapter that nobody has used yet, as another process would have it."""
        options = ClientOptions(self.control.url, CONNECT_S, retry=RetryPolicy(base_s=0.01))
        key = SecretStr(self.control.api_key)
        self.opened.append(BluesightProvider(key, options, PROFILE, times=self.times))
        return self.opened[-1]

    def file(self, name: str, **tiles: Any) -> str:
        """Draw a file of tiles."""
        write_demonstration(self.folder / name, Demonstration(**{"count": 24, "side": 16, **tiles}))
        return str(self.folder / name)

    def plan(self, dataset: str, attempt: int = 1, **request: Any) -> TrainPlan:
        """Return the plan of an attempt at the one operation of this place."""
        asked = {"dataset": dataset, "sandbox": True, "output_dir": self.folder / "runs", **request}
        return resolve_plan(BluesightRequest(**asked), PROFILE, Operation(id="operation", attempt=attempt))

    def create(self, plan: TrainPlan) -> TrainingRun:
        """Create the plan's run as a process of its own would."""
        provider = self.provider()
        log = AttemptLog(Journal(str(self.folder / "journal.db")), intent_of(plan, None), time)
        return create_once(Creating(provider, plan, log, time), EXPORT)

    def watch(self, plan: TrainPlan, run: TrainingRun) -> WatchedRun:
        """Watch a run to its end."""
        provider = self.provider()
        return watch_run(run, lambda: provider.get_run(run.handle), plan.poll, time, lambda look, log: None)

    def started(self) -> int:
        """Return how many jobs were made."""
        return int(self.control.bill()["started_runs"])


@pytest.fixture
def place(server: SandboxServer, tmp_path: Path) -> Iterator[Workplace]:
    """An account whose jobs really train."""
    opened = Workplace(server.new_account(engine="real"), tmp_path)
    yield opened
    for provider in opened.opened:
        provider.close()


def test_a_classifier_is_trained_and_tried(place: Workplace) -> None:
    """From the welcome to labels: one job, and a model that knows the tiles it is asked about."""
    plan = place.plan(place.file("tiles.h5"), samples=3)
    place.provider().check_account(plan)
    watched = place.watch(plan, place.create(plan))
    assert (watched.run.status, watched.run.error_message) == (RunStatus.COMPLETED, None)
    report = place.provider().hosted_inference(plan, watched.run, None)
    assert (report.asked, report.answered, report.agreement, report.inconclusive) == (3, 3, 1.0, None)
    assert place.started() == 1


def test_a_training_that_holds_up_the_server_is_watched_to_its_end(place: Workplace) -> None:
    """Looks get no answer while it trains, and end nothing; masks of unseen tiles are right in most pixels."""
    place.times = AnswerTimes(read_s=0.2)
    unseen = place.file("unseen.h5", task="segmentation", count=4, side=64, seed=9)
    dataset = place.file("tiles.h5", task="segmentation", count=120, side=64)
    plan = place.plan(dataset, validation=unseen, task="segmentation", num_classes=3)
    watched = place.watch(plan, place.create(plan))
    assert watched.run.status is RunStatus.COMPLETED
    assert watched.failed_looks >= 1
    report = place.provider().hosted_inference(plan, watched.run, None)
    assert report.answered == 2
    assert (report.agreement or 0) > 0.6


def _scripted(place: Workplace, **settings: Any) -> None:
    place.control.configure(engine="scripted", script={"mode": "manual", "steps": STEPS}, **settings)


@pytest.mark.parametrize("fault", [{"action": "status", "status": 502}, {"action": "reset"}])
def test_a_lost_answer_stops_the_operation(place: Workplace, fault: dict[str, Any]) -> None:
    """One job was made that nobody can find; coming back makes no other one."""
    _scripted(place)
    plan = place.plan(place.file("tiles.h5"))
    action = fault.pop("action")
    place.control.fault(action, path="/training/jobs", method="POST", stage="after", **fault)
    for _ in range(2):
        with pytest.raises(ProviderError, match="cannot be asked for it") as caught:
            place.create(plan)
        assert caught.value.context.outcome_unknown
    assert place.started() == 1


def test_a_lost_answer_is_repeated_where_that_is_asked_for(place: Workplace) -> None:
    """Two jobs on one upload; the one that is watched says that another may exist."""
    _scripted(place)
    plan = place.plan(place.file("tiles.h5"), on_unknown_create="repeat")
    place.control.fault("status", path="/training/jobs", method="POST", stage="after", status=502)
    run = place.create(plan)
    assert [finding.code for finding in run.warnings] == ["possible_orphan_job"]
    assert place.started() == 2


def test_a_refused_order_is_certain(place: Workplace) -> None:
    """The vendor's 400 of a validation is read as a refusal, of anything else as doubt."""
    _scripted(place)
    provider = place.provider()
    with pytest.raises(ProviderError, match="RequestValidationError") as caught:
        provider.jobs.create({"task": "painting", "training_file": "file-x"}, "n", "d")
    assert not caught.value.context.outcome_unknown
    assert place.started() == 0


def test_a_cancel_is_advice(place: Workplace) -> None:
    """The job reads cancelled, goes on, and makes a model; a cancel after its end leaves it as it is."""
    _scripted(place)
    provider = place.provider()
    run = place.create(place.plan(place.file("tiles.h5")))
    place.control.advance(run.handle.run_id)
    cancelled = provider.cancel_run(run.handle)
    assert (cancelled.status, cancelled.warnings[0].code) == (RunStatus.CANCELLED, "cancel_is_advice")
    place.control.advance(run.handle.run_id)
    assert provider.get_run(run.handle).status is RunStatus.COMPLETED
    assert provider.cancel_run(run.handle).model_id is not None


def test_a_damaged_copy_is_left_behind_by_the_next_attempt(place: Workplace) -> None:
    """The server keeps it for the old upload; the next attempt has another one, and the file is good."""
    place.control.configure(bluesight={"truncates_downloads": True})
    dataset = place.file("tiles.h5")
    plan = place.plan(dataset)
    failed = place.watch(plan, place.create(plan)).run
    assert "run again, which uploads the file anew" in (failed.error_message or "")
    place.control.configure(bluesight={"truncates_downloads": False})
    plan = place.plan(dataset, attempt=2)
    assert place.watch(plan, place.create(plan)).run.status is RunStatus.COMPLETED


def test_a_server_that_cannot_ask_is_inconclusive(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the vendor's was for months."""
    monkeypatch.setattr("providers.bluesight.inference._FRESH_WAIT_S", 0.01)
    plan = place.plan(place.file("tiles.h5"))
    run = place.watch(plan, place.create(plan)).run
    place.control.configure(bluesight={"classification_inference": "broken"})
    report = place.provider().hosted_inference(plan, run, None)
    assert (report.inconclusive or "").startswith("hosted inference unavailable")


def test_storage_trouble_starts_nothing(place: Workplace) -> None:
    """An upload that fails is reported as trouble that may pass."""
    place.control.configure(bluesight={"storage": "broken"})
    with pytest.raises(ProviderUnavailableError, match="Failed to upload file"):
        place.create(place.plan(place.file("tiles.h5")))
    assert place.started() == 0


def test_an_address_below_the_api_is_named(place: Workplace) -> None:
    """A route the server does not have says nothing about jobs."""
    options = ClientOptions(place.control.url + "/v0", CONNECT_S, retry=RetryPolicy(base_s=0.01))
    provider = BluesightProvider(None, options, PROFILE)
    with pytest.raises(UnexpectedResponseError):
        provider.check_account(place.plan("x.h5"))
    provider.close()
