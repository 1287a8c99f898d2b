"""Try a trained PhotoGPT model by having it make one picture, which is billed: looked for before it is asked for."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from pipeline.errors import (
    ConflictError,
    ErrorContext,
    InferenceError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    is_retryable,
)
from pipeline.models import Finding, HostedReport, Severity
from providers.calls import ApiRequest
from providers.photogpt.delivery import Delivery, Kept, picture_address
from providers.photogpt.errors import GENERATE
from providers.photogpt.jobs import Jobs, Window, generations_among
from providers.photogpt.session import PhotogptSession
from providers.photogpt.wire import DONE_JOB, FAILED_JOB, JobItemWire, JobWire
from providers.retry import Clock

logger = logging.getLogger(__name__)

SIDE = 768
"""Width and height asked for, in pixels."""
SEED = 20260501
"""Always the same, so that the same model makes the same picture as far as it can."""
DEADLINE_S = 600.0
SEEN_PRICE = "10 credits a picture have been seen"
_LOOKS = 3
_REFUSED = (InsufficientCreditsError, InvalidRequestError, PermissionDeniedError, ConflictError)
_NOT_THE_MODELS_FAULT = ("prompt", "moderation", "policy", "nsfw", "safety", "credit", "insufficient")


@dataclass(frozen=True)
class Wish:
    """A picture that is asked for."""

    model_id: str
    prompt: str = field(repr=False)
    """What it is to show; in no message and no log."""
    trained_at: datetime | None
    """When the model became ready: no picture of it is older."""
    folder: Path
    """Where it is kept."""


class _InconclusiveError(Exception):
    """Nothing can be learned of the model; the sentence says why."""


class Generations:
    """Pictures made by trained models."""

    def __init__(self, session: PhotogptSession, jobs: Jobs, delivery: Delivery, clock: Clock, wait_s: float) -> None:
        self._session = session
        self._jobs = jobs
        self._delivery = delivery
        self._clock = clock
        self._wait_s = wait_s

    def begin(self, wish: Wish) -> str:
        """Ask for one picture, once, and return the job's id."""
        body: dict[str, JsonValue] = {
            "modelID": wish.model_id,
            "prompt": wish.prompt,
            "numImages": 1,
            "width": SIDE,
            "height": SIDE,
            "seed": SEED,
        }
        request = ApiRequest(GENERATE, "POST", "/images/generation", body=body, effect=True)
        return self._session.read(request, JobItemWire).id

    def try_model(self, wish: Wish) -> HostedReport:
        """Return what came of one picture, made now or by an earlier attempt.

        Raises:
            SmokeTestError: The model makes no picture.
            ProviderError: It could not be asked.
        """
        self._delivery.make_room(wish.folder)
        began_s = self._clock.time()
        try:
            job = self._made_before(wish) or self._wait_for(self._begun(wish, began_s), began_s)
            self._require_picture(job, wish)
        except _InconclusiveError as reason:
            return self._report(wish, began_s, inconclusive=str(reason))
        kept = self._delivery.fetch(job, wish.folder)
        findings = (*_size_findings(kept), self._price(job, wish))
        return self._report(wish, began_s, pictures=(kept.path,), answered=1, findings=findings)

    def _report(self, wish: Wish, began_s: float, **more: object) -> HostedReport:
        latency_s = max(0.0, self._clock.time() - began_s)
        facts: dict[str, object] = {"model_id": wish.model_id, "asked": 1, "answered": 0, "latency_s": latency_s}
        return HostedReport.model_validate({**facts, **more})

    def _made_before(self, wish: Wish) -> JobWire | None:
        """Return the picture of an attempt that was interrupted; it is paid for already."""
        for job in generations_among(self._jobs.of_model(wish.model_id, Window(since=wish.trained_at))):
            found = self._wait_for(job.id, self._clock.time())
            if found.word in DONE_JOB and found.images:
                logger.info("job %s has made a picture with the model already", job.id)
                return found
        return None

    def _begun(self, wish: Wish, began_s: float) -> str:
        try:
            return self.begin(wish)
        except _REFUSED as error:
            reason = "not enough credits" if isinstance(error, InsufficientCreditsError) else "a refusal"
            code = error.context.status_code
            raise _InconclusiveError(f"no picture was made: {reason} (HTTP {code})") from error
        except ProviderError as error:
            if not error.context.outcome_unknown:
                raise
            return self._lost(wish, began_s)

    def _lost(self, wish: Wish, began_s: float) -> str:
        """Return the job whose begin was not answered."""
        window = Window(since=datetime.fromtimestamp(began_s, UTC))
        for _ in range(_LOOKS):
            self._clock.sleep(self._wait_s)
            if found := generations_among(self._jobs.of_model(wish.model_id, window)):
                return found[0].id
        raise _InconclusiveError("the answer was lost, and no job shows a picture; one may have been billed")

    def _wait_for(self, job_id: str, began_s: float) -> JobWire:
        """Look at a job until it ends."""
        trouble = "it did not end"
        while self._clock.time() - began_s < DEADLINE_S:
            try:
                job = self._jobs.get(job_id)
            except ProviderError as error:
                if not (is_retryable(error) or isinstance(error, NotFoundError)):
                    raise
                trouble = str(error)
            else:
                if job.word in DONE_JOB | FAILED_JOB:
                    return job
                trouble = f"it is still {job.status!r}"
            self._clock.sleep(self._wait_s)
        raise _InconclusiveError(f"job {job_id} made no picture within {DEADLINE_S:.0f} s: {trouble}")

    def _require_picture(self, job: JobWire, wish: Wish) -> None:
        context = ErrorContext(operation="jobs.get", run_id=wish.model_id)
        if job.word in FAILED_JOB:
            # The reason may quote what was asked for: it decides, and is not repeated.
            if any(word in (job.error or "").lower() for word in _NOT_THE_MODELS_FAULT):
                raise _InconclusiveError(f"job {job.id} was refused for what was asked, or for want of credits")
            raise InferenceError(f"model {wish.model_id} made no picture: job {job.id} is {job.status!r}", context)
        if not picture_address(job):
            raise InferenceError(f"model {wish.model_id} made no picture: job {job.id} ended without one", context)

    def _price(self, job: JobWire, wish: Wish) -> Finding:
        billed = self._jobs.credits_of(job.id, Window(since=wish.trained_at))
        price = f"{billed} credits" if billed is not None else f"its price is not shown; {SEEN_PRICE}"
        return Finding(severity=Severity.INFO, code="picture_billed", message=f"the picture is billed: {price}")


def _size_findings(kept: Kept) -> tuple[Finding, ...]:
    if kept.size == (SIDE, SIDE):
        return ()
    message = f"the picture is {kept.size[0]}x{kept.size[1]} pixels, not {SIDE}x{SIDE} as asked"
    return (Finding(severity=Severity.WARNING, code="other_size", message=message),)
