"""The journal keeps its word, on SQLite and on PostgreSQL: attempts and owners."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.errors import JournalError
from pipeline.journal.budget import Caps
from pipeline.journal.records import (
    RETRIABLE_OUTCOMES,
    ExportContent,
    OperationOutcome,
    OperationRecord,
    OperationState,
    Owner,
)
from pipeline.journal.store import Journal
from pipeline.models import Operation, Unit
from pipeline.start.planning import fingerprint_request, operation_key
from tests.contract.conftest import Hands
from tests.intents import LEASE_S, ME, NOON_S, OTHER, handle_of, intent_of, plan_of, price_of

KEY = plan_of().operation_key
DAY_S = 86_400.0
CLOSED = {OperationState.COLLECTED, OperationState.CLOSED}

MOVES: dict[str, Callable[[Journal, str], None]] = {
    "created": lambda journal, key: journal.created(key, handle_of()),
    "unknown": lambda journal, key: journal.unknown(key, "lost"),
    "terminal": lambda journal, key: journal.terminal(key),
    "judged": lambda journal, key: journal.judged(key, OperationOutcome.ACCEPTED, "good"),
    "ended": lambda journal, key: journal.ended(key, OperationOutcome.FAILED, "failed"),
}
WAYS: dict[OperationState, tuple[str, ...]] = {
    OperationState.INTENT: (),
    OperationState.UNKNOWN: ("unknown",),
    OperationState.CREATED: ("created",),
    OperationState.TERMINAL: ("created", "terminal"),
    OperationState.COLLECTED: ("created", "terminal", "judged"),
    OperationState.CLOSED: ("created", "ended"),
}
"""How each state is reached."""
ALLOWED: dict[str, dict[OperationState, OperationState]] = {
    "created": dict.fromkeys([OperationState.INTENT, OperationState.UNKNOWN], OperationState.CREATED),
    "unknown": {OperationState.INTENT: OperationState.UNKNOWN},
    "terminal": {OperationState.CREATED: OperationState.TERMINAL},
    "judged": dict.fromkeys(set(OperationState) - CLOSED, OperationState.COLLECTED),
    "ended": dict.fromkeys(set(OperationState) - CLOSED, OperationState.CLOSED),
}


def found(journal: Journal, key: str = KEY) -> OperationRecord:
    """Return an attempt that must be there."""
    record = journal.find(key)
    assert record is not None
    return record


def spent(journal: Journal, since_s: float = 0.0, unit: Unit = Unit.CREDITS, *, sandbox: bool = False) -> int:
    """Return what counts since a time."""
    return journal.spent(unit.value, sandbox=sandbox, since_s=since_s)


# -- one attempt ------------------------------------------------------------------------------------------------------


def test_an_intent_is_there_for_everybody_before_anything_is_sent(
    journal: Journal, open_journal: Callable[[], Journal]
) -> None:
    """Whoever opens the same place reads it, whole: what is to be sent, for whom, at what price."""
    content = ExportContent(images=6, objects={"stop": 12})
    intent = intent_of(plan_of(dataset="schön"), 25, content=content, content_fingerprint="f" * 64)
    record, known = journal.intend(intent)
    assert (record.state, record.attempt, known) == (OperationState.INTENT, 1, False)
    assert open_journal().find(KEY) == record
    assert record.request == intent.plan.request
    assert (record.body, record.content, record.content_fingerprint) == (intent.body, content, "f" * 64)
    assert (record.price, record.owner, record.owner_until_s) == (price_of(25).total, ME, NOON_S + LEASE_S)
    assert (record.created_at_s, record.deadline_at_s) == (NOON_S, NOON_S + 7200)
    assert record.fingerprint == fingerprint_request(intent.plan.request)


def test_the_body_is_frozen_by_the_first_sending(journal: Journal) -> None:
    """Who intends the same attempt again gets what was written down first, and reserves nothing."""
    first, _ = journal.intend(intent_of(plan_of(), 10, body={"epochs": 3}))
    second, known = journal.intend(intent_of(plan_of(), 99, body={"epochs": 4}, owner=OTHER))
    assert (second, known) == (first, True)
    assert spent(journal) == 10


def test_the_handle_is_written_after_the_reply(journal: Journal) -> None:
    """From then on the attempt is found by its run."""
    journal.intend(intent_of(plan_of()))
    assert journal.of_run("pictograph", "r1") is None
    journal.created(KEY, handle_of())
    record = journal.of_run("pictograph", "r1")
    assert record == found(journal)
    assert (record.handle, record.run_id, record.state) == (handle_of(), "r1", OperationState.CREATED)


@pytest.mark.parametrize("state", WAYS)
def test_every_move_does_what_it_may_and_nothing_else(journal: Journal, state: OperationState) -> None:
    """A move that is allowed leads where it should; one that is not changes no field of the row."""
    for number, (name, move) in enumerate(MOVES.items()):
        key = plan_of(f"op-{number}").operation_key
        journal.intend(intent_of(plan_of(f"op-{number}")))
        for step in WAYS[state]:
            MOVES[step](journal, key)
        before = found(journal, key)
        assert before.state is state
        move(journal, key)
        after = found(journal, key)
        assert after.state is ALLOWED[name].get(state, state), name
        assert (after == before) is (state not in ALLOWED[name]), name


def test_a_handle_that_turns_up_ends_the_doubt(journal: Journal) -> None:
    """The reason for the doubt goes with it."""
    journal.intend(intent_of(plan_of()))
    journal.unknown(KEY, "the answer was lost")
    assert found(journal).reason == "the answer was lost"
    journal.created(KEY, handle_of())
    assert found(journal).reason is None


@pytest.mark.parametrize("outcome", OperationOutcome)
def test_a_closed_attempt_is_not_opened_by_whoever_goes_on_with_it(
    journal: Journal, outcome: OperationOutcome, hands: Hands
) -> None:
    """It takes no owner, no renewal and no other end, and says when and why it ended."""
    journal.intend(intent_of(plan_of()))
    hands.now_s += 5
    journal.ended(KEY, outcome, "over")
    closed = found(journal)
    assert (closed.outcome, closed.reason, closed.ended_at_s, closed.owner) == (outcome, "over", NOON_S + 5, None)
    journal.judged(KEY, OperationOutcome.ACCEPTED, "good after all")
    assert journal.claim(KEY, OTHER, NOON_S + 500, lambda _: True) == closed
    assert not journal.renew(KEY, ME, NOON_S + 500)
    assert journal.intend(intent_of(plan_of())) == (closed, True)
    assert found(journal) == closed
    assert journal.open_operations() == ()
    assert closed.can_try_again is (outcome in RETRIABLE_OUTCOMES)


@pytest.mark.parametrize("outcome", sorted(RETRIABLE_OUTCOMES))
def test_an_attempt_whose_run_goes_on_is_opened_again(
    journal: Journal, outcome: OperationOutcome, hands: Hands
) -> None:
    """As if it had never been closed, for the process that takes it: with its price held again, and once only."""
    journal.intend(intent_of(plan_of()))
    journal.created(KEY, handle_of())
    journal.cancel_asked(KEY)
    journal.denied(KEY)
    journal.settle(KEY, 3)
    journal.ended(KEY, outcome, "over")
    hands.now_s += 40 * 86_400
    asked = plan_of(budget_credits=7)
    opened = journal.reopen(intent_of(asked, owner=OTHER, owner_until_s=hands.now_s + LEASE_S))
    assert (opened.state, opened.handle, opened.owner) == (OperationState.CREATED, handle_of(), OTHER)
    assert (opened.flow_run_id, opened.request) == (OTHER.flow_run_id, asked.request)
    assert opened.deadline_at_s == hands.now_s + asked.poll.deadline_s
    unsaid = (opened.outcome, opened.reason, opened.ended_at_s, opened.billed)
    assert (*unsaid, opened.missing_since_s, opened.cancel_asked_at_s) == (None,) * 6
    assert journal.spent("credits", sandbox=False, since_s=hands.now_s) == 10
    assert journal.reopen(intent_of(plan_of())) == opened


@pytest.mark.parametrize("close", ["judged", "without a run"])
def test_what_has_a_model_or_never_had_a_run_stays_closed(journal: Journal, close: str) -> None:
    """There is nothing to go on with."""
    journal.intend(intent_of(plan_of()))
    if close == "judged":
        journal.created(KEY, handle_of())
        journal.judged(KEY, OperationOutcome.REJECTED, "sees nothing")
    else:
        journal.ended(KEY, OperationOutcome.REFUSED, "no such GPU")
    closed = found(journal)
    assert journal.reopen(intent_of(plan_of(), owner=OTHER)) == closed


def test_a_denial_counts_from_the_first_one_until_the_run_is_shown(journal: Journal, hands: Hands) -> None:
    """A look that fails changes nothing; one that shows the run begins anew, as a handle that turns up does."""
    journal.intend(intent_of(plan_of()))
    assert journal.denied(KEY) == 0.0
    hands.now_s += 50
    assert journal.denied(KEY) == 50.0
    journal.created(KEY, handle_of())
    assert journal.denied(KEY) == 0.0
    hands.now_s += 50
    assert journal.looked(KEY, handle_of(), shown=False)
    assert journal.denied(KEY) == 50.0
    assert journal.looked(KEY, handle_of(), shown=True)
    assert found(journal).missing_since_s is None
    journal.ended(KEY, OperationOutcome.FAILED, "over")
    assert journal.denied(KEY) == 0.0
    assert found(journal).missing_since_s is None


def test_a_look_brings_the_handle_that_could_not_be_written(journal: Journal) -> None:
    """Whether or not it showed the run; of an attempt nobody wrote down, or without a run, nothing is known."""
    assert not journal.looked(KEY, handle_of(), shown=True)
    journal.intend(intent_of(plan_of()))
    assert journal.looked(KEY, handle_of(), shown=False)
    assert (found(journal).state, found(journal).handle) == (OperationState.CREATED, handle_of())
    assert journal.looked(KEY, handle_of("r2"), shown=True)
    assert found(journal).handle == handle_of()
    other = plan_of("op-2")
    journal.intend(intent_of(other))
    journal.ended(other.operation_key, OperationOutcome.REFUSED, "no such GPU")
    assert not journal.looked(other.operation_key, handle_of("r2"), shown=True)


def test_attempts_count_up_and_the_highest_is_the_last(journal: Journal, hands: Hands) -> None:
    """Each is a row of its own under a key of its own; a clock that was put back does not hide the newest."""
    for attempt in (1, 2, 3):
        plan = plan_of(attempt=attempt)
        journal.intend(intent_of(plan))
        journal.ended(plan.operation_key, OperationOutcome.FAILED, "failed")
        hands.now_s -= 3600
    last = journal.latest("op-1", sandbox=False)
    assert last is not None
    assert last.attempt == 3
    keys = {operation_key("pictograph", Operation(id="op-1", attempt=n), sandbox=False) for n in (1, 2, 3)}
    assert all(found(journal, key).state is OperationState.CLOSED for key in keys)
    assert len(keys) == 3
    assert journal.latest("op-1", sandbox=True) is None
    assert journal.latest("op-2", sandbox=False) is None


def test_a_run_that_was_started_by_hand_is_written_down_and_not_paid_again(journal: Journal) -> None:
    """Whoever takes it over finds the first one's row; nothing is reserved for it."""
    plan = plan_of("run-" + "r" * 200)
    adopted = journal.adopt(intent_of(plan), handle_of("r" * 200))
    assert (adopted.state, adopted.run_id) == (OperationState.CREATED, "r" * 200)
    assert journal.adopt(intent_of(plan, owner=OTHER), handle_of("another")) == adopted
    assert spent(journal) == 0


def test_the_same_training_is_found_while_it_is_open(journal: Journal, hands: Hands) -> None:
    """By what is trained, the newest first; afterwards the accepted one is found."""
    for number in (1, 2, 3):
        hands.now_s += 1
        journal.intend(intent_of(plan_of(f"op-{number}")))
    journal.intend(intent_of(plan_of("else", dataset="cats")))
    alike = plan_of().fingerprint
    assert [record.operation_id for record in journal.open_like(alike)] == ["op-3", "op-2", "op-1"]
    assert len(journal.open_operations()) == 4
    journal.judged(plan_of("op-2").operation_key, OperationOutcome.ACCEPTED, "good")
    journal.judged(plan_of("op-3").operation_key, OperationOutcome.REJECTED, "bad")
    assert [record.operation_id for record in journal.open_like(alike)] == ["op-1"]
    accepted = journal.last_accepted(plan_of().job, sandbox=plan_of().profile.sandbox)
    assert accepted is not None
    assert accepted.operation_id == "op-2"


def test_a_wish_to_cancel_is_noted_once(journal: Journal, hands: Hands) -> None:
    """The first time counts, whoever asks again; the confirmation is a time of its own."""
    journal.intend(intent_of(plan_of()))
    journal.cancel_asked(KEY)
    hands.now_s += 10
    journal.cancel_asked(KEY)
    journal.cancel_confirmed(KEY)
    record = found(journal)
    assert (record.cancel_asked_at_s, record.cancel_confirmed_at_s) == (NOON_S, NOON_S + 10)


def test_words_of_vendors_can_be_written_down(journal: Journal) -> None:
    """Zero bytes and halves of characters, which databases refuse, do not keep an attempt from being closed."""
    journal.intend(intent_of(plan_of(), body={"note": "a\x00b"}))
    journal.ended(KEY, OperationOutcome.FAILED, "CUDA\x00error \ud800 schön")
    assert found(journal).reason == "CUDAerror ? schön"
    assert found(journal).body == {"note": "a\x00b"}


def test_a_key_that_is_not_there_is_named(journal: Journal) -> None:
    """An attempt that was deleted is no reason to begin it silently once more."""
    for act in (
        lambda: journal.claim("f" * 32, ME, NOON_S, lambda _: True),
        lambda: journal.ended("f" * 32, OperationOutcome.LOST, "?"),
    ):
        with pytest.raises(JournalError, match="no operation with key 'f"):
            act()


# -- owners -----------------------------------------------------------------------------------------------------------


def claim(journal: Journal, owner: Owner, until_s: float, *, gone: bool = False) -> bool:
    """Ask for the attempt and tell whether it was given."""
    record = journal.claim(KEY, owner, until_s, lambda _: gone)
    assert found(journal) == record
    return record.owner == owner


def test_an_attempt_has_one_owner_until_its_word_runs_out(journal: Journal, hands: Hands) -> None:
    """Another one gets it when the lease has lapsed, to the second, and then the first one cannot renew."""
    journal.intend(intent_of(plan_of()))
    hands.now_s = NOON_S + LEASE_S - 0.5
    assert not claim(journal, OTHER, NOON_S + 500)
    assert journal.renew(KEY, ME, NOON_S + 2 * LEASE_S)
    hands.now_s = NOON_S + 2 * LEASE_S - 0.5
    assert not claim(journal, OTHER, NOON_S + 500)
    hands.now_s = NOON_S + 2 * LEASE_S
    assert claim(journal, OTHER, NOON_S + 500)
    assert not journal.renew(KEY, ME, NOON_S + 900)
    assert found(journal).owner_until_s == NOON_S + 500
    assert found(journal).flow_run_id == "flow-2"


def test_an_owner_that_is_gone_is_followed_at_once(journal: Journal) -> None:
    """The lease of a process known to have ended protects nobody."""
    journal.intend(intent_of(plan_of()))
    assert not claim(journal, OTHER, NOON_S + 500)
    assert claim(journal, OTHER, NOON_S + 500, gone=True)
    record = journal.of_flow_run("flow-2")
    assert record == found(journal)
    assert journal.of_flow_run("flow-1") is None


def test_whoever_lets_go_is_followed_at_once(journal: Journal) -> None:
    """Only the owner can let go; the one who has it may ask again at any time."""
    journal.intend(intent_of(plan_of()))
    assert claim(journal, ME, NOON_S + 300)
    assert found(journal).owner_until_s == NOON_S + 300
    journal.release(KEY, OTHER)
    assert found(journal).owner == ME
    journal.release(KEY, ME)
    assert found(journal).owner is None
    assert claim(journal, OTHER, NOON_S + 500)


def test_an_attempt_nobody_wrote_down_is_not_renewed(journal: Journal) -> None:
    """Signs of life begin before the row exists; letting go of it is no fault either."""
    assert not journal.renew(KEY, ME, NOON_S + 500)
    journal.release(KEY, ME)
    assert journal.find(KEY) is None


def test_whoever_goes_on_with_an_operation_wants_it(journal: Journal) -> None:
    """A wish to cancel belongs to the flow run it was about: another one that takes over later wants the training."""
    journal.intend(intent_of(plan_of()))
    journal.cancel_asked(KEY)
    journal.release(KEY, ME)
    assert journal.claim(KEY, ME, NOON_S + 60, lambda _: True).cancel_asked_at_s is not None
    journal.release(KEY, ME)
    assert journal.claim(KEY, OTHER, NOON_S + 60, lambda _: True).cancel_asked_at_s is None


def test_whoever_goes_on_with_it_brings_limits_of_their_own(journal: Journal) -> None:
    """The sweep judges by the cap of the later request, and cancels with its credentials."""
    journal.intend(intent_of(plan_of()))
    journal.release(KEY, ME)
    asked = plan_of().request.model_copy(update={"budget_usd": 20.0, "credentials": "newer"})
    held = journal.claim(KEY, OTHER, NOON_S + 60, lambda _: True, asked)
    assert (held.request.budget_usd, held.request.credentials) == (20.0, "newer")


# -- notes and deliveries ---------------------------------------------------------------------------------------------


def test_notes_are_kept_before_there_is_an_attempt(journal: Journal) -> None:
    """An adapter's uploads are remembered although nothing was intended yet; the last word counts."""
    intent = intent_of(plan_of())
    assert journal.notes(KEY) == {}
    journal.note(intent, {"file": "f-1"})
    journal.note(intent, {"file": "f-1", "model": "m-1"})
    assert journal.notes(KEY) == {"file": "f-1", "model": "m-1"}
    assert journal.notes("another") == {}


def test_what_a_dead_process_prepared_goes_to_one_who_asks(journal: Journal) -> None:
    """The same training of the same account, once, and not while whoever prepares it may live."""
    intent = intent_of(plan_of())
    journal.note(intent, {"file": "f-1"})
    wanted = (intent.plan.fingerprint, intent.account)
    assert journal.take_preparation(*wanted, OTHER, lambda _: False) is None
    assert journal.take_preparation("f" * 64, intent.account, OTHER, lambda _: True) is None
    assert journal.take_preparation(intent.plan.fingerprint, "elsewhere", OTHER, lambda _: True) is None
    assert journal.take_preparation(*wanted, OTHER, lambda owner: owner == intent.owner) == ("op-1", 1)
    assert journal.take_preparation(*wanted, ME, lambda owner: owner == intent.owner) is None


def test_what_was_begun_is_no_preparation_any_more(journal: Journal) -> None:
    """An attempt that is open is found as such; one that is over has nothing left to go on with."""
    intent = intent_of(plan_of())
    journal.note(intent, {"file": "f-1"})
    journal.intend(intent)
    assert journal.take_preparation(intent.plan.fingerprint, intent.account, OTHER, lambda _: True) is None
    journal.ended(KEY, OperationOutcome.REFUSED, "no")
    assert journal.notes(KEY) == {}


def test_a_delivery_is_taken_in_once(journal: Journal) -> None:
    """The same one again says nothing new; another one about the same run does."""
    assert journal.deliver("replicate", "msg-1", "r1")
    assert not journal.deliver("replicate", "msg-1", "r1")
    assert journal.deliver("replicate", "msg-2", "r1")
    assert journal.deliver("replicate", "msg-3", "r2")
    assert journal.deliveries_about("replicate", "r1") == 2
    assert journal.deliveries_about("elsewhere", "r1") == 0


def test_an_intent_that_was_not_sent_is_forgotten_with_its_money(journal: Journal) -> None:
    """One that has a run is not."""
    journal.intend(intent_of(plan_of()), Caps(day_credits=10))
    journal.withdraw(KEY)
    assert journal.find(KEY) is None
    assert spent(journal) == 0
    _, known = journal.intend(intent_of(plan_of()), Caps(day_credits=10))
    assert not known
    journal.created(KEY, handle_of())
    journal.withdraw(KEY)
    assert found(journal).run_id == "r1"
