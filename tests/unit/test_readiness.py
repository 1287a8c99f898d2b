"""A model may come late: minutes are given to it, and every other end has its reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from pipeline.download.readiness import READY_POLL, await_model, once_ready
from pipeline.errors import (
    ArtifactError,
    AuthenticationError,
    ConflictError,
    DownloadError,
    ErrorContext,
    NotFoundError,
    ProviderError,
    ProviderUnavailableError,
    TransportError,
    UnexpectedResponseError,
)
from pipeline.models import ModelFacts, ModelTask, RunStatus, TrainingRun
from pipeline.provider import ByteStream, ResumePoint, StreamFacts
from tests.unit.conftest import FakeClock, FakeProvider, FakeStorage, Script, Transfer, make_run

DONE = make_run(RunStatus.COMPLETED, model_id="m1")
NAMELESS = make_run(RunStatus.COMPLETED)


def _facts(status: str = "ready") -> ModelFacts:
    return ModelFacts(model_id="m1", name="net", status=status, task=ModelTask.OBJECT_DETECTION)


def _await(provider: FakeProvider, clock: FakeClock, run: TrainingRun = DONE) -> ModelFacts:
    return await_model(provider, run, READY_POLL, clock)  # type: ignore[arg-type]


def test_a_ready_model_is_taken_at_once(clock: FakeClock) -> None:
    """One request, no wait, and the run is not read again."""
    provider = FakeProvider(get_model=Script(_facts()))
    assert _await(provider, clock) == _facts()
    assert (provider.calls("get_model"), clock.slept) == (1, [])


@pytest.mark.parametrize(
    "error",
    [
        NotFoundError("404"),
        ProviderUnavailableError("503"),
        TransportError("reset"),
        AuthenticationError("401"),
        UnexpectedResponseError("not JSON"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_model_that_comes_late_is_waited_for(error: ProviderError, clock: FakeClock) -> None:
    """Not there, not ready, out of reach: none of it is the end of a paid model."""
    provider = FakeProvider(get_model=Script(error, _facts("training"), error, error, _facts()))
    assert _await(provider, clock).status == "ready"


def test_not_found_is_borne_for_minutes(clock: FakeClock) -> None:
    """Nine minutes of it are less than a training costs."""
    missing = NotFoundError("404")

    def late(_: Any) -> ModelFacts:
        if clock.now < 1000 + 540:
            raise missing
        return _facts()

    provider = FakeProvider(get_model=Script())
    provider.get_model = late  # type: ignore[assignment]
    assert _await(provider, clock) == _facts()


def test_a_run_that_names_no_model_yet_is_read_again(clock: FakeClock) -> None:
    """The model's name may be written after the word "completed"."""
    provider = FakeProvider(
        get_run=Script(NAMELESS, NotFoundError("404"), DONE), get_model=Script(_facts("training"), _facts())
    )
    assert _await(provider, clock, NAMELESS) == _facts()
    assert (provider.calls("get_run"), provider.calls("get_model")) == (3, 2)


@pytest.mark.parametrize("status", ["failed", "archived", "FAILED"])
def test_a_model_that_will_never_be_ready_is_not_waited_for(status: str, clock: FakeClock) -> None:
    """Its word and its id are in the message."""
    with pytest.raises(ArtifactError, match=f"'{status}' at the provider.*'m1'") as caught:
        _await(FakeProvider(get_model=Script(_facts(status))), clock)
    assert caught.value.context.run_id == "r1"
    assert clock.slept == []


@pytest.mark.parametrize(
    ("scripts", "reason"),
    [
        ({"get_model": Script(NotFoundError("models.get: 404"))}, r"models\.get: 404"),
        ({"get_model": Script(_facts("training"))}, "the model is 'training'"),
        ({"get_run": Script(NAMELESS)}, "names no model"),
        ({"get_model": Script(AuthenticationError("401"))}, "401"),
    ],
    ids=["missing", "training", "nameless", "refused"],
)
def test_patience_ends_with_the_reason(scripts: dict[str, Script], reason: str, clock: FakeClock) -> None:
    """After ten minutes, half of that for a refused key: what kept it away, and that it is paid for."""
    run = NAMELESS if "get_run" in scripts else DONE
    with pytest.raises(DownloadError, match=rf"could not be had .*{reason}.*paid for"):
        _await(FakeProvider(**scripts), clock, run)
    assert 300 <= clock.now - 1000 <= 600


def test_the_last_refusals_facts_are_kept(clock: FakeClock) -> None:
    """A support ticket needs the request's id."""
    gone = NotFoundError("404", ErrorContext(request_id="q3", status_code=404))
    with pytest.raises(DownloadError) as caught:
        _await(FakeProvider(get_model=Script(gone)), clock)
    assert caught.value.context.request_id == "q3"


def _read(storage: FakeStorage, clock: FakeClock, resume: ResumePoint | None = None) -> bytes:
    with once_ready(storage.open, READY_POLL, clock)(resume) as stream:
        return b"".join(stream.chunks)


@pytest.mark.parametrize(
    "error", [NotFoundError("404"), ConflictError("not ready"), AuthenticationError("401")], ids=repr
)
def test_a_file_that_comes_late_is_waited_for(error: ProviderError, clock: FakeClock) -> None:
    """Called ready, refused twice, then given, from where it was asked for."""
    storage = FakeStorage(b"weights", Transfer(refuse=error), Transfer(refuse=error), Transfer())
    assert _read(storage, clock, ResumePoint(3, '"v1"')) == b"ghts"
    assert storage.asked == [ResumePoint(3, '"v1"')] * 3


@pytest.mark.parametrize(
    "error", [TransportError("reset"), ProviderUnavailableError("503"), UnexpectedResponseError("?")], ids=repr
)
def test_what_is_no_matter_of_lateness_is_passed_on(error: ProviderError, clock: FakeClock) -> None:
    """The transfer has its own way with broken connections."""
    storage = FakeStorage(b"weights", Transfer(refuse=error))
    with pytest.raises(type(error)) as caught:
        _read(storage, clock)
    assert caught.value is error
    assert (len(storage.asked), clock.slept) == (1, [])


def test_a_file_that_never_comes_is_given_up(clock: FakeClock) -> None:
    """After ten minutes, with the storage's own words."""
    with pytest.raises(DownloadError, match=r"could not be had in 600 s .*weights are missing"):
        _read(FakeStorage(b"weights", Transfer(refuse=NotFoundError("weights are missing"))), clock)


def test_the_opened_transfer_is_closed_whatever_happens(clock: FakeClock) -> None:
    """A body that raises still gives the connection back."""
    closed: list[bool] = []
    held: list[object] = []  # so that being forgotten is not what closes it

    @contextmanager
    def transfer() -> Iterator[ByteStream]:
        try:
            yield ByteStream(StreamFacts(), iter(()))
        finally:
            closed.append(True)

    def opening(_: ResumePoint | None) -> AbstractContextManager[ByteStream]:
        held.append(transfer())
        return held[-1]  # type: ignore[return-value]

    with pytest.raises(ZeroDivisionError), once_ready(opening, READY_POLL, clock)(None):
        raise ZeroDivisionError
    assert closed == [True]
