"""Object storage behind signed URLs: minting, checking, and serving bytes with ranges and digests."""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from sandbox.accounts import Account, find_account
from sandbox.core import Sandbox, new_id

PREFIX = "/storage/"
_CHUNK_BYTES = 1 << 20
_RANGE = re.compile(r"bytes=(\d*)-(\d*)$")

router = APIRouter()


def sign(sandbox: Sandbox, account: Account, key: str, base_url: str) -> str:
    """Return an absolute URL that reads one object until it expires; key is relative to the account's folder."""
    expires_s = int(sandbox.clock.now_s() + account.settings.signed_url_ttl_s)
    path = f"{PREFIX}{account.id}/{quote(key)}"
    signature = _signature(sandbox.signing_key, path, expires_s)
    return f"{base_url.rstrip('/')}{path}?X-Sandbox-Expires={expires_s}&X-Sandbox-Signature={signature}"


@lru_cache(maxsize=256)
def _md5(path: Path, _size_bytes: int, _mtime_ns: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).digest()


def file_md5(path: Path) -> bytes:
    """Return the MD5 digest of a file; computed again only when the file changed."""
    stat = path.stat()
    return _md5(path, stat.st_size, stat.st_mtime_ns)


@router.head(PREFIX + "{account_id}/{key:path}")
def describe_object(request: Request, account_id: str, key: str) -> Response:
    """Answer an object's headers to whoever holds its signed URL."""
    return read_object(request, account_id, key)


@router.get(PREFIX + "{account_id}/{key:path}")
def read_object(request: Request, account_id: str, key: str) -> Response:
    """Serve one object to whoever holds its signed URL."""
    sandbox: Sandbox = request.app.state.sandbox
    with sandbox.store.read() as tx:
        account = find_account(tx, account_id)
    refusal = _refusal(request, sandbox.signing_key, sandbox.clock.now_s())
    if refusal is not None:
        return refusal
    folder = (sandbox.objects / account_id).resolve()
    path = (folder / key).resolve()
    if account is None or not path.is_relative_to(folder) or not path.is_file():
        return _xml(404, "NoSuchKey", "The specified key does not exist.")
    return serve_file(request, path, account)


def _refusal(request: Request, key: str, now_s: float) -> Response | None:
    expires, given = (request.query_params.get(name, "") for name in ("X-Sandbox-Expires", "X-Sandbox-Signature"))
    path = request.scope["raw_path"].decode("ascii")
    is_number = expires.isascii() and expires.isdigit()  # isdigit alone lets through what int() refuses
    # As bytes: compare_digest takes no other text than ASCII.
    if not is_number or not hmac.compare_digest(_signature(key, path, int(expires)).encode(), given.encode()):
        return _xml(403, "SignatureDoesNotMatch", "Access denied.")
    if int(expires) <= now_s:
        return _xml(403, "ExpiredToken", "The provided token has expired.")
    return None


def _signature(key: str, path: str, expires_s: int) -> str:
    return hmac.new(key.encode(), f"{path}\n{expires_s}".encode(), hashlib.sha256).hexdigest()


def _xml(status: int, code: str, message: str) -> Response:
    text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return Response(text, status, media_type="application/xml; charset=UTF-8")


def serve_file(request: Request, path: Path, account: Account) -> Response:
    """Answer a file, or the part of it that was asked for, with the digests the account's settings choose."""
    size, md5 = path.stat().st_size, file_md5(path)
    headers = {"Accept-Ranges": "bytes", "Last-Modified": formatdate(path.stat().st_mtime, usegmt=True)}
    headers |= _digest_headers(account, md5)
    wanted = request.headers.get("range")
    if wanted is None or not _may_resume(request, headers):
        return _stream(path, 0, size, 200, headers)
    span = _span(wanted, size)
    if span is None:
        return _stream(path, 0, size, 200, headers)
    start, length = span
    if length <= 0:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    return _stream(path, start, length, 206, headers)


def _digest_headers(account: Account, md5: bytes) -> dict[str, str]:
    encoded, mode = base64.b64encode(md5).decode(), account.settings.hash_headers
    opaque = hashlib.sha256(b"etag" + md5).hexdigest()[:32]  # identifies the content but is not its MD5
    headers = {"ETag": f'"{md5.hex() if mode == "etag-md5" else opaque}"'}
    if mode == "etag-md5":
        headers["x-amz-request-id"] = new_id()  # what tells a reader that this ETag is an object store's
    if mode == "goog":
        headers["x-goog-hash"] = f"md5={encoded}"
    if mode == "content-md5":
        headers["Content-MD5"] = encoded
    return headers


def _may_resume(request: Request, headers: dict[str, str]) -> bool:
    condition = request.headers.get("if-range")
    if condition is None or condition == headers["ETag"]:
        return True
    try:
        return parsedate_to_datetime(condition) == parsedate_to_datetime(headers["Last-Modified"])
    except ValueError:
        return False


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """Return (start, length) of a single range, length 0 when it cannot be satisfied, None when it is to be ignored."""
    match = _RANGE.match(wanted.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start = max(0, size - int(last))
        return start, size - start
    end = min(size - 1, int(last)) if last else size - 1
    return (int(first), end - int(first) + 1) if int(first) < size else (0, 0)


def _stream(path: Path, start: int, length: int, status: int, headers: dict[str, str]) -> Response:
    def chunks() -> Iterator[bytes]:
        with path.open("rb") as file:
            file.seek(start)
            left = length
            while left > 0 and (chunk := file.read(min(_CHUNK_BYTES, left))):
                left -= len(chunk)
                yield chunk

    return StreamingResponse(
        chunks(), status, {**headers, "Content-Length": str(length)}, media_type="application/octet-stream"
    )
