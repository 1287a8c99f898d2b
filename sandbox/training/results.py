"""What a job's folder says about its end; importable without torch."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from sandbox.datasets import DataError
from sandbox.training.recipes import ConfigError

PROGRESS, RESULT, CHECKPOINT = "progress.jsonl", "result.json", "checkpoint.pt"
LOCK = "lock"
"""Held by the child that works in the folder, as long as it lives; its process id is in it."""


class TrainingError(RuntimeError):
    """Training cannot give a usable model: the message says at which point and what to change."""


def message_of(error: Exception) -> str:
    """Return what to tell the person whose training failed."""
    if isinstance(error, DataError | ConfigError | TrainingError):
        return str(error)
    if "CUDA out of memory" in str(error):  # torch's own words, as the hosted service passes them on
        return str(error)
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return "out of memory while training: lower batch_size or image_size"
    return f"the trainer broke: {type(error).__name__}: {error}"


def unfinished(job_dir: Path, status: Literal["failed", "cancelled"], message: str | None) -> dict[str, Any]:
    """Return the result of a job that gave no model, with the epochs it reported."""
    history = progress(job_dir)
    return {
        "status": status,
        "error_message": message,
        "metrics": {},
        "classes": [],
        "image_size": None,
        "held_out": [],
        "model_type": None,
        "architecture": None,
        "warnings": [],
        "train_seconds": round(sum(entry["seconds"] for entry in history), 3),
        "history": history,
    }


def progress(job_dir: Path) -> list[dict[str, Any]]:
    """Return the epochs reported so far; a line that is still being written is left out."""
    try:
        text = (job_dir / PROGRESS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document in one step: a reader sees all of it or the file before."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(document, indent=1, allow_nan=False), encoding="utf-8")
    os.replace(part, path)  # noqa: PTH105 - the atomic rename is the point
