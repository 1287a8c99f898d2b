"""What Bluesight's errors mean: it answers 400 to refusals and to its own troubles alike, told apart by their text.

Source: bytes of the vendor's published server, checked 2026-11-20.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.errors import (
    ConflictError,
    ErrorContext,
    ProviderError,
    ProviderUnavailableError,
    UnexpectedResponseError,
)
from providers.http_errors import ErrorBody, describe, status_error

BASE_URL_VARIABLE = "BLUESIGHT_BASE_URL"
"""The variable that names the hosted API's address."""
CREATE = "training.create"
"""The one operation that must not be sent again in doubt."""
_REFUSED = "RequestValidationError"
_FINISHED = "Training job is already finished"
_MISSING = " not found"


def bluesight_error(subject: str, body: ErrorBody, context: ErrorContext) -> ProviderError:
    """Make the error for an answer outside 2xx."""
    said = body.message or ""
    status_code = context.status_code or 0
    answered = f"{subject} was answered with HTTP {status_code}: {describe(status_code, body)}."
    if status_code == 400 and said.startswith(_FINISHED):
        return ConflictError(f"{answered} Next: look at the job.", context)
    if status_code == 400 and not said.startswith(_REFUSED):
        # Any exception in the server comes as this: nobody can tell how far it got before.
        in_doubt = context.outcome_unknown or context.operation == CREATE
        context = replace(context, outcome_unknown=in_doubt)
        return ProviderUnavailableError(f"{answered} That is trouble in the server. Next: try again later.", context)
    if status_code == 404 and not said.endswith(_MISSING):
        # The objects' own 404 names what is missing; this one is about the route, and says nothing of any object.
        message = f"{answered} There is no such call at this address. Next: correct {BASE_URL_VARIABLE}."
        return UnexpectedResponseError(message, replace(context, field=BASE_URL_VARIABLE))
    return status_error(subject, body, context)
