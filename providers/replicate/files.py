"""Files a training can read. Source: https://replicate.com/docs/reference/http, checked 2026-11-20."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import JsonValue

from pipeline.errors import NotFoundError
from providers.calls import ApiRequest, UploadPart
from providers.http import path_segment
from providers.replicate.session import ReplicateSession, get
from providers.replicate.wire import FileWire

MAX_FILE_BYTES = 100_000_000
"""Largest file the API takes."""
_UPLOAD_S = 300.0
_PAGES = 50


class Files:
    """Uploaded files; each upload makes a new one, and every one of them expires by itself."""

    def __init__(self, session: ReplicateSession) -> None:
        self._session = session

    def upload(
        self, content: Path | bytes, name: str, content_type: str, metadata: Mapping[str, JsonValue]
    ) -> FileWire:
        """Upload a file. An upload that is sent twice makes a second file, costs nothing, and expires."""
        said = UploadPart("metadata", json.dumps(dict(metadata)).encode(), None, "application/json")
        part = UploadPart("content", content, name, content_type)
        request = ApiRequest(
            "files.create", "POST", "/v1/files", parts=(said, part), repeatable=True, timeout_s=_UPLOAD_S
        )
        return self._session.read(request, FileWire)

    def get(self, file_id: str) -> FileWire:
        """Return a file's facts.

        Raises:
            NotFoundError: There is none of this id, or it has expired.
        """
        return self._session.read(get("files.get", f"/v1/files/{path_segment(file_id)}"), FileWire)

    def iter(self) -> Iterator[FileWire]:
        """Yield the account's files, newest first; expired ones are gone, so that there are never many."""
        return self._session.iter_rows(get("files.list", "/v1/files"), FileWire, pages=_PAGES)

    def delete(self, file_id: str) -> None:
        """Remove a file; one that is gone already is as good."""
        with suppress(NotFoundError):
            path = f"/v1/files/{path_segment(file_id)}"
            self._session.call(ApiRequest("files.delete", "DELETE", path, repeatable=True))
