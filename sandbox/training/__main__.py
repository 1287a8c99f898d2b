"""The training child: `python -m sandbox.training JOB_DIR` trains one job and writes its result."""

import fcntl
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from sandbox.training.jobs import PARENT_VARIABLE, TRAINABLE, not_trainable
from sandbox.training.results import CHECKPOINT, LOCK, RESULT, message_of, unfinished, write_json

_LOOK_EVERY_S = 0.1
_PARENT_GONE = 3


class _CancelledError(BaseException):
    """Raised in the main thread by SIGTERM or SIGINT."""


def _on_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _cancelled(_signal: int, _frame: FrameType | None) -> None:
    _on_signals(signal.SIG_IGN)  # once is enough; the result must still be written
    raise _CancelledError


def _watch(cancel: Path) -> None:
    """Turn a cancel file into SIGTERM; leave at once when the server that started us is gone, to resume later."""
    parent = int(os.environ.get(PARENT_VARIABLE, "0"))
    while True:
        if cancel.exists():
            os.kill(os.getpid(), signal.SIGTERM)
            return
        if parent and os.getppid() != parent:
            os._exit(_PARENT_GONE)
        time.sleep(_LOOK_EVERY_S)


def _attempt(job_dir: Path) -> dict[str, Any]:
    try:
        job = json.loads((job_dir / "job.json").read_text(encoding="utf-8"))
        if job["pipeline_type"] not in TRAINABLE:
            return unfinished(job_dir, "failed", not_trainable(job["pipeline_type"]))
        from sandbox.training.run import run_job  # imports torch: a second or two

        return run_job(job_dir, job)
    except Exception as error:  # a training that breaks is a result, not a crash
        traceback.print_exc()
        return unfinished(job_dir, "failed", message_of(error))


def _outcome(job_dir: Path) -> dict[str, Any]:
    """Return the result of the job, whatever happens in it."""
    try:
        _on_signals(_cancelled)
        threading.Thread(target=_watch, args=(job_dir / "cancel",), daemon=True).start()
        result = _attempt(job_dir)
        _on_signals(signal.SIG_IGN)  # from here on the result stands
    except _CancelledError:
        return unfinished(job_dir, "cancelled", None)
    return result


def main(argv: list[str]) -> int:
    """Run the job of the folder given; a finished job is left as it is."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m sandbox.training JOB_DIR\n")
        return 2
    job_dir = Path(argv[0])
    os.nice(10)
    with (job_dir / LOCK).open("a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second child of the same job waits for the first, then finds its result
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        if not (job_dir / RESULT).exists():
            result = _outcome(job_dir)
            write_json(job_dir / RESULT, result)
            if result["status"] == "completed":  # before, a death would mean training it all again
                (job_dir / CHECKPOINT).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)  # everything is written; unloading torch takes half a second more
