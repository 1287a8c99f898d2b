"""A model may come late: bear it for minutes when the provider does not have, or does not give, what is paid for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from pipeline.clock import Clock
from pipeline.download.collection import OpenStream
from pipeline.errors import (
    ArtifactError,
    AuthenticationError,
    ConflictError,
    DownloadError,
    ErrorContext,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    TrainingLostError,
    TrainingTimedOutError,
)
from pipeline.models import ModelFacts, PollPolicy, TrainingRun
from pipeline.provider import ByteStream, Provider, ResumePoint
from pipeline.watch.polling import Look, observe

READY_POLL = PollPolicy(
    interval_s=2.0, floor_s=2.0, ceiling_s=30.0, deadline_s=600.0, not_found_grace_s=600.0, max_blind_s=600.0
)
"""How a model is waited for once its run has completed: it is paid for, so ten minutes are cheap."""
READY = "ready"
DEAD = frozenset({"failed", "archived"})
"""Words for a model that will never be ready."""
LATE = (NotFoundError, ConflictError, AuthenticationError, PermissionDeniedError)
"""How a file is refused that may still be given: not there or not ready yet, or a hiccup of the sign-in."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Standing:
    """Whether waiting is over."""

    is_terminal: bool


@dataclass(frozen=True)
class _Wait(Generic[T]):
    """One look at something that may come late."""

    value: T | None
    """What was waited for; none while it is not there."""
    word: str = ""
    """What there is instead."""

    @property
    def status(self) -> _Standing:
        """Over once there is something."""
        return _Standing(self.value is not None)


def await_model(provider: Provider, run: TrainingRun, policy: PollPolicy, clock: Clock) -> ModelFacts:
    """Return the facts of a completed run's model once it is ready.

    Raises:
        ArtifactError: The model failed or was archived.
        DownloadError: It was not ready, or could not be looked at, until the policy's deadline.
    """
    name, latest = run.handle.name, run

    def look() -> _Wait[ModelFacts]:
        nonlocal latest
        if latest.model_id is None:
            # That a run has completed and which model it made need not be written at the same moment.
            latest = provider.get_run(run.handle)
        if latest.model_id is None:
            return _Wait(None, "the run names no model")
        facts = provider.get_model(latest)
        if facts.status.lower() in DEAD:
            raise ArtifactError(
                f"the model of training run {name!r} is {facts.status!r} at the provider and will not become ready; "
                f"ask the provider about model {facts.model_id!r}",
                ErrorContext(operation="models.get", run_id=run.handle.run_id),
            )
        return _Wait(facts if facts.status.lower() == READY else None, f"the model is {facts.status!r}")

    return _bear(look, f"the model of training run {name!r}", policy, clock)


def once_ready(open_stream: OpenStream, policy: PollPolicy, clock: Clock) -> OpenStream:
    """Return an opener that bears it for the policy's deadline when the file is not there, or not ready, yet.

    It raises:
        DownloadError: It was not there until the deadline; the last refusal is in the message.
        ProviderError: Opening failed otherwise.
    """

    @contextmanager
    def opened(resume: ResumePoint | None) -> Iterator[ByteStream]:
        with ExitStack() as stack:

            def look() -> _Wait[ByteStream | ProviderError]:
                try:
                    return _Wait(stack.enter_context(open_stream(resume)))
                except LATE:
                    raise
                except ProviderError as error:  # no matter of lateness: for the transfer to judge
                    return _Wait(error)

            stream = _bear(look, "the model's file", policy, clock)
            if isinstance(stream, ProviderError):
                raise stream
            yield stream

    return opened


def _bear(look: Callable[[], _Wait[T]], what: str, policy: PollPolicy, clock: Clock) -> T:
    last: Look[_Wait[T]] | None = None
    try:
        for last in observe(look, policy, clock):
            if last.seen is not None and last.seen.value is not None:
                return last.seen.value
    except (TrainingTimedOutError, TrainingLostError, AuthenticationError, PermissionDeniedError) as error:
        reason = last.seen.word if last and last.seen else str(last.error if last and last.error else error)
        context = last.error.context if last and last.error else ErrorContext()
        passed_s = last.elapsed_s if last else 0.0
        raise DownloadError(
            f"{what} could not be had in {passed_s:.0f} s of asking ({reason}); the training is paid for, so come back "
            f"to the operation later",
            context,
        ) from error
    raise AssertionError("unreachable: watching ends with a value or an error")
