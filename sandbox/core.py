"""The pieces every part of the sandbox works with: home folder, store, clock, stored objects."""

import secrets
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection, insert, select

from sandbox.clock import Clock, SystemClock
from sandbox.store import Store, first, meta

DATABASE = "sandbox.sqlite3"


def new_id() -> str:
    """Return a fresh UUID in text form."""
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Sandbox:
    """One sandbox: where it lives and what it runs on."""

    home: Path
    """Folder of everything it keeps."""
    store: Store
    """The database."""
    clock: Clock = field(default_factory=SystemClock)
    """Source of time for lifecycles, expiry and billing."""
    signing_key: str = field(default="", repr=False)
    """Secret of the signed storage URLs, made once per home."""
    wake: threading.Event = field(default_factory=threading.Event)
    """Set when the background worker has something to do."""
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the background work ends; whatever waits for another server gives up then."""
    generating: threading.Lock = field(default_factory=threading.Lock)
    """Held while a built-in dataset is made, so that it is made once."""

    @property
    def objects(self) -> Path:
        """Folder of the objects that signed URLs lead to."""
        return self.home / "objects"

    @property
    def jobs(self) -> Path:
        """Folder of the job folders of real trainings."""
        return self.home / "jobs"

    def images_path(self, dataset_id: str) -> Path:
        """Return the file that keeps a dataset's images and labels."""
        return self.home / "datasets" / f"{dataset_id}.zip"

    def object_path(self, account_id: str, kind: str, owner_id: str, name: str) -> Path:
        """Return where a stored object's bytes are, or would be."""
        return self.object_folder(account_id, kind, owner_id) / name

    def object_folder(self, account_id: str, kind: str, owner_id: str) -> Path:
        """Return the folder of the stored objects of one dataset, export or model version."""
        return self.objects / account_id / kind / owner_id


def open_sandbox(home: Path, clock: Clock | None = None) -> Sandbox:
    """Open (or create) the sandbox kept in a folder.

    Raises:
        OtherSchemaError: The folder was written by another version of the sandbox.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    store = Store(home / DATABASE)
    with store.write() as tx:
        signing_key = _secret(tx, "storage")
    return Sandbox(home, store, clock or SystemClock(), signing_key)


def _secret(tx: Connection, name: str) -> str:
    row = first(tx, select(meta.c.value).where(meta.c.key == name))
    if row is not None:
        return str(row["value"])
    value = secrets.token_hex(32)
    tx.execute(insert(meta).values(key=name, value=value))
    return value


def put_bytes(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file so that a reader sees all of it or none of it; a private one is its owner's alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.touch(mode=0o600 if private else 0o644)
    temporary.write_bytes(content)
    temporary.replace(path)
