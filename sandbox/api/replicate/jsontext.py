"""JSON that a client sent, refused when an answer could not repeat it: what is stored is shown on every later read."""

import json
import math
from typing import Any, NoReturn

_MOST_LEVELS = 100


def parsed(text: str | bytes) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: It is no JSON, has a number that is not finite, half a surrogate pair, or too many levels.
    """
    try:
        found = json.loads(text, parse_constant=_refused, parse_float=_finite)
        json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise _too_deep() from None
    level, levels = [found], 0
    while level := [child for value in level for child in _children(value)]:
        levels += 1
        if levels > _MOST_LEVELS:
            raise _too_deep()
    return found


def _children(value: object) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _refused(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _too_deep() -> ValueError:
    return ValueError(f"lists and objects lie in each other more than {_MOST_LEVELS} deep")
