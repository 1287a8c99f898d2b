"""MD5 and SHA-256 of a stream, beside its reading."""

from __future__ import annotations

import hashlib
import queue
import threading

HASH_QUEUE_CHUNKS = 8
"""Chunks waiting for the hashing thread; bounds memory when the network is faster than hashing."""


class Hasher:
    """MD5 and SHA-256 in one pass, on a thread of their own: both let go of the interpreter while they work."""

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()
        self._queue: queue.Queue[bytes | None] = queue.Queue(HASH_QUEUE_CHUNKS)
        self._thread: threading.Thread | None = None

    def update(self, chunk: bytes) -> None:
        """Take in the next bytes."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="hashing", daemon=True)
            self._thread.start()
        self._queue.put(chunk)

    def digests(self) -> tuple[str, str]:
        """Return both digests of everything taken in so far."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        return self._md5.hexdigest(), self._sha256.hexdigest()

    def _work(self) -> None:
        while (chunk := self._queue.get()) is not None:
            self._md5.update(chunk)
            self._sha256.update(chunk)
