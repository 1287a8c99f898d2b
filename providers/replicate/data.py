"""Where the trainer reads the training data: an address of its own for each attempt, by which its run is found again.

Nothing else of a training is both ours to choose and shown in lists.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode, urlsplit, urlunsplit

from pydantic import JsonValue

from pipeline.errors import (
    ConfigurationError,
    ErrorContext,
    InvalidRequestError,
    NotFoundError,
    TransportError,
    UnexpectedResponseError,
)
from pipeline.local_requests import ReplicateRequest
from pipeline.models import TrainPlan
from pipeline.provider import Notes
from providers.replicate.files import MAX_FILE_BYTES, Files
from providers.replicate.values import moment_of
from providers.replicate.wire import FileWire
from providers.retry import Clock

KEY_PARAMETER = "train-pipeline-operation"
"""What is appended to the address of data that is kept elsewhere."""
KEY_METADATA = "train_pipeline_operation"
"""Under what an uploaded file carries the operation's key."""
LEAST_LEFT = timedelta(minutes=15)
"""An uploaded file that expires sooner is uploaded again."""
_FILE = "file"


def check_archive(request: ReplicateRequest) -> None:
    """Refuse an archive that the API would not take.

    Raises:
        ConfigurationError: It is missing, or too large to upload; the error names the field to change.
    """
    if request.dataset_url is not None:
        return
    try:
        size = Path(request.dataset).expanduser().stat().st_size
    except OSError as error:
        message = f"dataset={request.dataset!r} cannot be read ({error.strerror}); name a ZIP archive on this machine"
        raise ConfigurationError(message, ErrorContext(operation="files.create", field="dataset")) from error
    if size > MAX_FILE_BYTES:
        raise _too_large(request.dataset, size)


def _too_large(dataset: str, size: int) -> ConfigurationError:
    message = (
        f"dataset={dataset!r} has {size} bytes, and Replicate takes uploads of {MAX_FILE_BYTES} at most; put it where "
        f"the trainer can fetch it, and set dataset_url to its address"
    )
    return ConfigurationError(message, ErrorContext(operation="files.create", field="dataset_url"))


def own_address(url: str, key: str) -> str:
    """Return an address that leads to the same bytes and is this operation's alone."""
    parts = urlsplit(url)
    mark = urlencode({KEY_PARAMETER: key})
    if parts.query:
        # It may be signed, and signatures go by many names: nothing may be appended to what they cover. A fragment is
        # never sent to the storage, but shown in lists all the same.
        return urlunsplit(parts._replace(fragment=mark))
    return urlunsplit(parts._replace(query=mark))


class TrainingData:
    """Uploads archives, once for each attempt."""

    def __init__(self, files: Files, clock: Clock) -> None:
        self._files = files
        self._clock = clock

    def address(self, plan: TrainPlan, notes: Notes) -> str:
        """Return the data's address, uploading it when no earlier upload of this attempt is left.

        Raises:
            ConfigurationError: The archive is missing or too large; the error names the field to change.
            TransportError: What arrived is not what was sent.
        """
        request = plan.asked_of(ReplicateRequest)
        if request.dataset_url is not None:
            return own_address(request.dataset_url, plan.operation_key)
        check_archive(request)
        path = Path(request.dataset).expanduser()
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return self._earlier(notes, sha256) or self._upload(path, sha256, plan, notes)

    def _earlier(self, notes: Notes, sha256: str) -> str | None:
        noted = _noted(notes)
        file_id, url = noted.get("id"), noted.get("url")
        if noted.get("sha256") != sha256 or not isinstance(file_id, str) or not isinstance(url, str):
            return None
        with suppress(NotFoundError):
            file = self._files.get(file_id)
            if file.expires_at is None or file.expires_at - moment_of(self._clock) >= LEAST_LEFT:
                return url
        return None

    def _upload(self, path: Path, sha256: str, plan: TrainPlan, notes: Notes) -> str:
        try:
            file = self._files.upload(path, path.name, "application/zip", {KEY_METADATA: plan.operation_key})
        except InvalidRequestError as error:
            if error.context.status_code != 413:
                raise
            raise _too_large(str(path), path.stat().st_size) from error
        url = _checked(file, path, sha256)
        expires = file.expires_at.isoformat() if file.expires_at is not None else None
        noted: dict[str, JsonValue] = {"id": file.id, "url": url, "sha256": sha256, "expires_at": expires}
        notes.write({**notes.read(), _FILE: noted})
        return url

    def uploaded(self, plan: TrainPlan) -> tuple[FileWire, ...]:
        """Return the files that were uploaded for this attempt, as far as the provider still has them."""
        return tuple(file for file in self._files.iter() if file.metadata.get(KEY_METADATA) == plan.operation_key)

    def check_fresh(self, address: JsonValue, notes: Notes) -> None:
        """Refuse to pay for a training whose data the provider has removed since it was uploaded.

        Raises:
            InvalidRequestError: It has.
        """
        noted = _noted(notes)
        expires = noted.get("expires_at")
        if noted.get("url") != address or not isinstance(expires, str):
            return
        if datetime.fromisoformat(expires).astimezone(UTC) <= moment_of(self._clock):
            message = (
                f"The uploaded training data expired at {expires}, so a training would find none: begin a new "
                f"operation (on_open_run=new), which uploads it again."
            )
            raise InvalidRequestError(message, ErrorContext(operation="training.create"))


def _noted(notes: Notes) -> dict[str, JsonValue]:
    found = notes.read().get(_FILE)
    return found if isinstance(found, dict) else {}


def _checked(file: FileWire, path: Path, sha256: str) -> str:
    """Return the uploaded file's address when it holds what was sent."""
    context = ErrorContext(operation="files.create")
    size = path.stat().st_size
    if file.size is not None and file.size != size:
        raise TransportError(f"{path.name!r} has {size} bytes, {file.size} arrived: upload it again.", context)
    if file.sha256 is not None and file.sha256 != sha256:
        raise TransportError(f"{path.name!r} was damaged on its way: its SHA-256 differs. Upload it again.", context)
    if file.url is None:
        raise UnexpectedResponseError(f"The upload of {path.name!r} was answered without an address.", context)
    return file.url
