"""The PhotoGPT adapter against the sandbox over real sockets: one training paid for, whatever is lost on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import JsonValue, SecretStr

from pipeline.errors import (
    AuthenticationError,
    ConfigurationError,
    InsufficientCreditsError,
    PermissionDeniedError,
    ProviderError,
)
from pipeline.local_requests import PhotogptRequest
from pipeline.models import (
    Export,
    ExportStatus,
    HostedReport,
    Operation,
    ProviderProfile,
    RunHandle,
    RunStatus,
    TrainingRun,
    TrainPlan,
)
from pipeline.start.creation import Creating, create_once
from pipeline.start.planning import resolve_plan
from pipeline.watch.polling import observe
from providers.calls import ClientOptions
from providers.photogpt.adapter import PhotogptProvider
from providers.photogpt.profile import photogpt_profile
from sandbox.client import SandboxAccount
from sandbox.server import SandboxServer
from tests.notes import MemoryNotes

EXPORT = Export(id="e", name="p", dataset="p", status=ExportStatus.COMPLETED, provider_status="local")
SHORT = {"steps": [{"status": "running", "for_s": 0.5}, {"status": "completed"}]}
FAILING = {"steps": [{"status": "running", "for_s": 0.2}, {"status": "failed", "error_message": "no face found"}]}
LONG = {"steps": [{"status": "running"}], "mode": "manual"}
QUICK = {"generation_queued_s": 0, "generation_running_s": 0}


@dataclass
class _Log:
    """What creating writes down, in memory; implements ``pipeline.journal.bookkeeping.CreationLog``."""

    notes: MemoryNotes = field(default_factory=MemoryNotes)
    body: dict[str, JsonValue] | None = None

    def known_order(self) -> dict[str, JsonValue] | None:
        """Return the frozen body."""
        return self.body

    def intend(self, body: dict[str, JsonValue]) -> tuple[dict[str, JsonValue], bool]:
        """Freeze the body."""
        known, self.body = self.body is not None, self.body or body
        return self.body, known

    def created(self, _: RunHandle) -> None:
        """Note nothing."""

    def unknown(self, _: str) -> None:
        """Note nothing."""

    def refused(self, _: str) -> None:
        """Note nothing."""


@dataclass
class Person:
    """A folder of pictures, an account of the sandbox, and the adapter between them."""

    account: SandboxAccount
    plan: TrainPlan
    provider: PhotogptProvider
    log: _Log = field(default_factory=_Log)

    def create(self) -> TrainingRun:
        """Create the training as the pipeline does."""
        return create_once(Creating(self.provider, self.plan, self.log, time), EXPORT)

    def finish(self, run: TrainingRun) -> TrainingRun:
        """Watch a run to its end."""
        looks = observe(lambda: self.provider.get_run(run.handle), self.plan.poll, time)
        return [look.seen for look in looks if look.seen is not None][-1]

    def sent(self, path: str) -> int:
        """Return how often a path was asked for."""
        return sum(str(request["path"]).endswith(path) for request in self.account.requests())

    def trial(self, run: TrainingRun) -> HostedReport:
        """Have one picture made."""
        return self.provider.hosted_inference(self.plan, run, None)


NewPerson = Callable[..., Person]


def _provider(url: str, key: str, profile: ProviderProfile) -> PhotogptProvider:
    return PhotogptProvider(SecretStr(key), ClientOptions(f"{url}/api", timeout_s=2.0), profile)


@pytest.fixture
def new_person(server: SandboxServer, tmp_path: Path) -> Iterator[NewPerson]:
    """Give a function that opens an account in credits, with these settings of PhotoGPT."""
    folder = tmp_path / "anna"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (300, 300), (number * 20, 90, 160)).save(folder / f"secret-{number:02}.jpg")
    with ExitStack() as opened:

        def make(script: dict[str, Any] = SHORT, balance: int = 5_000, **photogpt: Any) -> Person:
            account = server.new_account(
                billing="credits", balance=balance, script=script, photogpt={**QUICK, **photogpt}
            )
            profile = photogpt_profile(sandbox=True)
            facts: dict[str, Any] = {"dataset": str(folder), "age": 34, "gender": "Female", "sandbox": True}
            request = PhotogptRequest(**facts, smoke=True, output_dir=tmp_path / "runs")
            plan = resolve_plan(request, profile, Operation(id=account.api_key))
            provider = opened.enter_context(closing(_provider(server.url, account.api_key, profile)))
            return Person(account, plan, provider)

        yield make


@pytest.mark.parametrize(
    "quirks",
    [
        {},
        {"shows_name": True, "models_page_size": 1, "jobs_page_size": 1},
        {"success_word": "completed", "keeps_bytes": False, "deleted_models": "gone"},
    ],
)
def test_a_whole_life(new_person: NewPerson, quirks: dict[str, Any]) -> None:
    """One model, twelve pictures, one trigger, one bill, one picture, whatever the vendor leaves open."""
    person = new_person(**quirks)
    person.provider.check_account(person.plan)
    assert person.provider.find_run(person.plan) is None
    run = person.finish(person.create())
    assert (run.status, run.model_id) == (RunStatus.COMPLETED, run.handle.run_id)
    settlement = person.provider.settle(run)
    assert settlement is not None
    bill = person.account.bill()
    assert settlement.charged.amount == bill["net"] == 500
    report = person.trial(run)
    assert (report.answered, report.inconclusive) == (1, None)
    with Image.open(report.pictures[0]) as made:
        assert made.size == (768, 768)
    assert person.trial(run).pictures == report.pictures
    bill = person.account.bill()
    assert (bill["started_runs"], bill["paid_runs"], bill["net"]) == (1, 1, 510)
    assert [person.sent(path) for path in ("/train", "/images/upload", "/images/generation")] == [1, 12, 1]


@pytest.mark.parametrize(
    ("rule", "triggers"),
    [
        ({"action": "reset", "stage": "after"}, 1),
        ({"action": "status", "stage": "after", "status": 503}, 1),
        ({"action": "truncate", "stage": "after"}, 1),
        ({"action": "stall", "stage": "after", "seconds": 3}, 1),
        ({"action": "reset"}, 2),
        ({"action": "status", "status": 500}, 2),
        ({"action": "status", "status": 429, "times": 2}, 3),
    ],
)
def test_a_trigger_that_is_lost_is_paid_for_once(new_person: NewPerson, rule: dict[str, Any], triggers: int) -> None:
    """Where a second one would be billed."""
    person = new_person(second_trigger="again", trained_trigger="again")
    person.account.fault(rule.pop("action"), path="/train$", **rule)
    assert person.finish(person.create()).status is RunStatus.COMPLETED
    bill = person.account.bill()
    assert (bill["started_runs"], bill["net"]) == (1, 500)
    assert person.sent("/train") == triggers


def test_two_lost_triggers_are_the_last(new_person: NewPerson) -> None:
    """A rerun sends no third one, and says what to do."""
    person = new_person()
    person.account.fault("reset", path="/train$", times=9)
    for _ in range(2):
        with pytest.raises(ProviderError) as caught:
            person.create()
        assert caught.value.context.outcome_unknown
    assert "after 2 triggers" in str(caught.value)
    assert person.sent("/train") == 2
    assert person.account.bill()["started_runs"] == 0


@pytest.mark.parametrize("stage", ["before", "after"])
@pytest.mark.parametrize("path", ["/api/models$", "/images/upload$"])
def test_what_is_lost_while_preparing_leaves_one_model_of_twelve(new_person: NewPerson, path: str, stage: str) -> None:
    """Whether it arrived or not."""
    person = new_person()
    person.account.fault("reset", path=path, stage=stage, method="POST", times=1)
    assert person.create().handle.run_id == person.log.notes.read()["model_id"]
    assert len(person.provider.images.inputs(str(person.log.notes.read()["model_id"]))) == 12
    assert len(person.provider.models.all()) == 1


@pytest.mark.parametrize("word", ["failed", "new"])
def test_a_failed_training_says_why(new_person: NewPerson, word: str) -> None:
    """Whether the model says so or goes back to new; nothing was paid, and the bill says so."""
    person = new_person(script=FAILING, failed_training=word)
    run = person.finish(person.create())
    assert (run.status, run.error_message) == (RunStatus.FAILED, "no face found")
    settlement = person.provider.settle(run)
    assert settlement is not None
    assert settlement.charged.amount == person.account.bill()["net"] == 0


@pytest.mark.parametrize("status", [200, 400, 402])
def test_an_empty_account_is_told_from_a_bad_request(new_person: NewPerson, status: int) -> None:
    """By the sentence, whatever the code."""
    person = new_person(balance=5, insufficient_status=status)
    with pytest.raises(InsufficientCreditsError) as caught:
        person.create()
    assert not caught.value.context.outcome_unknown


def test_a_plan_without_training_is_a_refusal(new_person: NewPerson) -> None:
    """And nothing was started."""
    person = new_person(plan_allows_training=False)
    with pytest.raises(PermissionDeniedError, match="plan"):
        person.create()


def test_live_runs_and_many_runs(new_person: NewPerson) -> None:
    """A model in training is live; by the list of models both are seen."""
    person = new_person(script=LONG)
    run = person.create()
    assert [live.handle.run_id for live in person.provider.live_runs()] == [run.handle.run_id]
    gone = run.handle.model_copy(update={"run_id": "gone"})
    assert [seen.status for seen in person.provider.get_runs((gone, run.handle))] == [RunStatus.RUNNING]


@pytest.mark.parametrize(
    "quirks", [{"refused_words": ["portrait"]}, {"generation_error": "refused by moderation"}, {"image_credits": 9_000}]
)
def test_a_refused_picture_says_nothing_of_the_model(new_person: NewPerson, quirks: dict[str, Any]) -> None:
    """For its prompt or for want of credits."""
    person = new_person(**quirks)
    report = person.trial(person.finish(person.create()))
    assert report.inconclusive
    assert report.pictures == ()


def test_the_account_is_checked(new_person: NewPerson, server: SandboxServer) -> None:
    """A wrong key, a wrong address, and a hosted run that a sandbox answers."""
    person = new_person()
    sandbox, hosted = photogpt_profile(sandbox=True), photogpt_profile(sandbox=False)
    with closing(_provider(server.url, "wrong", sandbox)) as wrong, pytest.raises(AuthenticationError):
        wrong.check_account(person.plan)
    elsewhere = _provider(f"{server.url}/api", person.account.api_key, sandbox)
    with closing(elsewhere), pytest.raises(ConfigurationError, match="PHOTOGPT_BASE_URL"):
        elsewhere.check_account(person.plan)
    real = _provider(server.url, person.account.api_key, hosted)
    with closing(real), pytest.raises(ConfigurationError, match="sandbox"):
        real.check_account(person.plan)
