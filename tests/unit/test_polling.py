"""Waiting: what ends it, what does not, when to look again, what is kept of what was seen."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pipeline.errors import (
    AuthenticationError,
    ConflictError,
    ErrorContext,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PipelineError,
    ProviderUnavailableError,
    RateLimitError,
    TrainingCancelledError,
    TrainingFailedError,
    TrainingLostError,
    TrainingTimedOutError,
    TransportError,
    UnexpectedResponseError,
)
from pipeline.models import PollPolicy, RunStatus, WatchedRun
from pipeline.watch.polling import RETRY_AFTER_MOST_S, Look, next_wait_s, observe, require_success
from pipeline.watch.watching import watch_run
from tests.unit.conftest import POLICY, FakeClock, Script, make_run

CREATED = make_run(RunStatus.PENDING)
DONE = make_run(RunStatus.COMPLETED)
RUNNING = make_run(RunStatus.RUNNING)


def _watch(clock: FakeClock, *steps: Any, policy: PollPolicy = POLICY) -> WatchedRun:
    return watch_run(CREATED, Script(*steps), policy, clock, lambda look, log: None)


def _policy(**changes: Any) -> PollPolicy:
    return POLICY.model_copy(update=changes)


@pytest.mark.parametrize("status", [status for status in RunStatus if status.is_terminal])
def test_every_end_ends_the_watching_at_once(status: RunStatus, clock: FakeClock) -> None:
    """The first look comes without waiting, and none follows the last one."""
    watched = _watch(clock, make_run(status))
    assert (watched.run.status, watched.looks, clock.slept) == (status, 1, [])


@pytest.mark.parametrize("status", [status for status in RunStatus if not status.is_terminal])
def test_no_other_word_ends_it(status: RunStatus, clock: FakeClock) -> None:
    """Queued, running and words we do not know are looked at again."""
    watched = _watch(clock, *[make_run(status)] * 3, DONE)
    assert (watched.run.status, watched.looks) == (RunStatus.COMPLETED, 4)


@pytest.mark.parametrize(
    "error",
    [
        TransportError("timeout"),
        ProviderUnavailableError("503"),
        RateLimitError("429"),
        NotFoundError("404"),
        ConflictError("409"),
        InvalidRequestError("400"),
        UnexpectedResponseError("not JSON"),
        AuthenticationError("401"),
        PermissionDeniedError("403"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("times", [1, 2])
def test_a_failed_look_says_nothing_about_the_job(error: Exception, times: int, clock: FakeClock) -> None:
    """Whatever the look failed with, the next one finds the run completed."""
    watched = _watch(clock, RUNNING, *[error] * times, DONE)
    assert (watched.run.status, watched.looks, watched.failed_looks) == (RunStatus.COMPLETED, 2, times)


def test_a_bug_is_not_a_failed_look(clock: FakeClock) -> None:
    """Errors that are not the provider's come through."""
    with pytest.raises(ZeroDivisionError):
        _watch(clock, RUNNING, ZeroDivisionError())


def test_a_run_not_yet_visible_is_waited_for(clock: FakeClock) -> None:
    """Right after the create a 404 means "not yet": 40 seconds of it are borne."""
    policy = _policy(interval_s=10, fixed=True)
    assert _watch(clock, *[NotFoundError("404")] * 4, DONE, policy=policy).failed_looks == 4


def test_the_limits_themselves_are_still_borne(clock: FakeClock) -> None:
    """Sixty seconds of grace last for sixty seconds, a blind limit of fifty for fifty."""
    every_ten = _policy(interval_s=10, fixed=True, max_blind_s=50)
    assert _watch(clock, RUNNING, *[ProviderUnavailableError("503")] * 5, DONE, policy=every_ten).run == DONE
    patient = _policy(interval_s=10, fixed=True)
    assert _watch(clock, RUNNING, *[NotFoundError("404")] * 7, DONE, policy=patient).run == DONE
    with pytest.raises(TrainingLostError):
        _watch(clock, RUNNING, *[NotFoundError("404")] * 8, DONE, policy=patient)


def test_a_run_missing_beyond_the_grace_is_lost(clock: FakeClock) -> None:
    """Nobody waits two hours for a run that is gone; the last answer's facts are kept."""
    gone = NotFoundError("no such run", ErrorContext(status_code=404, request_id="q9"))
    with pytest.raises(TrainingLostError, match="no such run") as caught:
        _watch(clock, RUNNING, gone)
    assert caught.value.context.request_id == "q9"
    assert 60 < clock.now - 1000 < 200


def test_the_grace_begins_with_the_first_404(clock: FakeClock) -> None:
    """After a long wait, or an outage, one 404 alone is borne like any other."""
    far_apart = _policy(interval_s=300, fixed=True)
    assert _watch(clock, RUNNING, NotFoundError("404"), DONE, policy=far_apart).run == DONE
    outage = [ProviderUnavailableError("503")] * 8
    assert _watch(clock, RUNNING, *outage, NotFoundError("404"), DONE).run == DONE


def test_a_look_that_succeeds_renews_the_grace(clock: FakeClock) -> None:
    """A list that flickers is not a lost run."""
    steps: list[Any] = [RUNNING, NotFoundError("404")] * 30
    assert _watch(clock, *steps, DONE, policy=_policy(interval_s=10, fixed=True)).failed_looks == 30


@pytest.mark.parametrize("kind", [AuthenticationError, PermissionDeniedError])
def test_a_key_refused_beyond_the_grace_ends_the_watching(kind: type[PipelineError], clock: FakeClock) -> None:
    """Five minutes of refusals are borne, then a person must act; the last refusal's facts are kept."""
    refused = kind("no such key", ErrorContext(status_code=401, request_id="q7"))
    get, looks = Script(RUNNING, refused), []
    with pytest.raises(kind, match=r"refused for 3\d\d s, at every look: no such key") as caught:
        looks.extend(observe(get, _policy(interval_s=10, fixed=True), clock))
    assert caught.value.context.request_id == "q7"
    assert caught.value.__cause__ is refused
    assert clock.now - 1000 == 10 + 300


def test_a_hiccup_of_the_sign_in_is_outlived(clock: FakeClock) -> None:
    """Four minutes without a valid key are many looks, and still no end."""
    watched = _watch(
        clock, RUNNING, *[AuthenticationError("401")] * 25, DONE, policy=_policy(interval_s=10, fixed=True)
    )
    assert (watched.run, watched.failed_looks) == (DONE, 25)


def test_a_refused_key_leaves_the_run_to_itself(clock: FakeClock) -> None:
    """The run goes on whoever may look at it: timed out, with the refusal, its length, and what to do."""
    watched = _watch(clock, RUNNING, AuthenticationError("HTTP 401: key revoked"))
    assert (watched.run, watched.run.status) == (RUNNING, RunStatus.RUNNING)
    with pytest.raises(
        TrainingTimedOutError, match=r"key revoked; the run goes on at the provider: set a key"
    ) as caught:
        require_success(watched)
    assert "come back to the operation" in str(caught.value)


def test_a_policy_without_patience_takes_the_first_refusal(clock: FakeClock) -> None:
    """No grace at all is a limit too."""
    get = Script(AuthenticationError("401"))
    with pytest.raises(AuthenticationError):
        list(observe(get, _policy(refusal_grace_s=0), clock))
    assert (get.calls, clock.slept) == (1, [])


def test_refusals_must_come_in_a_row(clock: FakeClock) -> None:
    """A look that was answered, or failed otherwise, starts the grace anew."""
    refused = [AuthenticationError("401")] * 25
    steps = (*refused, RUNNING, *refused, ProviderUnavailableError("503"), *refused, DONE)
    assert _watch(clock, *steps, policy=_policy(interval_s=10, fixed=True)).run == DONE


def test_terminal_is_checked_before_the_deadline(clock: FakeClock) -> None:
    """A run that has ended when the deadline comes has ended, not timed out."""
    watched = _watch(clock, RUNNING, DONE, policy=_policy(deadline_s=5, interval_s=60))
    assert (watched.run, clock.slept) == (DONE, [5])


def test_the_last_sleep_is_cut_to_the_deadline(clock: FakeClock) -> None:
    """The last look comes exactly at the deadline, and then it is over."""
    watched = _watch(clock, RUNNING, policy=_policy(deadline_s=12, interval_s=5, fixed=True))
    assert clock.slept == [5, 5, 2]
    assert (watched.run.status, watched.looks, watched.watched_s) == (RunStatus.RUNNING, 4, 12)


def test_a_deadline_without_a_single_look_hands_over_the_created_run(clock: FakeClock) -> None:
    """What was never seen was still created, and may have to be cancelled: it is known by its handle."""
    watched = _watch(clock, ProviderUnavailableError("503"), policy=_policy(deadline_s=30))
    assert (watched.run, watched.looks, watched.watched_s) == (CREATED, 0, 30)
    assert "the last look failed with: 503" in (watched.gave_up or "")


@pytest.mark.parametrize("late_s", [0.0, 0.25])
def test_the_deadline_comes_before_blindness(late_s: float, clock: FakeClock) -> None:
    """Blind for as long as the deadline lasts, and a moment longer: it is the deadline that ended the watching."""

    def get() -> Any:
        clock.now += late_s
        raise ProviderUnavailableError("503")

    watched = watch_run(CREATED, get, _policy(deadline_s=600, max_blind_s=600), clock, lambda look, log: None)
    assert watched.watched_s >= 600
    assert "no end after 600 s" in (watched.gave_up or "")


def test_blindness_is_limited(clock: FakeClock) -> None:
    """After so long without one look a person decides; the run is handed over as last seen."""
    watched = _watch(clock, RUNNING, ProviderUnavailableError("503"), policy=_policy(max_blind_s=600))
    assert watched.run == RUNNING
    with pytest.raises(TrainingTimedOutError, match="one failed with: 503"):
        require_success(watched)
    assert 600 < clock.now - 1000 < 700
    never = _watch(clock, ProviderUnavailableError("503"), policy=_policy(max_blind_s=600))
    assert (never.run, "not one successful look" in (never.gave_up or "")) == (CREATED, True)


@pytest.mark.parametrize(
    ("remaining_s", "wait_s"),
    [(None, 5), (0, 2), (1, 2), (4, 2), (30, 15), (120, 60), (1e9, 60), (math.inf, 60), (math.nan, 2)],
)
def test_the_next_look_comes_after_half_the_rest(remaining_s: float | None, wait_s: float) -> None:
    """Between floor and ceiling; the interval where there is no forecast; nonsense forecasts give legal waits."""
    assert next_wait_s(POLICY, remaining_s) == wait_s


@pytest.mark.parametrize(("remaining_s", "wait_s"), [(-1, 2), (-6, 3), (-30, 5), (-1e9, 5), (-math.inf, 5)])
def test_an_overdue_run_is_looked_at_less_and_less(remaining_s: float, wait_s: float) -> None:
    """Often just after its predicted end, then down to every interval: a run that hangs at 99 % is not hammered."""
    assert next_wait_s(POLICY, remaining_s) == wait_s


@pytest.mark.parametrize("remaining_s", [None, 0.0, 1000.0])
def test_a_fixed_interval_ignores_forecasts(remaining_s: float | None) -> None:
    """Who asks for every five seconds gets every five seconds."""
    assert next_wait_s(_policy(fixed=True), remaining_s) == 5


def test_forecasts_count_only_while_running(clock: FakeClock) -> None:
    """The estimate of a queued run says nothing about the queue."""
    _watch(clock, make_run(RunStatus.QUEUED, eta_s=100), make_run(RunStatus.RUNNING, eta_s=100), DONE)
    assert clock.slept == [5, 50]


def test_failed_looks_back_off_up_to_the_ceiling(clock: FakeClock) -> None:
    """A provider in trouble is asked less and less often, then steadily."""
    _watch(clock, *[ProviderUnavailableError("503")] * 6, DONE)
    assert clock.slept == [5, 10, 20, 40, 60, 60]


def test_a_successful_look_ends_the_backing_off(clock: FakeClock) -> None:
    """The next failure starts small again."""
    down = ProviderUnavailableError("503")
    _watch(clock, down, down, RUNNING, down, DONE)
    assert clock.slept == [5, 10, 5, 5]


@pytest.mark.parametrize("fixed", [False, True])
def test_the_servers_own_delay_is_respected(fixed: bool, clock: FakeClock) -> None:
    """Never earlier than Retry-After says, even with a fixed interval; a shorter one changes nothing."""
    slow = RateLimitError("429", ErrorContext(retry_after_s=90))
    quick = RateLimitError("429", ErrorContext(retry_after_s=1))
    _watch(clock, slow, RUNNING, quick, DONE, policy=_policy(fixed=fixed))
    assert clock.slept == [90, 5, 5]


def test_the_servers_delay_does_not_outlast_the_deadline(clock: FakeClock) -> None:
    """The last look still comes at the deadline."""
    slow = RateLimitError("429", ErrorContext(retry_after_s=86_400))
    watched = _watch(clock, RUNNING, slow, DONE, policy=_policy(deadline_s=100))
    assert (watched.run, clock.now) == (DONE, 1100)


def test_a_servers_delay_of_a_day_is_not_followed(clock: FakeClock) -> None:
    """A quarter of an hour without a look is enough."""
    slow = RateLimitError("429", ErrorContext(retry_after_s=86_400))
    _watch(clock, RUNNING, slow, DONE)
    assert clock.slept == [5, RETRY_AFTER_MOST_S]


def test_every_look_is_shown_before_its_wait(clock: FakeClock) -> None:
    """Who watches sees each look with its time, its reason and the seconds to the next one."""
    error = ProviderUnavailableError("503")
    looks = list(observe(Script(RUNNING, error, DONE), POLICY, clock))
    assert looks == [Look(RUNNING, None, 0, 5), Look(None, error, 5, 5), Look(DONE, None, 10, 0)]


def test_success_is_required_by_name() -> None:
    """Only a completed run goes on; every other end is its own error with the run's id."""
    assert require_success(WatchedRun(run=DONE)).run == DONE
    for run, kind, text in (
        (make_run(RunStatus.FAILED, error_message="CUDA out of memory"), TrainingFailedError, "CUDA out of memory"),
        (make_run(RunStatus.FAILED), TrainingFailedError, "no reason given"),
        (make_run(RunStatus.CANCELLED), TrainingCancelledError, "cancelled at the provider"),
        (make_run(RunStatus.UNKNOWN, provider_status="paused"), TrainingTimedOutError, "last seen 'paused'"),
    ):
        with pytest.raises(kind, match=text) as caught:
            require_success(WatchedRun(run=run))
        assert caught.value.context.run_id == "r1"


def test_a_failed_look_that_ends_the_watching_is_shown_too(clock: FakeClock) -> None:
    """Counted like every other, and said to be the last one."""
    shown: list[Look[Any]] = []
    with pytest.raises(TrainingLostError):
        shown.extend(observe(Script(NotFoundError("404")), _policy(not_found_grace_s=-1), clock))
    looks = observe(Script(NotFoundError("404")), _policy(not_found_grace_s=-1), clock)
    last = next(looks)
    assert (last.seen, str(last.error), last.wait_s) == (None, "404", 0.0)


def test_no_message_sends_anyone_to_the_same_request_again(clock: FakeClock) -> None:
    """The same request without the operation would be a second training."""
    for policy in (_policy(deadline_s=30), _policy(max_blind_s=30), _policy(refusal_grace_s=0)):
        gave_up = _watch(clock, RUNNING, AuthenticationError("401"), policy=policy).gave_up or ""
        assert "come back to the operation" in gave_up
        assert "same request" not in gave_up
