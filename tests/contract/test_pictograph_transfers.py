"""Weights over real sockets: digests, resuming, what breaks on the way, and a storage that never sees the key."""

from __future__ import annotations

import hashlib
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.download.collection import collect
from pipeline.errors import (
    DigestMismatchError,
)
from pipeline.provider import ResumePoint
from tests.contract.pictograph_accounts import (
    NewAccount,
    read,
)


@pytest.mark.parametrize(
    ("headers", "source"),
    [("goog", "x-goog-hash"), ("content-md5", "Content-MD5"), ("etag-md5", "ETag"), ("none", None)],
)
def test_every_way_to_announce_a_digest(new_account: NewAccount, headers: str, source: str | None) -> None:
    """Whichever header carries it, the announced digest is that of the bytes; without one none is invented.

    An ETag counts as a digest from an object store alone, which shows itself by its other headers.
    """
    account = new_account(hash_headers=headers)
    with account.provider.open_model(account.model()) as stream:
        content = read(stream)
        assert stream.facts.digest_source == source
        assert all(
            digest == hashlib.new(algorithm, content).hexdigest() for algorithm, digest in stream.facts.digests.items()
        )


class Hasty:
    """Time for the collector: nothing is waited for."""

    def monotonic(self) -> float:
        """Return the real clock's time."""
        return time.monotonic()

    def sleep(self, _: float, /) -> None:
        """Do not wait."""


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "reset", "after_bytes": 400},
        {"action": "close", "after_bytes": 400},
        {"action": "truncate", "after_bytes": 400},
        {"action": "status", "status": 503},
        {"action": "status", "status": 403},
    ],
)
def test_a_broken_transfer_is_resumed(new_account: NewAccount, tmp_path: Path, fault: dict[str, Any]) -> None:
    """After a break the rest comes from a newly minted address; the collected file has the announced digest."""
    account = new_account()
    model = account.model()
    account.control.fault(**fault, path=r"^/storage/.*onnx")
    collected = collect(
        lambda resume: account.provider.open_model(model, resume), tmp_path / "m.onnx", max_bytes=10**7, clock=Hasty()
    )
    assert collected.resumed == 1
    assert collected.verified_by == ("size", "md5 (x-goog-hash)")
    minted = [path for path in account.paths("GET") if path.endswith("/download") and "/models/" in path]
    assert len(minted) == 2


@pytest.mark.parametrize("fault", [{"action": "ignore_range"}, {"action": "headers", "headers": {"ETag": '"changed"'}}])
def test_a_storage_that_cannot_resume_starts_over(new_account: NewAccount, fault: dict[str, Any]) -> None:
    """An ignored Range or another version's part begins again at byte 0 and gives the whole file."""
    account = new_account()
    model = account.model()
    with account.provider.open_model(model) as stream:
        content, etag = read(stream), stream.facts.etag
    account.control.fault(**fault, path=r"^/storage/.*onnx")
    with account.provider.open_model(model, ResumePoint(100, etag)) as stream:
        assert (stream.facts.offset, read(stream)) == (0, content)


def test_the_rest_of_a_file_is_the_rest(new_account: NewAccount) -> None:
    """Resuming at an offset gives exactly the bytes from there on, and still announces the whole size."""
    account = new_account()
    model = account.model()
    with account.provider.open_model(model) as stream:
        content, etag = read(stream), stream.facts.etag
    with account.provider.open_model(model, ResumePoint(100, etag)) as stream:
        assert (stream.facts.offset, stream.facts.size_bytes, read(stream)) == (100, len(content), content[100:])


def test_a_flipped_bit_is_found(new_account: NewAccount, tmp_path: Path) -> None:
    """Bytes other than the announced ones are refused, however often they come."""
    account = new_account()
    model = account.model()
    account.control.fault("bitflip", path=r"^/storage/.*onnx", times=None)
    with pytest.raises(DigestMismatchError):
        collect(
            lambda resume: account.provider.open_model(model, resume), tmp_path / "m", max_bytes=10**7, clock=Hasty()
        )


def test_the_storage_never_sees_the_key(new_account: NewAccount) -> None:
    """Signed addresses are read without the key, and API calls are made with it."""
    account = new_account()
    with account.provider.open_model(account.model()) as stream:
        read(stream)
    for request in account.control.requests():
        names = {name.lower() for name in request["headers"]}
        assert ("x-api-key" in names) != request["path"].startswith("/storage/"), request["path"]


def test_no_log_line_holds_key_or_signature(new_account: NewAccount, caplog: pytest.LogCaptureFixture) -> None:
    """With every library at its most talkative, neither the key nor a signed query is logged on our side."""
    caplog.set_level(logging.DEBUG)
    account = new_account()
    with account.provider.open_model(account.model()) as stream:
        read(stream)
    ours = [record for record in caplog.records if record.name.partition(".")[0] in {"httpx", "httpcore", "providers"}]
    shown = "\n".join(record.getMessage() for record in ours)
    assert "/storage/" in shown
    assert account.control.api_key not in shown
    assert "Signature=" not in shown
