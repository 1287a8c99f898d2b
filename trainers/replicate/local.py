"""Run the trainer as a child process: `python -m trainers.replicate.local FOLDER`.

The folder holds `input.json`, a training's input with a local path as `train_data`. `weights.tar` is there once
`result.json` says that it completed; a process that ends without a result was killed. SIGTERM ends it at once.
"""

import fcntl
import inspect
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from sandbox.training.recipes import ConfigError
from sandbox.training.results import LOCK, RESULT, message_of, write_json

INPUT, WEIGHTS = "input.json", "weights.tar"
_SCRATCH = "scratch"


def main(argv: list[str]) -> int:
    """Train what the folder given asks for; one that has its result is left as it is."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m trainers.replicate.local FOLDER\n")
        return 2
    folder = Path(argv[0])
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a handler would wait for whatever torch is doing
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    with (folder / LOCK).open("a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second process on the folder waits for the first, then finds its result
        if not (folder / RESULT).exists():
            _run(folder)
    return 0


def _run(folder: Path) -> None:
    started = time.monotonic()
    scratch = folder / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)  # of one that was killed
    scratch.mkdir()
    tempfile.tempdir = str(scratch)  # what is unpacked on the way goes with the folder
    try:
        error = _attempt(folder)
    finally:
        tempfile.tempdir = None
        shutil.rmtree(scratch, ignore_errors=True)
    result = {
        "status": "completed" if error is None else "failed",
        "error": error,
        "seconds": round(time.monotonic() - started, 3),
    }
    write_json(folder / RESULT, result)


def _attempt(folder: Path) -> str | None:
    """Train and put the weights in their place; return what went wrong, or None."""
    from trainers.replicate.train import train

    try:
        given = json.loads((folder / INPUT).read_text(encoding="utf-8"))
        try:
            call = inspect.signature(train).bind(**given)
        except TypeError as error:
            raise ConfigError(f"{INPUT} does not fit the trainer: {error}") from error
        weights = Path(train(*call.args, **call.kwargs).weights)
        weights.replace(folder / WEIGHTS)
    except Exception as error:  # a training that breaks is a result, not a crash
        traceback.print_exc()
        return message_of(error)
    return None


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # everything is written; unloading torch takes half a second more
