"""Fetch a picture that a PhotoGPT model made: at once, for its address may not live long, and without the key."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.pictures import PictureError, read_picture
from pipeline.data.portrait_files import HEAD_BYTES, sniff
from pipeline.errors import (
    ArtifactTooLargeError,
    ErrorContext,
    NotFoundError,
    OutputCheckError,
    OutputPathError,
    TransportError,
)
from providers.photogpt.jobs import Jobs
from providers.photogpt.wire import JobWire
from providers.retry import Clock
from providers.storage import SignedStorage

MAX_BYTES = 64 * 1024**2
"""Largest picture that is kept."""
_ATTEMPTS = 3
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Kept:
    """A picture on this machine that opens to its last pixel."""

    path: Path
    """The file."""
    size: tuple[int, int]
    """Width and height in pixels."""


def picture_address(job: JobWire) -> str | None:
    """Return where a job's first picture is; none when it shows none."""
    urls = (image.get("url") for image in job.images)
    return next((url for url in urls if isinstance(url, str) and url), None)


class Delivery:
    """Brings pictures here."""

    def __init__(self, storage: SignedStorage, jobs: Jobs, clock: Clock, wait_s: float) -> None:
        self._storage = storage
        self._jobs = jobs
        self._clock = clock
        self._wait_s = wait_s

    def make_room(self, folder: Path) -> None:
        """Make the folder before anything that goes into it is paid for.

        Raises:
            OutputPathError: It cannot be made.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error

    def fetch(self, job: JobWire, folder: Path, attempts: int = _ATTEMPTS) -> Kept:
        """Keep a job's picture in a folder that exists; its address is asked for anew when it does not work.

        Raises:
            OutputCheckError: It is no picture.
            OutputPathError: It cannot be written.
            ProviderError: It could not be fetched.
        """
        try:
            return self._keep(job, folder)
        except (TransportError, NotFoundError):
            if attempts <= 1:
                raise
        self._clock.sleep(self._wait_s)
        return self.fetch(self._jobs.get(job.id), folder, attempts - 1)

    def _keep(self, job: JobWire, folder: Path) -> Kept:
        partial = folder / f"{_NOT_IN_NAMES.sub('-', job.id)[:80]}.part"
        try:
            self._download(job, partial)
            height, width = read_picture(partial).shape[:2]
            return Kept(partial.replace(partial.with_suffix(f".{_kind(partial)}")), (width, height))
        except PictureError as error:
            message = f"what job {job.id} made is no picture: {error.reason}"
            raise OutputCheckError(message, ErrorContext(operation="images.read")) from None
        except OSError as error:
            raise _unwritable(folder, error) from error
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _download(self, job: JobWire, partial: Path) -> None:
        subject, received = f"the picture of job {job.id}", 0
        with self._storage.open(lambda: picture_address(job) or "", subject) as stream, partial.open("wb") as file:
            for chunk in stream.chunks:
                received += len(chunk)
                if received > MAX_BYTES:
                    message = f"{subject} is larger than {MAX_BYTES} bytes"
                    raise ArtifactTooLargeError(message, ErrorContext(operation="images.read"))
                file.write(chunk)


def _unwritable(folder: Path, error: OSError) -> OutputPathError:
    message = f"{str(folder)!r} cannot be written ({error.strerror}); choose another output_dir"
    return OutputPathError(message, ErrorContext(operation="images.read", field="output_dir"))


def _kind(path: Path) -> str:
    with path.open("rb") as opened:
        return sniff(opened.read(HEAD_BYTES)) or "img"
