"""The Replicate adapter tries a version where it is hosted: bounded in time, billed, and fair to the model."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.errors import InferenceError, NotOfferedError
from pipeline.models import ExportReport, HostedReport, RunStatus, SamplePicture, Severity, TrainingRun
from tests.unit.scripted_replicate import EXPORT, HANDLE, VERSION, VERSION_PATH, Api, api, ok, plan, problem, uploaded

CREATE = "POST /v1/predictions"
GET = "GET /v1/predictions/p1"
CANCEL = "POST /v1/predictions/p1/cancel"
RUN = TrainingRun(handle=HANDLE, status=RunStatus.COMPLETED, provider_status="succeeded", model_id=VERSION)


def _prediction(**changes: Any) -> dict[str, Any]:
    return {"id": "p1", "version": "hidden", "status": "succeeded", "output": [1], "metrics": {}, **changes}


def _version(*names: str, required: tuple[str, ...] = ()) -> httpx.Response:
    schemas = {"Input": {"properties": {name: {} for name in names}, "required": list(required)}}
    return ok({"id": "v", "openapi_schema": {"components": {"schemas": schemas}}})


def _export(folder: Path, *sizes: int) -> ExportReport:
    samples = []
    for number, size in enumerate(sizes):
        path = folder / f"{number}.png"
        path.write_bytes(bytes([number]) * size)
        samples.append(SamplePicture(path=path))
    return ExportReport(export=EXPORT, classes=(), findings=(), content_fingerprint="f", samples=tuple(samples))


def _server(*answers: Any, **further: Any) -> Api:
    routes = {CREATE: list(answers), f"GET {VERSION_PATH}": _version("image"), **further}
    return api(routes)


def _try(server: Api, export: ExportReport | None = None, **request: Any) -> HostedReport:
    return server.provider.hosted_inference(plan(**request), RUN, export)


def test_every_sample_is_asked_about_as_a_data_uri(tmp_path: Path) -> None:
    """Under the version as it stands, waiting for the answer, with a time after which the provider ends it."""
    server = _server(ok(_prediction(metrics={"predict_time": 1.5}), 201))
    report = _try(server, _export(tmp_path, 3, 4), smoke_input={"threshold": 0.4})
    assert (report.model_id, report.asked, report.answered, report.inconclusive) == (VERSION, 2, 2, None)
    pictures = [f"data:image/png;base64,{base64.b64encode(data).decode()}" for data in (b"\0\0\0", b"\1\1\1\1")]
    assert server.bodies(CREATE) == [
        {"version": VERSION, "input": {"threshold": 0.4, "image": picture}} for picture in pictures
    ]
    sent = server.asked[-1]
    assert (sent.headers["Prefer"], sent.headers["Cancel-After"]) == ("wait=60", "600s")
    assert sent.extensions["timeout"]["read"] > 60
    assert [(finding.severity, finding.code) for finding in report.findings] == [(Severity.INFO, "predictions_billed")]
    assert "3.0 s" in report.findings[0].message


def test_a_large_sample_is_uploaded(tmp_path: Path) -> None:
    """The API takes data URIs up to 256 kB."""
    server = _server(ok(_prediction()), **{"POST /v1/files": ok(uploaded(urls={"get": "https://f/1"}), 201)})
    _try(server, _export(tmp_path, 200_000))
    assert server.bodies(CREATE)[0]["input"]["image"] == "https://f/1"


@pytest.mark.parametrize(
    ("version", "smoke_input"),
    [
        (_version("image"), {"image": "https://mine"}),
        (_version("prompt"), {"prompt": "a sign"}),
    ],
)
def test_a_picture_of_one_s_own_or_none_is_asked_about_once(
    version: httpx.Response, smoke_input: dict[str, Any], tmp_path: Path
) -> None:
    """There is nothing to vary, and each prediction is billed."""
    server = _server(ok(_prediction()), **{f"GET {VERSION_PATH}": version})
    assert _try(server, _export(tmp_path, 3, 3), smoke_input=smoke_input).asked == 1
    assert server.bodies(CREATE)[0]["input"] == smoke_input


def test_a_version_without_a_schema_is_shown_the_samples(tmp_path: Path) -> None:
    """Nothing says that it takes no picture."""
    server = _server(ok(_prediction()), **{f"GET {VERSION_PATH}": ok({"id": "v", "openapi_schema": None})})
    assert _try(server, _export(tmp_path, 3)).answered == 1


def test_a_version_that_needs_more_is_not_judged(tmp_path: Path) -> None:
    """The request lacks an input: nothing is sent, nothing billed, nothing learned."""
    server = _server(
        ok(_prediction()), **{f"GET {VERSION_PATH}": _version("image", "mask", required=("image", "mask"))}
    )
    report = _try(server, _export(tmp_path, 3))
    assert (report.asked, report.findings) == (0, ())
    assert report.inconclusive == "the version needs 'mask' to predict; set smoke_input"
    assert server.bodies(CREATE) == []


def test_a_prediction_is_awaited() -> None:
    """A fresh version boots for minutes; a 404 right after the create passes."""
    looks = [problem(404), ok(_prediction(status="starting", output=None)), ok(_prediction())]
    server = _server(ok(_prediction(status="starting", output=None), 202), **{GET: looks})
    report = _try(server)
    assert (report.answered, report.latency_s) == (1, 6.0)
    assert server.slept == [2.0] * 3


def test_an_output_that_came_with_the_create_is_enough() -> None:
    """The status may not have caught up."""
    server = _server(ok(_prediction(status="processing"), 201))
    assert _try(server).answered == 1
    assert len(server.asked) == 2


def test_a_prediction_without_output_is_no_answer() -> None:
    """It succeeded, and said nothing."""
    report = _try(_server(ok(_prediction(output=None), 201)))
    assert (report.asked, report.answered, report.inconclusive) == (1, 0, None)


def test_a_prediction_that_fails_condemns_the_model() -> None:
    """With the reason."""
    with pytest.raises(InferenceError, match="KeyError: 'image'"):
        _try(_server(ok(_prediction(status="failed", output=None, error="KeyError: 'image'"), 201)))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"status": "failed", "error": "E6716: start timeout"}, "failed at the provider"),
        ({"status": "failed", "error": "unknown (E1000)"}, "failed at the provider"),
        ({"status": "aborted"}, "was aborted"),
        ({"status": "canceled"}, "was canceled"),
    ],
)
def test_what_is_not_the_model_s_fault_does_not_condemn_it(state: dict[str, Any], said: str) -> None:
    """Nothing was learned, and the report says why."""
    report = _try(_server(ok(_prediction(output=None, **state), 201)))
    assert said in (report.inconclusive or "")
    assert report.asked == 1


@pytest.mark.parametrize("cancel", [ok(_prediction(status="canceled")), httpx.Response(422), httpx.ReadError("x")])
def test_a_prediction_that_does_not_end_is_ended(cancel: httpx.Response | Exception) -> None:
    """After ten minutes; whether the cancel is answered or not, the provider ends it by itself."""
    waiting = ok(_prediction(status="starting", output=None), 201)
    server = _server(waiting, **{GET: waiting, CANCEL: cancel})
    report = _try(server)
    assert report.inconclusive == "prediction p1 did not end within 600 s"
    assert CANCEL in server.lines()
    assert 600 <= sum(server.slept) < 700


def test_the_ten_minutes_are_for_all_samples_together(tmp_path: Path) -> None:
    """The second prediction gets what the first left, and none is made without time."""
    server = _server()
    slow: Callable[[httpx.Request], httpx.Response] = lambda _: server.slept.append(298.5) or ok(_prediction())  # noqa: E731
    server.routes[CREATE] = [slow]
    report = _try(server, _export(tmp_path, 1, 2, 3, 4))
    assert [request.headers.get("Cancel-After") for request in server.asked[1:]] == ["600s", "302s", "5s"]
    assert "no time left" in (report.inconclusive or "")
    assert report.answered == 3


def test_a_lost_answer_leaves_no_training_in_doubt() -> None:
    """What may be lost is one prediction, sent once, that ends by itself and may be billed."""
    server = _server(httpx.Response(502))
    report = _try(server)
    assert "HTTP 502" in (report.inconclusive or "")
    assert len(server.bodies(CREATE)) == 1
    assert "bills the 1 predictions" in report.findings[0].message


@pytest.mark.parametrize(
    ("answer", "said", "made"),
    [
        (problem(503, "busy"), "HTTP 503: busy", 3),
        (problem(402, "Insufficient credit"), "HTTP 402: Insufficient credit", 2),
        (problem(401, "bad token"), "HTTP 401: bad token", 2),
        (problem(422, "input.image: Invalid"), "HTTP 422: input.image: Invalid", 2),
        (problem(429, "throttled"), "HTTP 429: throttled", 2),
        (httpx.ReadError("cut"), "the connection broke", 3),
        (httpx.Response(201, text="no JSON"), "cannot be read", 3),
    ],
)
def test_what_the_provider_refuses_keeps_the_answers_there_are(
    answer: httpx.Response | Exception, said: str, made: int, tmp_path: Path
) -> None:
    """The trial is not repeated from the first sample on, which would be billed again, and the model is collected."""
    server = _server(ok(_prediction()), ok(_prediction()), answer)
    report = _try(server, _export(tmp_path, 1, 2, 3, 4))
    assert (report.asked, report.answered) == (3, 2)
    assert said in (report.inconclusive or "")
    assert "Next:" not in (report.inconclusive or "")
    assert len(server.bodies(CREATE)) == 3
    assert f"bills the {made} predictions" in report.findings[0].message


@pytest.mark.parametrize("answer", [problem(503), problem(401), httpx.ReadTimeout("late")])
def test_a_prediction_that_cannot_be_looked_at_is_ended(answer: httpx.Response | Exception) -> None:
    """After the repetitions that a look gets: nobody waits for it any more, and it is billed while it runs."""
    server = _server(ok(_prediction(status="starting", output=None), 201), **{GET: answer, CANCEL: ok(_prediction())})
    report = _try(server)
    assert (report.asked, report.answered) == (1, 0)
    assert "predictions.get" in (report.inconclusive or "")
    assert server.lines()[-1] == CANCEL


def test_a_version_that_cannot_be_read_is_not_judged() -> None:
    """Nothing is sent, nothing billed, and the weights are worth no less."""
    report = _try(_server(ok(_prediction()), **{f"GET {VERSION_PATH}": problem(403, "not yours")}))
    assert (report.asked, report.findings) == (0, ())
    assert "not yours" in (report.inconclusive or "")


def test_a_sample_that_cannot_be_uploaded_keeps_the_answers_there_are(tmp_path: Path) -> None:
    """It is between two predictions that are billed."""
    server = _server(ok(_prediction()), **{"POST /v1/files": problem(413, "too much")})
    report = _try(server, _export(tmp_path, 3, 200_000))
    assert (report.asked, report.answered) == (1, 1)
    assert "too much" in (report.inconclusive or "")


def test_a_sample_that_is_gone_is_named(tmp_path: Path) -> None:
    """A folder that was cleared says nothing about the model."""
    server, export = _server(ok(_prediction())), _export(tmp_path, 3, 4)
    export.samples[1].path.unlink()
    report = _try(server, export)
    assert (report.asked, report.answered) == (1, 1)
    assert report.inconclusive == "picture '1.png' cannot be read (No such file or directory)"


def test_an_explanation_shows_no_query() -> None:
    """What a version says of its failure may quote a signed address."""
    error = "no picture at https://store.example/a.png?sig=canary"
    with pytest.raises(InferenceError, match="store") as caught:
        _try(_server(ok(_prediction(status="failed", output=None, error=error), 201)))
    assert "canary" not in caught.value.message


@pytest.mark.parametrize("model_id", [None, "zz4ibbonubfz7carwiefibzgga"])
def test_a_run_without_a_version_cannot_be_asked(model_id: str | None) -> None:
    """There is nothing hosted."""
    with pytest.raises(NotOfferedError, match="no version"):
        api({}).provider.hosted_inference(plan(), RUN.model_copy(update={"model_id": model_id}), None)
