"""The Replicate adapter describes models and reads their weights, and takes care where its key goes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pipeline.errors import NotFoundError, NotOfferedError, TransportError, UnexpectedResponseError
from pipeline.models import ModelTask, RunStatus, TrainingRun
from pipeline.provider import ResumePoint
from providers.replicate.profile import replicate_profile
from providers.replicate.values import ReplicateSetup
from providers.replicate.weights import KeyRule
from tests.unit.http_double import everything_in
from tests.unit.scripted_replicate import HANDLE, KEY, RUN_ID, SETUP, VERSION, WEIGHTS, Api, api, done, ok, training

GET = f"GET /v1/trainings/{RUN_ID}"
RUN = TrainingRun(handle=HANDLE, status=RunStatus.COMPLETED, provider_status="succeeded", model_id=VERSION)
BYTES = b"weights of a model"


def _download(server: Api, resume: ResumePoint | None = None) -> bytes:
    provider = server.provider
    with provider.open_model(provider.get_model(RUN), resume) as stream:
        return b"".join(stream.chunks)


def _file(status: int, content: bytes, **headers: str) -> httpx.Response:
    said = {"ETag": '"e"', "Content-Length": str(len(content)), **headers}
    return httpx.Response(status, stream=httpx.ByteStream(content), headers=said)


def _serving(weights: str = WEIGHTS, **further: Any) -> Api:
    path = httpx.URL(weights).path
    file = _file(200, BYTES)
    return api({GET: ok(done(output={"version": VERSION, "weights": weights})), f"GET {path}": file}, **further)


def test_a_model_is_the_version_that_was_pushed() -> None:
    """Its id is the version, its name the destination, its task the request's."""
    facts = _serving().provider.get_model(RUN)
    assert (facts.model_id, facts.name, facts.status) == (VERSION, "me/signs", "ready")
    assert facts.task is ModelTask.OBJECT_DETECTION


def test_the_weights_are_read_as_they_are() -> None:
    """Uncompressed, from the address the run names now."""
    server = _serving()
    assert _download(server) == BYTES
    assert server.asked[-1].headers["Accept-Encoding"] == "identity"
    assert server.asked[-1].url == WEIGHTS


def test_a_transfer_goes_on_where_it_broke() -> None:
    """The storage is asked for the rest under the same tag."""
    rest = _file(206, BYTES[4:], **{"Content-Range": f"bytes 4-{len(BYTES) - 1}/{len(BYTES)}"})
    server = api({GET: ok(done()), "GET /x/weights.zip": rest})
    assert _download(server, ResumePoint(4, '"e"')) == BYTES[4:]
    assert server.asked[-1].headers["Range"] == "bytes=4-"


@pytest.mark.parametrize(
    ("weights", "sent"),
    [
        (WEIGHTS, True),
        ("https://replicate.delivery/pbxt/w", True),
        ("https://api.replicate.com/v1/files/w/download?signature=s", True),
        ("https://evilreplicate.delivery/w", False),
        ("https://replicate.delivery.evil.example/w", False),
        ("https://replicate.delivery@evil.example/w", False),
        ("https://evil.example\\@replicate.delivery/w", False),
        ("https://replicate.delivery:8443/w", False),
        ("https://storage.example/w?token=1", False),
        ("https://api.replicate.com:444/w", False),
    ],
)
def test_the_key_goes_to_the_vendor_alone(weights: str, sent: bool) -> None:
    """To the API and to the vendor's domain for files, over TLS; whatever address an answer names."""
    server = _serving(weights)
    with suppress(NotFoundError):  # an address whose path the double does not serve: what was sent is what counts
        _download(server)
    assert (KEY in server.asked[-1].headers.get("Authorization", "")) is sent
    assert sent or KEY not in str(server.asked[-1].headers.raw)


@pytest.mark.parametrize(
    ("url", "hosted", "allowed"),
    [
        ("http://127.0.0.1:8000/delivery/w", False, True),
        ("http://127.0.0.1:8001/delivery/w", False, False),
        ("https://127.0.0.1:8000/delivery/w", False, False),
        ("https://replicate.delivery/w", False, False),
        ("http://replicate.delivery/w", True, False),
        ("https://REPLICATE.delivery/w", True, True),
    ],
)
def test_a_sandbox_s_key_goes_to_the_sandbox_alone(url: str, hosted: bool, allowed: bool) -> None:
    """Host, port and scheme must be the API's; the vendor's domain is for hosted accounts."""
    assert KeyRule("http://127.0.0.1:8000", hosted=hosted).allows(httpx.URL(url)) is allowed


def test_a_hosted_account_reads_nothing_without_tls() -> None:
    """The address is refused, whatever it names."""
    with pytest.raises(UnexpectedResponseError, match="not safe"):
        _download(_serving("http://abc.replicate.delivery/x/weights.zip"))


def test_the_sandbox_serves_weights_itself() -> None:
    """With its own key, at its own address."""
    base = "http://127.0.0.1:8000"
    server = _serving(f"{base}/delivery/w", base_url=base, profile=replicate_profile(sandbox=True))
    assert _download(server) == BYTES
    assert KEY in server.asked[-1].headers["Authorization"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (done(data_removed=True) | {"output": None}, "removed by the provider"),
        (done() | {"output": {"version": VERSION}}, VERSION),
    ],
)
def test_weights_that_are_not_there_are_said_to_be_gone(row: dict[str, Any], said: str) -> None:
    """Retention may have passed, or the trainer returned none; the version stays, and can be asked there."""
    model = api({GET: ok(row)}).provider.get_model(RUN)
    assert model.no_weights is not None
    assert said in model.no_weights
    assert "stays at its destination" in model.no_weights


def test_an_output_that_is_not_there_yet_is_waited_for() -> None:
    """A run may read as succeeded before it names what it made."""
    with pytest.raises(NotFoundError, match="none in its output") as caught:
        api({GET: ok(done() | {"output": None})}).provider.get_model(RUN)
    assert caught.value.context.run_id == RUN_ID


def test_weights_that_vanish_before_they_are_read_are_gone_as_well() -> None:
    """The file's 404 says the same as an output that was removed."""
    with pytest.raises(NotFoundError, match="stays at its destination"):
        _download(api({GET: ok(done())}))


def test_a_trainer_that_returns_weights_alone_has_a_model() -> None:
    """It is told by its run."""
    run = RUN.model_copy(update={"model_id": RUN_ID})
    facts = api({GET: ok(training(status="succeeded", output=WEIGHTS))}).provider.get_model(run)
    assert (facts.model_id, facts.name) == (RUN_ID, "n")


def test_a_model_somebody_else_described_is_not_known() -> None:
    """The address is asked for by the run, which only get_model knows."""
    server = _serving()
    with pytest.raises(NotFoundError, match="get_model"):
        server.provider.open_model(server.provider.get_model(RUN))


def test_without_the_request_nobody_knows_what_a_model_does() -> None:
    """The API does not say it."""
    with pytest.raises(NotOfferedError, match="request"):
        _serving(setup=ReplicateSetup()).provider.get_model(RUN)


def test_a_storage_that_refuses_shows_neither_address_nor_key() -> None:
    """Both are secrets."""
    server = _serving("https://storage.example/w?token=geheim")
    server.routes["GET /w"] = [httpx.Response(403, text=f"geheim {KEY}")]
    with pytest.raises(TransportError) as caught:
        _download(server)
    assert "geheim" not in everything_in(caught.value)
    assert KEY not in everything_in(caught.value)


def test_the_webhook_secret_is_read_and_not_shown() -> None:
    """One for the account."""
    server = api({"GET /v1/webhooks/default/secret": ok({"key": "whsec_geheim"})}, setup=SETUP)
    secret = server.provider.accounts.webhook_secret()
    assert secret == SecretStr("whsec_geheim")
    assert "geheim" not in repr(secret)


def test_hardware_is_a_bare_list() -> None:
    """Not a page."""
    server = api({"GET /v1/hardware": ok([{"sku": "cpu", "name": "CPU"}, {"sku": "gpu-t4"}])})
    assert [kind.sku for kind in server.provider.accounts.hardware()] == ["cpu", "gpu-t4"]


@pytest.mark.parametrize("payload", [{"results": []}, None, [3]])
def test_a_list_of_another_shape_is_an_error(payload: Any) -> None:
    """Nothing is guessed."""
    with pytest.raises(UnexpectedResponseError):
        api({"GET /v1/hardware": ok(payload)}).provider.accounts.hardware()
