"""Where an input's bytes come from: an uploaded file, a data URI, or a server on this machine."""

import base64
import binascii
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import httpx
from sqlalchemy import Connection

from sandbox import documents
from sandbox.accounts import Account
from sandbox.core import Sandbox
from sandbox.replicate.loopback import CALL_ERRORS, called, host_of, is_here
from sandbox.replicate.words import FILE
from sandbox.store import Row

CONTENT = "content"
MAX_DATA_URI_BYTES = 256_000
_FILE_PATH = re.compile(r"/v1/files/([^/]+)")
_PORTS = {"http": 80, "https": 443}
_FETCH_S = 20.0
_MAX_FETCHED_BYTES = 100_000_000


class InputError(ValueError):
    """An input cannot be read; the message is what its owner reads."""


def find_file(sandbox: Sandbox, tx: Connection, account: Account, file_id: str) -> Row | None:
    """Return an uploaded file that has not expired."""
    row = documents.find(tx, account, FILE, file_id)
    return None if row is None or row["data"]["expires_at"] <= sandbox.clock.now_s() else row


def file_path(sandbox: Sandbox, row: Row) -> Path:
    """Return where the bytes of an uploaded file are."""
    return sandbox.object_path(row["account_id"], "replicate", row["id"], CONTENT)


def own_file(sandbox: Sandbox, tx: Connection, account: Account, url: str) -> Path | None:
    """Return the uploaded file that a URL of this API means, or None."""
    file_id = _file_id(url)
    row = None if file_id is None else find_file(sandbox, tx, account, file_id)
    if row is None or own_file_id(url, row["data"].get("base_url", "")) is None:
        return None
    return file_path(sandbox, row)


def own_file_id(url: str, base_url: str) -> str | None:
    """Return the id of the file that a URL names, or None when it leads to another server than base_url does."""
    file_id = _file_id(url)
    try:
        return file_id if file_id is not None and _server(url) == _server(base_url) else None
    except ValueError:  # a port that is none
        return None


def _file_id(url: str) -> str | None:
    try:
        match = _FILE_PATH.fullmatch(urlsplit(url).path)
    except ValueError:  # brackets that hold no address
        return None
    return match[1] if match else None


def _server(url: str) -> tuple[str | None, int | None]:
    """Return host and port that a URL leads to; the names of this machine are one host."""
    place = urlsplit(url)
    host = "localhost" if is_here(url) else place.hostname
    return host, place.port or _PORTS.get(place.scheme)


def is_large_data_uri(value: object) -> bool:
    """Whether an input is a data URI that holds more than the API takes in one."""
    if not isinstance(value, str) or not value.startswith("data:"):
        return False
    head, _, body = value.partition(",")
    size_bytes = len(body) * 3 // 4 - body[-2:].count("=") if head.endswith(";base64") else len(unquote_to_bytes(body))
    return size_bytes > MAX_DATA_URI_BYTES


def fetch(sandbox: Sandbox, account: Account, url: str) -> bytes:
    """Return what an input's URL leads to.

    Raises:
        InputError: There is nothing, it is too large or too slow, or it lies on another machine, which the sandbox
            asks for nothing.
    """
    if url.startswith("data:"):
        return _decoded(url)
    with sandbox.store.read() as tx:
        path = own_file(sandbox, tx, account, url)
    if path is not None:
        return path.read_bytes()
    if not is_here(url):
        raise InputError(f"the sandbox fetches no input from {host_of(url)!r}: upload it to /v1/files")
    try:
        with called("GET", url, within_s=_FETCH_S, stopping=sandbox.stopping) as answer:
            answer.raise_for_status()
            content = _at_most(answer, _MAX_FETCHED_BYTES)
    except InputError:
        raise
    except CALL_ERRORS as error:
        raise InputError(f"the input at {_place(url)!r} cannot be fetched ({type(error).__name__})") from None
    return content


def _at_most(answer: httpx.Response, limit_bytes: int) -> bytes:
    content = bytearray()
    for chunk in answer.iter_bytes():
        content += chunk
        if len(content) > limit_bytes:
            raise InputError(f"the input at {_place(str(answer.url))!r} is larger than {limit_bytes} bytes")
    return bytes(content)


def _place(url: str) -> str:
    """Return an address for a message: a query may hold a signature."""
    return url.partition("?")[0]


def _decoded(url: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma:
        raise InputError("the input is a data URI without data")
    try:
        return base64.b64decode(body, validate=True) if head.endswith(";base64") else unquote_to_bytes(body)
    except binascii.Error as error:
        raise InputError(f"the input is a data URI that cannot be read: {error}") from error
