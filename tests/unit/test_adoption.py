"""Coming back to a training that an earlier attempt may have started."""

from __future__ import annotations

import pytest

from pipeline.errors import ConfigurationError, NotFoundError, ProviderUnavailableError
from pipeline.models import RunStatus
from pipeline.start.adoption import check_fit, find_earlier, take_back, take_by_id
from tests.unit.conftest import FakeProvider, Script, make_plan, make_run


def test_an_earlier_run_is_taken_over() -> None:
    """It is marked as found, not started."""
    provider = FakeProvider(find_run=Script(make_run(pipeline="yolox")))
    found = find_earlier(provider, make_plan())  # type: ignore[arg-type]
    assert found is not None
    assert found.adopted


def test_no_earlier_run_is_no_error() -> None:
    """The operation then starts from the beginning."""
    assert find_earlier(FakeProvider(find_run=Script(None)), make_plan()) is None  # type: ignore[arg-type]


def test_a_look_up_that_fails_leaves_the_outcome_unknown() -> None:
    """A report must not say that nothing was spent when nobody could ask."""
    provider = FakeProvider(find_run=Script(ProviderUnavailableError("503")))
    with pytest.raises(ProviderUnavailableError, match="an earlier attempt may have created") as caught:
        find_earlier(provider, make_plan())  # type: ignore[arg-type]
    assert caught.value.context.outcome_unknown


def test_a_run_of_another_pipeline_is_not_read_as_this_one() -> None:
    """The operation's run keeps its pipeline; one that does not say which is believed."""
    with pytest.raises(ConfigurationError, match="already trains pipeline 'classification'") as caught:
        check_fit(make_plan(), make_run(pipeline="classification"))
    assert caught.value.context.field == "operation"
    check_fit(make_plan(), make_run(pipeline=None))
    check_fit(make_plan(), make_run(pipeline="yolox", gpu="h100"))


def test_a_run_started_by_hand_is_asked_what_it_trains() -> None:
    """The adapter knows what its vendor shows of a run; what it refuses is not taken over."""
    run, refusal = make_run(), ConfigurationError("another data set")
    provider = FakeProvider(get_run=Script(run), check_adopted=Script(None, refusal))
    assert take_by_id(provider, make_plan(), "r1") == run.model_copy(update={"adopted": True})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="another data set"):
        take_by_id(provider, make_plan(), "r1")  # type: ignore[arg-type]


def test_a_run_started_by_hand_that_is_not_there_is_named() -> None:
    """By the field that named it."""
    provider = FakeProvider(get_run=Script(NotFoundError("404")))
    with pytest.raises(ConfigurationError, match="adopt='r1' is no run of this account") as caught:
        take_by_id(provider, make_plan(), "r1")  # type: ignore[arg-type]
    assert caught.value.context.field == "adopt"


def test_a_run_on_another_data_set_is_not_read_as_this_one() -> None:
    """Nor is its model collected under the other's name; a run that does not say is believed."""
    plan, handle = make_plan(dataset="cats"), make_run().handle
    with pytest.raises(ConfigurationError, match=r"already trains on 'road-signs'.*not on 'cats'") as caught:
        check_fit(plan, make_run(handle=handle.model_copy(update={"dataset": "road-signs"})))
    assert caught.value.context.field == "operation"
    check_fit(plan, make_run(handle=handle.model_copy(update={"dataset": ""})))
    check_fit(plan, make_run(handle=handle.model_copy(update={"dataset": "cats"})))


class _Reopening:
    """An attempt's log that only counts how often it was opened again."""

    def __init__(self) -> None:
        self.opened = 0

    def reopened(self) -> None:
        self.opened += 1


@pytest.mark.parametrize(
    ("status", "opened"),
    [
        (RunStatus.RUNNING, 1),
        (RunStatus.COMPLETED, 1),
        (RunStatus.UNKNOWN, 1),
        (RunStatus.FAILED, 0),
        (RunStatus.CANCELLED, 0),
    ],
)
def test_the_providers_word_decides_over_an_attempt_that_was_given_up(status: RunStatus, opened: int) -> None:
    """It is opened again while something may come of its run; one that ended badly there stays as it is."""
    log, run = _Reopening(), make_run(status)
    plan = make_plan(dataset=run.handle.dataset)
    taken = take_back(FakeProvider(get_run=Script(run), check_adopted=Script(None)), plan, run.handle.run_id, log)  # type: ignore[arg-type]
    assert (taken, log.opened) == (run.model_copy(update={"adopted": True}), opened)


def test_a_run_that_is_gone_opens_nothing() -> None:
    """The provider denies it still: the request is refused, and the journal stays as it is."""
    log = _Reopening()
    with pytest.raises(ConfigurationError, match="no run of this account"):
        take_back(FakeProvider(get_run=Script(NotFoundError("404"))), make_plan(), "r7", log)  # type: ignore[arg-type]
    assert log.opened == 0
