"""Training runs through the Pictograph adapter: created once, found again, read whatever words they use."""

from __future__ import annotations

import httpx
import pytest

from pipeline.errors import (
    InsufficientCreditsError,
    ProviderError,
    UnexpectedResponseError,
)
from pipeline.models import (
    RunStatus,
)
from providers.pictograph.wire import RunWire
from tests.notes import MemoryNotes
from tests.unit.scripted_pictograph import (
    HANDLE,
    ORDER,
    Answer,
    api,
    ok,
    paged,
    plan,
    refused,
    run_row,
)


def test_create_sends_every_key_and_the_operations_key() -> None:
    """Body and header are fixed by the plan; every key is present even when empty; the reply's status is kept."""
    server = api({"POST /training/": ok({"data": run_row(status="queued")}, 201)})
    run = server.provider.create_run(plan(), ORDER, MemoryNotes())
    assert (run.status, run.handle.run_id, run.handle.dataset) == (RunStatus.QUEUED, HANDLE.run_id, "road-signs")
    assert server.bodies("POST /training/") == [
        {"dataset_name": "road-signs", "export_name": "ex 1", "pipeline_type": "yolox", "name": plan().run_name,
         "gpu_type": "a10g", "config": {}}
    ]  # fmt: skip
    assert server.asked[0].headers["Idempotency-Key"] == plan().operation_key


def test_every_attempt_to_create_is_the_same_request() -> None:
    """While it is sure that nothing arrived, the very same bytes and key are sent again."""
    server = api({"POST /training/": [httpx.ConnectError("x"), refused(429), ok({"data": run_row()})]})
    server.provider.create_run(plan(), ORDER, MemoryNotes())
    assert len({(request.content, request.headers["Idempotency-Key"]) for request in server.asked}) == 1
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "lost", [httpx.ReadError("x"), httpx.ReadTimeout("x"), refused(500), refused(503), refused(408)]
)
def test_a_create_is_not_repeated_in_doubt(lost: Answer) -> None:
    """Nobody knows what the vendor makes of a key it has seen, so the caller looks before anything is sent again."""
    server = api({"POST /training/": [lost, ok({"data": run_row()})]})
    with pytest.raises(ProviderError):
        server.provider.create_run(plan(), ORDER, MemoryNotes())
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "answers",
    [
        [httpx.ReadTimeout("x")],
        [refused(503)],
        [refused(429), refused(502)],
        [ok({"data": {}})],
        [httpx.Response(200, text="<html>")],
    ],
)
def test_a_create_that_may_have_worked_says_so(answers: list[Answer]) -> None:
    """Whenever a run may exist although no usable answer came, the error carries outcome_unknown."""
    with pytest.raises(ProviderError) as caught:
        api({"POST /training/": answers}).provider.create_run(plan(), ORDER, MemoryNotes())
    assert caught.value.context.outcome_unknown


@pytest.mark.parametrize("answer", [refused(409), refused(422), refused(404), httpx.ConnectError("x")])
def test_a_create_that_was_refused_is_certain(answer: Answer) -> None:
    """A plain refusal, or no connection at all, leaves no doubt that nothing was made."""
    with pytest.raises(ProviderError) as caught:
        api({"POST /training/": [answer] * 4}).provider.create_run(plan(), ORDER, MemoryNotes())
    assert not caught.value.context.outcome_unknown


def test_missing_money_is_named() -> None:
    """A 402 becomes InsufficientCreditsError with both amounts in its message."""
    body = {"detail": {"error": "insufficient_credits", "message": "need", "required": 300, "remaining": 10}}
    with pytest.raises(InsufficientCreditsError, match="required 300 credits, remaining 10 credits"):
        api({"POST /training/": ok(body, 402)}).provider.create_run(plan(), ORDER, MemoryNotes())


@pytest.mark.parametrize(("style", "requests"), [("v1", 5), ("v2", 4)])
def test_find_run_reads_to_the_end_under_a_cap(style: str, requests: int) -> None:
    """A server that caps pages at 30 of the 100 asked for still shows its last run; nothing is skipped."""
    rows = [run_row(id=str(number), name=f"run-{number}") for number in range(109)]
    rows.append(run_row(id="last", name=plan().run_name))
    server = api({"GET /training/": paged(rows, 30, style)})
    found = server.provider.find_run(plan())
    assert found is not None
    assert found.handle.run_id == "last"
    assert len(server.asked) == requests
    assert server.asked[0].url.params["dataset_name"] == "road-signs"


def test_find_run_takes_the_exact_name_and_the_newest() -> None:
    """Longer names are other runs; of several with the name the latest created counts, whatever the order."""
    name = plan().run_name
    rows = [
        run_row(id="old", name=name, created_at="2026-05-12 11:00:00"),
        run_row(id="new", name=name, created_at="2026-05-12T13:00:00+00:00"),
        run_row(id="mid", name=name, created_at=1_778_587_200),
        run_row(id="longer", name=name + "-2", created_at="2026-06-12T13:00:00Z"),
    ]
    found = api({"GET /training/": paged(rows, 100, "v2")}).provider.find_run(plan())
    assert found is not None
    assert found.handle.run_id == "new"


def test_find_run_knows_its_own_run_under_another_readable_name() -> None:
    """The operation key in the name decides, so that a rerun with a new --name does not pay again."""
    key = plan().operation_key[:10]
    rows = [run_row(id="other", name=f"renamed-x{key}"), run_row(id="ours", name=f"renamed-{key}")]
    found = api({"GET /training/": paged(rows, 100, "v2")}).provider.find_run(plan())
    assert found is not None
    assert found.handle.run_id == "ours"


def test_of_twins_the_one_worth_most_is_found_and_the_others_are_named() -> None:
    """A newer failure hides neither a model nor a run that is alive, and what is still billed is said."""
    name = plan().run_name
    rows = [
        run_row(id="dead", name=name, status="failed", created_at="2026-05-12T15:00:00Z"),
        run_row(id="alive", name=name, status="running", created_at="2026-05-12T14:00:00Z"),
        run_row(id="done", name=name, status="completed", created_at="2026-05-12T13:00:00Z"),
    ]
    found = api({"GET /training/": paged(rows, 100, "v2")}).provider.find_run(plan())
    assert found is not None
    assert found.handle.run_id == "done"
    said = {item.message.split()[1]: item.message for item in found.warnings if item.code == "twin_run"}
    assert set(said) == {"dead", "alive"}
    assert "billed" in said["alive"]
    assert "billed" not in said["dead"]


def test_a_server_that_ignores_the_offset_ends_the_search() -> None:
    """The same page again and again is read twice, not for ever."""
    server = api({"GET /training/": ok({"training_runs": [run_row()]})})
    assert server.provider.find_run(plan()) is None
    assert len(server.asked) == 2


def test_rows_of_other_eras_do_not_break_a_list() -> None:
    """Words and decorations nobody here knows leave the rest of the list readable."""
    rows = [
        run_row(id="a", pipeline_type="detectron2"),
        run_row(id="b", pipeline_type="rfdetr_keypoint", gpu_type="b300", status="hibernating"),
        run_row(id="c", progress=None, metrics=None, current_epoch=None, config=None, created_at=None),
        run_row(id="d", progress="45.5", current_epoch="much", eta_seconds="soon", created_at="yesterday", warnings=7),
        run_row(id="e", progress=250, metrics=["?"], warnings=[{"code": "classes_not_trained"}, 7]),
    ]
    runs = api({"GET /training/": paged(rows, 100, "v2")}).provider.training.list()
    assert [run.handle.run_id for run in runs] == ["a", "b", "c", "d", "e"]
    assert (runs[1].status, runs[1].provider_status) == (RunStatus.UNKNOWN, "hibernating")
    assert not runs[1].status.is_terminal
    assert (runs[3].progress, runs[3].epoch, runs[3].created_at, runs[4].progress) == (45.5, None, None, 100)
    assert [finding.code for finding in runs[4].warnings] == ["classes_not_trained"]


def test_a_row_without_identity_breaks_a_list() -> None:
    """A run that cannot be named cannot be overlooked either: it might be the one that was paid for."""
    row = run_row()
    del row["name"]
    with pytest.raises(UnexpectedResponseError, match="name"):
        api({"GET /training/": paged([row], 100, "v2")}).provider.find_run(plan())


def test_times_are_aware_whatever_the_form() -> None:
    """ISO with and without zone, a space separator and epoch seconds all become the same UTC moment."""
    forms = ["2026-05-12T12:00:00Z", "2026-05-12T12:00:00", "2026-05-12 12:00:00", "2026-05-12T14:00:00+02:00",
             1_778_587_200]  # fmt: skip
    moments = {RunWire.model_validate(run_row(created_at=form)).to_value().created_at for form in forms}
    assert len(moments) == 1
    moment = moments.pop()
    assert moment is not None
    assert moment.utcoffset() is not None


def test_an_answer_about_another_run_is_unexpected() -> None:
    """A look that comes back with someone else's run is not an observation."""
    with pytest.raises(UnexpectedResponseError, match="the answer is about"):
        api({f"GET /training/{HANDLE.run_id}": ok({"data": run_row(id="other")})}).provider.get_run(HANDLE)


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_a_moment_beyond_the_calendar_is_none(moment: str) -> None:
    """It has no counterpart in UTC, and may not cost us the sight of a paid run."""
    run = RunWire.model_validate(run_row(started_at=moment, created_at=moment)).to_value("road-signs")
    assert (run.started_at, run.created_at) == (None, None)
