"""Bluesight's uploaded files: their bytes, and the copies that jobs keep of them."""

import os
import re
import secrets
import shutil
import string
from pathlib import Path

from sqlalchemy import Connection

from sandbox import documents
from sandbox.accounts import Account
from sandbox.core import Sandbox, put_bytes
from sandbox.store import Row

FILE = "bluesight.file"
VENDOR = "bluesight"
_ALPHABET = string.ascii_lowercase + string.digits
_UPLOADED, _CACHED = "uploaded", "cached"
_FORM = re.compile(r"file-[a-z0-9]{8}")


def new_name(prefix: str) -> str:
    """Return a fresh id: the prefix and eight small letters or digits."""
    return prefix + "".join(secrets.choice(_ALPHABET) for _ in range(8))


def add_file(sandbox: Sandbox, account: Account, filename: str | None, content: bytes) -> Row:
    """Keep an upload, whatever it holds; the same bytes again are another file."""
    name = new_name("file-")
    put_bytes(_folder(sandbox, account, name) / _UPLOADED, content)
    data = {"filename": filename, "bytes": len(content)}
    with sandbox.store.write() as tx:
        return documents.add(tx, account, FILE, id=name, data=data, at_s=sandbox.clock.now_s())


def remove_file(sandbox: Sandbox, tx: Connection, account: Account, row: Row) -> None:
    """Forget a file; a copy some job has made of it stays."""
    documents.remove(tx, row)
    (_folder(sandbox, account, row["id"]) / _UPLOADED).unlink(missing_ok=True)


def downloaded(sandbox: Sandbox, account: Account, name: str) -> Path:
    """Return the copy that jobs read a file from, making it the first time; it is never made again.

    Raises:
        ValueError: There is no such file, and no copy.
    """
    folder = _folder(sandbox, account, name)
    copy, source = folder / _CACHED, folder / _UPLOADED
    is_known = _FORM.fullmatch(name) is not None  # anything else could be a path
    if is_known and copy.is_file():
        return copy
    if not is_known or not source.is_file():
        raise ValueError(f"Error downloading file '{name}'. Probably, the file does not exist.")
    part = folder / f".{_CACHED}.{secrets.token_hex(4)}"
    if account.settings.bluesight.truncates_downloads:
        shutil.copyfile(source, part)
        os.truncate(part, source.stat().st_size // 2)
    else:
        linked_or_copied(source, part)
    part.replace(copy)
    return copy


def linked_or_copied(source: Path, target: Path) -> None:
    """Make a second name for a file that is never changed, or a copy where that is impossible."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _folder(sandbox: Sandbox, account: Account, name: str) -> Path:
    return sandbox.object_folder(account.id, VENDOR, name)
