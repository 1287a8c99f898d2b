"""What Replicate's error answers mean: problem objects, throttles with the delay in a sentence, a proxy's HTML."""

from __future__ import annotations

import re
from dataclasses import replace

from pipeline.errors import ErrorContext, ProviderError
from providers.figures import figure_of
from providers.http_errors import ErrorBody, status_error
from providers.replicate.secrecy import Redaction

LONGEST_DELAY_S = 120.0
"""Most seconds a throttle is believed to last; what asks for more is tried again all the same."""
_DELAY = re.compile(r"(?:available in|resets? in)\s*~?\s*(\d{1,6}(?:\.\d+)?)\s*s", re.IGNORECASE)


def replicate_error(
    subject: str, body: ErrorBody, context: ErrorContext, redaction: Redaction | None = None
) -> ProviderError:
    """Make the error of an answer outside 2xx; of a throttle it carries the longest delay the answer names."""
    shown = redaction or Redaction()
    body = replace(body, message=_sentence(body))
    if context.status_code == 429:
        context = replace(context, retry_after_s=_delay_s(body, context.retry_after_s))
    body = shown.body(body)
    request_id = None if context.request_id is None else shown.text(context.request_id)
    return status_error(subject, body, replace(context, code=body.code, request_id=request_id))


def _sentence(body: ErrorBody) -> str | None:
    """Return title and detail, without a stop at the end; a page of HTML says nothing that helps."""
    detail, title = (body.message or "").rstrip(". ") or None, body.details.get("title")
    if detail is not None and detail.lstrip().startswith("<"):
        return "a page of HTML, from what stands in front of the API"
    if not isinstance(title, str) or not title.strip() or title == detail:
        return detail
    return title if detail is None else f"{title}: {detail}"


def _delay_s(body: ErrorBody, header_s: float | None) -> float | None:
    named = [header_s, figure_of(body.details.get("retry_after")), _in_words(body.message)]
    delays = [delay for delay in named if delay is not None and delay > 0]
    return min(max(delays), LONGEST_DELAY_S) if delays else None


def _in_words(message: str | None) -> float | None:
    found = _DELAY.search(message or "")
    return float(found.group(1)) if found else None
