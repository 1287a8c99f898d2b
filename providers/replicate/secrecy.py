"""What must not be shown: queries of URLs, which may be signed, and the inputs that only the environment holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise

from pydantic import JsonValue, SecretStr

from pipeline.addresses import REDACTED, cut_addresses
from pipeline.errors import ConfigurationError, ErrorContext
from providers.http_errors import ErrorBody
from providers.scrubbing import Scrubber

UNSTORED = "REPLICATE_SECRET_INPUTS"
"""The variable that holds inputs which must not be stored."""
_SECRET_WORDS = frozenset(
    {"token", "secret", "secrets", "password", "passwords", "apikey", "credential", "credentials"}
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LEAST_BEGINNING = 4
"""Characters of a secret that are taken for its beginning where a text was cut off."""


def refuse_secrets(inputs: Mapping[str, JsonValue]) -> None:
    """Refuse inputs that look like secrets: requests are stored, and shown to whoever may look at runs.

    Raises:
        ConfigurationError: One does; the message has its name alone.
    """
    named = [repr(name) for name, value in inputs.items() if isinstance(value, str) and value and _is_secret(name)]
    if named:
        message = (
            f"inputs holds {', '.join(sorted(named))}, which by its name is a secret, and requests are stored and "
            f"shown: leave it out, and put it into {UNSTORED}, a JSON object of input names and values"
        )
        raise ConfigurationError(message, ErrorContext(operation="account.check", field="inputs"))


def _is_secret(name: str) -> bool:
    words = [word.lower() for word in _WORD.findall(name)]
    return not _SECRET_WORDS.isdisjoint(words) or ("api", "key") in pairwise(words)


class UnshownInputs(dict[str, JsonValue]):
    """Inputs on their way into a body, whose values no repr shows."""

    def __repr__(self) -> str:
        """Show the names alone."""
        return f"UnshownInputs({', '.join(map(repr, self))})"


class Redaction:
    """Takes queries of URLs and the given secrets out of texts that are shown."""

    def __init__(self, secrets: Iterable[SecretStr] = ()) -> None:
        values = {secret.get_secret_value().strip() for secret in secrets} - {""}
        # The longest first: a secret may be a part of another one.
        self._values = tuple(sorted(values, key=len, reverse=True))
        self._scrubbers = tuple(Scrubber(SecretStr(value)) for value in self._values)

    def text(self, text: str) -> str:
        """Return a text as it may be shown."""
        for scrubber in self._scrubbers:
            text = scrubber.text(text)
        return cut_addresses(self._without_beginning(text))

    def _without_beginning(self, text: str) -> str:
        """Return the text without a secret that ends beyond its end: long answers are cut before they are read."""
        for value in self._values:
            for length in range(len(value) - 1, _LEAST_BEGINNING - 1, -1):
                if text.endswith(value[:length]):
                    return text[:-length] + REDACTED
        return text

    def said(self, value: JsonValue) -> JsonValue:
        """Return a value of an answer as it may be shown, in names and values."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.said(entry) for entry in value]
        if isinstance(value, dict):
            return {self.text(name): self.said(entry) for name, entry in value.items()}
        return value

    def body(self, body: ErrorBody) -> ErrorBody:
        """Return an error's body as it may be shown."""
        return replace(
            body,
            message=None if body.message is None else self.text(body.message),
            code=None if body.code is None else self.text(body.code),
            fields=tuple(map(self.text, body.fields)),
        )
