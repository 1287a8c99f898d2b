"""The sweep's stages and the hook of a cancelled flow run: whose wish a state is, and what is acted on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import prefect
import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Cancelling, Crashed, Paused, Scheduled

from flows.sweep_runs import summarise
from pipeline.journal.store import Journal
from pipeline.models import RunStatus
from pipeline.requests import SweepRequest
from pipeline.sweep.accounts import Swept
from pipeline.sweep.mending import Mended
from pipeline.sweep.sweeping import Action, FlowKind, FlowState, Found, SweepClass
from tasks import interruption, sweeping
from tests.unit.conftest import FakeProvider, make_profile, make_run
from tests.unit.operations import HANDLE, NOW_S, OWNER, begin

FULL = "Deployment concurrency limit reached."
LOST = "Deployment concurrency slot lost during provisioning - no slots available to continue execution"
REPLICATE = SweepRequest(provider="replicate")
WHEN = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def open_one(tmp_path: Path) -> Callable[[], Any]:
    """Open a journal of its own, and close it again."""

    @contextmanager
    def opened() -> Iterator[Journal]:
        journal = Journal(str(tmp_path / "journal.db"), lambda: NOW_S)
        yield journal
        journal.close()

    return opened


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        (Cancelled(), FlowKind.CANCELLED),
        (Cancelled(message="not needed any more"), FlowKind.CANCELLED),
        (Cancelling(), FlowKind.CANCELLED),
        (Cancelled(message=FULL), FlowKind.ENDED),
        (Cancelled(message=LOST), FlowKind.ENDED),
        (Crashed(message=FULL), FlowKind.ENDED),
    ],
    ids=lambda value: getattr(value, "message", None) or str(getattr(value, "name", value)),
)
def test_a_flow_run_that_prefect_turns_away_was_cancelled_by_nobody(state: State[Any], kind: FlowKind) -> None:
    """Its slot was taken, or lost while its process started: gone, and no wish."""
    run = FlowRun(flow_id=uuid4(), state=state)
    assert sweeping.state_of(run).kind is kind


def test_the_words_are_prefects_own() -> None:
    """Those of the release that is installed: should it say something else one day, this test does."""
    policy = Path(prefect.__file__).parent / "server" / "orchestration" / "core_policy.py"
    source = "".join(policy.read_text(encoding="utf-8").split())
    for words in (FULL, LOST):
        for part in words.split("- "):  # a long one is written in two pieces
            assert "".join(part.split()) in source


def test_when_it_was_to_come_back_is_carried_along() -> None:
    """A flow run that waits without a time has none."""
    scheduled = FlowRun(flow_id=uuid4(), state=Scheduled(scheduled_time=WHEN))
    assert sweeping.state_of(scheduled).due_s == WHEN.timestamp()
    paused = FlowRun(flow_id=uuid4(), state=Paused(timeout_seconds=60))
    due_s = sweeping.state_of(paused).due_s
    assert due_s is not None
    assert abs(due_s - (datetime.now(UTC) + timedelta(seconds=60)).timestamp()) < 30
    assert sweeping.state_of(FlowRun(flow_id=uuid4(), state=Crashed())).due_s is None


@pytest.mark.parametrize(("message", "ended"), [(FULL, []), (LOST, []), (None, ["op-1"])])
def test_the_hook_ends_no_training_that_nobody_wants_ended(
    open_one: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, message: str | None, ended: list[str]
) -> None:
    """A flow run that was turned away leaves its training to the sweep."""
    flow_run = FlowRun(flow_id=uuid4(), name="f")
    with open_one() as journal:
        key = begin(journal, "op-1", handle=HANDLE).operation_key
        owner = OWNER.model_copy(update={"flow_run_id": str(flow_run.id)})
        journal.claim(key, owner, NOW_S + 60, lambda _: True)
    seen: list[str] = []
    monkeypatch.setattr(interruption, "flow_run_logger", lambda *_: logging.getLogger("test"))
    monkeypatch.setattr(interruption, "opened_journal", open_one)
    monkeypatch.setattr(interruption, "end_paid_run", lambda record: seen.append(record.operation_id) or "ended")
    interruption.cancel_with_flow_run(SimpleNamespace(name="train-pipeline"), flow_run, Cancelled(message=message))
    assert seen == ended


class Account(FakeProvider):
    """A fake with the facts a sweep asks for."""

    account = "account-1"
    profile = make_profile()


@pytest.fixture
def mend(
    open_one: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Found], tuple[list[Mended], list[Any]]]:
    """Do what is to be done about a training, without Prefect and without a provider."""

    def one(found: Found) -> tuple[list[Mended], list[Any]]:
        ended: list[Any] = []

        @contextmanager
        def provider(_request: SweepRequest) -> Iterator[Account]:
            yield Account()

        monkeypatch.setattr(sweeping, "open_provider", provider)
        monkeypatch.setattr(sweeping, "opened_journal", open_one)
        monkeypatch.setattr(sweeping, "say", lambda *_, **__: None)
        monkeypatch.setattr(sweeping, "announce", lambda *_, **__: None)
        monkeypatch.setattr(
            sweeping, "end", lambda _j, _p, item, *_, **__: ended.append(item) or Mended(item, Action.CANCEL, "ended")
        )
        return list(sweeping.mend_found.fn(SweepRequest(), (found,))), ended

    return one


def test_a_training_that_somebody_came_back_to_is_not_cancelled(
    open_one: Callable[[], Any], mend: Callable[[Found], tuple[list[Mended], list[Any]]]
) -> None:
    """It was judged minutes ago; as long as nothing changed, it is."""
    with open_one() as journal:
        plan = begin(journal, "op-1", handle=HANDLE)
        journal.cancel_asked(plan.operation_key)
        found = Found(SweepClass.CANCEL_UNCONFIRMED, "why", make_run(), journal.find(plan.operation_key))
    (done,), ended = mend(found)
    assert (done.said, ended) == ("ended", [found])
    with open_one() as journal:
        back = OWNER.model_copy(update={"flow_run_id": "flow-2"})
        journal.claim(plan.operation_key, back, NOW_S + 60, lambda _: True)
    (done,), ended = mend(found)
    assert (done.action, "left alone" in done.said, ended) == (Action.NOTIFY, True, [])


def test_what_cannot_be_done_for_one_is_done_for_the_others(
    open_one: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, mend: Callable[..., tuple[list[Mended], list[Any]]]
) -> None:
    """Whatever one row makes of it: that is said, and counts as a failure."""
    with open_one() as journal:
        key = begin(journal, "op-1", handle=HANDLE).operation_key
        found = Found(SweepClass.CANCEL_UNCONFIRMED, "why", make_run(), journal.find(key))
    mend(found)
    answers = iter([OverflowError("cannot convert float infinity to integer"), Mended(found, Action.CANCEL, "ended")])

    def end(*_: object, **__: object) -> Mended:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(sweeping, "end", end)
    first, second = sweeping.mend_found.fn(SweepRequest(provider="pictograph"), (found, found))
    assert (first.failed, first.action, second.said) == (True, Action.CANCEL, "ended")
    assert "it could not be done: OverflowError" in first.said


def test_an_unwanted_model_is_told_of_with_the_way_to_it(
    open_one: Callable[[], Any], mend: Callable[[Found], tuple[list[Mended], list[Any]]]
) -> None:
    """Nobody goes on with it but a person who wants to."""
    with open_one() as journal:
        plan = begin(journal, "op-1", handle=HANDLE)
        record = journal.find(plan.operation_key)
    cancelled = FlowState(FlowKind.CANCELLED)
    (done,), _ = mend(Found(SweepClass.UNCOLLECTED, "why", make_run(RunStatus.COMPLETED), record, cancelled))
    assert done.action is Action.NOTIFY
    assert "--operation op-1" in done.said


def test_what_failed_is_told_as_what_it_is() -> None:
    """A row that could not be closed is not billed for that."""
    found = Found(SweepClass.ENDED, "why", None)
    both = (Mended(found, Action.CLOSE, "", failed=True), Mended(found, Action.CANCEL, "", failed=True))
    said = summarise((Swept(REPLICATE, both),))
    assert "; 1 could not be cancelled and may be billed, the next sweep tries again" in said
    assert "; 1 could not be done, the next sweep tries again" in said
    assert summarise((Swept(REPLICATE, (Mended(found, Action.CLOSE, ""),)),)) == "at replicate 1 ended: close"
