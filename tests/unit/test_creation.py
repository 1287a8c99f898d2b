"""Creation: found or created, once, whatever happens to the answer."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import JsonValue

from pipeline.errors import (
    ConflictError,
    ErrorContext,
    InsufficientCreditsError,
    InvalidRequestError,
    JournalError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
    TransportError,
    is_retryable,
)
from pipeline.local_requests import BluesightRequest
from pipeline.models import CreationPolicy, GuaranteeLevel, ModelTask, Operation, RunHandle, TrainingRun, TrainPlan
from pipeline.start.creation import Creating, create_once
from pipeline.start.planning import resolve_plan
from tests.unit.conftest import FakeClock, FakeProvider, Script, make_export, make_plan, make_profile, make_run

LOST = TransportError("connection reset", ErrorContext("training.create", outcome_unknown=True))
DOWN = ProviderUnavailableError("503")


LOOKUPS, SENDINGS = CreationPolicy().lookups, CreationPolicy().sendings


class _Log:
    """A creation log kept in a list."""

    def __init__(self, *, sent_before: bool = False, broken: bool = False) -> None:
        self.said: list[tuple[str, object]] = []
        self._sent_before = sent_before
        self._broken = broken

    notes = property(lambda self: self)

    def known_order(self) -> dict[str, JsonValue] | None:
        return {"frozen": True} if self._sent_before else None

    def intend(self, body: dict[str, JsonValue]) -> tuple[dict[str, JsonValue], bool]:
        self.said.append(("intend", body))
        return {"frozen": True}, self._sent_before

    def created(self, handle: RunHandle) -> None:
        self.said.append(("created", handle.run_id))
        if self._broken:
            raise JournalError("disk full")

    def unknown(self, reason: str) -> None:
        self.said.append(("unknown", reason))

    def refused(self, reason: str) -> None:
        self.said.append(("refused", reason))

    def unsent(self) -> None:
        self.said.append(("unsent", None))

    @property
    def words(self) -> list[str]:
        return [word for word, _ in self.said]


def _create(
    provider: FakeProvider,
    clock: FakeClock,
    plan: TrainPlan | None = None,
    *,
    again: bool = False,
    log: _Log | None = None,
) -> TrainingRun:
    provider.scripts.setdefault("order", Script({"dataset": "road-signs"}))
    work = Creating(provider, plan or make_plan(), log or _Log(), clock)  # type: ignore[arg-type]
    return create_once(work, make_export(), again=again)


def test_a_run_that_exists_is_taken_over(clock: FakeClock) -> None:
    """Nothing is created when the operation already has its run."""
    provider = FakeProvider(find_run=Script(make_run()))
    assert _create(provider, clock) == make_run(adopted=True)


def test_a_new_run_is_created_once(clock: FakeClock) -> None:
    """The look-up comes first, then exactly one create."""
    provider = FakeProvider(find_run=Script(None), create_run=Script(make_run()))
    assert _create(provider, clock) == make_run(adopted=False)
    assert (provider.calls("find_run"), provider.calls("create_run")) == (1, 1)


def test_nothing_is_created_while_the_look_up_fails(clock: FakeClock) -> None:
    """Not knowing whether a run exists is no permission to start one."""
    provider = FakeProvider(find_run=Script(DOWN))
    with pytest.raises(ProviderUnavailableError):
        _create(provider, clock)


def test_a_lost_reply_is_recovered_by_looking(clock: FakeClock) -> None:
    """The run that was made after all is adopted, not made again."""
    provider = FakeProvider(find_run=Script(None, DOWN, None, make_run()), create_run=Script(LOST))
    assert _create(provider, clock) == make_run(adopted=True)
    assert provider.calls("create_run") == 1


def test_nothing_is_sent_again_before_the_provider_denied_the_run(clock: FakeClock) -> None:
    """A request that was lost is sent again, with every look-up of the list between the two."""
    asked: list[str] = []
    provider = FakeProvider(find_run=Script(None), create_run=Script(LOST, LOST, make_run()))
    for name in ("find_run", "create_run"):
        call = getattr(provider, name)
        setattr(provider, name, lambda *given, call=call, name=name: (asked.append(name), call(*given))[1])
    assert not _create(provider, clock).adopted
    looked_up = ["find_run"] * LOOKUPS
    assert asked == ["find_run", "create_run", *looked_up, "create_run", *looked_up, "create_run"]


def test_a_provider_that_cannot_tell_twins_apart_is_asked_once(clock: FakeClock) -> None:
    """Where one request is at most one run, a lost answer is never followed by a second request."""
    provider = FakeProvider(find_run=Script(None), create_run=Script(LOST))
    plan = make_plan(profile=make_profile(guarantee=GuaranteeLevel.AT_MOST_ONCE))
    with pytest.raises(TransportError) as caught:
        _create(provider, clock, plan)
    assert caught.value.context.outcome_unknown
    assert provider.calls("create_run") == 1


def test_a_list_that_cannot_be_read_denies_nothing(clock: FakeClock) -> None:
    """The create is not sent again while nobody knows whether the run is there."""
    provider = FakeProvider(find_run=Script(None, None, DOWN), create_run=Script(LOST))
    with pytest.raises(TransportError, match="could not be looked up"):
        _create(provider, clock)
    assert provider.calls("create_run") == 1


def test_requests_that_are_all_lost_end_as_unknown(clock: FakeClock) -> None:
    """After a few sendings, each followed by look-ups, the outcome is reported as unknown."""
    provider = FakeProvider(find_run=Script(None), create_run=Script(LOST))
    with pytest.raises(TransportError, match="not in the provider's list") as caught:
        _create(provider, clock)
    assert caught.value.context.outcome_unknown
    assert make_plan().run_name in str(caught.value)
    assert (provider.calls("find_run"), provider.calls("create_run")) == (1 + LOOKUPS * SENDINGS, SENDINGS)
    assert clock.slept == [2.0, 4.0, 8.0] * SENDINGS
    assert is_retryable(caught.value), "a rerun is what finds out"


def test_look_ups_that_all_fail_are_not_called_an_empty_list(clock: FakeClock) -> None:
    """The message does not claim to have seen a list it never saw."""
    provider = FakeProvider(find_run=Script(None, DOWN), create_run=Script(LOST))
    with pytest.raises(TransportError, match="could not be looked up") as caught:
        _create(provider, clock)
    assert caught.value.context.outcome_unknown


@pytest.mark.parametrize(
    "refusal", [InsufficientCreditsError("402"), ProviderUnavailableError("503 before the effect")]
)
def test_a_plain_refusal_is_passed_on(refusal: ProviderError, clock: FakeClock) -> None:
    """A refusal without doubt needs no search."""
    provider = FakeProvider(find_run=Script(None), create_run=Script(refusal))
    with pytest.raises(type(refusal)):
        _create(provider, clock)
    assert provider.calls("find_run") == 1
    assert clock.slept == []


REFUSALS = [
    InsufficientCreditsError("402", ErrorContext("training.create", status_code=402, request_id="q1")),
    ConflictError("409", ErrorContext("training.create", status_code=409, request_id="q1")),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=repr)
def test_a_refusal_after_a_lost_answer_does_not_end_the_doubt(refusal: ProviderError, clock: FakeClock) -> None:
    """The first create may have spent the money that the second one misses: the report may not say "nothing spent"."""
    provider = FakeProvider(find_run=Script(None), create_run=Script(LOST, refusal))
    with pytest.raises(type(refusal), match="earlier attempt may have created and paid for the run") as caught:
        _create(provider, clock)
    context = caught.value.context
    assert (context.outcome_unknown, context.status_code, context.request_id) == (
        True,
        refusal.context.status_code,
        "q1",
    )
    assert provider.calls("create_run") == 2


@pytest.mark.parametrize("refusal", REFUSALS, ids=repr)
def test_a_run_that_turns_up_after_a_refusal_is_adopted(refusal: ProviderError, clock: FakeClock) -> None:
    """A list that lagged behind shows the first create's run at last."""
    unseen = [None] * (1 + LOOKUPS)
    provider = FakeProvider(find_run=Script(*unseen, make_run()), create_run=Script(LOST, refusal))
    assert _create(provider, clock) == make_run(adopted=True)
    assert provider.calls("create_run") == 2


@pytest.mark.parametrize("found", [None, DOWN], ids=["unlisted", "unreadable"])
def test_a_refusal_of_an_operation_tried_before_is_no_answer_about_the_first_try(
    found: object, clock: FakeClock
) -> None:
    """Tried again after a crash and refused: what the crashed attempt did is still unknown, and said to be."""
    provider = FakeProvider(find_run=Script(None, found), create_run=Script(REFUSALS[0]))
    with pytest.raises(InsufficientCreditsError) as caught:
        _create(provider, clock, again=True)
    assert caught.value.context.outcome_unknown
    assert ("could not be looked up" in str(caught.value)) is (found is DOWN)
    assert provider.calls("create_run") == 1


def test_the_run_of_an_earlier_try_is_adopted_after_a_refusal(clock: FakeClock) -> None:
    """Two creates of one operation would be a conflict; the run that makes it one is ours."""
    provider = FakeProvider(find_run=Script(None, make_run()), create_run=Script(REFUSALS[1]))
    run = _create(provider, clock, again=True)
    assert run == make_run(adopted=True)


def test_the_intent_comes_first_and_the_handle_right_after(clock: FakeClock) -> None:
    """What is sent is what was written down, and nothing is sent before it was."""
    sent: list[object] = []
    log = _Log()

    def send(_plan: object, body: object, _notes: object) -> TrainingRun:
        sent.append((body, log.words))
        return make_run()

    _create(FakeProvider(find_run=Script(None), create_run=send), clock, log=log)  # type: ignore[arg-type]
    assert sent == [({"frozen": True}, ["intend"])]
    assert log.said == [("intend", {"dataset": "road-signs"}), ("created", "r1")]


@pytest.mark.parametrize(
    ("answers", "word"),
    [((REFUSALS[0],), "refused"), ((LOST,), "unknown"), ((ProviderUnavailableError("503"),), None)],
    ids=["refused", "lost", "may-be-sent-again"],
)
def test_what_became_of_the_create_is_written_down(
    answers: tuple[ProviderError, ...], word: str | None, clock: FakeClock
) -> None:
    """A refusal closes the attempt, a lost answer leaves it in doubt, a passing fault leaves it as intended."""
    log = _Log()
    with pytest.raises(ProviderError):
        _create(FakeProvider(find_run=Script(None), create_run=Script(*answers)), clock, log=log)
    assert log.words == ["intend", *([word] if word else [])]


def test_a_journal_that_fails_after_the_create_loses_no_run(clock: FakeClock) -> None:
    """The run is paid for: it is watched, whether or not its handle could be written down."""
    provider = FakeProvider(find_run=Script(None), create_run=Script(make_run()))
    assert _create(provider, clock, log=_Log(broken=True)) == make_run()


def test_the_way_back_to_a_run_that_is_not_written_down_is_a_true_one(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """By its name where the provider can be asked for it; where it cannot, by the id, which is in the log."""
    _create(FakeProvider(find_run=Script(None), create_run=Script(make_run())), clock, log=_Log(broken=True))
    provider = FakeProvider(find_run=Script(None), create_run=Script(make_run()))
    _create(provider, clock, _blind(), log=_Log(broken=True))
    found, blind = caplog.messages
    assert "found again by its name" in found
    assert f"--adopt {make_run().handle.run_id} comes back to it" in blind
    assert "found again" not in blind


def test_a_create_another_process_may_have_sent_is_looked_up_first(clock: FakeClock) -> None:
    """The intent was there before: its run is adopted instead of being created a second time."""
    provider = FakeProvider(find_run=Script(None, make_run()))
    assert _create(provider, clock, log=_Log(sent_before=True)) == make_run(adopted=True)


def test_at_most_once_never_sends_what_may_have_been_sent(clock: FakeClock) -> None:
    """Where nothing can be looked up, a create that a dead process may have sent is not sent again."""
    provider = FakeProvider(find_run=Script(None))
    plan = make_plan(profile=make_profile(guarantee=GuaranteeLevel.AT_MOST_ONCE))
    with pytest.raises(TransportError, match="was lost") as caught:
        _create(provider, clock, plan, log=_Log(sent_before=True))
    assert caught.value.context.outcome_unknown
    assert provider.calls("create_run") == 0


# -- providers that cannot be asked for a run -------------------------------------------------------------------------


def _blind(**request: Any) -> TrainPlan:
    """Return a plan for a provider that has no list of runs."""
    profile = make_profile(
        name="bluesight",
        title="Bluesight",
        pipelines={"classification": ModelTask.CLASSIFICATION},
        gpus=(),
        guarantee=GuaranteeLevel.AT_MOST_ONCE,
        finds_runs=False,
        creation=CreationPolicy(sendings=2),
    )
    asked = BluesightRequest(dataset="tiles.h5", **request)
    return resolve_plan(asked, profile, Operation(id="op-1"))


def test_a_lost_create_that_nobody_can_look_up_stops_with_instructions(clock: FakeClock) -> None:
    """Nothing is asked, nothing is sent again, and the person is told what there is to do."""
    provider = FakeProvider(find_run=Script(None), create_run=Script(LOST))
    with pytest.raises(ProviderError, match=r"look there.*--adopt ID.*on_unknown_create=repeat") as caught:
        _create(provider, clock, _blind())
    assert caught.value.context.outcome_unknown
    assert not is_retryable(caught.value), "a moment later nobody knows more"
    assert (provider.calls("find_run"), provider.calls("create_run"), clock.slept) == (1, 1, [])


def test_a_lost_create_is_repeated_when_that_was_asked_for(clock: FakeClock) -> None:
    """At the risk of a second job, which is the person's to take, and as often as the profile says."""
    log = _Log()
    provider = FakeProvider(find_run=Script(None), create_run=Script(LOST, make_run()))
    assert _create(provider, clock, _blind(on_unknown_create="repeat"), log=log) == make_run()
    assert log.words == ["intend", "created"]
    always = FakeProvider(find_run=Script(None), create_run=Script(LOST))
    with pytest.raises(ProviderError):
        _create(always, clock, _blind(on_unknown_create="repeat"))
    assert always.calls("create_run") == 2


@pytest.mark.parametrize(("policy", "sent"), [("stop", 0), ("repeat", 1)])
def test_a_create_of_a_dead_process_is_sent_again_only_when_asked(clock: FakeClock, policy: str, sent: int) -> None:
    """Its body is the one that was written down: nothing is uploaded anew for it."""
    provider = FakeProvider(find_run=Script(None), create_run=Script(make_run()))
    provider.scripts["order"] = Script(AssertionError("the order is known"))
    plan, log = _blind(on_unknown_create=policy), _Log(sent_before=True)
    if sent:
        assert _create(provider, clock, plan, again=True, log=log) == make_run()
    else:
        with pytest.raises(ProviderError) as caught:
            _create(provider, clock, plan, again=True, log=log)
        assert caught.value.context.outcome_unknown
    assert provider.calls("create_run") == sent


def test_what_a_create_sent_is_what_its_run_is_looked_for_by(clock: FakeClock) -> None:
    """The body of an earlier process, and then our own, go into every look-up."""
    asked: list[object] = []

    def find(_plan: object, order: object = None) -> TrainingRun | None:
        asked.append(order)
        return make_run() if len(asked) > 2 else None

    provider = FakeProvider(find_run=find, create_run=Script(LOST))  # type: ignore[arg-type]
    assert _create(provider, clock) == make_run(adopted=True)
    assert asked == [None, {"frozen": True}, {"frozen": True}]


def test_a_create_that_surely_did_not_arrive_is_no_lost_one(clock: FakeClock) -> None:
    """Its intent is taken back: the next try must not take it for a create whose answer was lost."""
    log = _Log()
    provider = FakeProvider(find_run=Script(None), create_run=Script(RateLimitError("429")))
    with pytest.raises(RateLimitError) as caught:
        _create(provider, clock, _blind(), log=log)
    assert not caught.value.context.outcome_unknown
    assert log.words == ["intend", "unsent"]


def test_a_stage_tried_again_is_no_lost_create(clock: FakeClock) -> None:
    """Prefect tries the stage again after a 429: of a provider that cannot be asked the journal knows what was sent."""
    log = _Log()
    provider = FakeProvider(find_run=Script(None), create_run=Script(RateLimitError("429")))
    with pytest.raises(RateLimitError) as caught:
        _create(provider, clock, _blind(), again=True, log=log)
    assert not caught.value.context.outcome_unknown
    assert log.words == ["intend", "unsent"]


def test_what_an_adapter_itself_refuses_to_send_again_closes_the_attempt(clock: FakeClock) -> None:
    """The list denies the run and nothing was sent now: the next attempt prepares anew instead of asking for ever."""
    log = _Log(sent_before=True)
    stale = InvalidRequestError("the upload has expired", ErrorContext(operation="training.create"))
    provider = FakeProvider(find_run=Script(None), create_run=Script(stale))
    with pytest.raises(InvalidRequestError, match="expired") as caught:
        _create(provider, clock, again=True, log=log)
    assert not caught.value.context.outcome_unknown
    assert log.words == ["intend", "refused"]
