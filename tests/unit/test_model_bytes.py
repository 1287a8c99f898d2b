"""References to other files are found in whatever bytes the runtime would read them from."""

from __future__ import annotations

import random
from pathlib import Path

import onnx
import pytest
from onnx import helper

from pipeline.download.model_bytes import external_files
from tests.graphs import read_graph, save_external

EXTERNAL_DATA = 13
ENTRY = b"\x0a\x08location\x12\x07/hidden"


def varint(value: int, length: int = 0) -> bytes:
    """Return a number in protobuf's form, stretched to ``length`` bytes where it is given."""
    parts = [value & 0x7F]
    while value := value >> 7:
        parts.append(value & 0x7F)
    parts += [0] * (length - len(parts))
    return bytes(part | 0x80 for part in parts[:-1]) + bytes(parts[-1:])


def field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def model_of(tensor: bytes) -> bytes:
    """Return a model whose graph holds this tensor."""
    return field(7, field(5, tensor))


def test_the_bytes_of_these_tests_are_a_model() -> None:
    """The hand-made form is the one that onnx reads."""
    tensor = field(EXTERNAL_DATA, ENTRY)
    read = onnx.ModelProto.FromString(model_of(tensor))
    assert read.graph.initializer[0].external_data[0].value == "/hidden"
    assert external_files(model_of(tensor)) == ("/hidden",)


@pytest.mark.parametrize(
    "tag",
    [
        varint((EXTERNAL_DATA << 3 | 2) + 2**32),
        varint((EXTERNAL_DATA << 3 | 2) + 2**34),
        varint((EXTERNAL_DATA << 3 | 2) + 2**63),
        varint(EXTERNAL_DATA << 3 | 2, length=5),
        varint(EXTERNAL_DATA << 3 | 2, length=2),
        varint(2),
        varint(0),
        varint(EXTERNAL_DATA << 3 | 3),
    ],
)
def test_a_tag_no_writer_makes_is_refused(tag: bytes) -> None:
    """High bits the runtime drops, needless length, field 0 and groups could all hide a field from this reader."""
    with pytest.raises(ValueError, match=r"no field's tag|unknown wire type"):
        external_files(model_of(tag + varint(len(ENTRY)) + ENTRY))


@pytest.mark.parametrize("length", [varint(len(ENTRY), length=6), varint(len(ENTRY) + 2**31), varint(2**63)])
def test_an_impossible_length_is_refused(length: bytes) -> None:
    """More than 2 GiB, or more bytes than a length may have."""
    with pytest.raises(ValueError, match="impossible length"):
        external_files(model_of(varint(EXTERNAL_DATA << 3 | 2) + length + ENTRY))


def test_fields_we_do_not_know_are_skipped() -> None:
    """Whatever a later version of the format adds, of every wire type, hides nothing and is no error."""
    unknown = varint(900 << 3) + varint(2**63) + varint(901 << 3 | 1) + bytes(8) + field(902, b"\xff" * 9)
    unknown += varint(903 << 3 | 5) + bytes(4) + varint((2**29 - 1) << 3) + b"\x00"
    assert external_files(unknown + model_of(unknown + field(EXTERNAL_DATA, unknown + ENTRY))) == ("/hidden",)


def test_the_last_of_several_keys_counts() -> None:
    """As in every protobuf reader: an entry that is renamed on the way is found under its last name."""
    renamed = b"\x0a\x06length" + ENTRY
    assert external_files(model_of(field(EXTERNAL_DATA, renamed))) == ("/hidden",)


def references(model: onnx.ModelProto) -> set[str]:
    """Return the locations onnx itself finds in a model's tensors."""
    graph = model.graph
    tensors = [*graph.initializer, *(attribute.t for node in graph.node for attribute in node.attribute)]
    named = [entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"]
    # Where the bytes are no text, onnx hands them out as they are.
    return {name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in named}


def test_nothing_the_reference_reader_finds_is_missed(tmp_path: Path) -> None:
    """Over thousands of damaged models: what onnx's own reader finds is found, or the file is refused."""
    saved = read_graph(save_external(tmp_path / "m.onnx", "/hidden"))
    tensor = saved.graph.initializer[0]
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    saved.graph.node.append(node)
    whole = saved.SerializeToString()
    dice = random.Random(11)  # noqa: S311 - not for secrets
    found = refused = 0
    for _ in range(4000):
        damaged = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 5))):
            at = dice.randrange(len(damaged))
            piece = bytes(dice.choices((dice.randrange(256), 0x80, 0xFF, 0, 0x6A), k=dice.choice((1, 1, 2))))
            damaged[at : at + dice.choice((0, len(piece)))] = piece
        try:
            ours = set(external_files(bytes(damaged)))
        except ValueError:
            refused += 1
            continue
        try:
            theirs = references(onnx.ModelProto.FromString(bytes(damaged)))
        except Exception:  # noqa: S112 - whatever the reader says, it does not open the file
            continue
        assert {name or "(no name)" for name in theirs} <= ours
        found += bool(theirs)
    assert found > 500
    assert refused > 500
