"""What PhotoGPT's refusals mean. Its codes are not documented one by one: the sentence counts where a word in it does.

No sentence of the provider's is repeated where it may quote what was said about a person.
"""

from __future__ import annotations

import re
from dataclasses import replace

from pipeline.errors import (
    ErrorContext,
    InsufficientCreditsError,
    InvalidRequestError,
    PermissionDeniedError,
    ProviderError,
)
from providers.http_errors import ErrorBody, status_error

CREATE_MODEL, GENERATE = "models.create", "images.generate"
_PERSONAL = frozenset({CREATE_MODEL, GENERATE})
# Calls that say something about a person.
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_NOT_MONEY = ("permission", "access", "privilege", "scope")


def photogpt_error(subject: str, body: ErrorBody, context: ErrorContext) -> ProviderError:
    """Make the error of an answer that is no success, whatever its status."""
    status = context.status_code or 0
    said, code = _said(body), body.details.get("err")
    known = replace(context, code=code if isinstance(code, str) and _CODE.fullmatch(code) else None)
    if status == 403 and not body.details:
        return PermissionDeniedError(
            f"{subject} was blocked before reaching the API (HTTP 403, no JSON): the provider's firewall refused this "
            f"program or this network. Next: try from another network, or ask the provider.",
            known,
        )
    if _is_shortage(status, said.lower()):
        message = f"{subject} was refused: the account has not enough credits. Next: top up the account."
        return InsufficientCreditsError(message, replace(known, outcome_unknown=False))
    shown = "a reason that is not repeated here" if context.operation in _PERSONAL else said
    if status < 300:
        message = f"{subject} was answered with NOK: {shown or 'no explanation'}. Next: change the refused value."
        return InvalidRequestError(message[:_LONGEST], known)
    return status_error(subject, ErrorBody(message=shown or None, code=known.code), known)


_LONGEST = 700


def _said(body: ErrorBody) -> str:
    candidates = (body.message, body.details.get("reason"), body.details.get("err"))
    return next((text for text in candidates if isinstance(text, str) and text.strip()), "")


def _is_shortage(status: int, said: str) -> bool:
    """Tell whether a refusal is about money; where another meaning is likely, both words are needed."""
    credit, insufficient = "credit" in said, "insufficient" in said
    if status == 402:
        return True
    if status == 429 or status >= 500:
        return credit and insufficient
    return status != 401 and (credit or (insufficient and not any(word in said for word in _NOT_MONEY)))
