"""Reading signed URLs: what the storage announces, resuming, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from pipeline.errors import (
    NotFoundError,
    ProviderError,
    ProviderUnavailableError,
    TransportError,
    UnexpectedResponseError,
)
from pipeline.provider import ByteStream, ResumePoint, StreamFacts
from providers import storage
from providers.calls import ClientOptions
from providers.pictograph.adapter import PictographProvider
from providers.pictograph.profile import pictograph_profile
from providers.storage import SignedStorage, read_digests

BODY = b"0123456789"
MD5 = hashlib.md5(BODY, usedforsecurity=False)
MD5_HEX, MD5_64 = MD5.hexdigest(), base64.b64encode(MD5.digest()).decode()
SIGNATURE = "X-Goog-Signature=verysecret"
URL = f"https://bucket.example/o/weights.onnx?{SIGNATURE}"


@pytest.mark.parametrize(("timeout_s", "read_s"), [(300.0, 300.0), (30.0, 60.0), (2.0, 60.0)])
def test_waiting_follows_the_timeout_that_is_configured(timeout_s: float, read_s: float) -> None:
    """A patient configuration is patient with files too; an impatient one still waits a minute for bytes."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, stream=httpx.ByteStream(BODY))

    options = ClientOptions("https://api.example", timeout_s=timeout_s, transport=httpx.MockTransport(answer))
    provider = PictographProvider(SecretStr("k"), options, pictograph_profile(sandbox=False))
    with provider._storage.open(lambda: URL, "the file") as stream:
        assert b"".join(stream.chunks) == BODY
    waited = asked[0].extensions["timeout"]
    assert (waited["connect"], waited["read"]) == (timeout_s, read_s)


class Bucket:
    """A storage in memory: one answer a request, and everything that was asked."""

    def __init__(self, *answers: httpx.Response | Exception, url: str = URL, require_https: bool = True) -> None:
        self.asked: list[httpx.Request] = []
        self.minted = 0
        self._answers = iter(answers)
        self._url = url
        self._storage = SignedStorage(require_https=require_https, transport=httpx.MockTransport(self._answer))

    def read(self, resume: ResumePoint | None = None) -> tuple[StreamFacts, bytes]:
        """Open the file and read it to its end."""
        with self.open(resume) as stream:
            return stream.facts, b"".join(stream.chunks)

    def open(self, resume: ResumePoint | None = None) -> AbstractContextManager[ByteStream]:
        """Open the file."""
        return self._storage.open(self._mint, "the file", resume)

    def _mint(self) -> str:
        self.minted += 1
        return self._url

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer


def whole(content: bytes = BODY, **headers: str) -> httpx.Response:
    """Return the whole file."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(200, stream=httpx.ByteStream(content), headers={"Content-Length": str(len(content)), **named})


def part(content: bytes, content_range: str, **headers: str) -> httpx.Response:
    """Return a part of the file."""
    return httpx.Response(206, stream=httpx.ByteStream(content), headers={"Content-Range": content_range, **headers})


def streamed(*chunks: bytes, error: Exception | None = None, **headers: str) -> httpx.Response:
    """Return a body that comes in pieces and may break."""

    def pieces() -> Iterator[bytes]:
        yield from chunks
        if error is not None:
            raise error

    return httpx.Response(200, content=pieces(), headers={name.replace("_", "-"): v for name, v in headers.items()})


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([("x-goog-hash", f"crc32c=AAAAAA==,md5={MD5_64}")], "x-goog-hash"),
        ([("x-goog-hash", "crc32c=AAAAAA=="), ("x-goog-hash", f"md5={MD5_64}")], "x-goog-hash"),
        ([("x-goog-hash", f" md5={MD5_64} , crc32c=AAAAAA==")], "x-goog-hash"),
        ([("Content-MD5", MD5_64)], "Content-MD5"),
        ([("ETag", f'"{MD5_HEX}"'), ("x-amz-request-id", "r")], "ETag"),
        ([("ETag", MD5_HEX.upper()), ("x-goog-generation", "1")], "ETag"),
        ([("ETag", f'"{MD5_HEX}"')], None),
        ([("ETag", f'"{"0" * 32}"'), ("x-goog-hash", f"md5={MD5_64}")], "x-goog-hash"),
        ([("x-goog-hash", "crc32c=AAAAAA==")], None),
        ([("x-goog-hash", "md5=not base64!")], None),
        ([("Content-MD5", base64.b64encode(b"short").decode())], None),
        ([("ETag", f'"{MD5_HEX}-3"'), ("x-amz-request-id", "r")], None),
        ([("ETag", f'W/"{MD5_HEX}"'), ("x-amz-request-id", "r")], None),
        ([("ETag", f'"{MD5_HEX}"'), ("x-goog-component-count", "4")], None),
        ([("ETag", f'"{MD5_HEX}"'), ("x-amz-server-side-encryption", "aws:kms")], None),
        ([], None),
    ],
)
def test_digests_are_read_from_every_header_that_holds_one(headers: list[tuple[str, str]], found: str | None) -> None:
    """Base64 and hex, one line or several; an ETag counts only from an object store that means MD5 by it."""
    digests, source = read_digests(httpx.Headers(headers), whole=True)
    assert source == found
    assert digests == ({"md5": MD5_HEX} if found else {})


def test_a_partial_answers_content_md5_is_not_the_files() -> None:
    """Content-MD5 of a part covers the part and must not condemn the whole."""
    assert read_digests(httpx.Headers({"Content-MD5": MD5_64}), whole=False) == ({}, None)


def test_a_file_and_what_is_announced_about_it() -> None:
    """Bytes, size, tag and digest arrive; the request carries no key and asks for no compression."""
    bucket = Bucket(whole(ETag='"v1"', x_goog_hash=f"md5={MD5_64}"))
    facts, content = bucket.read()
    assert content == BODY
    assert facts == StreamFacts(0, 10, '"v1"', {"md5": MD5_HEX}, "x-goog-hash")
    headers = bucket.asked[0].headers
    assert (headers["Accept"], headers["Accept-Encoding"], headers.get("X-API-Key")) == ("*/*", "identity", None)
    assert "Range" not in headers


def test_an_empty_file_is_reported_as_empty() -> None:
    """Zero bytes are a fact for the caller to judge."""
    facts, content = Bucket(whole(b"")).read()
    assert (facts.size_bytes, content) == (0, b"")


def test_resuming_asks_for_the_rest_of_the_same_version() -> None:
    """Range and If-Range are sent, and the rest begins where the held bytes end."""
    bucket = Bucket(part(b"6789", "bytes 6-9/10", ETag='"v1"'))
    facts, content = bucket.read(ResumePoint(6, '"v1"'))
    assert (facts.offset, facts.size_bytes, facts.etag, content) == (6, 10, '"v1"', b"6789")
    assert (bucket.asked[0].headers["Range"], bucket.asked[0].headers["If-Range"]) == ("bytes=6-", '"v1"')
    assert bucket.minted == 1


def test_a_200_to_a_range_request_starts_over() -> None:
    """A storage that sends everything says so by offset 0."""
    facts, content = Bucket(whole(ETag='"v2"')).read(ResumePoint(6, '"v1"'))
    assert (facts.offset, facts.etag, content) == (0, '"v2"', BODY)


@pytest.mark.parametrize(
    "unusable",
    [
        part(b"6789", "bytes 5-9/10", ETag='"v1"'),
        part(b"678", "bytes 6-8/10", ETag='"v1"'),
        part(b"6789", "bytes 6-9/*", ETag='"v1"'),
        part(b"6789", "", ETag='"v1"'),
        part(b"6789", "bytes 6-9/10", ETag='"v2"'),
        httpx.Response(416),
    ],
)
def test_a_part_that_is_not_the_rest_starts_over(unusable: httpx.Response) -> None:
    """Another range, another version or no range at all is never appended: the file is asked for again, whole."""
    bucket = Bucket(unusable, whole())
    facts, content = bucket.read(ResumePoint(6, '"v1"'))
    assert (facts.offset, content) == (0, BODY)
    assert "Range" not in bucket.asked[1].headers


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
def test_without_a_strong_tag_nothing_is_resumed(etag: str | None) -> None:
    """Bytes whose version is unknown are not continued."""
    bucket = Bucket(whole())
    assert bucket.read(ResumePoint(6, etag))[0].offset == 0
    assert "Range" not in bucket.asked[0].headers


@pytest.mark.parametrize(
    "answer",
    [
        lambda: streamed(b"01234", Content_Length="10"),
        lambda: streamed(b"01234", error=httpx.ReadError("reset")),
        lambda: streamed(b"01234", error=httpx.RemoteProtocolError("incomplete")),
        lambda: streamed(error=httpx.ReadTimeout("stall")),
    ],
)
def test_a_broken_body_is_a_transport_error(answer: Callable[[], httpx.Response]) -> None:
    """Short, reset and stalled transfers all raise while reading, after the bytes that came."""
    with pytest.raises(TransportError, match=r"5 bytes|5 of 10 bytes|0 bytes"):
        Bucket(answer()).read()


def test_what_came_before_a_break_is_handed_on() -> None:
    """Every byte counts: on a line that breaks within each chunk the transfer could never go on otherwise."""
    pieces = [bytes([number]) * 1000 for number in range(5)]
    bucket = Bucket(streamed(*pieces, error=httpx.ReadError("reset")))
    came: list[bytes] = []
    with pytest.raises(TransportError, match="after 5000 bytes"), bucket.open() as stream:
        came.extend(stream.chunks)
    assert b"".join(came) == b"".join(pieces)


def test_small_pieces_are_handed_on_in_large_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chunk costs a hand-over to the hashing thread; none is larger than it takes, and no byte is lost."""
    monkeypatch.setattr(storage, "CHUNK_BYTES", 2500)
    pieces = [bytes([number]) * 1000 for number in range(8)]
    with Bucket(streamed(*pieces)).open() as stream:
        chunks = list(stream.chunks)
    assert [len(chunk) for chunk in chunks] == [3000, 3000, 2000]
    assert b"".join(chunks) == b"".join(pieces)


def test_pieces_that_trickle_in_are_not_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever judges the speed sees slow bytes as they come, not a mebibyte later."""
    monkeypatch.setattr(storage, "HOLD_S", 0.0)
    pieces = [bytes([number]) * 10 for number in range(4)]
    with Bucket(streamed(*pieces)).open() as stream:
        assert list(stream.chunks) == pieces


def test_a_short_part_is_a_transport_error() -> None:
    """The rest of a file must be the rest, to its last byte."""
    bucket = Bucket(part(b"67", "bytes 6-9/10", ETag='"v1"'))
    with pytest.raises(TransportError, match="2 of 4 bytes"):
        bucket.read(ResumePoint(6, '"v1"'))


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, TransportError),
        (401, TransportError),
        (403, TransportError),
        (404, NotFoundError),
        (410, NotFoundError),
        (302, UnexpectedResponseError),
        (204, UnexpectedResponseError),
        (206, UnexpectedResponseError),
        (500, ProviderUnavailableError),
        (503, ProviderUnavailableError),
    ],
)
def test_what_the_storage_refuses(status: int, error: type[ProviderError]) -> None:
    """An expired signature may be minted anew, a missing file may not; redirects are not followed."""
    bucket = Bucket(httpx.Response(status, headers={"Location": URL}, content=b""))
    with pytest.raises(ProviderError) as caught:
        bucket.read()
    assert type(caught.value) is error
    assert len(bucket.asked) == 1


def test_a_busy_storage_names_its_delay() -> None:
    """Retry-After of a 503 reaches the caller, who decides when to go on."""
    with pytest.raises(ProviderUnavailableError) as caught:
        Bucket(httpx.Response(503, headers={"Retry-After": "9"})).read()
    assert caught.value.context.retry_after_s == 9


def test_a_compressed_file_is_refused() -> None:
    """Bytes that are not the stored bytes cannot be compared with the stored digest."""
    with pytest.raises(UnexpectedResponseError, match="compressed"):
        Bucket(streamed(b"x", Content_Encoding="gzip")).read()


@pytest.mark.parametrize("url", ["/relative", "ftp://h/x", "http://bucket.example/x", "data:text/plain,x", ""])
def test_only_safe_addresses_are_read(url: str) -> None:
    """A relative, foreign or, for an https API, unencrypted address is refused before any request."""
    bucket = Bucket(url=url)
    with pytest.raises(UnexpectedResponseError):
        bucket.read()
    assert bucket.asked == []


def test_a_loopback_api_may_hand_out_plain_http() -> None:
    """The sandbox's storage is plain HTTP on this machine."""
    assert Bucket(whole(), url="http://127.0.0.1:9/x", require_https=False).read()[1] == BODY


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(403, text=f"SignatureDoesNotMatch {URL}"),
        httpx.Response(404, text=URL),
        httpx.Response(302, headers={"Location": URL}),
        httpx.ConnectError("x"),
        httpx.Response(500, text=URL),
    ],
)
def test_the_signature_is_in_no_message_and_no_log(
    answer: httpx.Response | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the storage answers, the signed query stays out of messages, chains and logs."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ProviderError) as caught:
        Bucket(answer).read()
    shown: list[Any] = [caught.value, caught.value.args, caught.value.__cause__, caplog.text]
    assert "verysecret" not in " ".join(map(repr, shown)) + str(caught.value) + str(caught.value.__cause__)
