"""What every benchmark needs: its one option, the machine in a line, and a sandbox in a process of its own."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from tests.servers import free_port, running

ROOT = Path(__file__).resolve().parents[1]


def parse_quick(about: str | None) -> bool:
    """Read the command line: ``--quick`` takes fewer samples."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer samples: for a look, not for a figure to publish")
    return bool(parser.parse_args().quick)


def describe_machine(*packages: str) -> str:
    """Return cores, load, Python and the versions of some packages in one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    load = os.getloadavg()[0]
    return (
        f"machine: {os.cpu_count()} cores ({platform.machine()}), load {load:.1f} before; "
        f"Python {platform.python_version()}, {versions}"
    )


def isolate(root: Path) -> None:
    """Point Prefect and our own settings at a temporary place; must come before the first prefect import."""
    for name in list(os.environ):
        if name.startswith(("PREFECT_", "PICTOGRAPH_", "TRAIN_PIPELINE_")):
            del os.environ[name]
    os.environ["PREFECT_HOME"] = str(root / "prefect")
    os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"


@contextmanager
def running_sandbox(home: Path) -> Iterator[str]:
    """Serve the sandbox from a process of its own; yields its address."""
    port = free_port()
    command = [sys.executable, "-m", "sandbox", "serve", "--home", str(home / "data"), "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with running(command, f"{url}/_sandbox/health", home / "server.log", PYTHONPATH=str(ROOT)):
        yield url
