"""Names in paths: a name is one segment, whatever is in it."""

from urllib.parse import unquote

_SLASH = "\ue000"  # stands for an encoded slash inside one path segment until the handler reads the name


def segments(raw_path: bytes) -> str:
    """Return the path for routing: an encoded slash stays inside its segment."""
    return "/".join(unquote(part).replace("/", _SLASH) for part in raw_path.decode("ascii").split("/"))


def name_of(segment: str) -> str:
    """Return the name a routed segment holds, slashes and all."""
    return segment.replace(_SLASH, "/")
