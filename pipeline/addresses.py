"""Addresses in what is shown: a user, a password or a query in one may be all it takes to get in."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic import JsonValue

REDACTED = "[redacted]"
# The slashes may be escaped, as some JSON has them. Whatever touches an address is taken for a part of it: better too
# much is cut than too little.
_ADDRESS = re.compile(r"[\w+.-]{1,20}:(?:\\?/){2}[^\s\"<>]*")
_USER = re.compile(r"(:(?:\\?/){2})[^/?#\s]*@")
_REST = re.compile(r"([?#]).*", re.DOTALL)


def without_secrets(value: JsonValue) -> JsonValue:
    """Return a value whose addresses have lost user, password and all that follows the path, in names as well."""
    if isinstance(value, str):
        # What begins with an address is one to its end, whatever else it holds.
        return _cut(value) if _ADDRESS.match(value) else cut_addresses(value)
    if isinstance(value, list):
        return [without_secrets(entry) for entry in value]
    if isinstance(value, dict):
        return {str(without_secrets(name)): without_secrets(entry) for name, entry in value.items()}
    return value


def cut_addresses(text: str) -> str:
    """Return a text whose addresses have lost user, password and all that follows the path."""
    return _ADDRESS.sub(lambda found: _cut(found[0]), text)


def hides(value: JsonValue) -> bool:
    """Tell whether a value has an address in it that cannot be shown whole."""
    return without_secrets(value) != value


def names_user(address: str) -> bool:
    """Tell whether an address holds a user or a password; one that cannot be read may."""
    try:
        parts = urlsplit(address)
        _ = parts.port  # what is no number there may be the beginning of a password
    except ValueError:
        return True
    return "@" in parts.netloc


def _cut(address: str) -> str:
    return _REST.sub(rf"\1{REDACTED}", _USER.sub(r"\1", address))
