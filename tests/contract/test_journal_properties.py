"""The journal beside a model of it in memory, through thousands of steps in any order: the two never differ."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.errors import BudgetExceededError
from pipeline.journal.budget import Caps, day_start_s, month_start_s
from pipeline.journal.records import RETRIABLE_OUTCOMES, OperationOutcome, OperationRecord, OperationState, Owner
from pipeline.journal.store import Journal
from pipeline.models import RunHandle, TrainPlan, Unit
from pipeline.provider_requests import PictographRequest
from pipeline.start.reattaching import choose_operation
from tests.intents import LEASE_S, NOON_S, handle_of, intent_of, plan_of

OPEN = {OperationState.INTENT, OperationState.UNKNOWN, OperationState.CREATED, OperationState.TERMINAL}
NAMES = st.sampled_from(["a", "b", "c", "d"])
SLOTS = st.integers(min_value=0, max_value=2)
"""Places of the processes: where one dies, another one begins."""
AMOUNTS = st.integers(min_value=0, max_value=20)
PASSING_S = st.sampled_from([0.5, 20.0, LEASE_S - 0.5, LEASE_S, 6 * 3600.0, 86_400.0, 20 * 86_400.0])


@dataclass
class Attempt:
    """What the model knows of one attempt."""

    plan: TrainPlan
    amount: int | None
    """What counts for it; none where nothing was reserved."""
    at_s: float
    owner: Owner | None
    until_s: float | None
    state: OperationState = OperationState.INTENT
    outcome: OperationOutcome | None = None
    handle: RunHandle | None = None
    settled: bool = False
    above: int = 0
    """What bills have added to what was reserved."""
    beliefs: dict[int, float] = field(default_factory=dict)
    """Until when each owner has been told that nobody else carries it out."""


class JournalMachine(RuleBasedStateMachine):
    """Two openings of one journal, three processes that may die, a clock that moves, and caps."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="journal-")
        self.now_s = NOON_S
        self.attempts: dict[str, Attempt] = {}
        self.dead: set[int] = set()
        self.living = [self.born(pid) for pid in range(3)]
        self.turn = 0
        self.caps = Caps()
        self.journals = [self.opened(), self.opened()]

    @staticmethod
    def born(pid: int) -> Owner:
        """Return a process of its own flow run."""
        return Owner(host="h", pid=pid, born=str(pid), flow_run_id=f"flow-{pid}")

    def opened(self) -> Journal:
        """Open the journal, with the machine's clock."""
        return Journal(str(Path(self.folder.name) / "journal.db"), now=lambda: self.now_s)

    @property
    def journal(self) -> Journal:
        """Return the two openings in turns."""
        self.turn += 1
        return self.journals[self.turn % 2]

    def teardown(self) -> None:
        """Look at what was closed once more, and leave nothing behind."""
        for key in self.attempts:
            self.compare(self.journals[0].find(key))
        for journal in self.journals:
            journal.close()
        self.folder.cleanup()

    def latest(self, name: str) -> Attempt | None:
        """Return the last attempt at an operation."""
        of_it = [attempt for attempt in self.attempts.values() if attempt.plan.operation.id == name]
        return max(of_it, key=lambda attempt: attempt.plan.operation.attempt, default=None)

    def counted(self, since_s: float) -> list[Attempt]:
        """Return the attempts whose money counts since a time."""
        priced = [one for one in self.attempts.values() if one.amount is not None]
        return [one for one in priced if one.at_s >= since_s or not one.settled]

    def spent(self, since_s: float) -> int:
        """Return what counts since a time."""
        return sum(one.amount or 0 for one in self.counted(since_s))

    def periods(self) -> list[tuple[float, int]]:
        """Return where each period began, and its cap."""
        starts = (day_start_s(self.now_s), month_start_s(self.now_s))
        return list(zip(starts, (self.caps.day_credits or 0, self.caps.month_credits or 0), strict=True))

    # -- steps ----------------------------------------------------------------------------------------------------

    @initialize(day=st.integers(min_value=1, max_value=60), month=st.integers(min_value=20, max_value=90))
    def set_caps(self, day: int, month: int) -> None:
        """Draw the caps, and begin something: many series of steps leave out the rule that would."""
        self.caps = Caps(day_credits=day, month_credits=month)
        for slot, name in enumerate(["a", "b", "c"]):
            self.begin(name, 0, slot)

    @rule(name=NAMES, amount=AMOUNTS, slot=SLOTS)
    def begin(self, name: str, amount: int, slot: int) -> None:
        """Ask for a training the way a flow run does, up to the point where its create would be sent."""
        who, last = self.living[slot], self.latest(name)
        request = PictographRequest(dataset="road-signs", operation=name)
        chosen = choose_operation(self.journal, request, who.flow_run_id, lambda _: True, again=False)
        rotated = last is not None and last.state is OperationState.CLOSED and last.outcome in RETRIABLE_OUTCOMES
        expected = 1 if last is None else last.plan.operation.attempt + rotated
        assert (chosen.id, chosen.attempt) == (name, expected)
        plan, until_s = plan_of(name, chosen.attempt), self.now_s + LEASE_S
        fits = all(self.spent(since_s) + amount <= cap for since_s, cap in self.periods())
        new = plan.operation_key not in self.attempts
        try:
            record, known = self.journal.intend(intent_of(plan, amount, owner=who, owner_until_s=until_s), self.caps)
        except BudgetExceededError:
            assert new
            assert not fits
            return
        assert known is not new
        assert record.key == plan.operation_key
        if new:
            assert fits
            self.attempts[record.key] = Attempt(plan, amount, self.now_s, who, until_s, beliefs={who.pid: until_s})

    @rule(name=NAMES, slot=SLOTS)
    def take_by_hand(self, name: str, slot: int) -> None:
        """Take over a run that was started elsewhere."""
        plan, until_s = plan_of("run-" + name), self.now_s + LEASE_S
        who, known = self.living[slot], self.attempts.get(plan.operation_key)
        intent = intent_of(plan, 5, owner=who, owner_until_s=until_s)
        self.journal.adopt(intent, handle_of(name))
        if known is None:
            made = Attempt(plan, None, self.now_s, who, until_s, OperationState.CREATED, handle=handle_of(name))
            made.beliefs[who.pid] = until_s
            self.attempts[plan.operation_key] = made

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), run=st.sampled_from(["r1", "r2"]))
    def reply(self, data: st.DataObject, run: str) -> None:
        """Get the create's answer."""
        if attempt := self.any_attempt(data):
            self.journal.created(attempt.plan.operation_key, handle_of(run))
            if attempt.state in {OperationState.INTENT, OperationState.UNKNOWN}:
                attempt.state, attempt.handle = OperationState.CREATED, handle_of(run)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def lose_the_reply(self, data: st.DataObject) -> None:
        """Never get it."""
        if attempt := self.any_attempt(data):
            self.journal.unknown(attempt.plan.operation_key, "lost")
            if attempt.state is OperationState.INTENT:
                attempt.state = OperationState.UNKNOWN

    @precondition(lambda self: self.attempts)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        """See the run completed."""
        if attempt := self.any_attempt(data):
            self.journal.terminal(attempt.plan.operation_key)
            if attempt.state is OperationState.CREATED:
                attempt.state = OperationState.TERMINAL

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), outcome=st.sampled_from(OperationOutcome))
    def close(self, data: st.DataObject, outcome: OperationOutcome) -> None:
        """End an attempt, one way or another."""
        judged = outcome not in RETRIABLE_OUTCOMES
        attempt = self.any_attempt(data)
        if attempt is None:
            return
        end = self.journal.judged if judged else self.journal.ended
        end(attempt.plan.operation_key, outcome, "over")
        if attempt.state in OPEN:
            attempt.state = OperationState.COLLECTED if judged else OperationState.CLOSED
            attempt.outcome, attempt.owner, attempt.until_s, attempt.settled = outcome, None, None, True
            if outcome is OperationOutcome.REFUSED and attempt.amount is not None:
                attempt.amount = 0

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), billed=st.integers(min_value=0, max_value=30))
    def bill(self, data: st.DataObject, billed: int) -> None:
        """Learn what it cost, which may be more than was said."""
        if attempt := self.any_attempt(data):
            self.journal.settle(attempt.plan.operation_key, billed)
            attempt.settled = True
            if attempt.amount is not None:
                attempt.above += max(0, billed - attempt.amount)
                attempt.amount = billed

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), slot=SLOTS)
    def claim(self, data: st.DataObject, slot: int) -> None:
        """Ask to carry it out."""
        attempt, until_s = self.any_attempt(data), self.now_s + LEASE_S
        who = self.living[slot]
        if attempt is None:
            return
        held = self.journal.claim(attempt.plan.operation_key, who, until_s, lambda owner: owner.pid in self.dead)
        free = attempt.owner in {None, who} or attempt.owner.pid in self.dead or attempt.until_s <= self.now_s  # type: ignore[union-attr,operator]
        assert (held.owner == who) is (free and attempt.state in OPEN)
        if held.owner == who:
            attempt.owner, attempt.until_s = who, until_s
            attempt.beliefs[who.pid] = until_s

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), slot=SLOTS)
    def renew(self, data: st.DataObject, slot: int) -> None:
        """Give a sign of life."""
        attempt, until_s = self.any_attempt(data), self.now_s + LEASE_S
        who = self.living[slot]
        if attempt is None:
            return
        renewed = self.journal.renew(attempt.plan.operation_key, who, until_s)
        assert renewed is (attempt.owner == who and attempt.state in OPEN)
        if renewed:
            attempt.until_s = attempt.beliefs[who.pid] = until_s
        else:
            attempt.beliefs.pop(who.pid, None)

    @precondition(lambda self: self.attempts)
    @rule(data=st.data(), slot=SLOTS)
    def let_go(self, data: st.DataObject, slot: int) -> None:
        """Stop carrying it out."""
        if attempt := self.any_attempt(data):
            who = self.living[slot]
            self.journal.release(attempt.plan.operation_key, who)
            attempt.beliefs.pop(who.pid, None)
            if attempt.owner == who:
                attempt.owner = attempt.until_s = None

    @rule(slot=SLOTS)
    def die(self, slot: int) -> None:
        """End without a word; another process begins."""
        self.dead.add(self.living[slot].pid)
        self.living[slot] = self.born(3 + len(self.dead))

    @rule(seconds=PASSING_S)
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds

    @rule()
    def reopen(self) -> None:
        """Go on in another process: nothing is kept in memory."""
        self.journals.pop().close()
        self.journals.append(self.opened())

    def any_attempt(self, data: st.DataObject) -> Attempt | None:
        """Draw one of the attempts there are, mostly one that is open."""
        if not self.attempts:
            return None
        live = sorted(key for key, attempt in self.attempts.items() if attempt.state in OPEN)
        among = live if live and data.draw(st.integers(0, 3), label="open") else sorted(self.attempts)
        return self.attempts[data.draw(st.sampled_from(among), label="attempt")]

    # -- what holds after every step ------------------------------------------------------------------------------

    @invariant()
    def no_more_is_spent_than_the_caps_allow(self) -> None:
        """Reservations never pass a cap; only bills above the price can, by as much as they are above."""
        for since_s, cap in self.periods():
            spent = self.journals[0].spent(Unit.CREDITS.value, sandbox=False, since_s=since_s)
            assert spent == self.spent(since_s)
            assert spent <= cap + sum(attempt.above for attempt in self.counted(since_s))

    @invariant()
    def nothing_that_was_sent_is_lost(self) -> None:
        """Every intent is there, once, and open until it was closed; a handle belongs to an intent."""
        expected = {key for key, attempt in self.attempts.items() if attempt.state in OPEN}
        records = self.journals[0].open_operations()
        assert sorted(record.key for record in records) == sorted(expected)
        for record in records:
            self.compare(record)

    def compare(self, record: OperationRecord | None) -> None:
        """Compare a row with the model."""
        assert record is not None
        attempt = self.attempts[record.key]
        assert (record.state, record.outcome, record.handle) == (attempt.state, attempt.outcome, attempt.handle)
        assert (record.owner, record.owner_until_s) == (attempt.owner, attempt.until_s)

    @invariant()
    def nobody_shares_an_attempt(self) -> None:
        """Of the processes that live, at most one has reason to believe that an attempt is its own."""
        for attempt in self.attempts.values():
            sure = [pid for pid, until_s in attempt.beliefs.items() if until_s > self.now_s and pid not in self.dead]
            assert len(sure) <= 1, sure


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(
    max_examples=50,
    phases=[Phase.generate],  # making a failure's steps fewer takes minutes: add Phase.shrink when there is one
    stateful_step_count=50,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
