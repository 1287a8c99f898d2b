"""JSON that a client sent, refused when an answer could not repeat it: what is stored is shown on every later read."""

import json
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator

_MOST_LEVELS = 100
_Value = TypeVar("_Value")


def parsed(text: str | bytes) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: It is no JSON, or nothing that an answer could repeat.
    """
    try:
        return repeatable(json.loads(text))
    except RecursionError:
        raise _too_deep() from None


def repeatable(value: _Value) -> _Value:
    """Return what a JSON text said, as it is.

    Raises:
        ValueError: It has a number that is not finite, half a surrogate pair, or too many levels.
    """
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("a text holds half a surrogate pair") from None
    except RecursionError:
        raise _too_deep() from None
    level: list[Any] = [value]
    levels = 0
    while level := [child for parent in level for child in _children(parent)]:
        levels += 1
        if levels > _MOST_LEVELS:
            raise _too_deep()
    return value


JsonObject = Annotated[dict[str, Any], AfterValidator(repeatable)]
"""A JSON object of a body that is kept as it came."""


def _children(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _too_deep() -> ValueError:
    return ValueError(f"lists and objects lie in each other more than {_MOST_LEVELS} deep")
