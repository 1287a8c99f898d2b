"""The firewall in front of the emulated PhotoGPT API: it knows no envelope and no JSON."""

from collections.abc import Mapping

from starlette.responses import PlainTextResponse, Response

_AGENTS = ("python-httpx", "python-urllib")


def is_blocked(headers: Mapping[str, str]) -> bool:
    """Whether the user agent is one that the firewall takes for a robot; header names are in lower case."""
    return headers.get("user-agent", "").lower().startswith(_AGENTS)


def blocked() -> Response:
    """Return what it answers."""
    return PlainTextResponse("error code: 1010", 403)
