"""Which operation a request is about: named, this flow run's own, an open one like it, or a new one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import (
    ConfigurationError,
    OperationBusyError,
    TrainingCancelledError,
    TrainingFailedError,
    TrainingLostError,
)
from pipeline.journal.records import OperationOutcome, OperationRecord
from pipeline.journal.store import Journal
from pipeline.local_requests import PhotogptRequest, ReplicateRequest
from pipeline.models import Operation
from pipeline.provider_requests import PictographRequest
from pipeline.requests import TrainRequest
from pipeline.start.reattaching import choose_operation
from tests.intents import ME, NOON_S, OTHER, handle_of, intent_of, plan_of

CLOSED = [OperationOutcome.FAILED, OperationOutcome.CANCELLED, OperationOutcome.REFUSED, OperationOutcome.LOST]
JUDGED = [OperationOutcome.ACCEPTED, OperationOutcome.REJECTED]


class Hands:
    """A clock that moves a second with every look."""

    def __init__(self) -> None:
        self.now_s = NOON_S

    def __call__(self) -> float:
        """Return the time, later than the last one."""
        self.now_s += 1
        return self.now_s


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """An empty journal."""
    return Journal(str(tmp_path / "journal.db"), now=Hands())


def request(**fields: Any) -> PictographRequest:
    """Return a request for the road signs."""
    return PictographRequest(**{"dataset": "road-signs", **fields})


def choose(
    journal: Journal,
    asked: TrainRequest | None = None,
    is_ours: Callable[[OperationRecord], bool] = lambda _: True,
    *,
    flow_run: str = "flow-9",
    again: bool = False,
) -> Operation:
    """Choose for a flow run."""
    return choose_operation(journal, asked or request(), flow_run, is_ours, again=again)


def begin(journal: Journal, operation: str, attempt: int = 1, **changes: Any) -> str:
    """Write an attempt down and return its key."""
    plan = plan_of(operation, attempt, **changes.pop("request", {}))
    return journal.intend(intent_of(plan, **changes))[0].key


def test_a_first_request_begins_an_operation_of_its_own(journal: Journal) -> None:
    """It is called after the flow run, and nothing of it can exist yet."""
    assert choose(journal) == Operation(id="flow-9")


def test_a_retry_nobody_wrote_down_comes_back_to_its_own(journal: Journal) -> None:
    """The flow run was carried out before, so its run is looked for."""
    assert choose(journal, again=True) == Operation(id="flow-9", again=True)


@pytest.mark.parametrize("policy", ["adopt", "new", "fail"])
def test_a_named_operation_is_that_one(journal: Journal, policy: str) -> None:
    """Open or not known, whatever else is open, and whatever is to be done about that."""
    begin(journal, "op-1")
    begin(journal, "flow-9", owner=ME.model_copy(update={"flow_run_id": "flow-9"}))
    asked = request(operation="op-1", on_open_run=policy)
    assert choose(journal, asked, again=True) == Operation(id="op-1", again=True)
    asked = request(operation="op-2", on_open_run=policy)
    assert choose(journal, asked) == Operation(id="op-2", again=True)


def test_a_named_operation_of_a_rehearsal_is_another_one(journal: Journal) -> None:
    """The same name on the other side was never begun: it does not count its attempts."""
    key = begin(journal, "op-1", request={"sandbox": True})
    journal.ended(key, OperationOutcome.FAILED, "failed")
    assert choose(journal, request(operation="op-1")).attempt == 1
    assert choose(journal, request(operation="op-1", sandbox=True)).attempt == 2


@pytest.mark.parametrize("outcome", CLOSED)
def test_an_attempt_without_a_model_is_followed_by_another(journal: Journal, outcome: OperationOutcome) -> None:
    """It counts up from the last one, and its run cannot exist yet."""
    for attempt in (1, 2):
        journal.ended(begin(journal, "op-1", attempt), outcome, "over")
        assert choose(journal, request(operation="op-1")) == Operation(id="op-1", attempt=attempt + 1)


@pytest.mark.parametrize("outcome", JUDGED)
def test_an_attempt_with_a_model_is_come_back_to(journal: Journal, outcome: OperationOutcome) -> None:
    """Good or bad, it is paid for: asked for by name it is collected again, not trained again."""
    begin(journal, "op-1", 1)
    journal.ended(plan_of("op-1").operation_key, OperationOutcome.FAILED, "failed")
    journal.judged(begin(journal, "op-1", 2), outcome, "judged")
    assert choose(journal, request(operation="op-1")) == Operation(id="op-1", attempt=2, again=True)


def test_a_retry_comes_back_to_what_its_flow_run_went_on_with(journal: Journal) -> None:
    """Also when that was somebody else's operation once, and another one like it is newer."""
    key = begin(journal, "op-1", owner=ME)
    journal.claim(key, OTHER, NOON_S + 900, lambda _: True)
    begin(journal, "newer", owner=ME)
    assert choose(journal, flow_run=OTHER.flow_run_id, again=True) == Operation(id="op-1", again=True)


def test_a_retry_whose_operation_was_carried_on_by_others_counts_from_there(journal: Journal) -> None:
    """Another flow run took it over and was refused: its attempt is not begun a second time under the same key."""
    key = begin(journal, "flow-9", owner=ME.model_copy(update={"flow_run_id": "flow-9"}))
    journal.claim(key, OTHER, NOON_S + 900, lambda _: True)
    journal.ended(key, OperationOutcome.REFUSED, "no such GPU")
    assert choose(journal, again=True) == Operation(id="flow-9", attempt=2)


def test_an_open_operation_like_it_is_gone_on_with(journal: Journal) -> None:
    """The newest whose run the account can reach; limits and waiting make no other training of it."""
    begin(journal, "older")
    begin(journal, "newer")
    begin(journal, "theirs", account="b" * 16)
    begin(journal, "other", request={"dataset": "cats"})
    begin(journal, "rehearsal", request={"sandbox": True})
    asked = request(budget_credits=7, wait="none")
    assert choose(journal, asked, lambda record: record.account == "a" * 16) == Operation(id="newer", again=True)


def test_what_is_closed_or_somebody_elses_is_no_reason_to_wait(journal: Journal) -> None:
    """Tomorrow's run of the same training is a new one; another account's cannot be watched."""
    journal.judged(begin(journal, "op-1"), OperationOutcome.ACCEPTED, "good")
    begin(journal, "theirs")
    asked: list[str] = []

    def is_ours(record: OperationRecord) -> bool:
        asked.append(record.operation_id)
        return False

    assert choose(journal, is_ours=is_ours) == Operation(id="flow-9")
    assert choose(journal, request(on_open_run="fail"), is_ours) == Operation(id="flow-9")
    assert asked == ["theirs", "theirs"]


def test_a_second_training_is_begun_on_request(journal: Journal) -> None:
    """With on_open_run=new; a retry of that flow run comes back to its own all the same."""
    begin(journal, "op-1")
    asked = request(on_open_run="new")
    assert choose(journal, asked) == Operation(id="flow-9")
    begin(journal, "flow-9", owner=ME.model_copy(update={"flow_run_id": "flow-9"}))
    assert choose(journal, asked, again=True) == Operation(id="flow-9", again=True)


def test_an_open_one_is_an_error_on_request(journal: Journal) -> None:
    """With on_open_run=fail: the error names it, how far it is, and both other ways."""
    begin(journal, "op-1")
    with pytest.raises(ConfigurationError) as caught:
        choose(journal, request(on_open_run="fail"))
    assert caught.value.context.field == "on_open_run"
    for word in ("'op-1'", plan_of("op-1").run_name, "intent", "nothing was started", "=adopt", "=new"):
        assert word in str(caught.value)


def test_a_retry_of_its_own_is_not_an_open_one_like_it(journal: Journal) -> None:
    """on_open_run=fail does not turn a flow run away from what it began itself."""
    begin(journal, "flow-9", owner=ME.model_copy(update={"flow_run_id": "flow-9"}))
    asked = request(on_open_run="fail")
    assert choose(journal, asked, again=True) == Operation(id="flow-9", again=True)


def test_a_run_started_by_hand_has_an_operation_of_its_own(journal: Journal) -> None:
    """Called after the run, so that whoever takes it over finds it; what is open beside it does not matter."""
    begin(journal, "op-1")
    assert choose(journal, request(adopt="r7")) == Operation(id="run-r7", again=True)
    journal.adopt(intent_of(plan_of("run-r7")), handle_of("r7"))
    assert choose(journal, request(adopt="r7")) == Operation(id="run-r7", again=True)


def test_a_run_that_is_known_keeps_its_operation(journal: Journal) -> None:
    """Taken over by its id although a flow run began it: there is one attempt a run, on each side."""
    key = begin(journal, "op-1")
    journal.created(key, handle_of("r7"))
    assert choose(journal, request(adopt="r7")) == Operation(id="op-1", again=True)
    assert choose(journal, request(adopt="r7", sandbox=True)) == Operation(id="run-r7", again=True)


@pytest.mark.parametrize("outcome", OperationOutcome)
def test_who_names_a_run_gets_that_one_and_no_other(journal: Journal, outcome: OperationOutcome) -> None:
    """However its attempt was closed, and whoever asks: what is to be taken over is never paid for again."""
    key = begin(journal, "op-1")
    journal.created(key, handle_of("r7"))
    judged = outcome in {*JUDGED, OperationOutcome.UNTRIED}
    (journal.judged if judged else journal.ended)(key, outcome, "over")
    assert choose(journal, request(adopt="r7")) == Operation(id="op-1", again=True)
    brought_back = choose_operation(
        journal, request(adopt="r7"), "flow-9", lambda _: True, again=True, may_follow=lambda _: False
    )
    assert brought_back == Operation(id="op-1", again=True)


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize("named", [{"operation": "op-1"}, {"adopt": "r7"}], ids=["operation", "adopt"])
@pytest.mark.parametrize(
    ("asked", "field"), [({"dataset": "cats"}, "dataset"), ({"pipeline": "classification"}, "pipeline")]
)
def test_an_operation_is_not_collected_under_another_name(
    journal: Journal, asked: dict[str, Any], field: str, named: dict[str, Any], closed: bool
) -> None:
    """What it was begun with is told, and what was asked for; limits and hyperparameters may differ."""
    key = begin(journal, "op-1")
    journal.created(key, handle_of("r7"))
    if closed:
        journal.ended(key, OperationOutcome.FAILED, "CUDA")
    with pytest.raises(ConfigurationError, match=f"operation 'op-1', which was begun with {field}=") as caught:
        choose(journal, request(**asked, **named))
    (name,) = named
    assert caught.value.context.field == name
    assert "nothing was started" in str(caught.value)
    assert choose(journal, request(config={"epochs": 9}, budget_credits=7, **named)).id == "op-1"


def test_an_operation_of_another_provider_is_not_counted_on(journal: Journal) -> None:
    """Its attempts are not this one's: one that is open here would be followed by a second that is paid for."""
    begin(journal, "op-1")
    asked = PhotogptRequest(dataset="road-signs", age=30, gender="Male", operation="op-1")
    with pytest.raises(ConfigurationError, match="begun with provider='pictograph', not with 'photogpt'"):
        choose(journal, asked)


def test_what_names_no_training_may_differ(journal: Journal) -> None:
    """Replicate's hardware decides a price that was asked for long ago."""
    asked = {"dataset": "signs.zip", "trainer": f"a/b:{'0' * 64}", "destination": "me/signs"}
    plan = plan_of("op-1").model_copy(update={"request": ReplicateRequest(**asked)})
    journal.intend(intent_of(plan))
    later = ReplicateRequest(**asked, hardware="gpu-a100-large", operation="op-1")
    assert choose(journal, later) == Operation(id="op-1", again=True)
    with pytest.raises(ConfigurationError, match="destination"):
        choose(journal, later.model_copy(update={"destination": "me/cats"}))


def test_a_signed_address_is_neither_wanted_again_nor_told(journal: Journal) -> None:
    """The command that comes back leaves it out, for commands are shown; a new attempt needs it, and shows none."""
    asked = {"dataset": "signs.zip", "trainer": f"a/b:{'0' * 64}", "destination": "me/signs"}
    begun = ReplicateRequest(**asked, inputs={"epochs": 3, "base": "https://store/x.pt?sig=SECRET"})
    plan = plan_of("op-1").model_copy(update={"request": begun})
    journal.intend(intent_of(plan))
    back = ReplicateRequest(**asked, inputs={"epochs": 3}, operation="op-1")
    assert choose(journal, back) == Operation(id="op-1", again=True)
    for refused in (back.model_copy(update={"inputs": {"epochs": 4}}), back):
        with pytest.raises(ConfigurationError, match="inputs") as caught:
            choose(journal, refused)
        assert "SECRET" not in str(caught.value)
        journal.ended(plan.operation_key, OperationOutcome.FAILED, "over")


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (OperationOutcome.FAILED, TrainingFailedError),
        (OperationOutcome.REFUSED, TrainingFailedError),
        (OperationOutcome.CANCELLED, TrainingCancelledError),
        (OperationOutcome.LOST, TrainingLostError),
    ],
)
def test_who_was_merely_brought_back_pays_for_nothing_new(
    journal: Journal, outcome: OperationOutcome, error: type[Exception]
) -> None:
    """After a crash or a deferral an attempt that is over stays over, and the flow run ends as it did."""
    mine = ME.model_copy(update={"flow_run_id": "flow-9"})
    journal.ended(begin(journal, "flow-9", owner=mine), outcome, "over there")
    with pytest.raises(error, match="over there"):
        choose_operation(journal, request(), "flow-9", lambda _: True, again=True, may_follow=lambda _: False)


def test_a_sweep_asks_for_one_attempt_and_no_later_one(journal: Journal) -> None:
    """Between the sweep's look and the flow run it started the attempt may have ended, or been followed."""
    key = begin(journal, "op-1")
    asked = request(operation="op-1", attempt=1)
    assert choose(journal, asked) == Operation(id="op-1", again=True)
    journal.ended(key, OperationOutcome.FAILED, "CUDA")
    with pytest.raises(TrainingFailedError, match="attempt 1 of operation 'op-1' is over"):
        choose(journal, asked)
    begin(journal, "op-1", 2)
    with pytest.raises(OperationBusyError, match="attempt 2 was begun since"):
        choose(journal, asked)


@pytest.mark.parametrize("again", [False, True], ids=["named", "own"])
def test_another_accounts_run_is_not_judged(journal: Journal, again: bool) -> None:
    """With the wrong key it would look as if it did not exist, and a second one would be paid for."""
    begin(journal, "flow-9", owner=ME.model_copy(update={"flow_run_id": "flow-9"}))
    asked = request() if again else request(operation="flow-9")
    with pytest.raises(ConfigurationError, match="another account") as caught:
        choose(journal, asked, lambda _: False, again=again)
    assert caught.value.context.field == "credentials"
