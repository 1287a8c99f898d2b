"""Replicate among the vendors of this server."""

from collections.abc import Mapping

from sandbox.dialects import Dialect, bearer, under


class ReplicateDialect(Dialect):
    """`/v1`, and the finished weights under `/delivery`."""

    name = "replicate"

    def owns(self, path: str) -> bool:
        """Whether a path belongs to this vendor."""
        return under(path, "/v1", "/delivery")

    def key_of(self, headers: Mapping[str, str]) -> str | None:
        """Return the key a request brings, in today's or the former scheme."""
        return bearer(headers, "bearer", "token")
