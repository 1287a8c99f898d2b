"""Looking at many Pictograph runs, and ending them."""

from __future__ import annotations

import httpx
import pytest

from pipeline.errors import (
    InvalidRequestError,
)
from pipeline.models import (
    RunHandle,
    RunStatus,
)
from providers.pictograph.session import PAGE_SIZE
from tests.unit.scripted_pictograph import (
    HANDLE,
    api,
    ok,
    paged,
    refused,
    run_row,
)


def handles(count: int) -> tuple[RunHandle, ...]:
    """Return handles of many runs."""
    return tuple(HANDLE.model_copy(update={"run_id": f"r{number}"}) for number in range(count))


def test_many_runs_are_looked_at_with_one_request() -> None:
    """Runs that a page shows cost one request together; handles stay the ones that were asked with."""
    rows = [run_row(id=f"r{number}") for number in range(60)]
    server = api({"GET /training/": paged(rows, PAGE_SIZE, "v2")})
    runs = server.provider.get_runs(handles(50))
    assert tuple(run.handle for run in runs) == handles(50)
    assert len(server.asked) == 1


def test_runs_that_are_gone_are_left_out() -> None:
    """A run the list does not show is looked at by itself, and left out when that says 404."""
    server = api(
        {"GET /training/": paged([run_row(id="r0")], 100, "v2"), "GET /training/r2": ok({"data": run_row(id="r2")})}
    )
    assert [run.handle.run_id for run in server.provider.get_runs(handles(3))] == ["r0", "r2"]


def test_one_run_costs_one_look() -> None:
    """No list is read for a single run, and none for no run."""
    server = api({"GET /training/r0": ok({"data": run_row(id="r0")})})
    assert len(server.provider.get_runs(handles(1))) == 1
    assert server.provider.get_runs(()) == ()
    assert server.lines() == ["GET /training/r0"]


CANCEL = f"POST /training/{HANDLE.run_id}/cancel"


def test_cancel_returns_the_cancelled_run() -> None:
    """The cancel carries an idempotency key and no body."""
    server = api({CANCEL: ok({"data": run_row(status="cancelled")})})
    assert server.provider.cancel_run(HANDLE).status is RunStatus.CANCELLED
    assert server.asked[0].content == b""
    assert len(server.asked[0].headers["Idempotency-Key"]) == 32


@pytest.mark.parametrize("status", [400, 409])
def test_cancelling_an_ended_run_returns_it(status: int) -> None:
    """The refusal to cancel a terminal run is answered with the run as it is."""
    server = api({CANCEL: refused(status), f"GET /training/{HANDLE.run_id}": ok({"data": run_row(status="failed")})})
    assert server.provider.cancel_run(HANDLE).status is RunStatus.FAILED


def test_a_cancel_refused_for_a_live_run_is_an_error() -> None:
    """A run that goes on is never reported as cancelled."""
    server = api({CANCEL: refused(400), f"GET /training/{HANDLE.run_id}": ok({"data": run_row()})})
    with pytest.raises(InvalidRequestError):
        server.provider.cancel_run(HANDLE)


def test_a_cancel_without_a_body_is_looked_up() -> None:
    """An empty answer is followed by one look."""
    server = api({CANCEL: httpx.Response(204), f"GET /training/{HANDLE.run_id}": ok({"data": run_row()})})
    assert server.provider.cancel_run(HANDLE).status is RunStatus.RUNNING


def test_bulk_cancel_in_both_eras() -> None:
    """Today's server is asked once; an older one run by run, with the same result."""
    modern = api({"POST /training/bulk-cancel": ok({"data": {"succeeded": ["a"], "not_found": ["b"], "count": 1}})})
    older = api({
        "POST /training/bulk-cancel": refused(405),
        "POST /training/a/cancel": ok({"training_run": run_row(id="a", status="cancelled")}),
        "POST /training/b/cancel": refused(400),
    })  # fmt: skip
    results = [server.provider.training.bulk_cancel(("a", "b")) for server in (modern, older)]
    assert [(result.succeeded, result.not_found) for result in results] == [(("a",), ("b",))] * 2
    assert modern.bodies("POST /training/bulk-cancel") == [{"run_ids": ["a", "b"]}]
