"""Run a model file on pictures in a guarded process of its own.

A model file is a stranger: it may crash the runtime, never end, or want more memory than there is. All of that happens
to a child with limits on time, memory and file size, an empty working folder and no environment, and always ends in a
verdict. The child's side is ``pipeline.smoke.inference_child``; nothing here imports a model runtime.
"""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from pipeline.download.model_bytes import name_other_format
from pipeline.errors import (
    ArtifactError,
    ErrorContext,
    InferenceError,
    ModelLoadError,
    OutputCheckError,
    SmokeTestError,
)
from pipeline.models import ModelTask, Prediction
from pipeline.value import Value

JOB_FILE, REPLY_FILE, STAGE_FILE, STDERR_FILE = "job.json", "reply.json", "stage", "stderr.txt"
MASK_LIMIT = 640 * 640
LEAST_SIDE = 8
"""Least side length fed to a model, in pixels."""
MAX_TEXT = 400
_CHILD_COMMAND = (sys.executable, "-P", "-m", "pipeline.smoke.inference_child")
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")
_GIB = 1024**3
_Side = Annotated[int, Field(ge=LEAST_SIDE)]


class InferenceLimits(Value):
    """What the child process may use."""

    time_s: Annotated[float, Field(gt=0)] = 300.0
    """Seconds for loading and all pictures together."""
    memory_bytes: Annotated[int, Field(gt=0)] = 6 * _GIB
    """Address space, besides room for the model itself. Linux only."""
    output_bytes: Annotated[int, Field(gt=0)] = 256 * 1024**2
    """Most the outputs for one picture may hold."""
    input_side: Annotated[int, Field(gt=0)] = 4096
    """Longest input side a model may ask for, in pixels."""
    file_bytes: Annotated[int, Field(gt=0)] = 64 * 1024**2
    """Largest file the child may write."""


class InferenceJob(Value):
    """One model, the pictures to run it on, and how to read what comes out."""

    model: Path
    """The model file."""
    task: ModelTask
    """What the model does."""
    architecture: str | None
    """Network family, as the provider calls it."""
    classes: tuple[str, ...]
    """Class names in label order."""
    pictures: Annotated[tuple[Path, ...], Field(min_length=1)]
    """Image files."""
    confidence: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Least confidence of a prediction."""
    fallback_size: tuple[_Side, _Side] = (640, 640)
    """Height and width to feed where the graph leaves them open, in pixels."""
    limits: InferenceLimits = InferenceLimits()
    """What the child process may use."""


class PackedMask(Value):
    """A mask over the whole picture, small enough to send."""

    height: Annotated[int, Field(ge=1, le=MASK_LIMIT)]
    """Rows."""
    width: Annotated[int, Field(ge=1, le=MASK_LIMIT)]
    """Columns."""
    bits: str
    """The rows' bits, one after the other, deflated, in base 64."""

    @classmethod
    def pack(cls, mask: NDArray[np.bool_]) -> PackedMask:
        """Pack a (h, w) mask."""
        packed = zlib.compress(np.packbits(mask).tobytes(), 1)
        return cls(height=mask.shape[0], width=mask.shape[1], bits=base64.b64encode(packed).decode("ascii"))

    def unpack(self) -> NDArray[np.bool_]:
        """Return the (h, w) mask.

        Raises:
            ValueError: The bits are damaged or do not fill the shape.
        """
        size = self.height * self.width
        try:
            data = zlib.decompressobj().decompress(base64.b64decode(self.bits, validate=True), MASK_LIMIT // 8 + 1)
        except zlib.error as error:
            raise ValueError(f"damaged mask: {error}") from error
        if size > MASK_LIMIT or len(data) != (size + 7) // 8:
            raise ValueError(f"{len(data)} bytes do not fill a mask of {self.height}x{self.width}")
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=size)
        return bits.reshape(self.height, self.width).astype(np.bool_)


class PictureReading(Value):
    """What the model said about one picture."""

    predictions: tuple[Prediction, ...]
    """Best first."""
    masks: tuple[PackedMask, ...] = ()
    """Masks of the first predictions, in their order; none for models without masks."""
    latency_s: float
    """Seconds for one inference."""


class InferenceResult(Value):
    """What came out of the child process; made by ``run_inference``."""

    readings: tuple[PictureReading, ...]
    """One entry a picture, in the order asked."""
    input_size: tuple[int, int]
    """Height and width the model was fed, in pixels."""
    responds: bool
    """False when every picture gave the same outputs."""


class Failure(Value):
    """Why there is no result."""

    kind: Literal["load", "run", "output"]
    """Which error the parent raises."""
    message: str
    """One sentence."""


class ChildReply(Value):
    """What the child writes before it ends: exactly one of the two."""

    result: InferenceResult | None = None
    failure: Failure | None = None


_ERRORS: dict[str, type[SmokeTestError]] = {
    "load": ModelLoadError,
    "run": InferenceError,
    "output": OutputCheckError,
}


def run_inference(job: InferenceJob) -> InferenceResult:
    """Run the job in a child process of its own.

    Raises:
        ModelLoadError: The file is no model that can be opened here.
        InferenceError: The model opened but crashed, hung, or asked for too much.
        OutputCheckError: The outputs do not fit task or classes.
        ArtifactError: The file cannot be read, or its process not be set up: no verdict, the fault is this machine's.
    """
    _refuse_other_formats(job.model)
    try:
        with tempfile.TemporaryDirectory(prefix="smoke-") as name:
            status = _start_and_wait(Path(name), job)
            return _read_reply(Path(name), status, job)
    except OSError as error:
        raise _untried(job.model, f"its process cannot be set up: {error}; is the disk full?") from error


def one_line(text: str) -> str:
    """Return foreign text as one short printable line."""
    words = "".join(letter if letter.isprintable() else " " for letter in text).split()
    line = " ".join(words)
    return line if len(line) <= MAX_TEXT else f"{line[:MAX_TEXT]}..."


def _refuse_other_formats(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise _untried(path, f"it cannot be read: {error.strerror}") from error
    other = name_other_format(head)
    if other is not None:
        raise _failed("load", path, f"it looks like {other}, not like an ONNX model; download it again")


def _start_and_wait(folder: Path, job: InferenceJob) -> int | None:
    absolute = {"model": job.model.absolute(), "pictures": tuple(path.absolute() for path in job.pictures)}
    (folder / "empty").mkdir()
    (folder / JOB_FILE).write_text(job.model_copy(update=absolute).model_dump_json(), encoding="utf-8")
    return _run_child(folder, job.limits.time_s)


def _run_child(folder: Path, time_s: float) -> int | None:
    """Run the child to its end; None when it had to be stopped for time."""
    with (folder / STDERR_FILE).open("wb") as stderr:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*_CHILD_COMMAND, str(folder)],
            cwd=folder / "empty",
            env=_bare_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            return process.wait(timeout=time_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # Also on Ctrl-C and cancellation: nobody else would end it.
            if process.poll() is None:
                process.kill()
                process.wait()


def _bare_environment() -> dict[str, str]:
    """Return what an interpreter needs and nothing else: no keys, no tokens."""
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {**threads, **kept, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONIOENCODING": "utf-8"}


def _read_reply(folder: Path, status: int | None, job: InferenceJob) -> InferenceResult:
    if status != 0:
        kind, done = _read_stage(folder, job)
        raise _failed(kind, job.model, f"{_describe_end(folder, status, job.limits)} {done}")
    try:
        with (folder / REPLY_FILE).open("rb") as file:
            reply = ChildReply.model_validate_json(file.read(job.limits.file_bytes))
    except (OSError, ValidationError) as error:
        kind, done = _read_stage(folder, job)
        raise _failed(kind, job.model, f"its process left no readable result {done}") from error
    if reply.failure is not None:
        raise _failed(reply.failure.kind, job.model, reply.failure.message)
    if reply.result is None or len(reply.result.readings) != len(job.pictures):
        raise _failed("run", job.model, "its process left an incomplete result")
    return reply.result


def _describe_end(folder: Path, status: int | None, limits: InferenceLimits) -> str:
    if status is None:
        return f"it was stopped after {limits.time_s:g} s, still busy"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"its process crashed with {name}"
    with (folder / STDERR_FILE).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return f"its process ended with status {status} ({one_line(lines[-1]) if lines else 'no message'})"


def _read_stage(folder: Path, job: InferenceJob) -> tuple[Literal["load", "run"], str]:
    """Return whether the child was still loading, and in words what it was doing."""
    try:
        number = int((folder / STAGE_FILE).read_text(encoding="ascii")[:12])
    except (OSError, ValueError):
        return "load", "while it was being opened"
    shown = min(max(number, 1), len(job.pictures))
    return "run", f"on picture {shown} of {len(job.pictures)} ({job.pictures[shown - 1].name!r})"


def _failed(kind: Literal["load", "run", "output"], model: Path, message: str) -> SmokeTestError:
    action = {"load": "cannot be opened", "run": "does not run", "output": "is refused"}[kind]
    return _ERRORS[kind](f"model {model.name!r} {action}: {message}", ErrorContext(operation=f"smoke.{kind}"))


def _untried(model: Path, message: str) -> ArtifactError:
    return ArtifactError(f"model {model.name!r} could not be tried: {message}", ErrorContext(operation="smoke.run"))
