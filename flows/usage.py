"""What is said about a command line that cannot be carried out: one line for each mistake."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from cyclopts import CycloptsError, MissingArgumentError, UnusedCliTokensError
from pydantic import ValidationError

from pipeline.provider_requests import REQUESTS


class UsageError(ValueError):
    """Options that are right one by one and wrong together."""


def explain(error: CycloptsError | UsageError) -> list[str]:
    """Return one line for each mistake: the option, the value, what is allowed."""
    if isinstance(error.__cause__, ValidationError):
        return [_mistake(item) for item in error.__cause__.errors(include_url=False)]
    if isinstance(error, MissingArgumentError) and error.keyword is None:
        return [f"{option} is required. Try --help." for option in _left_out(error)] or [f"{error} Try --help."]
    if isinstance(error, UnusedCliTokensError):
        return [f"{' '.join(error.unused_tokens or ())!r} is neither {', '.join(REQUESTS)} nor an option. Try --help."]
    return [f"{error} Try --help."]


def read_scalar(value: Any) -> Any:
    """Return the number or truth value in what the shell handed over as text, or else the text."""
    read = read_value(value)
    return value if isinstance(read, (list, dict)) else read


def read_value(value: Any) -> Any:
    """Return the number, truth value, JSON list or JSON object in what the shell handed over, or else the text."""
    if not isinstance(value, str):
        return value
    try:
        read = json.loads(value, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        return value
    return read if isinstance(read, (bool, int, float, list, dict)) else value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")  # NaN and Infinity, which no provider could read


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse_constant(digits)


def _mistake(item: Mapping[str, Any]) -> str:
    field = str(item["loc"][-1])
    option = "--" + field.replace("_", "-")
    if item["type"] == "missing":
        return f"{option} is required. Try --help."
    said = f"{option} {item['input']!r}: {item['msg']}"
    if field == "provider" and item["input"] in REQUESTS:
        return f"{said}; give the provider as the command: python -m flows.train_pipeline {item['input']} --help"
    return said


def _left_out(error: MissingArgumentError) -> list[str]:
    """Return every required option of the command that was not given; the error names the first only."""
    kind = REQUESTS.get(" ".join(error.command_chain or ()))
    given = {token.partition("=")[0] for token in error.root_input_tokens or ()}
    fields = kind.model_fields.items() if kind is not None else ()
    required = ["--" + name.replace("_", "-") for name, field in fields if field.is_required()]
    return [option for option in required if option not in given]
