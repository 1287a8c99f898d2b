"""Every way the pipeline can fail, and what the caller can do about it.

::

    PipelineError
    ├── ConfigurationError            fix the named field; nothing was spent
    ├── BudgetExceededError           raise the cap or lower the work
    ├── JournalError                  the journal cannot be read or written: nothing is started without it
    ├── OperationBusyError            another live flow run carries the operation out
    ├── CrashLoopError                the flow run's process died again and again; its training goes on
    ├── ProviderError
    │   ├── RetryableProviderError    the same request may be sent again when it is safe to repeat
    │   │   ├── TransportError        no answer: connection, reset, timeout
    │   │   ├── ProviderUnavailableError   408 and 5xx
    │   │   └── RateLimitError        429, with the server's own delay
    │   ├── AuthenticationError       401: the key
    │   ├── PermissionDeniedError     403: the key's role or the plan
    │   ├── InsufficientCreditsError  402: top up
    │   ├── NotFoundError             404
    │   ├── ConflictError             409
    │   ├── InvalidRequestError       400 and 422
    │   ├── UnexpectedResponseError   an answer that cannot be read
    │   └── NotOfferedError           the provider has no such call
    ├── ExportError
    │   ├── ExportNotReadyError       still building when patience ended
    │   └── ExportRejectedError       failed, empty, too small, nothing labelled
    ├── TrainingError
    │   ├── TrainingFailedError       the provider says so
    │   ├── TrainingCancelledError    the provider says so, or nobody wants the model any more
    │   ├── TrainingTimedOutError     our deadline; the run goes on
    │   ├── CancelUnconfirmedError    it was to be cancelled and is not seen to have ended
    │   ├── WatchStoppedError         somebody or something wants the run ended; never leaves the watch
    │   └── TrainingLostError         the run is gone at the provider
    ├── ArtifactError
    │   ├── DownloadError             the transfer did not complete
    │   ├── DigestMismatchError       complete, but other bytes than announced
    │   ├── UnpackError               an archive from which no model can be taken
    │   ├── ArtifactTooLargeError     over the limit, or no room
    │   └── OutputPathError           the output folder cannot be written
    └── SmokeTestError
        ├── ModelLoadError            not a model this machine can open
        ├── InferenceError            opened, but did not run
        └── OutputCheckError          ran, but its outputs do not fit the task or the classes

Constructors take ``(message, context)``, both positional, so that every error survives being stored and read back.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorContext:
    """What is known about a failure besides its sentence; holds no secret."""

    operation: str | None = None
    """What was being done, such as ``training.create``."""
    field: str | None = None
    """The request field to change, for errors of configuration."""
    status_code: int | None = None
    """HTTP status, when there was an answer."""
    code: str | None = None
    """The provider's own short code."""
    request_id: str | None = None
    """The provider's id of the request, for a support ticket."""
    retry_after_s: float | None = None
    """Seconds the server asked to wait."""
    run_id: str | None = None
    """The training run this is about."""
    outcome_unknown: bool = False
    """True when the request may have taken effect although no answer came."""


class PipelineError(Exception):
    """Base of everything this project raises on purpose."""

    def __init__(self, message: str, context: ErrorContext = ErrorContext()) -> None:
        super().__init__(message, context)
        self.message = message
        self.context = context

    def __str__(self) -> str:
        """Return the sentence alone."""
        return self.message


class ConfigurationError(PipelineError):
    """The request cannot be carried out as it stands: change the named field. Nothing was spent."""


class BudgetExceededError(PipelineError):
    """The price is above a cap, or the run was ended before it passed one: raise the cap or lower the work."""


class JournalError(PipelineError):
    """The journal cannot be read or written; no training is started without it."""


class OperationBusyError(PipelineError):
    """Another flow run that is alive carries this operation out: let it, or ask for a new one."""


class CrashLoopError(PipelineError):
    """The flow run crashed and came back too often; its training goes on and can be collected by another one."""


class ProviderError(PipelineError):
    """The provider did not do what was asked."""


class RetryableProviderError(ProviderError):
    """The same request may succeed later; repeat it only when repeating is safe."""


class TransportError(RetryableProviderError):
    """No answer came: connection refused or reset, timeout, body cut short."""


class ProviderUnavailableError(RetryableProviderError):
    """The provider answered that it cannot answer now (408, 5xx)."""


class RateLimitError(RetryableProviderError):
    """Too many requests (429); ``context.retry_after_s`` carries the server's delay."""


class AuthenticationError(ProviderError):
    """The key is missing, malformed or revoked (401): set a valid one."""


class PermissionDeniedError(ProviderError):
    """The key's role or the account's plan does not allow this (403)."""


class InsufficientCreditsError(ProviderError):
    """The account cannot pay for this (402): top up or lower the work."""


class NotFoundError(ProviderError):
    """The named object does not exist for this account (404)."""


class ConflictError(ProviderError):
    """The object is in a state that forbids this (409)."""


class InvalidRequestError(ProviderError):
    """The provider refused a value (400, 422): change it."""


class UnexpectedResponseError(ProviderError):
    """The answer could not be read: the API changed, or something between answered instead."""


class NotOfferedError(ProviderError):
    """The provider has no such call: do without it, or do it there by hand."""


class ExportError(PipelineError):
    """The export cannot be trained on."""


class ExportNotReadyError(ExportError):
    """The export was still being built when patience ended: run again later."""


class ExportRejectedError(ExportError):
    """The export failed or its content cannot give a model: fix the data set. Nothing was spent."""


class TrainingError(PipelineError):
    """The training did not end with a model."""


class TrainingFailedError(TrainingError):
    """The provider reports that the run failed."""


class TrainingCancelledError(TrainingError):
    """The run was cancelled at the provider, or its flow run was before there was one, or after it had completed."""


class TrainingTimedOutError(TrainingError):
    """Our deadline passed; the run goes on at the provider and can be collected by a rerun."""


class CancelUnconfirmedError(TrainingError):
    """The run was to be cancelled and is not seen to have ended: look at the provider, it may still be billed."""


class WatchStoppedError(TrainingError):
    """Watching stops because the run is to be ended: on somebody's wish, or before its cost passes the cap."""


class TrainingLostError(TrainingError):
    """The provider no longer knows the run, beyond the grace period."""


class ArtifactError(PipelineError):
    """The model file could not be collected, or not be tried here and now; the last good file stays in place."""


class DownloadError(ArtifactError):
    """The transfer did not complete after every allowed attempt."""


class DigestMismatchError(ArtifactError):
    """The bytes are complete but are not the ones the storage announced."""


class ArtifactTooLargeError(ArtifactError):
    """The file is over the limit, or the disk has no room for it."""


class UnpackError(ArtifactError):
    """The file is an archive from which no one model can be taken: damaged, not safe to unpack, or with several."""


class OutputPathError(ArtifactError):
    """The output folder cannot be created or written: choose another one."""


class SmokeTestError(PipelineError):
    """The model must not be promoted."""


class ModelLoadError(SmokeTestError):
    """The file is not a model that can be opened here."""


class InferenceError(SmokeTestError):
    """The model opened but did not run on real pictures."""


class OutputCheckError(SmokeTestError):
    """The model ran but its outputs do not fit its task, its classes, or the labelled pictures."""


def is_retryable(error: BaseException) -> bool:
    """Tell whether the same call may succeed later without any change."""
    return isinstance(error, RetryableProviderError)
