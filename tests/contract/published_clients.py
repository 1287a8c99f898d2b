"""The vendor's published clients, one in this interpreter and one in its own, behind the same two methods."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.contract import client_calls

VARIABLE = "PICTOGRAPH_1_0_PYTHON"
"""Names the interpreter of an environment with pictograph 1.0.x, where it is not the one ``make`` installs."""


def old_interpreter() -> str:
    """Return the interpreter that has the vendor's 1.0 client; a missing one is a failure, not a skip."""
    path = Path(__file__).parents[2] / os.environ.get(VARIABLE, ".venv-pictograph-1.0/bin/python")
    if not path.exists():
        pytest.fail(f"no interpreter at {str(path)!r}: run `make install-test`, or name one in {VARIABLE}")
    return str(path)


class Client(Protocol):
    """A published client that makes one call after the other."""

    def call(self, target: str, args: list[Any], kwargs: dict[str, Any]) -> str:
        """Make a call; return ``ok`` or what it raised."""


class InProcess:
    """The client this interpreter has."""

    def __init__(self, key: str, url: str) -> None:
        from pictograph import Client as Published

        self._client = Published(api_key=key, base_url=url)

    def call(self, target: str, args: list[Any], kwargs: dict[str, Any]) -> str:
        """Make a call."""
        return client_calls.perform(self._client, target, args, kwargs)

    def close(self) -> None:
        """Release connections."""
        self._client.close()


class OwnInterpreter:
    """The client another interpreter has."""

    def __init__(self, key: str, url: str) -> None:
        command = [old_interpreter(), client_calls.__file__, key, url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def call(self, target: str, args: list[Any], kwargs: dict[str, Any]) -> str:
        """Make a call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"target": target, "args": args, "kwargs": kwargs}) + "\n")
        self._process.stdin.flush()
        return str(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=30)
