"""Write the trained network as ONNX with the vendor's contract, and prove that the file computes the same."""

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch

from sandbox.training.results import TrainingError
from sandbox.training.task import Network, Task

Tensor = Any
OPSET = 17
LARGEST_DIFFERENCE = 1e-4


def export_onnx(task: Task, network: Network, example: Tensor, path: Path, notes: Mapping[str, Any]) -> None:
    """Export the shipped graph for one image (1, 3, H, W), check it and put it in place; `notes` go in as metadata.

    Raises:
        TrainingError: The exported file computes something else than the network.
    """
    shipped = task.shipped(network.to(memory_format=torch.contiguous_format))
    example = example.contiguous()
    part = path.with_name(path.name + ".part")
    with warnings.catch_warnings():
        # The dynamo exporter is slower and writes this machine's paths into the file.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            shipped,
            (example,),
            str(part),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(task.input_names),
            output_names=list(task.output_names),
        )
    model = onnx.load(part)
    for key, value in sorted(notes.items()):
        model.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    onnx.checker.check_model(model)
    part.write_bytes(model.SerializeToString(deterministic=True))
    _compare(task, shipped, example, part)
    os.replace(part, path)  # noqa: PTH105 - the atomic rename is the point


def _compare(task: Task, shipped: Network, example: Tensor, path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = shipped(example)
    expected = expected if isinstance(expected, tuple | list) else (expected,)
    answer = session.run(None, {session.get_inputs()[0].name: example.numpy()})
    actual = task.in_same_order(expected, [torch.from_numpy(array) for array in answer])
    for name, ours, theirs in zip((output.name for output in session.get_outputs()), expected, actual, strict=True):
        difference = float((ours - theirs).abs().max())
        if not difference < LARGEST_DIFFERENCE:  # also catches NaN
            raise TrainingError(
                f"the exported model's {name!r} differs from the trained network by {difference:g}: "
                "train again with a lower learning_rate"
            )
