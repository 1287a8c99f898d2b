"""Look at a model file's bytes without opening it as a model."""

from __future__ import annotations

import codecs
import mmap
from collections.abc import Iterator
from pathlib import Path

_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive (a PyTorch checkpoint or an export, perhaps)"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89HDF", "an HDF5 file (Keras weights, perhaps)"),
    (b"\x80\x02", "a Python pickle (an old PyTorch checkpoint, perhaps)"),
    (b"\x80\x04", "a Python pickle"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
)
_TEXTS: tuple[tuple[bytes, str], ...] = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML document (a storage service's error, perhaps)"),
    (b"<", "a markup document"),
    (b"{", "a JSON document"),
    (b"[", "a JSON document"),
)


def name_other_format(head: bytes) -> str | None:
    """Say what a file that begins with ``head`` looks like when it cannot be ONNX; None when it may be."""
    if not head:
        return "an empty file"
    for start, name in _STARTS:
        if head.startswith(start):
            return name
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    # A valid graph may begin with a byte that reads as white space or a bracket, so the whole head must be text.
    if not _is_text(head):
        return None
    return next((name for start, name in _TEXTS if text.startswith(start)), "a text file")


def _is_text(head: bytes) -> bool:
    """Tell whether the bytes are text, the last letter perhaps cut off."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(byte >= 32 or byte in b"\t\n\r" for byte in head)


_IR_VERSION, _GRAPH = 1, 7
_MODEL_WIRES = {_IR_VERSION: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, _GRAPH: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
# The wire type of each field of an ONNX model.
_MOST_FIELDS = 100_000


class _CutOffError(ValueError):
    """The bytes end before the message does."""


def is_onnx_file(path: Path) -> bool:
    """Tell whether a file is an ONNX model, or begins as one and is cut off."""
    with path.open("rb") as file:
        if not file.read(1):
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as content:
            return is_onnx(content)


def is_onnx(content: memoryview) -> bool:
    """Tell whether the bytes are an ONNX model, or begin as one and are cut off: by what a model has to have."""
    seen = set()
    try:
        for number, wire, _, _ in _fields(content, _MOST_FIELDS):
            if _MODEL_WIRES.get(number, wire) != wire:
                return False
            seen.add(number)
    except _CutOffError:
        return _IR_VERSION in seen
    except ValueError:
        return False
    return {_IR_VERSION, _GRAPH} <= seen


# Field numbers of the ONNX protobuf schema that lead to tensors, and what each one holds.
_ROUTES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
    "external": {},
}
_MAX_DEPTH = 64
_HIGHEST_TAG = 2**32 - 1
_LENGTH_BYTES = 5
_LONGEST_FIELD = 2**31 - 1


def external_files(model: bytes) -> tuple[str, ...]:
    """Return the names of files that an ONNX model wants to read its weights from.

    Raises:
        ValueError: The bytes are cut off or are no protobuf message.
    """
    names = set()
    waiting = [("model", memoryview(model), 0)]
    while waiting:
        kind, message, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError("graphs are nested too deeply")
        fields = list(_routed_fields(message, _ROUTES[kind])) if kind != "external" else []
        waiting += [(_ROUTES[kind][number], part, depth + 1) for number, part in fields]
        if kind == "external":
            names.add(_entry_value(message))
    return tuple(sorted(name for name in names if name))


def _entry_value(entry: memoryview) -> str:
    """Return the value of a key-value entry whose key is ``location``, else an empty string."""
    parts = dict(_routed_fields(entry, {1: "key", 2: "value"}))
    if bytes(parts.get(1, b"")) != b"location":
        return ""
    return bytes(parts.get(2, b"")).decode("utf-8", "replace") or "(no name)"


def _routed_fields(message: memoryview, wanted: dict[int, str]) -> Iterator[tuple[int, memoryview]]:
    """Yield the wanted length-delimited fields of a protobuf message."""
    for number, wire, start, end in _fields(message):
        if wire == 2 and number in wanted:
            yield number, message[start:end]


def _fields(message: memoryview, most: int | None = None) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, start and end of the fields of a protobuf message, which has at most so many."""
    at = count = 0
    while at < len(message):
        if count == most:
            raise ValueError(f"it has more than {most} fields")
        count += 1
        tag, at = _read_tag(message, at)
        number, wire = tag >> 3, tag & 7
        start = at
        if wire == 0:
            _, at = _read_varint(message, at)
        elif wire == 2:
            size, start = _read_varint(message, at)
            if size > _LONGEST_FIELD or start - at > _LENGTH_BYTES:
                raise ValueError(f"field {number} has an impossible length")
            at = start + size
        elif wire in {1, 5}:
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"field {number} has the unknown wire type {wire}")
        if at > len(message):
            raise _CutOffError(f"the data ends {at - len(message)} bytes early")
        yield number, wire, start, at


def _read_tag(message: memoryview, at: int) -> tuple[int, int]:
    """Read a field's number and wire type.

    ONNX Runtime keeps the lowest 32 bits of a tag and drops the rest, so a tag with more would mean one field to it and
    another one here. No writer makes one, nor one that is longer than it has to be: both are refused.
    """
    tag, end = _read_varint(message, at)
    shortest = max(1, (tag.bit_length() + 6) // 7)
    if tag > _HIGHEST_TAG or end - at > shortest or tag < 8:
        raise ValueError(f"{tag} is no field's tag")
    return tag, end


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise (_CutOffError if at == len(message) else ValueError)("the data ends within a number")
