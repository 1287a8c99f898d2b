"""Takes out of whatever a server sends back what nothing later could bear: a key, and characters that cannot be stored.

A key is found spelled out, or escaped the way JSON, HTML or a URL would.
"""

from __future__ import annotations

import re

from pydantic import JsonValue, SecretStr

from pipeline.addresses import REDACTED

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# Half of a character that JSON wrote as two escapes; no database and no file takes it.


class Scrubber:
    """Knows one key and removes it; without a key it only replaces what is no character."""

    def __init__(self, key: SecretStr | None = None) -> None:
        spelled = "".join(map(_spellings, key.get_secret_value())) if key is not None else "(?!)"
        self._pattern = re.compile(spelled)

    def text(self, text: str) -> str:
        """Return the text without the key, and with U+FFFD for every half of a character."""
        return self._pattern.sub(REDACTED, _LONE_SURROGATE.sub("\ufffd", text))

    def header(self, value: str | None) -> str | None:
        """Return a header's value without the key; None where there is no such header."""
        return None if value is None else self.text(value)

    def payload(self, value: JsonValue) -> JsonValue:
        """Return a parsed answer without the key, in names and values.

        Raises:
            RecursionError: It is nested too deeply to be anything a provider says.
        """
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.payload(entry) for entry in value]
        if isinstance(value, dict):
            return {self.text(name): self.payload(entry) for name, entry in value.items()}
        return value


def _spellings(character: str) -> str:
    """Return a pattern for a character as it is, or escaped for JSON, for a URL, or for HTML."""
    code = ord(character)
    in_hex = "".join(f"[{digit}{digit.upper()}]" for digit in f"{code:02x}")
    escapes = (rf"\\+u00{in_hex}", rf"%(?:25)*{in_hex}", rf"&#0*{code};?", rf"&#[xX]0*{in_hex};?")
    return f"(?:\\\\*{re.escape(character)}|{'|'.join(escapes)})"
