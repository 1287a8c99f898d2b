"""`python -m sandbox.childguard PARENT_PID FOLDER COMMAND...`: run a training that ends with its server."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

_LOOK_EVERY_S = 0.1
_LOG_TAIL_CHARS = 400


def main(argv: list[str]) -> int:
    """Run the command; when it ends without a result, write one that says so."""
    parent, folder, command = int(argv[0]), Path(argv[1]), argv[2:]
    os.nice(10)
    began_s = time.monotonic()
    child = subprocess.Popen(command)  # noqa: S603 - what the server was told to run
    while child.poll() is None:
        if os.getppid() != parent:
            os.killpg(0, signal.SIGKILL)  # the server is gone: so are we, and the child with us
        time.sleep(_LOOK_EVERY_S)
    result = folder / "result.json"
    if not result.exists():
        part = result.with_name("result.json.part")
        seconds = round(time.monotonic() - began_s, 3)
        outcome = {"status": "failed", "error": _reason(folder, child.returncode), "seconds": seconds}
        part.write_text(json.dumps(outcome), encoding="utf-8")
        part.replace(result)
    return child.returncode


def _reason(folder: Path, code: int) -> str:
    path = folder / "log.txt"
    tail = path.read_text(encoding="utf-8", errors="replace").strip()[-_LOG_TAIL_CHARS:] if path.is_file() else ""
    return f"the training process ended with code {code} and no result" + (f": {tail}" if tail else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
