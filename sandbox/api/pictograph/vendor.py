"""Pictograph among the vendors of this server."""

import math
from collections.abc import Mapping

from starlette.responses import Response

from sandbox.accounts import Account
from sandbox.api.pictograph.errors import ApiError, error_response
from sandbox.dialects import Allowance, Dialect


class PictographDialect(Dialect):
    """`/api/v1/developer` and whatever no other vendor owns; the handlers refuse callers without a key themselves."""

    name = "pictograph"

    def owns(self, path: str) -> bool:
        """Whether a path belongs to this vendor: the last one asked owns the rest."""
        return True

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        """Return the key a request brings."""
        return headers.get("x-api-key", "").strip() or None

    def unauthenticated(self, headers: Mapping[str, str]) -> Response | None:
        """Leave it to the handler: an unknown path answers 404 to everybody."""
        return None

    def error(self, status: int, message: str, account: Account | None) -> Response:
        """Return an error in the shape of the account's dialect."""
        return error_response(ApiError(status, message), account)

    def limit_headers(self, allowance: Allowance) -> dict[str, str]:
        """Return the limit, what is left of it and when it starts anew."""
        headers = {
            "X-RateLimit-Limit": str(allowance.quota.limit),
            "X-RateLimit-Remaining": str(max(0, allowance.remaining)),
            "X-RateLimit-Reset": str(int(allowance.reset_at_s)),
        }
        if allowance.remaining < 0:
            headers["Retry-After"] = str(max(1, math.ceil(allowance.reset_at_s - allowance.now_s)))
        return headers
