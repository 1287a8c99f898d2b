"""Watch a run survive its own death: ``make crash`` kills a rehearsal with SIGKILL and gives the same command again.

A throw-away sandbox, journal and Prefect home are used; nothing is left behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from sandbox.client import SandboxAccount
from sandbox.launch import find_running

COMMAND = [sys.executable, "-m", "flows.train_pipeline", "--sandbox", "--dataset", "road-signs"]
SHOWN = "python -m flows.train_pipeline --sandbox --dataset road-signs"
KILLED_AT = "training: running"
"""What the first process has said when it is killed."""
OWN_SETTINGS = ("TRAIN_PIPELINE_", "PREFECT_")
"""What the demonstration does not take over from whoever runs it: another sandbox, journal or server."""


def main() -> int:
    """Kill a rehearsal in mid-training, rerun it, and show the provider's bill."""
    with tempfile.TemporaryDirectory(prefix="crash-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with rehearsal_home(folder) as environment:
            say(f"$ {SHOWN}")
            kill_in_mid_training(folder, environment)
            say("\n>>> killed with SIGKILL: no signal handler, no farewell. The training goes on at the provider.")
            say(f"\n$ {SHOWN}")
            code = subprocess.run(COMMAND, cwd=folder, env=environment, check=False).returncode  # noqa: S603 - our own module
            return code or judge(folder)


def kill_in_mid_training(folder: Path, environment: dict[str, str]) -> None:
    """Start the command and kill it, and all that it started but the sandbox, once the training runs."""
    process = subprocess.Popen(  # noqa: S603 - our own module
        COMMAND, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in process.stderr or ():
        sys.stderr.write(line)
        if KILLED_AT in line:
            break
    os.killpg(process.pid, signal.SIGKILL)  # the sandbox has a session of its own, like any provider
    process.wait()


def judge(folder: Path) -> int:
    """Show the sandbox's books; one run is what was promised."""
    found = find_running(sandbox_home(folder))
    if found is None:
        say("the sandbox is gone: nothing can be said about its bill")
        return 1
    bill = SandboxAccount(found.url, found.api_key).bill()
    dollars = bill["net"] / 1_000_000
    say(f"\n>>> the provider's bill: {bill['started_runs']} training started, {bill['paid_runs']} paid, ${dollars:.4f}")
    return 0 if (bill["started_runs"], bill["paid_runs"]) == (1, 1) else 1


@contextmanager
def rehearsal_home(folder: Path) -> Iterator[dict[str, str]]:
    """Yield the environment of a user who has just installed the project; the sandbox is ended afterwards."""
    settings = {
        "PREFECT_HOME": folder / "prefect",
        "TRAIN_PIPELINE_SANDBOX_HOME": sandbox_home(folder),
        "TRAIN_PIPELINE_JOURNAL": folder / "journal.db",
    }
    try:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OWN_SETTINGS)}
        yield {**inherited, **{name: str(path) for name, path in settings.items()}}
    finally:
        found = find_running(sandbox_home(folder))
        if found is not None:
            health = httpx.get(f"{found.url}/_sandbox/health", timeout=30, trust_env=False)
            os.kill(int(health.json()["pid"]), signal.SIGTERM)


def sandbox_home(folder: Path) -> Path:
    """Return where this demonstration's sandbox keeps everything."""
    return (folder / "sandbox").resolve()


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
