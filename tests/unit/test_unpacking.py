"""A model is found in whatever a trainer returned; what an archive says decides neither place nor cost."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.download import bounded_reads, packed, unpacking
from pipeline.download.trained_config import MAX_CLASSES, TrainedConfig, read_config
from pipeline.download.unpacking import UNPACKED_CONFIG_NAME, UNPACKED_NAME, UnpackedModel, unpack_model
from pipeline.errors import ArtifactTooLargeError, OutputPathError, UnpackError

GRAPH = bytes(range(256)) * 40
MODEL = b"\x08\x08\x12\x07trainer\x3a\x80\x50" + GRAPH
"""The fields of a model: the version of its form, its maker, a graph of 10,240 bytes that nobody reads."""
OTHER_PROTOBUF = b"\x08\x05\x12\x85\x20" + bytes(4101) + b"\xa2\x1f\x03abc"
CONFIG = {
    "classes": ["stop", "yield"],
    "architecture": "yolox_micro",
    "task": "object_detection",
    "input_size": [96, 64],
}
LIMIT = 1024**2
Entry = tuple[str, bytes]
Pack = Callable[[Sequence[Entry]], bytes]


def tar_of(entries: Sequence[Entry], mode: str = "w", form: int = tarfile.PAX_FORMAT, **facts: object) -> bytes:
    """Return a tar; ``facts`` are set on every member's header."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode, format=form, errors="surrogateescape") as archive:  # type: ignore[call-overload]
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in facts.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


def zip_of(entries: Sequence[Entry], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a ZIP."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return target.getvalue()


def link_of(kind: bytes, name: str = "model.onnx", to: str = "/etc/passwd") -> bytes:
    """Return a tar with one member that is no file."""
    return tar_of([(name, b"")], type=kind, linkname=to)


PACKS: dict[str, Pack] = {
    "tar": tar_of,
    "tar.gz": lambda entries: tar_of(entries, "w:gz"),
    "tar.bz2": lambda entries: tar_of(entries, "w:bz2"),
    "tar.xz": lambda entries: tar_of(entries, "w:xz"),
    "zip": zip_of,
    "zip, stored": lambda entries: zip_of(entries, zipfile.ZIP_STORED),
    "tar, gnu": lambda entries: tar_of(entries, form=tarfile.GNU_FORMAT),
    "tar, ustar": lambda entries: tar_of(entries, form=tarfile.USTAR_FORMAT),
}
each_pack = pytest.mark.parametrize("pack", PACKS.values(), ids=PACKS)


def unpack(tmp_path: Path, content: bytes, max_bytes: int = LIMIT) -> UnpackedModel | None:
    """Put the bytes where a download would, and look for a model in them."""
    (tmp_path / "weights").write_bytes(content)
    return unpack_model(tmp_path / "weights", tmp_path / "out", max_bytes=max_bytes)


def refused(tmp_path: Path, content: bytes, max_bytes: int = LIMIT) -> str:
    """Return the reason for which bytes are refused, having left nothing behind and nothing beside the folder."""
    with pytest.raises((UnpackError, ArtifactTooLargeError)) as caught:
        unpack(tmp_path, content, max_bytes)
    left = {path.name for path in tmp_path.rglob("*")} - {"weights", "out"}
    assert left <= {UNPACKED_CONFIG_NAME}, left
    assert "weights" in str(caught.value)
    return str(caught.value)


def test_a_bare_model_stays_where_it_is(tmp_path: Path) -> None:
    """Nothing is copied; size and digests are its own."""
    found = unpack(tmp_path, MODEL)
    digests = hashlib.md5(MODEL, usedforsecurity=False).hexdigest(), hashlib.sha256(MODEL).hexdigest()
    assert found == UnpackedModel(tmp_path / "weights", len(MODEL), *digests)
    assert not (tmp_path / "out").exists()


@each_pack
def test_the_model_of_an_archive_is_taken_out(tmp_path: Path, pack: Pack) -> None:
    """Under our own name, with its digests and what the config beside it says; other members stay packed."""
    entries = [
        ("run/notes.txt", b"x" * 5000),
        ("run/model.onnx", MODEL),
        ("run/config.json", json.dumps(CONFIG).encode()),
    ]
    found = unpack(tmp_path, pack(entries))
    assert found is not None
    assert found.path == tmp_path / "out" / UNPACKED_NAME
    assert found.path.read_bytes() == MODEL
    assert (found.size_bytes, found.sha256) == (len(MODEL), hashlib.sha256(MODEL).hexdigest())
    assert (found.member, found.classes, found.input_size) == ("run/model.onnx", ("stop", "yield"), (96, 64))
    assert (found.architecture, found.task) == ("yolox_micro", "object_detection")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [UNPACKED_CONFIG_NAME, UNPACKED_NAME]


@pytest.mark.parametrize("squeeze", [gzip.compress, bz2.compress, lzma.compress])
def test_a_model_that_is_only_compressed_is_found(tmp_path: Path, squeeze: Callable[[bytes], bytes]) -> None:
    """A model.onnx.gz, .bz2 or .xz."""
    found = unpack(tmp_path, squeeze(MODEL))
    assert found is not None
    assert (found.path.read_bytes(), found.member) == (MODEL, None)


@pytest.mark.parametrize("squeeze", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_parts_in_a_row_are_one_file(tmp_path: Path, squeeze: Callable[[bytes], bytes]) -> None:
    """As parallel compressors write them."""
    found = unpack(tmp_path, squeeze(MODEL[:100]) + squeeze(MODEL[100:]))
    assert found is not None
    assert found.path.read_bytes() == MODEL


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n",
        b'{"detail": "gone"}',
        b"\x80\x02}q",
        gzip.compress(b"just text"),
        zip_of([("archive/data.pkl", b"\x80\x02")]),
        tar_of([("weights.safetensors", b"x"), ("model.onnx.txt", b"x"), ("._model.onnx", b"\x00\x05\x16\x07")]),
        tar_of([]),
        struct.pack("<Q", 0x208) + b'{"w":{"dtype":"F32"}}' + b"\x80" * 999,
        b"GGUF\x03\0\0\0" + bytes(99),
        b"\x1c\0\0\0TFL3" + bytes(99),
        b"\x93NUMPY\x01\0v\0{'descr': '<f4'}" + bytes(99),
        b"\x80\x05\x95\x0a\0\0\0\0\0\0\0}" + b"\x94" * 9,
        OTHER_PROTOBUF,
        gzip.compress(OTHER_PROTOBUF),
        b"\x08\x08" * 200_000,
        b"\x0a" + MODEL,
    ],
    ids=[
        *("empty", "picture", "json", "pickle", "gzip", "zip", "tar", "empty-tar"),
        *("safetensors", "gguf", "tflite", "npy", "pickle-5", "protobuf", "protobuf-gzip", "fields", "text-first"),
    ],
)
def test_a_file_without_a_model_is_none(tmp_path: Path, content: bytes) -> None:
    """Other weights, other documents, and archives of them: the caller knows what that means."""
    assert unpack(tmp_path, content) is None
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.parametrize("squeeze", [bytes, gzip.compress], ids=["bare", "gzip"])
@pytest.mark.parametrize("cut", [9, 5000, len(MODEL) - 1])
def test_a_model_that_is_cut_off_is_still_taken_for_one(
    tmp_path: Path, cut: int, squeeze: Callable[[bytes], bytes]
) -> None:
    """What opens it says so: the weights are damaged, not of another kind."""
    found = unpack(tmp_path, squeeze(MODEL[:cut]))
    assert found is not None
    assert found.path.read_bytes() == MODEL[:cut]


@each_pack
def test_of_several_models_the_one_named_so_nearest_the_top_is_taken(tmp_path: Path, pack: Pack) -> None:
    """A checkpoint of every epoch beside it does not matter."""
    entries = [("a/b/model.onnx", b"\x08deep"), ("a/model.onnx", MODEL), ("epoch1.onnx", b"\x08one")]
    found = unpack(tmp_path, pack(entries))
    assert found is not None
    assert (found.member, found.path.read_bytes()) == ("a/model.onnx", MODEL)


@each_pack
@pytest.mark.parametrize(
    "names", [("best.onnx", "last.onnx"), ("a/model.onnx", "b/model.onnx"), ("model.onnx", "./model.onnx")]
)
def test_several_models_are_listed(tmp_path: Path, pack: Pack, names: tuple[str, str]) -> None:
    """None is guessed at, nor is one of the same name twice."""
    reason = refused(tmp_path, pack([(name, MODEL) for name in names]))
    assert all(name in reason for name in names)


@pytest.mark.parametrize(
    "name", ["../model.onnx", "/model.onnx", "a/../../model.onnx", "C:/model.onnx", "..\\model.onnx"]
)
@each_pack
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, pack: Pack, name: str) -> None:
    """Even though no name becomes a path."""
    assert "leaves the archive's folder" in refused(tmp_path, pack([(name, MODEL)]))


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "link"),
        (tarfile.LNKTYPE, "link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "device"),
    ],
)
def test_what_is_no_file_is_not_taken(tmp_path: Path, kind: bytes, word: str) -> None:
    """A link to a file of this machine, a pipe that never ends, a disk."""
    assert word in refused(tmp_path, link_of(kind))


def test_a_link_beside_the_model_does_not_matter(tmp_path: Path) -> None:
    """``latest.onnx`` that points to it is a habit of trainers."""
    found = unpack(tmp_path, link_of(tarfile.SYMTYPE, "latest.onnx", "model.onnx")[:512] + tar_of([("m.onnx", MODEL)]))
    assert found is not None
    assert found.member == "m.onnx"


def test_a_config_that_is_a_link_is_not_read(tmp_path: Path) -> None:
    """It would show a file of this machine."""
    found = unpack(tmp_path, link_of(tarfile.SYMTYPE, "config.json")[:512] + tar_of([("m.onnx", MODEL)]))
    assert found is not None
    assert found.classes == ()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [UNPACKED_NAME]


def test_links_in_a_zip_are_not_taken(tmp_path: Path) -> None:
    """A ZIP made on Unix can hold them."""
    entry = zipfile.ZipInfo("model.onnx")
    entry.create_system, entry.external_attr = 3, 0o120777 << 16
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(entry, "/etc/passwd")
    assert "link" in refused(tmp_path, target.getvalue())


def test_an_encrypted_member_is_named(tmp_path: Path) -> None:
    """There is no password to give."""
    content = bytearray(zip_of([("model.onnx", MODEL)]))
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    assert "'model.onnx' is encrypted" in refused(tmp_path, bytes(content))


def test_methods_that_unpack_without_bound_are_not_read(tmp_path: Path) -> None:
    """The ZIP module unpacks a whole piece of LZMA at once, however large it becomes."""
    assert "packed by method 14" in refused(tmp_path, zip_of([("model.onnx", MODEL)], zipfile.ZIP_LZMA))


def test_a_sparse_member_is_not_taken(tmp_path: Path) -> None:
    """Its holes cost the sender nothing."""
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "model.onnx"}
    headers["GNU.sparse.realsize"] = str(10**15)
    content = b"1\n0\n5\n".ljust(512, b"\0") + b"\x08data"
    reason = refused(tmp_path, tar_of([("x", content)], pax_headers=headers))
    assert "sparse" in reason


@each_pack
def test_a_truncated_archive_is_refused(tmp_path: Path, pack: Pack) -> None:
    """Wherever it was cut, also right after the model: what is missing may have been the model that was meant."""
    content = pack([("model.onnx", MODEL), ("config.json", json.dumps(CONFIG).encode())])
    whole = content.rstrip(b"\0")
    for cut in sorted({520, 600, len(whole) // 3, len(whole) // 2, len(whole) - 600, len(whole) - 20}):
        if 0 < cut < len(whole):
            refused(tmp_path, content[:cut])


def test_a_damaged_header_does_not_end_the_archive(tmp_path: Path) -> None:
    """The tar module would stop there in silence, and the wrong model would be taken."""
    content = bytearray(tar_of([("epoch1.onnx", MODEL), ("model.onnx", MODEL)]))
    content[content.index(b"model.onnx") + 2] ^= 0xFF
    assert "end mark" in refused(tmp_path, bytes(content))


def test_a_damaged_member_is_refused(tmp_path: Path) -> None:
    """A ZIP has a checksum; the part file goes away."""
    content = bytearray(zip_of([("model.onnx", MODEL)], zipfile.ZIP_STORED))
    content[200] ^= 1
    assert "CRC" in refused(tmp_path, bytes(content))


def test_a_member_that_is_no_model_is_named(tmp_path: Path) -> None:
    """A Git LFS pointer under a model's name."""
    reason = refused(tmp_path, tar_of([("model.onnx", b"version https://git-lfs.github.com/spec/v1\n")]))
    assert "model.onnx" in reason
    assert "Git LFS" in reason


@pytest.mark.parametrize("name", ["7z\xbc\xaf\x27\x1c", "Rar!\x1a\x07", "\x28\xb5\x2f\xfd"])
def test_archives_that_are_not_read_are_named(tmp_path: Path, name: str) -> None:
    """They are no ONNX, and None would say that no model is in them."""
    assert "is not read here" in refused(tmp_path, name.encode("latin-1") + b"rest")


BOMB = bytes(9 * LIMIT)


@pytest.mark.parametrize("pack", [*PACKS.values(), lambda entries: gzip.compress(entries[0][1])], ids=[*PACKS, "gz"])
def test_what_unpacks_to_more_than_allowed_is_refused(tmp_path: Path, pack: Pack) -> None:
    """The field to raise is named."""
    with pytest.raises(ArtifactTooLargeError, match="max_model_bytes") as caught:
        unpack(tmp_path, pack([("model.onnx", MODEL + BOMB)]))
    assert caught.value.context.field == "max_model_bytes"
    assert not list(tmp_path.rglob("*.part"))
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_bare_model_over_the_limit_is_refused(tmp_path: Path) -> None:
    """The same limit with and without an archive."""
    assert "max_model_bytes" in refused(tmp_path, MODEL, max_bytes=len(MODEL) - 1)


@pytest.mark.parametrize("place", [("model.onnx",), ("notes.bin", "model.onnx")])
@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_bomb_is_refused_by_its_ratio(
    tmp_path: Path, mode: str, place: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However high the limit is, and also in front of the model, where it has to be passed."""
    monkeypatch.setattr(packed, "FREE_BYTES", 2 * LIMIT)
    content = tar_of([(name, MODEL if name != place[0] else b"\x08" + BOMB) for name in place], mode)
    assert "200 times" in refused(tmp_path, content, max_bytes=10**12)


def test_a_zip_that_claims_a_huge_member_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """By its own word."""
    content = bytearray(zip_of([("model.onnx", MODEL)]))
    struct.pack_into("<I", content, content.rindex(b"PK\x01\x02") + 24, 2**31)
    assert "2147483648 bytes" in refused(tmp_path, bytes(content))


def test_a_member_longer_than_it_says_is_cut_off_and_refused(tmp_path: Path) -> None:
    """A ZIP that lies about a bomb's size gives no more than it said."""
    content = bytearray(zip_of([("model.onnx", MODEL)]))
    struct.pack_into("<I", content, content.rindex(b"PK\x01\x02") + 24, 100)
    assert "CRC" in refused(tmp_path, bytes(content))


def header(name: str, size: int, kind: bytes) -> bytes:
    """Return a lone tar header."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


HOSTILE_HEADERS = {
    "a name of gigabytes": header("x", 2**33, tarfile.GNUTYPE_LONGNAME) + bytes(LIMIT),
    "records of gigabytes": header("x", 2**33, tarfile.XHDTYPE) + bytes(LIMIT),
    "many long names": (header("x", 512, tarfile.GNUTYPE_LONGNAME) + b"y" * 512) * 3000,
    "many global records": (header("x", 512, tarfile.XGLTYPE) + b"10 a=bcde\n".ljust(512, b"\0")) * 3000,
    "a negative size": header("a", -(10**6), tarfile.REGTYPE) + tar_of([("model.onnx", MODEL)]),
    "a negative record": header("x", 16, tarfile.XHDTYPE)
    + b"16 size=-999999\n".ljust(512, b"\0")
    + header("a", 0, tarfile.REGTYPE)
    + bytes(2048),
    "a record without a length": header("x", 9, tarfile.XHDTYPE)
    + b"0 size=99".ljust(512, b"\0")
    + header("a", 0, tarfile.REGTYPE)
    + bytes(2048),
    "an unknown charset": header("x", 25, tarfile.XHDTYPE) + b"25 hdrcharset=no-such-set\n".ljust(512, b"\0"),
    "a size beyond the end": header("model.onnx", 10**5, tarfile.REGTYPE) + MODEL,
}


@pytest.mark.parametrize("content", HOSTILE_HEADERS.values(), ids=HOSTILE_HEADERS)
def test_headers_made_to_hurt_are_refused(tmp_path: Path, content: bytes) -> None:
    """With an error of ours, in bounded memory and time."""
    tracemalloc.start()
    try:
        refused(tmp_path, content, max_bytes=2**40)
        assert tracemalloc.get_traced_memory()[1] < 32 * LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_headers_are_bounded_however_many_there_are(tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sparse map is read number by number: only their sum can be limited."""
    monkeypatch.setattr(bounded_reads, "MAX_HEADER_BYTES", 20_000)
    old = bytearray(header("model.onnx", 512, tarfile.GNUTYPE_SPARSE))
    old[482] = 1  # more of the map follows
    old[148:156] = b"%06o\0 " % (sum(old[:148]) + sum(old[156:]) + 8 * 32)
    assert "its headers have" in refused(tmp_path, bytes(old) + (bytes(504) + b"\1" + bytes(7)) * 100)
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a"}
    content = b"99999999\n" + b"0\n" * 100_000
    bomb = tar_of([("x", content)], mode, pax_headers=headers)
    assert "its headers have" in refused(tmp_path, bomb)


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_the_number_of_members_is_bounded(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive of nothing but names."""
    monkeypatch.setattr(packed, "MAX_MEMBERS", 50)
    assert "more than 50 members" in refused(tmp_path, pack([(f"{k}.txt", b"") for k in range(51)]))
    assert unpack(tmp_path, pack([(f"{k}.txt", b"") for k in range(50)])) is None


def test_a_huge_zip_directory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entries would be made in memory before they could be counted."""
    monkeypatch.setattr(bounded_reads, "MAX_DIRECTORY_BYTES", 70_000)
    assert "directory claims" in refused(tmp_path, zip_of([(f"{k:09}.txt", b"") for k in range(2000)]))


def test_a_decompressor_gets_no_memory_for_the_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An xz file says how much it needs; this one says 64 MiB and is allowed 16."""
    monkeypatch.setattr(bounded_reads, "_XZ_MEMORY_BYTES", 16 * LIMIT)
    assert "LZMAError" in refused(tmp_path, lzma.compress(MODEL, preset=9))


def test_a_huge_name_is_shortened_and_made_printable(tmp_path: Path) -> None:
    """In the error and in the value."""
    name = "\x1b[31m" + "n" * 5000 + ".onnx"
    found = unpack(tmp_path, tar_of([(name, MODEL)]))
    assert found is not None
    assert found.member == "?[31m" + "n" * 195
    (tmp_path / "again").mkdir()
    assert len(refused(tmp_path / "again", tar_of([(name, MODEL), ("b" * 5000 + ".onnx", MODEL)]))) < 700


def test_names_that_are_no_unicode_can_be_stored(tmp_path: Path) -> None:
    """A byte of no meaning in a name does not break a report."""
    found = unpack(tmp_path, tar_of([("\udcff.onnx", MODEL)], form=tarfile.GNU_FORMAT))
    assert found is not None
    assert (found.member or "").encode() == b"?.onnx"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """That is not the archive's fault."""
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OutputPathError, match="choose another output_dir"):
        unpack(tmp_path, tar_of([("model.onnx", MODEL)]))


def test_an_earlier_model_stays_when_the_next_cannot_be_taken(tmp_path: Path) -> None:
    """It is replaced in one step or not at all."""
    unpack(tmp_path, tar_of([("model.onnx", MODEL)]))
    content = bytearray(zip_of([("model.onnx", MODEL * 100)], zipfile.ZIP_STORED))
    content[-2000] ^= 1
    with pytest.raises(UnpackError):
        unpack(tmp_path, bytes(content), max_bytes=10**9)
    assert (tmp_path / "out" / UNPACKED_NAME).read_bytes() == MODEL


def test_a_large_config_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is taken without it."""
    monkeypatch.setattr(unpacking, "MAX_CONFIG_BYTES", 30)
    found = unpack(tmp_path, tar_of([("model.onnx", MODEL), ("config.json", json.dumps(CONFIG).encode())]))
    assert found is not None
    assert found.classes == ()


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (json.dumps(CONFIG), TrainedConfig(("stop", "yield"), "yolox_micro", "object_detection", (96, 64))),
        ('["a", "b"]', TrainedConfig(("a", "b"))),
        ('{"input_size": 64}', TrainedConfig(input_size=(64, 64))),
        ('{"classes": ["a", "a"], "task": "t"}', TrainedConfig(task="t")),
        ('{"classes": ["a", 1]}', TrainedConfig()),
        ('{"classes": ["a", ""]}', TrainedConfig()),
        ('{"classes": "ab"}', TrainedConfig()),
        ('{"classes": ["a\\u001b[31m"]}', TrainedConfig()),
        (json.dumps({"classes": [str(k) for k in range(MAX_CLASSES + 1)]}), TrainedConfig()),
        (json.dumps({"architecture": "x" * 201, "task": ["t"]}), TrainedConfig()),
        (
            '{"metrics": {"a": 1' + "0" * 400 + ', "b": -1' + "0" * 30 + ', "c": 0.5}}',
            TrainedConfig(metrics={"c": 0.5}),
        ),
        ('{"metrics": {"a": 1e999, "b": true, "c": 7}}', TrainedConfig(metrics={"c": 7})),
        ('{"input_size": [0, 64]}', TrainedConfig()),
        ('{"input_size": [true, 64]}', TrainedConfig()),
        ('{"input_size": [64, 64, 3]}', TrainedConfig()),
        ('{"input_size": [1e3, 64]}', TrainedConfig()),
        ('{"input_size": ' + "9" * 5000 + "}", TrainedConfig()),
        ("[" * 100_000, TrainedConfig()),
        ("null", TrainedConfig()),
        ("\xff", TrainedConfig()),
        ("", TrainedConfig()),
    ],
)
def test_a_config_is_believed_as_far_as_it_is_plausible(document: str, expected: TrainedConfig) -> None:
    """Every field for itself; class names all or none."""
    assert read_config(document.encode("latin-1")) == expected
