"""Collect a file from the provider's storage so that the bytes are the bytes.

Stream to a temporary file beside the target, hash on the way, resume what breaks, compare size and digests with what
the storage announced, and only then put the file in its place in one step.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from pipeline.clock import Clock
from pipeline.download.hashing import Hasher
from pipeline.errors import (
    ArtifactTooLargeError,
    DigestMismatchError,
    DownloadError,
    ErrorContext,
    OutputPathError,
    RetryableProviderError,
    TransportError,
)
from pipeline.models import ModelArtifact, ModelFacts, Outcome
from pipeline.provider import ByteStream, ResumePoint, StreamFacts

OpenStream = Callable[[ResumePoint | None], AbstractContextManager[ByteStream]]
"""Opens the transfer, from a resume point on where the storage can."""

FRUITLESS_ATTEMPTS = 5
"""Attempts in a row that bring no new byte before the transfer is given up."""
WHOLE_ATTEMPTS = 2
"""Complete transfers allowed when the digest does not match: one flipped bit on the way is not the file's fault."""
BACK_OFF_S = 1.0
"""Seconds before the first new attempt; doubles while nothing comes."""
RETRY_AFTER_MOST_S = 120.0
"""Most seconds before a new attempt that the storage's own delay is followed for."""
SLOW_BYTES_PER_S = 1000
"""A transfer that brings less than this, over ``SLOW_S``, will not end in any useful time."""
SLOW_S = 600.0
"""Seconds over which a transfer's speed is judged, pauses included."""
CANDIDATE_NAME = "candidate.onnx"
"""A model that was transferred and verified, and has still to be accepted."""
MODEL_NAME = "model.onnx"
"""The model that was accepted last."""


@dataclass(frozen=True)
class CollectedFile:
    """A file that was transferred and verified."""

    path: Path
    """Where it is."""
    size_bytes: int
    """Its size."""
    md5: str
    """MD5, lowercase hex."""
    sha256: str
    """SHA-256, lowercase hex."""
    verified_by: tuple[str, ...]
    """What was compared with the storage's word."""
    resumed: int
    """Attempts after the first one."""


def check_output_dir(folder: Path) -> None:
    """Make the folder and prove that files can be written there.

    Raises:
        OutputPathError: It cannot be made or written.
    """
    probe = folder / f".probe-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise OutputPathError(
            f"output_dir {str(folder)!r} cannot be written ({error.strerror}); choose a folder you can write to",
            ErrorContext(field="output_dir"),
        ) from error


def collect(
    open_stream: OpenStream, target: Path, *, max_bytes: int, clock: Clock, limit_field: str = "max_model_bytes"
) -> CollectedFile:
    """Transfer a file to ``target``; whatever goes wrong, an existing file there stays as it was.

    Args:
        open_stream: Opens the transfer.
        target: Where the file goes.
        max_bytes: Largest size taken.
        clock: The ``time`` module, or a fake.
        limit_field: The request's field that ``max_bytes`` came from, named when a file is too large.

    Raises:
        DownloadError: The transfer did not complete, is empty, or hardly moves.
        DigestMismatchError: Complete, but not the announced bytes, twice.
        ArtifactTooLargeError: Over ``max_bytes``, or no room on the disk.
        OutputPathError: The folder cannot be written.
        ProviderError: The storage or the API refused.
    """
    check_output_dir(target.parent)
    part = target.parent / f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part"
    resumed = 0
    try:
        for whole in range(1, WHOLE_ATTEMPTS + 1):
            transfer = _Transfer(part, max_bytes, limit_field, clock)
            try:
                resumed += transfer.run(open_stream)
                verified_by = transfer.verify(target.name)
            except DigestMismatchError:
                if whole == WHOLE_ATTEMPTS:
                    raise
                resumed += 1
                continue
            finally:
                transfer.close()
            part.replace(target)
            return CollectedFile(target, transfer.size_bytes, *transfer.digests(), verified_by, resumed)
    except OSError as error:
        raise _disk_error(target, error) from error
    finally:
        part.unlink(missing_ok=True)
    raise AssertionError("unreachable: the last whole attempt returns or raises")


def describe_artifact(file: CollectedFile, model: ModelFacts) -> ModelArtifact:
    """Return a collected file as a model's."""
    return ModelArtifact(
        path=file.path,
        size_bytes=file.size_bytes,
        md5=file.md5,
        sha256=file.sha256,
        verified_by=file.verified_by,
        resumed=file.resumed,
        model=model,
    )


def promote(artifact: ModelArtifact) -> ModelArtifact:
    """Give an accepted candidate the place of the model beside it, in one step; whatever fails, that one stays.

    Raises:
        OutputPathError: It cannot be moved there.
    """
    target = artifact.path.with_name(MODEL_NAME)
    try:
        artifact.path.replace(target)
    except OSError as error:
        raise _disk_error(target, error) from error
    return artifact.model_copy(update={"path": target})


def promote_accepted(outcome: Outcome, candidate: ModelArtifact | None) -> ModelArtifact | None:
    """Return the model, promoted when it was accepted: one that nobody has tried stays a candidate.

    Raises:
        OutputPathError: It cannot be put in its place.
    """
    return promote(candidate) if candidate is not None and outcome is Outcome.ACCEPTED else candidate


class _Transfer:
    """One complete transfer into the part file, over as many connections as it takes."""

    def __init__(self, part: Path, max_bytes: int, limit_field: str, clock: Clock) -> None:
        self.size_bytes = 0
        self._part = part
        self._max_bytes = max_bytes
        self._limit_field = limit_field
        self._clock = clock
        self._pace = _Pace(clock)
        self._hasher = Hasher()
        self._facts = StreamFacts()

    def run(self, open_stream: OpenStream) -> int:
        """Transfer to the end; return how many times it had to be taken up again."""
        again = fruitless = reached = 0
        with self._part.open("wb") as file:
            while True:
                try:
                    self._attempt(open_stream, file)
                except RetryableProviderError as error:
                    again += 1
                    # Against the furthest point ever: a transfer that starts over for ever makes no progress.
                    fruitless = fruitless + 1 if self.size_bytes <= reached else 0
                    reached = max(reached, self.size_bytes)
                    if fruitless >= FRUITLESS_ATTEMPTS:
                        raise DownloadError(
                            f"the transfer broke {again} times and stands at {self.size_bytes} of "
                            f"{self._facts.size_bytes or 'unknown'} bytes; run again later. Last reason: {error}",
                            error.context,
                        ) from error
                    asked_s = min(error.context.retry_after_s or 0.0, RETRY_AFTER_MOST_S)
                    self._clock.sleep(max(BACK_OFF_S * 2**fruitless, asked_s))
                else:
                    return again

    def digests(self) -> tuple[str, str]:
        """Return MD5 and SHA-256 of the bytes received."""
        return self._hasher.digests()

    def verify(self, name: str) -> tuple[str, ...]:
        """Compare with what the storage announced; return what was compared."""
        facts = self._facts
        if self.size_bytes == 0:
            raise DownloadError(f"the storage sent an empty file for {name!r}; nothing was kept")
        compared = []
        if facts.size_bytes is not None:
            if facts.size_bytes != self.size_bytes:
                raise DownloadError(f"{name!r} ended at {self.size_bytes} of {facts.size_bytes} bytes")
            compared.append("size")
        own = dict(zip(("md5", "sha256"), self.digests(), strict=True))
        for algorithm, announced in facts.digests.items():
            if algorithm in own:
                if own[algorithm] != announced.lower():
                    raise DigestMismatchError(
                        f"{name!r} is damaged: {algorithm} is {own[algorithm]}, the storage announced {announced} "
                        f"({facts.digest_source}); the file was not kept, an earlier one stays in place"
                    )
                compared.append(f"{algorithm} ({facts.digest_source})")
        return tuple(compared)

    def _attempt(self, open_stream: OpenStream, file: BinaryIO) -> None:
        resume = ResumePoint(self.size_bytes, self._facts.etag) if self.size_bytes else None
        with open_stream(resume) as stream:
            if self.size_bytes and (stream.facts.offset != self.size_bytes or stream.facts.etag != self._facts.etag):
                self._start_over(file)
            if stream.facts.offset != self.size_bytes:
                raise TransportError("the file changed at the storage in mid-transfer; starting over")
            self._facts = _joined(self._facts, stream.facts)
            self._check_room(file)
            for chunk in stream.chunks:
                self.size_bytes += len(chunk)
                if self.size_bytes > self._max_bytes:
                    raise self._too_large(self.size_bytes)
                file.write(chunk)
                self._hasher.update(chunk)
                self._pace.take(len(chunk))
            file.flush()
            os.fsync(file.fileno())

    def _start_over(self, file: BinaryIO) -> None:
        file.seek(0)
        file.truncate()
        self.size_bytes = 0
        self._facts = StreamFacts()
        self.close()
        self._hasher = Hasher()

    def close(self) -> None:
        """End the hashing thread."""
        self._hasher.digests()

    def _check_room(self, file: BinaryIO) -> None:
        size = self._facts.size_bytes
        if size is None:
            return
        if size > self._max_bytes:
            raise self._too_large(size)
        free = shutil.disk_usage(self._part.parent).free
        if size - self.size_bytes > free:
            raise ArtifactTooLargeError(
                f"the file needs {size} bytes and {str(self._part.parent)!r} has {free} free; make room or choose "
                f"another output_dir",
                ErrorContext(field="output_dir"),
            )

    def _too_large(self, size: int) -> ArtifactTooLargeError:
        return ArtifactTooLargeError(
            f"the file has {size} bytes or more, over the limit of {self._max_bytes}; raise {self._limit_field} if "
            f"that is expected",
            ErrorContext(field=self._limit_field),
        )


def _joined(earlier: StreamFacts, now: StreamFacts) -> StreamFacts:
    """Keep what was announced for the same bytes before: the answer to a range request may announce less."""
    return replace(
        now,
        size_bytes=earlier.size_bytes if now.size_bytes is None else now.size_bytes,
        digests={**earlier.digests, **now.digests},
        digest_source=now.digest_source or earlier.digest_source,
    )


class _Pace:
    """Judges how fast bytes come, over one stretch of time after the other."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since_s = clock.monotonic()
        self._bytes = 0

    def take(self, size: int) -> None:
        """Take in bytes that came; raise when a whole stretch brought too few."""
        self._bytes += size
        passed_s = self._clock.monotonic() - self._since_s
        if passed_s < SLOW_S:
            return
        if self._bytes < SLOW_BYTES_PER_S * passed_s:
            raise DownloadError(
                f"the transfer brought {self._bytes} bytes in the last {passed_s:.0f} s, which is too slow to end; "
                f"run again later, or from a machine with a better connection"
            )
        self._since_s += passed_s
        self._bytes = 0


def _disk_error(target: Path, error: OSError) -> OutputPathError:
    return OutputPathError(
        f"writing {str(target)!r} failed ({error.strerror or error}); an earlier file stays in place. Make room or "
        f"choose another output_dir",
        ErrorContext(field="output_dir"),
    )
