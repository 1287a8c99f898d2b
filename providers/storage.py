"""Reads files from signed URLs: no compression, resumable, and everything the storage says about the bytes.

No key is sent but to addresses that a vendor's own rule names. A signed URL is a secret for as long as it is valid:
messages say which object is being read, never where.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from pipeline.errors import ErrorContext, TransportError, UnexpectedResponseError
from pipeline.provider import ByteStream, ResumePoint, StreamFacts
from providers.http import MAY_NAME_A_DELAY, user_agent
from providers.http_errors import read_error_body, status_error
from providers.retry import parse_retry_after
from providers.transport import tls_context, transport_failure, trusts_environment

CHUNK_BYTES = 1 << 20
HOLD_S = 10.0  # so that whoever reads learns in time how slowly the bytes come
LEAST_READ_S = 60.0
"""Least seconds to wait for the next bytes of a file, however short the API's timeout is: storages pause for longer."""
_MD5_HEX = re.compile(r'"?([0-9a-f]{32})"?', re.IGNORECASE)
_OBJECT_STORE_HEADERS = ("x-amz-", "x-goog-", "x-guploader-")
_WHOLE_NUMBER = re.compile(r"\d{1,18}")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")
# What storages answer to a signature that has expired or does not fit any more: a new one may help.
_SIGNATURE_REFUSED = frozenset({400, 401, 403})


@dataclass(frozen=True)
class _Opened:
    """A response whose headers were accepted."""

    response: httpx.Response
    facts: StreamFacts
    expected_bytes: int | None


def _md5_from_base64(value: str) -> str | None:
    try:
        digest = base64.b64decode(value.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest.hex() if len(digest) == 16 else None


def _google_md5(headers: httpx.Headers) -> str | None:
    for entry in headers.get_list("x-goog-hash", split_commas=True):
        name, _, value = entry.strip().partition("=")
        if name.lower() == "md5":
            return _md5_from_base64(value)
    return None


def _etag_md5(headers: httpx.Headers) -> str | None:
    """Return the ETag when it is the MD5 of the content.

    Only object stores say so, and not for multipart, composed or key-encrypted objects. Elsewhere an ETag of the same
    shape means something else (a hash of time and size is common), and would condemn a good file for ever.
    """
    match = _MD5_HEX.fullmatch(headers.get("ETag", ""))
    object_store = any(name.startswith(_OBJECT_STORE_HEADERS) for name in headers)
    encrypted = "kms" in headers.get("x-amz-server-side-encryption", "").lower()
    customer_key = "x-amz-server-side-encryption-customer-algorithm" in headers
    if match is None or not object_store or encrypted or customer_key or "x-goog-component-count" in headers:
        return None
    return match.group(1).lower()


def read_digests(headers: httpx.Headers, *, whole: bool) -> tuple[dict[str, str], str | None]:
    """Return the digests of the whole file and the header they came from; ``whole`` is False for a part of it."""
    found = [("x-goog-hash", _google_md5(headers))]
    if whole:  # on a partial answer this header covers the part alone
        found.append(("Content-MD5", _md5_from_base64(headers.get("Content-MD5", ""))))
    found.append(("ETag", _etag_md5(headers)))
    return next((({"md5": md5}, source) for source, md5 in found if md5), ({}, None))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and _WHOLE_NUMBER.fullmatch(text.strip()) else None


class SignedStorage:
    """Opens signed URLs; ``timeout_s`` is the API client's, and ``LEAST_READ_S`` the least to wait for bytes.

    ``headers_for`` names the headers of an address, where a vendor's storage wants the key: of every address anew.
    """

    def __init__(
        self,
        *,
        require_https: bool,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        headers_for: Callable[[httpx.URL], dict[str, str]] = lambda _: {},
    ) -> None:
        self._require_https = require_https
        self._headers_for = headers_for
        self._timeout = httpx.Timeout(timeout_s, read=max(timeout_s, LEAST_READ_S))
        self._transport = transport
        self._clients: dict[bool, httpx.Client] = {}

    def close(self) -> None:
        """Release connections."""
        for client in self._clients.values():
            client.close()

    @contextmanager
    def open(self, mint: Callable[[], str], subject: str, resume: ResumePoint | None = None) -> Iterator[ByteStream]:
        """Open the file behind a fresh signed URL, from ``resume`` on where the storage can.

        Raises:
            TransportError: No connection, or the signature was refused: asking again mints a new one.
            ProviderError: By status, as for every other call.
            UnexpectedResponseError: The address or the answer is not one of a file.
        """
        url = self._checked(mint(), subject)
        opened = self._request(url, subject, resume)
        try:
            yield ByteStream(facts=opened.facts, chunks=_chunks(opened, subject))
        finally:
            opened.response.close()

    def _checked(self, url: str, subject: str) -> str:
        scheme = urlsplit(url).scheme
        if scheme == "https" or (scheme == "http" and not self._require_https):
            return url
        message = f"{subject}: the download address has scheme {scheme!r}, which is not safe to read from."
        raise UnexpectedResponseError(message, ErrorContext(operation="storage.get"))

    def _request(self, url: str, subject: str, resume: ResumePoint | None) -> _Opened:
        # Without a strong tag there is no telling whether the held bytes belong to the same file: start over.
        if resume is not None and resume.offset > 0 and resume.etag and not resume.etag.startswith("W/"):
            response = self._send(url, subject, {"Range": f"bytes={resume.offset}-", "If-Range": resume.etag})
            part = _accept_part(response, resume) if response.status_code == 206 else None
            if part is not None:
                return part
            if response.status_code not in {206, 416}:
                return _accept_whole(response, subject)
            response.close()
        return _accept_whole(self._send(url, subject, {}), subject)

    def _send(self, url: str, subject: str, headers: dict[str, str]) -> httpx.Response:
        client = self._client(url)
        try:
            request = client.build_request("GET", url, headers={**headers, **self._headers_for(httpx.URL(url))})
            return client.send(request, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise transport_failure(subject, exc, ErrorContext(operation="storage.get")) from exc

    def _client(self, url: str) -> httpx.Client:
        trusts = trusts_environment(url)
        if trusts not in self._clients:
            self._clients[trusts] = httpx.Client(
                headers={"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": user_agent()},
                timeout=self._timeout,
                transport=self._transport,
                follow_redirects=False,
                trust_env=trusts,
                verify=tls_context(),
            )
        return self._clients[trusts]


def _accept_part(response: httpx.Response, resume: ResumePoint) -> _Opened | None:
    """Return the opened rest of the file, or None when the answer is not the rest of the file we hold."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    etag = response.headers.get("ETag")
    if match is None or response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    first, last, total = (int(group) for group in match.groups())
    if first != resume.offset or last != total - 1 or (etag is not None and etag != resume.etag):
        return None
    digests, source = read_digests(response.headers, whole=False)
    facts = StreamFacts(first, total, etag or resume.etag, digests, source)
    return _Opened(response, facts, total - first)


def _accept_whole(response: httpx.Response, subject: str) -> _Opened:
    if response.status_code != 200:
        raise _refused(response, subject)
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        response.close()
        message = f"{subject}: the storage compressed the file ({encoding!r}) although it was asked not to."
        raise UnexpectedResponseError(message, ErrorContext(operation="storage.get", status_code=200))
    digests, source = read_digests(response.headers, whole=True)
    announced = _number(response.headers.get("Content-Length"))
    stored = _number(response.headers.get("x-goog-stored-content-length"))
    size = announced if announced is not None else stored
    return _Opened(response, StreamFacts(0, size, response.headers.get("ETag"), digests, source), size)


def _refused(response: httpx.Response, subject: str) -> Exception:
    """Return the error for an answer that is no file; its body is left unread because it may quote the signed URL."""
    response.close()
    status = response.status_code
    delay_s = (
        parse_retry_after(response.headers.get("Retry-After"), time.time()) if status in MAY_NAME_A_DELAY else None
    )
    context = ErrorContext(operation="storage.get", status_code=status, retry_after_s=delay_s)
    if status in _SIGNATURE_REFUSED:
        return TransportError(f"{subject}: the storage refused the signed address (HTTP {status}); ask again.", context)
    if 200 <= status < 300:
        return UnexpectedResponseError(f"{subject}: the storage sent HTTP {status} instead of the file.", context)
    return status_error(f"{subject}, read from its signed address,", read_error_body({}), context)


def _chunks(opened: _Opened, subject: str) -> Iterator[bytes]:
    received = 0
    try:
        for chunk in _gathered(opened.response.iter_raw()):
            received += len(chunk)
            yield chunk
    except (httpx.HTTPError, httpx.StreamError) as exc:
        raise transport_failure(f"{subject} after {received} bytes", exc, ErrorContext("storage.get")) from exc
    if opened.expected_bytes is not None and received != opened.expected_bytes:
        message = f"{subject}: {received} of {opened.expected_bytes} bytes came before the transfer ended."
        raise TransportError(message, ErrorContext(operation="storage.get"))


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join pieces into chunks; httpx's own joining copies more, and drops what it holds when the transfer breaks."""
    held: list[bytes] = []
    size = 0
    since_s = time.monotonic()
    try:
        for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= CHUNK_BYTES or time.monotonic() - since_s >= HOLD_S:
                yield b"".join(held)
                held, size, since_s = [], 0, time.monotonic()
    except (httpx.HTTPError, httpx.StreamError):
        if held:
            yield b"".join(held)
        raise
    if held:
        yield b"".join(held)
