"""Start and check training jobs from the server: nothing here imports torch.

A job is a folder with `job.json`; its child process writes progress.jsonl, model.onnx, config.json and, last,
result.json. The child ends with its server and, started again on the same folder, goes on from its checkpoint to the
same bytes. A child that ends without a result was killed from outside; cancel with `cancel`, which cannot be missed.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox.datasets import DataError, LabelledImage
from sandbox.environment import child_environment
from sandbox.training.recipes import RECIPES, ConfigError, resolve
from sandbox.training.selection import select

TRAINABLE: frozenset[str] = frozenset(RECIPES)
PARENT_VARIABLE = "SANDBOX_TRAINER_PARENT"


def not_trainable(pipeline_type: str) -> str:
    """Return the message for a pipeline type that has no trainer here."""
    known = " or ".join(sorted(TRAINABLE, reverse=True))
    return f"pipeline_type {pipeline_type!r} is not trainable in the sandbox yet; use {known}"


def check_job(pipeline_type: str, images: Sequence[LabelledImage], config: Mapping[str, Any]) -> str | None:
    """Return the message a hosted worker would fail with before the first epoch, or None."""
    if pipeline_type not in TRAINABLE:
        return not_trainable(pipeline_type)
    try:
        settings, _ = resolve(RECIPES[pipeline_type], config)
        select(images, settings, seed=0)
    except (ConfigError, DataError) as error:
        return str(error)
    return None


def start(job_dir: Path) -> subprocess.Popen[bytes]:
    """Start the training child of a job folder, at lower priority; its output goes to `log.txt` there.

    Raises:
        FileNotFoundError: The folder has no job.json.
    """
    threads = str(int(json.loads((job_dir / "job.json").read_text(encoding="utf-8")).get("threads", 1)))
    environment = child_environment(
        OMP_NUM_THREADS=threads,
        MKL_NUM_THREADS=threads,
        OMP_WAIT_POLICY="PASSIVE",  # waiting threads must not spin on cores that others use
        **{PARENT_VARIABLE: str(os.getpid())},
    )
    with (job_dir / "log.txt").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", "sandbox.training", str(job_dir)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,  # Ctrl-C at the server must not reach the job before the server decides
        )


def cancel(job_dir: Path) -> None:
    """Ask the job's child to stop; it does within a second and reports `cancelled`."""
    (job_dir / "cancel").touch()
