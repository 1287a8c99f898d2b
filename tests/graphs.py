"""Tiny ONNX graphs for tests: real files that the runtime opens, with weights drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


@dataclass(frozen=True)
class Head:
    """One output: ``bias + slope * (features of the picture @ random weights)``, reshaped."""

    name: str
    shape: tuple[int, ...]
    bias: NDArray[np.float32] | float = 0.0
    slope: float = 1.0
    probabilities_from: int | None = None
    """Columns from this one on go through a sigmoid; -1 sends everything."""


def save_graph(path: Path, nodes: list, inputs: list, outputs: list, tensors: list = ()) -> Path:
    """Write a graph of opset 17 and return its path."""
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(tensors))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def picture_input(size: int = 64, channels: int = 3, dtype: int = FLOAT, name: str = "input"):
    """Describe a (1, channels, size, size) input."""
    return helper.make_tensor_value_info(name, dtype, [1, channels, size, size])


def save_heads(path: Path, *heads: Head, seed: int = 0, size: int = 64) -> Path:
    """Write a model whose outputs are linear in the means of 4x4 fields of the picture."""
    rng = np.random.default_rng(seed)
    field = size // 4
    nodes = [
        helper.make_node("AveragePool", ["input"], ["pooled"], kernel_shape=[field, field], strides=[field, field]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    tensors, outputs = [], []
    for head in heads:
        width = int(np.prod(head.shape))
        weight = (rng.normal(size=(48, width)) * head.slope).astype(np.float32)
        bias = np.broadcast_to(np.asarray(head.bias, np.float32), head.shape).reshape(-1).copy()
        tensors += [
            numpy_helper.from_array(weight, f"{head.name}_w"),
            numpy_helper.from_array(bias, f"{head.name}_b"),
            numpy_helper.from_array(np.array(head.shape, np.int64), f"{head.name}_s"),
        ]
        nodes += _head_nodes(head, tensors)
        outputs.append(helper.make_tensor_value_info(head.name, FLOAT, list(head.shape)))
    return save_graph(path, nodes, [picture_input(size)], outputs, tensors)


def _head_nodes(head: Head, tensors: list) -> list:
    name, last = head.name, head.name if head.probabilities_from is None else f"{head.name}_raw"
    nodes = [
        helper.make_node("Gemm", ["features", f"{name}_w", f"{name}_b"], [f"{name}_flat"]),
        helper.make_node("Reshape", [f"{name}_flat", f"{name}_s"], [last]),
    ]
    if head.probabilities_from == -1:
        nodes.append(helper.make_node("Sigmoid", [last], [name]))
    elif head.probabilities_from is not None:
        split = [head.probabilities_from, head.shape[-1] - head.probabilities_from]
        tensors.append(numpy_helper.from_array(np.array(split, np.int64), f"{name}_split"))
        nodes += [
            helper.make_node("Split", [last, f"{name}_split"], [f"{name}_head", f"{name}_tail"], axis=-1),
            helper.make_node("Sigmoid", [f"{name}_tail"], [f"{name}_prob"]),
            helper.make_node("Concat", [f"{name}_head", f"{name}_prob"], [name], axis=-1),
        ]
    return nodes


def save_classifier(path: Path, classes: int, seed: int = 0) -> Path:
    """Write a working classifier of random opinions."""
    return save_heads(path, Head("output", (1, classes)), seed=seed)


def save_external(path: Path, location: str) -> Path:
    """Write a classifier whose weights lie in another file."""
    weight = TensorProto(name="w", data_type=FLOAT, dims=[12288, 2], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", str(12288 * 2 * 4))):
        weight.external_data.add(key=key, value=value)
    nodes = [helper.make_node("Flatten", ["input"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["output"])]
    return save_graph(
        path, nodes, [picture_input()], [helper.make_tensor_value_info("output", FLOAT, [1, 2])], [weight]
    )


def save_endless_loop(path: Path) -> Path:
    """Write a classifier that counts to 2**62 before it answers."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["cond_in"], ["cond_out"]), helper.make_node("Tanh", ["v_in"], ["v_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("cond_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_in", FLOAT, [1, 2]),
        ],
        [
            helper.make_tensor_value_info("cond_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_out", FLOAT, [1, 2]),
        ],
    )
    nodes = [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["start"]),
        helper.make_node("Loop", ["trips", "yes", "start"], ["output"], body=body),
    ]
    tensors = [
        numpy_helper.from_array(np.ones((12288, 2), np.float32), "w"),
        numpy_helper.from_array(np.array(2**62, np.int64), "trips"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    return save_graph(path, nodes, [picture_input()], [helper.make_tensor_value_info("output", FLOAT, [1, 2])], tensors)


def save_memory_hog(path: Path) -> Path:
    """Write a classifier that spreads one number over 400 GB before it answers."""
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=0),
        helper.make_node("Expand", ["mean", "huge"], ["spread"]),
        helper.make_node("ReduceMax", ["spread"], ["top"], keepdims=0),
        helper.make_node("Expand", ["top", "small"], ["output"]),
    ]
    tensors = [
        numpy_helper.from_array(np.array([100_000, 1_000_000], np.int64), "huge"),
        numpy_helper.from_array(np.array([1, 2], np.int64), "small"),
    ]
    return save_graph(path, nodes, [picture_input()], [helper.make_tensor_value_info("output", FLOAT, [1, 2])], tensors)


def save_not_a_number(path: Path) -> Path:
    """Write a classifier whose outputs are the logarithms of negative numbers."""
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=0),
        helper.make_node("Abs", ["mean"], ["size"]),
        helper.make_node("Sub", ["minus", "size"], ["negative"]),
        helper.make_node("Log", ["negative"], ["broken"]),
        helper.make_node("Expand", ["broken", "shape"], ["output"]),
    ]
    tensors = [
        numpy_helper.from_array(np.array(-1.0, np.float32), "minus"),
        numpy_helper.from_array(np.array([1, 2], np.int64), "shape"),
    ]
    return save_graph(path, nodes, [picture_input()], [helper.make_tensor_value_info("output", FLOAT, [1, 2])], tensors)


def read_graph(path: Path) -> onnx.ModelProto:
    """Read a graph back to change it."""
    return onnx.load_model_from_string(path.read_bytes())
