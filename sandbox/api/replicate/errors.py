"""Error answers of the emulated Replicate API: problem documents, each with as much in it as the vendor's has."""

import math
from typing import Any

from starlette.responses import JSONResponse, Response

from sandbox.dialects import Allowance, RefusedError

NO_DESTINATION = "The specified training destination does not exist"
BAD_VERSION = "Invalid version or not permitted"
BAD_VERSION_DETAIL = "The specified version does not exist (or perhaps you don't have permission to use it?)"
_TITLES = {401: "Unauthenticated", 402: "Insufficient credit", 403: "Forbidden", 404: "Not found"}


class _Problem(JSONResponse):
    media_type = "application/problem+json"


def problem(status: int, detail: str, title: str | None = None, **more: Any) -> Response:
    """Return a problem document."""
    body = {"title": title or _TITLES.get(status), "detail": detail, "status": status, **more}
    return _Problem({key: value for key, value in body.items() if value is not None}, status)


def refuse(status: int, detail: str, title: str | None = None) -> RefusedError:
    """Return what ends a request with a problem document."""
    return RefusedError(problem(status, detail, title))


def missing_destination() -> RefusedError:
    """Return the refusal of a training whose destination does not exist: it has no title."""
    return RefusedError(_Problem({"detail": NO_DESTINATION, "status": 404}, 404))


def bad_version() -> RefusedError:
    """Return the refusal of a version that cannot be used for what was asked."""
    return refuse(422, BAD_VERSION_DETAIL, BAD_VERSION)


def not_found(what: str) -> RefusedError:
    """Return the refusal for something that is missing or somebody else's."""
    return refuse(404, f"The requested {what} could not be found.")


def throttled(allowance: Allowance) -> Response:
    """Return the answer to a request over the limit: when to come back is in the body alone."""
    return later(max(1, math.ceil(allowance.reset_at_s - allowance.now_s)))


def later(wait_s: int) -> Response:
    """Return the 429 that says when to come back."""
    detail = f"Request was throttled. Your rate limit resets in ~{wait_s}s."
    return _Problem({"detail": detail, "status": 429, "retry_after": wait_s}, 429)
