"""How long the README's first command takes: from nothing to a trained, downloaded and tried model.

``python -m flows.train_pipeline`` without arguments, in a folder and with homes of its own: Prefect makes its database,
the sandbox its data sets, the detector is trained for real on this machine. Its lines are timed as they come.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import IO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import ROOT, describe_machine, isolate, parse_quick

NEEDED_S = 90.0
"""Longest acceptable time of the whole command: what a reader waits for a first result."""
PARTS = (
    ("interpreter, imports", "Rehearsal: "),
    ("Prefect, sandbox, plan", "plan: "),
    ("data sets, export", "export: "),
    ("price, create", "training created: "),
    ("training", "training: completed"),
    ("download", "model: "),
    ("trial run", "smoke"),
    ("report", "report: "),
)
"""Each part ends with the first line that has these words."""
Said = list[tuple[float, str]]


def main() -> int:
    """Measure, print, and return 1 when the command failed or took too long."""
    rounds = 1 if parse_quick(__doc__) else 3
    print(describe_machine("prefect", "torch", "onnxruntime"))
    runs = [_run() for _ in range(rounds)]
    for seconds, said in runs:
        _show(seconds, said)
    middle = median(seconds for seconds, _ in runs)
    met = middle <= NEEDED_S
    print(f"\nmedian of {rounds}: {middle:.1f} s; needed <= {NEEDED_S:.0f} s: {'met' if met else 'MISSED'}")
    return 0 if met else 1


def _run() -> tuple[float, Said]:
    with tempfile.TemporaryDirectory(prefix="bench-demo-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        isolate(root)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRAIN_PIPELINE_SANDBOX_HOME": str(root / "sandbox")}
        began = time.monotonic()
        command = [sys.executable, "-m", "flows.train_pipeline"]
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            said = _listen(process, began)
            seconds = time.monotonic() - began
        finally:
            process.kill()
            process.wait()
            _end_sandbox(root / "sandbox")
    if process.returncode:
        lines = "\n".join(line for _, line in said)
        raise RuntimeError(f"the command ended with {process.returncode}:\n{lines}")
    return seconds, said


def _listen(process: subprocess.Popen[str], began: float) -> Said:
    """Note every line of both streams with its time, until the command has ended."""
    said: Said = []

    def note(stream: IO[str]) -> None:
        for line in stream:
            said.append((time.monotonic() - began, line.rstrip()))

    threads = [threading.Thread(target=note, args=(stream,)) for stream in (process.stdout, process.stderr)]
    for thread in threads:
        thread.start()
    process.wait()
    for thread in threads:
        thread.join()
    return sorted(said)


def _end_sandbox(home: Path) -> None:
    import signal

    import httpx

    from sandbox.launch import find_running

    found = find_running(home.resolve())
    if found is not None:
        health = httpx.get(f"{found.url}/_sandbox/health", timeout=10, trust_env=False).json()
        os.kill(int(health["pid"]), signal.SIGTERM)


def _show(seconds: float, said: Said) -> None:
    print(f"\n{seconds:6.1f} s from start to end, of which")
    reached = 0.0
    for name, words in PARTS:
        at = next((when for when, line in said if words in line), None)
        if at is None:
            print(f"  {name:<24} (no line has {words!r})")
            continue
        print(f"  {name:<24} {at - reached:6.1f} s")
        reached = at
    print(f"  {'end of the process':<24} {seconds - reached:6.1f} s")


if __name__ == "__main__":
    sys.exit(main())
