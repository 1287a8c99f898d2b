"""PhotoGPT among the vendors of this server."""

from collections.abc import Mapping

from starlette.responses import Response

from sandbox.accounts import Account
from sandbox.api.photogpt.firewall import blocked, is_blocked
from sandbox.dialects import Dialect, under
from sandbox.photogpt.errors import refusal
from sandbox.photogpt.lifecycle import SCRIPTED


class PhotogptDialect(Dialect):
    """`/api`, but for what lies in Pictograph's part of it."""

    name = "photogpt"
    scripted = SCRIPTED

    def owns(self, path: str) -> bool:
        """Whether a path belongs to this vendor."""
        return under(path, "/api") and not under(path, "/api/v1")

    def unauthenticated(self, headers: Mapping[str, str]) -> Response:
        """Return the answer to a request without an account; the firewall comes before the keys."""
        return blocked() if is_blocked(headers) else refusal(401, "invalid or missing API key")

    def error(self, status: int, message: str, account: Account | None) -> Response:
        """Return an error in the vendor's envelope."""
        return refusal(status, message)
