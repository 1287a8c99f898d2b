"""Bluesight's uploaded files: not listed, not compared, each upload a new id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from pipeline.errors import ConfigurationError, ErrorContext, NotFoundError, TransportError
from pipeline.provider import Notes
from providers.bluesight.session import BluesightSession
from providers.bluesight.wire import FileWire
from providers.calls import ApiRequest, UploadPart
from providers.http import path_segment

_NOTED = "files"


class Files:
    """Uploads of training data."""

    def __init__(self, session: BluesightSession) -> None:
        self._session = session

    def bring(self, role: str, path: Path, filename: str, notes: Notes) -> str:
        """Return the id of a local file at the provider; it is uploaded unless the notes say that it was.

        Args:
            role: The request's field that names the file.
            path: The file.
            filename: What it is called there.
            notes: Remember each upload right after it.

        Raises:
            ConfigurationError: The file cannot be read; the error names the field.
            TransportError: It did not arrive whole.
        """
        with _reading(role, path):
            size_bytes, sha256 = _facts(path)
            noted = _noted(notes, role)
            if noted.get("sha256") == sha256 and self._is_there(file_id := str(noted.get("id"))):
                return file_id
            file_id = self._upload(path, filename, size_bytes)
        files = notes.read().get(_NOTED)
        known = files if isinstance(files, dict) else {}
        notes.write({**notes.read(), _NOTED: {**known, role: {"id": file_id, "sha256": sha256}}})
        return file_id

    def get(self, file_id: str) -> FileWire:
        """Return what the provider knows of an upload.

        Raises:
            NotFoundError: There is none of this id.
        """
        request = ApiRequest("files.get", "GET", f"/files/{path_segment(file_id)}", repeatable=True)
        return self._session.read(request, FileWire)

    def _is_there(self, file_id: str) -> bool:
        try:
            self.get(file_id)
        except NotFoundError:
            return False
        return True

    def _upload(self, path: Path, filename: str, size_bytes: int) -> str:
        # Repeating makes a second upload at worst, which costs nothing and is never trained on.
        request = ApiRequest(
            "files.upload",
            "POST",
            "/files",
            parts=(UploadPart("file", path, filename),),
            repeatable=True,
            timeout_s=self._session.times.upload_s,
        )
        stored = self._session.read(request, FileWire)
        if stored.bytes is None:  # so it is while an upload is incomplete
            stored = self.get(stored.id)
        if stored.bytes != size_bytes:
            message = f"{path.name!r} has {size_bytes} bytes, {stored.bytes} of them arrived: run again."
            raise TransportError(message, ErrorContext(operation="files.upload"))
        return stored.id


def _noted(notes: Notes, role: str) -> dict[str, JsonValue]:
    files = notes.read().get(_NOTED)
    noted = files.get(role) if isinstance(files, dict) else None
    return noted if isinstance(noted, dict) else {}


def _facts(path: Path) -> tuple[int, str]:
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        return opened.tell(), digest


@contextmanager
def _reading(role: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{role} {str(path)!r} cannot be read ({error.strerror or error}): name a file that can be."
        raise ConfigurationError(message, ErrorContext(operation="files.upload", field=role)) from error
