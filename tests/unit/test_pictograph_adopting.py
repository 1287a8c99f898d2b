"""Taking over a Pictograph run that was started by hand: it must train the data set that is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import ConfigurationError
from pipeline.start.adoption import take_by_id
from tests.unit.scripted_pictograph import HANDLE, Api, api, ok, plan, run_row

RUN = f"/training/{HANDLE.run_id}"


def _server(**shown: Any) -> Api:
    return api({
        "GET /datasets/": ok({"data": []}),
        "GET /datasets/road-signs": ok({"data": {"id": "d1", "name": "road-signs"}}),
        f"GET {RUN}": ok({"data": run_row(**shown)}),
    })  # fmt: skip


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"dataset_id": None, "dataset_name": ""},
        {"dataset_name": "road-signs"},
        {"dataset_id": "d1"},
        {"dataset_id": "d1", "dataset_name": "road-signs"},
        {"dataset_id": "d1", "dataset_name": "renamed since"},
    ],
)
def test_a_run_of_the_same_data_set_is_taken_over(shown: dict[str, Any]) -> None:
    """By name, by the id that belongs to the name; one that shows neither is believed."""
    run = take_by_id(_server(**shown).provider, plan(), HANDLE.run_id)
    assert (run.adopted, run.handle.dataset) == (True, "road-signs")


@pytest.mark.parametrize(
    ("shown", "named"),
    [
        ({"dataset_id": "d2"}, "d2"),
        ({"dataset_name": "birds"}, "birds"),
        ({"dataset_id": "d2", "dataset_name": "b"}, "b"),
    ],
)
def test_a_run_of_another_data_set_is_refused(shown: dict[str, Any], named: str) -> None:
    """Its model would be judged by pictures that it was not made for."""
    with pytest.raises(ConfigurationError) as caught:
        take_by_id(_server(**shown).provider, plan(), HANDLE.run_id)
    assert caught.value.message == (
        f"adopt={HANDLE.run_id!r} trains on data set {named!r}, not 'road-signs'; give that one as dataset"
    )
    assert caught.value.context.field == "dataset"


def test_a_data_set_that_is_gone_is_still_told_by_what_the_run_shows() -> None:
    """Asked for by the id, its run is taken over; asked for by a name nobody knows, it is not."""
    gone = api({f"GET {RUN}": ok({"data": run_row(dataset_id="road-signs")})})
    assert take_by_id(gone.provider, plan(), HANDLE.run_id).adopted
    gone = api({"GET /datasets/": ok({"data": []}), f"GET {RUN}": ok({"data": run_row(dataset_id="d1")})})
    with pytest.raises(ConfigurationError, match="'d1', not 'road-signs'"):
        take_by_id(gone.provider, plan(), HANDLE.run_id)
