"""Tiny ONNX graphs with the vendor's inputs and outputs: what a scripted run delivers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIDE = 64
_STRIDES = (8, 16, 32)
_QUERIES = 8
_OPSET, _IR = 17, 8

ARCHITECTURES = {
    "yolox": "yolox-tiny-scripted",
    "rfdetr_detection": "rfdetr-tiny-scripted",
    "rfdetr_segmentation": "rfdetr-seg-tiny-scripted",
    "rfdetr_keypoint": "rfdetr-keypoint-tiny-scripted",
    "detectron2": "detectron2-tiny-scripted",
    "sm_pytorch": "segformer-tiny-scripted",
    "classification": "classifier-tiny-scripted",
}


class _Graph:
    """Nodes and weights of a graph while it is put together."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.nodes: list[object] = []
        self.weights: list[object] = []

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def random(self, name: str, *shape: int, scale: float = 1.0) -> str:
        return self.constant(name, (self._random.standard_normal(shape) * scale).astype(np.float32))


def tiny_model(pipeline_type: str, classes: Sequence[str], seed: int = 0) -> bytes:
    """Return an ONNX file with one (1, 3, 64, 64) float32 input and the outputs of a pipeline's decoder.

    The outputs depend on the image and the seed, and mean nothing.
    """
    from onnx import TensorProto, checker, helper

    graph = _Graph(seed)
    build = {"yolox": _yolox, "sm_pytorch": _semantic, "classification": _classification}.get(pipeline_type, _queries)
    outputs = build(graph, len(classes))
    if pipeline_type in ("rfdetr_segmentation", "detectron2"):
        outputs["masks"] = (1, _QUERIES, 16, 16)
        _per_query(graph, "masks", 256, (1, _QUERIES, 16, 16))
    if pipeline_type == "rfdetr_keypoint":
        outputs["keypoints"] = (1, _QUERIES, len(classes), 3)
        _per_query(graph, "keypoints", 3 * len(classes), outputs["keypoints"])
    described = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, (1, 3, SIDE, SIDE))
    body = helper.make_graph(graph.nodes, f"{pipeline_type}_scripted", [image], described, initializer=graph.weights)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="sandbox")
    model.ir_version = _IR
    checker.check_model(model)
    return bytes(model.SerializeToString())


def _classification(graph: _Graph, classes: int) -> dict[str, tuple[int, ...]]:
    _pooled(graph)
    graph.add("MatMul", ["pooled", graph.random("head", 3, classes)], "output")
    return {"output": (1, classes)}


def _semantic(graph: _Graph, classes: int) -> dict[str, tuple[int, ...]]:
    channels = 1 if classes == 1 else classes + 1
    graph.add("AveragePool", ["images"], "cells", kernel_shape=[4, 4], strides=[4, 4])
    graph.add("Conv", ["cells", graph.random("head", channels, 3, 1, 1)], "output")
    return {"output": (1, channels, SIDE // 4, SIDE // 4)}


def _yolox(graph: _Graph, classes: int) -> dict[str, tuple[int, ...]]:
    width = 5 + classes
    scale = graph.constant("scale", np.array(1 / 255, dtype=np.float32))
    graph.add("Mul", ["images", scale], "scaled")
    levels = []
    for stride in _STRIDES:
        graph.add("AveragePool", ["scaled"], f"cells{stride}", kernel_shape=[stride, stride], strides=[stride, stride])
        head = graph.random(f"head{stride}", width, 3, 1, 1)
        graph.add("Conv", [f"cells{stride}", head], f"grid{stride}")
        shape = graph.constant(f"shape{stride}", np.array([1, width, -1], dtype=np.int64))
        levels.append(graph.add("Reshape", [f"grid{stride}", shape], f"level{stride}"))
    graph.add("Concat", levels, "levels", axis=2)
    graph.add("Transpose", ["levels"], "rows", perm=[0, 2, 1])
    split = graph.constant("split", np.array([4, 1 + classes], dtype=np.int64))
    from onnx import helper

    graph.nodes.append(helper.make_node("Split", ["rows", split], ["boxes", "raw_scores"], name="parts", axis=2))
    graph.add("Sigmoid", ["raw_scores"], "scores")
    graph.add("Concat", ["boxes", "scores"], "output", axis=2)
    return {"output": (1, sum((SIDE // stride) ** 2 for stride in _STRIDES), width)}


def _queries(graph: _Graph, classes: int) -> dict[str, tuple[int, ...]]:
    _pooled(graph)
    graph.add("Sigmoid", [_per_query(graph, "raw_dets", 4, (1, _QUERIES, 4))], "dets")
    _per_query(graph, "labels", classes + 1, (1, _QUERIES, classes + 1))
    return {"dets": (1, _QUERIES, 4), "labels": (1, _QUERIES, classes + 1)}


def _per_query(graph: _Graph, name: str, width: int, shape: tuple[int, ...]) -> str:
    graph.add("MatMul", ["pooled", graph.random(f"{name}_head", 3, _QUERIES * width)], f"{name}_flat")
    return graph.add(
        "Reshape", [f"{name}_flat", graph.constant(f"{name}_shape", np.array(shape, dtype=np.int64))], name
    )


def _pooled(graph: _Graph) -> None:
    graph.add("GlobalAveragePool", ["images"], "mean")
    graph.add("Flatten", ["mean"], "pooled", axis=1)
