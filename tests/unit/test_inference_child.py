"""The child's side of the guard, called in this process: what it refuses, and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image

from pipeline.download.model_bytes import external_files, name_other_format
from pipeline.models import ModelTask
from pipeline.smoke.inference import ChildReply, InferenceJob, InferenceLimits, PackedMask
from pipeline.smoke.inference_child import answer
from tests.graphs import (
    FLOAT,
    Head,
    picture_input,
    read_graph,
    save_classifier,
    save_external,
    save_graph,
    save_heads,
    save_not_a_number,
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """Two different pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(1)
    for number in range(2):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(folder / f"p{number}.png")
    return tuple(sorted(folder.iterdir()))


def ask(model: Path, pictures: tuple[Path, ...], classes: int = 2, **more: object) -> ChildReply:
    """Run a classification job here and now."""
    names = tuple(f"class {number}" for number in range(classes))
    fields: dict[str, object] = {"task": ModelTask.CLASSIFICATION, "architecture": None, "classes": names, **more}
    job = InferenceJob(model=model, pictures=pictures, **fields)  # type: ignore[arg-type]
    return answer(job, model.parent / "stage")


def refusal(reply: ChildReply) -> str:
    """Return kind and message of a refusal."""
    assert reply.failure is not None, reply
    return f"{reply.failure.kind}: {reply.failure.message}"


def flat_graph(path: Path, picture: object) -> Path:
    """Write a model that takes ``picture`` and answers its mean, whatever its type."""
    nodes = [
        helper.make_node("Cast", ["input"], ["cast"], to=FLOAT),
        helper.make_node("ReduceMean", ["cast"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "axes"], ["output"]),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [0, 1])
    return save_graph(path, nodes, [picture], [helper.make_tensor_value_info("output", FLOAT, [1, 1])], [axes])


def test_a_working_model_answers(tmp_path: Path, pictures: tuple[Path, ...]) -> None:
    """Every picture gets a reading, and different pictures get different outputs."""
    result = ask(save_classifier(tmp_path / "m.onnx", 2), pictures).result
    assert result is not None
    assert len(result.readings) == 2
    assert result.input_size == (64, 64)
    assert result.responds


@pytest.mark.parametrize("count", [1, 2])
def test_constant_outputs_are_noticed(tmp_path: Path, pictures: tuple[Path, ...], count: int) -> None:
    """A model that ignores its input is found out, with a single picture too."""
    path = save_heads(tmp_path / "m.onnx", Head("output", (1, 2), bias=np.array([[1.0, 2.0]]), slope=0.0))
    result = ask(path, pictures[:count]).result
    assert result is not None
    assert not result.responds


def test_the_same_picture_twice_proves_nothing(tmp_path: Path, pictures: tuple[Path, ...]) -> None:
    """Equal outputs for equal pictures do not condemn a working model."""
    result = ask(save_classifier(tmp_path / "m.onnx", 2), (pictures[0], pictures[0])).result
    assert result is not None
    assert result.responds


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [
        ([1, 1, 64, 64], FLOAT, r"one picture of 3 colours"),
        ([1, 64, 64, 3], FLOAT, r"the colours come last"),
        ([8, 3, 64, 64], FLOAT, r"\[8, 3, 64, 64\] instead of one picture"),
        ([1, 3, 64], FLOAT, r"instead of float32 \(1, 3, height, width\)"),
        ([1, 3, 64, 64], TensorProto.INT64, r"tensor\(int64\).* instead of float32"),
        ([1, 3, 64, 64], TensorProto.UINT8, r"tensor\(uint8\).* instead of float32"),
        ([1, 3, 100_000, 100_000], FLOAT, r"100000x100000; the limit is 4096 a side"),
    ],
)
def test_other_inputs_are_refused(
    tmp_path: Path, pictures: tuple[Path, ...], shape: list[int], dtype: int, reason: str
) -> None:
    """Channels, layout, batch, rank, type and size of the input are checked before anything runs."""
    path = flat_graph(tmp_path / "m.onnx", helper.make_tensor_value_info("input", dtype, shape))
    with pytest.raises(AssertionError, match=f"load: .*{reason}"):
        raise AssertionError(refusal(ask(path, pictures, classes=1)))


def test_two_inputs_are_refused(tmp_path: Path, pictures: tuple[Path, ...]) -> None:
    """A model with a second input is named with its inputs."""
    nodes = [helper.make_node("Add", ["input", "other"], ["output"])]
    value = helper.make_tensor_value_info("output", FLOAT, [1, 3, 64, 64])
    path = save_graph(tmp_path / "m.onnx", nodes, [picture_input(), picture_input(name="other")], [value])
    assert "takes 2 inputs ('input', 'other')" in refusal(ask(path, pictures))


@pytest.mark.parametrize(
    ("sides", "fed"), [(("height", "width"), (96, 64)), ((32, "width"), (32, 64)), (("height", 32), (96, 32))]
)
def test_open_sizes_take_the_fallback(
    tmp_path: Path, pictures: tuple[Path, ...], sides: tuple[object, object], fed: tuple[int, int]
) -> None:
    """Where the graph leaves height or width open, the given one is fed."""
    value = helper.make_tensor_value_info("input", FLOAT, ["batch", 3, *sides])
    path = flat_graph(tmp_path / "m.onnx", value)
    result = ask(path, pictures, classes=1, fallback_size=(96, 64)).result
    assert result is not None
    assert result.input_size == fed


@pytest.mark.parametrize("classes", [1, 3])
def test_class_count_must_fit_the_graph(tmp_path: Path, pictures: tuple[Path, ...], classes: int) -> None:
    """A class too few or too many is an output that does not fit."""
    reason = refusal(ask(save_classifier(tmp_path / "m.onnx", 2), pictures, classes=classes))
    assert reason.startswith("output: ")
    assert f"{classes} declared class(es)" in reason
    assert "2 logits, which is room for 2" in reason


def test_outputs_that_are_no_numbers_are_refused(tmp_path: Path, pictures: tuple[Path, ...]) -> None:
    """NaN outputs are refused with their count."""
    assert "output: " in (reason := refusal(ask(save_not_a_number(tmp_path / "m.onnx"), pictures)))
    assert "2 of 2 values of output 0 are not" in reason


def test_outputs_above_the_limit_are_refused(tmp_path: Path, pictures: tuple[Path, ...]) -> None:
    """The sum over all outputs of a picture is what counts."""
    limits = InferenceLimits(output_bytes=7)
    reason = refusal(ask(save_classifier(tmp_path / "m.onnx", 2), pictures, limits=limits))
    assert reason == "run: its outputs for one picture hold 8 bytes; the limit is 7"


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_model_is_refused(tmp_path: Path, pictures: tuple[Path, ...], share: float) -> None:
    """Wherever the file was cut off, it is not opened, and the reason says so."""
    path = save_classifier(tmp_path / "m.onnx", 2)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "load: it is no ONNX model, or was cut off" in refusal(ask(path, pictures))


@pytest.mark.parametrize("location", ["/etc/passwd", "../secret.bin", "weights.bin"])
def test_weights_in_other_files_are_refused(tmp_path: Path, pictures: tuple[Path, ...], location: str) -> None:
    """Whatever file a model names, outside or beside itself, it is not read."""
    (tmp_path / "weights.bin").write_bytes(bytes(12288 * 2 * 4))
    reason = refusal(ask(save_external(tmp_path / "m.onnx", location), pictures))
    assert reason.startswith("load: its weights lie in other files")
    assert repr(location) in reason


def test_other_files_are_found_inside_nested_graphs(tmp_path: Path) -> None:
    """A reference hidden in an attribute of a node in a subgraph is found."""
    inner = read_graph(save_external(tmp_path / "m.onnx", "/hidden")).graph
    tensor = inner.initializer[0]
    body = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "body", [], [])
    node = helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
    model = helper.make_model(helper.make_graph([node], "outer", [], []))
    assert external_files(model.SerializeToString()) == ("/hidden",)


def test_an_unknown_operator_is_refused(tmp_path: Path, pictures: tuple[Path, ...]) -> None:
    """The runtime's own reason is passed on, on one line."""
    value = helper.make_tensor_value_info("output", FLOAT, [1, 2])
    node = helper.make_node("Evil", ["input"], ["output"], domain="com.example")
    path = save_graph(tmp_path / "m.onnx", [node], [picture_input()], [value])
    reason = refusal(ask(path, pictures))
    assert reason.startswith("load: ONNX Runtime")
    assert "Evil" in reason
    assert "\n" not in reason


def test_an_unreadable_picture_is_named(tmp_path: Path, pictures: tuple[Path, ...]) -> None:
    """A broken picture is not the model's fault, and the message names it."""
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    assert "run: sample picture 'bad.png'" in refusal(ask(save_classifier(tmp_path / "m.onnx", 2), (*pictures, bad)))


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html><body>Sign in</body>", "an HTML page"),
        (b"\n  <HTML>", "an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code>", "an XML document (a storage service's error, perhaps)"),
        (b'{"detail": "not found"}', "a JSON document"),
        (b"PK\x03\x04rest", "a ZIP archive (a PyTorch checkpoint or an export, perhaps)"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a Git LFS pointer, not the file itself"),
        (b"Not found", "a text file"),
        (b"\x08\x09\x12\x07pytorch\x1a", None),
        (b"\x0a\x07pytorch\x00\x01", None),
    ],
)
def test_other_formats_are_recognised(head: bytes, name: str | None) -> None:
    """What is certainly not ONNX is called by its name; what may be is left to the runtime."""
    assert name_other_format(head) == name


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (320, 213)])
def test_masks_survive_packing(shape: tuple[int, int]) -> None:
    """A mask comes back bit for bit."""
    mask = np.random.default_rng(2).random(shape) > 0.5
    assert np.array_equal(PackedMask.pack(mask).unpack(), mask)


@pytest.mark.parametrize("bits", ["", "AAAA", "not base 64!", PackedMask.pack(np.ones((9, 9), np.bool_)).bits])
def test_damaged_masks_are_refused(bits: str) -> None:
    """Bits that do not fill the shape, or are none, raise instead of giving a wrong mask."""
    with pytest.raises(ValueError, match=r".+"):
        PackedMask(height=8, width=8, bits=bits).unpack()
