"""Every error: stored and read back, drawn in the docstring, told apart by who may retry it."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from pipeline import errors
from pipeline.errors import ErrorContext, PipelineError

CONTEXT = ErrorContext("training.create", "export", 503, "busy", "req-1", 7.5, "r1", outcome_unknown=True)
RETRYABLE = {"RetryableProviderError", "TransportError", "ProviderUnavailableError", "RateLimitError"}


def _all_errors() -> list[type[PipelineError]]:
    found = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PipelineError)]
    return sorted(found, key=lambda kind: kind.__name__)


def _drawn_parents() -> dict[str, str | None]:
    """Read the tree in the module docstring: class name to the name it hangs under."""
    parents: dict[str, str | None] = {}
    stack: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"[ │├└─]*(\w+Error)\b", line)
        if match is None:
            continue
        depth = match.start(1)
        stack = [(at, name) for at, name in stack if at < depth]
        parents[match[1]] = stack[-1][1] if stack else None
        stack.append((depth, match[1]))
    return parents


@pytest.mark.parametrize("kind", _all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_survives_being_stored(kind: type[PipelineError]) -> None:
    """Sentence, context and class come back from a pickle."""
    back = pickle.loads(pickle.dumps(kind("what failed", CONTEXT)))  # noqa: S301 - our own bytes
    assert (type(back), back.message, back.context, str(back)) == (kind, "what failed", CONTEXT, "what failed")


@pytest.mark.parametrize("kind", _all_errors(), ids=lambda kind: kind.__name__)
def test_every_error_takes_message_and_context_by_position(kind: type[PipelineError]) -> None:
    """A context is optional, and empty when it is left out."""
    assert kind("what failed").context == ErrorContext()


def test_the_docstring_draws_the_tree_as_it_is() -> None:
    """No class is missing from the drawing, none is drawn that does not exist, and every parent is the real one."""
    real = {kind.__name__: kind.__mro__[1].__name__ if kind is not PipelineError else None for kind in _all_errors()}
    assert _drawn_parents() == real


def test_every_error_has_a_docstring_of_its_own() -> None:
    """What the caller can do is said class by class."""
    assert [kind.__name__ for kind in _all_errors() if not kind.__dict__.get("__doc__")] == []


def test_exactly_the_passing_faults_are_retryable() -> None:
    """Nothing permanent is retried, nothing passing is given up."""
    assert {kind.__name__ for kind in _all_errors() if errors.is_retryable(kind("x"))} == RETRYABLE


def test_foreign_errors_are_not_retryable() -> None:
    """A bug is not an outage."""
    assert not errors.is_retryable(ValueError("x"))
