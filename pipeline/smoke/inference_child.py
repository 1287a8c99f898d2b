"""The child process that opens and runs a model file; started by ``pipeline.smoke.inference`` only.

``python -m pipeline.smoke.inference_child FOLDER`` reads FOLDER/job.json and writes FOLDER/reply.json. Exit status 0
means that a reply was written, good or bad.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.pictures import PictureError, Size, read_picture, resize_bilinear
from pipeline.download.model_bytes import external_files
from pipeline.errors import InferenceError, ModelLoadError, OutputCheckError
from pipeline.smoke.decoding import Detection, Family, Reading, decode, family_of, preprocess
from pipeline.smoke.inference import (
    JOB_FILE,
    REPLY_FILE,
    STAGE_FILE,
    ChildReply,
    Failure,
    InferenceJob,
    InferenceLimits,
    InferenceResult,
    PackedMask,
    PictureReading,
    one_line,
)

SHOWN_MASKS = 50
SHOWN_MASK_SIDE = 320
_ROOM_PER_MODEL_BYTE = 3

Outputs = list[NDArray[np.generic]]


@dataclass(frozen=True)
class Model:
    """An opened model and what it wants to be fed."""

    session: Any
    input_name: str
    input_size: Size
    family: Family


def main(arguments: Sequence[str]) -> int:
    """Run the job found in the folder named by the only argument; return the exit status."""
    folder = Path(arguments[0])
    job = InferenceJob.model_validate_json((folder / JOB_FILE).read_bytes())
    _limit_this_process(job)
    reply = answer(job, folder / STAGE_FILE)
    (folder / REPLY_FILE).write_text(reply.model_dump_json(), encoding="utf-8")
    return 0


def answer(job: InferenceJob, stage: Path) -> ChildReply:
    """Run a job; ``stage`` is kept up to date with the number of the picture at hand."""
    try:
        return ChildReply(result=run_job(job, stage))
    except ModelLoadError as error:
        failure = Failure(kind="load", message=error.message)
    except (InferenceError, PictureError) as error:
        failure = Failure(kind="run", message=str(error))
    except OutputCheckError as error:
        failure = Failure(kind="output", message=error.message)
    except MemoryError:
        failure = Failure(kind="run" if stage.exists() else "load", message=_out_of_memory(job.limits))
    return ChildReply(failure=failure)


def run_job(job: InferenceJob, stage: Path) -> InferenceResult:
    """Open the model and run it on every picture.

    Raises:
        ModelLoadError: The model cannot be opened, or wants another kind of input.
        InferenceError: It did not run.
        OutputCheckError: Its outputs do not fit.
        PictureError: A picture cannot be read.
    """
    model = open_model(job)
    response = ResponseCheck()
    readings = []
    for number, path in enumerate(job.pictures, start=1):
        stage.write_text(str(number), encoding="ascii")
        picture = read_picture(path)
        fed = preprocess(model.family, picture, model.input_size)
        started = time.perf_counter()
        outputs = _infer(model, fed, job.limits)
        latency_s = time.perf_counter() - started
        size = (picture.shape[0], picture.shape[1])
        found = decode(outputs, Reading(model.family, job.classes, model.input_size, size, job.confidence))
        readings.append(_to_reading(found, latency_s))
        response.add(fed, outputs)
    if response.needs_probe:
        response.add_probe(model, job.limits)
    return InferenceResult(readings=tuple(readings), input_size=model.input_size, responds=response.seen)


class ResponseCheck:
    """Finds out whether the outputs depend on the picture at all."""

    def __init__(self) -> None:
        self.seen = False
        self.needs_probe = True
        self._first: tuple[NDArray[np.float32], Outputs] | None = None

    def add(self, fed: NDArray[np.float32], outputs: Outputs) -> None:
        """Compare one more input and its outputs with the first."""
        if self._first is None:
            self._first = fed, outputs
        elif not self.seen and not np.array_equal(fed, self._first[0]):
            self.needs_probe = False
            self.seen = not all(map(_alike, outputs, self._first[1]))

    def add_probe(self, model: Model, limits: InferenceLimits) -> None:
        """Run the first picture upside down and negated, for lack of a second picture."""
        if self._first is not None:
            fed = np.ascontiguousarray(-self._first[0][:, :, ::-1] + np.float32(1))
            self.add(fed, _infer(model, fed, limits))


def open_model(job: InferenceJob) -> Model:
    """Open the model from its bytes, so that nothing in it can name another file.

    Raises:
        ModelLoadError: The file is no ONNX model, reads other files, or wants another kind of input.
    """
    import onnxruntime

    data = job.model.read_bytes()
    _refuse_external_data(data)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if _is_memory_error(error):
            raise MemoryError from error
        reason = f"ONNX Runtime {onnxruntime.__version__} says: {one_line(str(error))}"
        raise ModelLoadError(reason) from error
    name, size = _check_input(session.get_inputs(), job)
    return Model(session, name, size, family_of(job.task, job.architecture))


def _refuse_external_data(data: bytes) -> None:
    try:
        names = external_files(data)
    except ValueError as error:
        raise ModelLoadError(f"it is no ONNX model, or was cut off in transfer ({error}); download it again") from error
    if names:
        listed = ", ".join(repr(one_line(name)) for name in names[:5])
        raise ModelLoadError(f"its weights lie in other files ({listed}); only a single self-contained file is opened")


def _check_input(inputs: Sequence[Any], job: InferenceJob) -> tuple[str, Size]:
    """Return name and size of the one picture input."""
    if len(inputs) != 1:
        names = ", ".join(repr(one_line(entry.name)) for entry in inputs[:10])
        raise ModelLoadError(f"it takes {len(inputs)} inputs ({names}) instead of one picture")
    entry = inputs[0]
    shape = list(entry.shape or ())
    if entry.type != "tensor(float)" or len(shape) != 4:
        raise ModelLoadError(f"it takes {entry.type} of shape {shape} instead of float32 (1, 3, height, width)")
    batch, channels, height, width = (extent if isinstance(extent, int) else None for extent in shape)
    if batch not in {None, 1} or channels not in {None, 3}:
        hint = "; the colours come last, export it with (1, 3, height, width)" if width == 3 else ""
        raise ModelLoadError(f"it takes shape {shape} instead of one picture of 3 colours (1, 3, height, width){hint}")
    size = height or job.fallback_size[0], width or job.fallback_size[1]
    if not 1 <= min(size) <= max(size) <= job.limits.input_side:
        raise ModelLoadError(f"it takes pictures of {size[0]}x{size[1]}; the limit is {job.limits.input_side} a side")
    return entry.name, size


def _infer(model: Model, fed: NDArray[np.float32], limits: InferenceLimits) -> Outputs:
    try:
        raw = model.session.run(None, {model.input_name: fed})
    except Exception as error:
        if _is_memory_error(error):
            raise MemoryError from error
        raise InferenceError(f"ONNX Runtime says: {one_line(str(error))}") from error
    if not all(isinstance(output, np.ndarray) for output in raw):
        raise OutputCheckError("its outputs are not all tensors")
    total = sum(output.nbytes for output in raw)
    if total > limits.output_bytes:
        raise InferenceError(f"its outputs for one picture hold {total} bytes; the limit is {limits.output_bytes}")
    return list(raw)


def _to_reading(found: Sequence[Detection], latency_s: float) -> PictureReading:
    masks = [_shrink_mask(seen.mask) for seen in found[:SHOWN_MASKS] if seen.mask is not None]
    predictions = tuple(seen.prediction for seen in found)
    return PictureReading(predictions=predictions, masks=tuple(masks), latency_s=latency_s)


def _shrink_mask(mask: NDArray[np.bool_]) -> PackedMask:
    """Pack a mask for drawing, which needs no more than a few hundred pixels a side."""
    factor = min(1.0, SHOWN_MASK_SIDE / max(mask.shape))
    size = max(1, round(mask.shape[0] * factor)), max(1, round(mask.shape[1] * factor))
    return PackedMask.pack(resize_bilinear(mask, size) >= 0.5)


def _alike(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=1e-6, atol=1e-7))


def _is_memory_error(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, MemoryError) or "bad_alloc" in text or "Failed to allocate memory" in text


def _out_of_memory(limits: InferenceLimits) -> str:
    return f"it needs more than the {limits.memory_bytes / 1024**3:.1f} GiB of memory it may use"


def _limit_this_process(job: InferenceJob) -> None:
    """Limit memory, processor time and file size; the processor limit also ends a child whose parent was killed."""
    if sys.platform == "win32":
        return
    import resource

    limits = job.limits
    _lower(resource.RLIMIT_CPU, math.ceil(limits.time_s) + 5)
    _lower(resource.RLIMIT_FSIZE, limits.file_bytes)
    _lower(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":
        _lower(resource.RLIMIT_AS, limits.memory_bytes + _ROOM_PER_MODEL_BYTE * job.model.stat().st_size)


def _lower(which: int, value: int) -> None:
    import resource

    _, hard = resource.getrlimit(which)
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (bound, bound))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
