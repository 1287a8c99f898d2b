"""The pictures of models: what is known about them is in the store, their bytes are files."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection

from sandbox import documents
from sandbox.accounts import Account
from sandbox.core import Sandbox, new_id, put_bytes
from sandbox.photogpt.ids import secret
from sandbox.photogpt.models import HIDDEN, IMAGE
from sandbox.photogpt.pictures import SUFFIXES, Format
from sandbox.store import Row

FOLDER = "photogpt"
MOST_PICTURES = 20
PictureType = Literal["modelInput", "auxiliaryType", "output"]


@dataclass(frozen=True)
class Picture:
    """A picture that has an address: which one it is, and of what kind."""

    type: PictureType
    format: Format
    id: str = field(default_factory=new_id)
    secret: str = field(default_factory=secret, repr=False)

    @property
    def file_name(self) -> str:
        """Name of its file, which is the last part of its address and not to be guessed."""
        return self.secret + SUFFIXES[self.format]


def keep(sandbox: Sandbox, account: Account, picture: Picture, content: bytes) -> None:
    """Write a picture's bytes to where its address leads."""
    put_bytes(sandbox.object_path(account.id, FOLDER, picture.id, picture.file_name), content, private=True)


def file_of(sandbox: Sandbox, account: Account, image: Row) -> Path:
    """Return where the bytes of a picture are."""
    return sandbox.object_path(account.id, FOLDER, image["id"], image["data"]["file"])


def forget_bytes(sandbox: Sandbox, account: Account, image_ids: Iterable[str]) -> None:
    """Remove the files of pictures; their addresses answer 404 from then on."""
    for image_id in image_ids:
        shutil.rmtree(sandbox.object_folder(account.id, FOLDER, image_id), ignore_errors=True)


def add(tx: Connection, account: Account, model_id: str, picture: Picture, *, at_s: float) -> Row:
    """Make a picture known whose bytes are kept."""
    data: dict[str, Any] = {"file": picture.file_name, "updated_at": at_s}
    return documents.add(tx, account, IMAGE, id=picture.id, parent=model_id, name=picture.type, data=data, at_s=at_s)


def images_of(tx: Connection, account: Account, model_id: str, types: Iterable[str]) -> list[Row]:
    """Return the pictures of a model of some types that can be seen, oldest first."""
    wanted = set(types)
    rows = documents.listed(tx, account, IMAGE, parent=model_id, newest_first=False)
    return [row for row in rows if row["name"] in wanted and row["status"] != HIDDEN]


def images_of_job(tx: Connection, account: Account, job: Row) -> list[Row]:
    """Return the pictures a generation made, hidden or not, oldest first."""
    rows = documents.listed(tx, account, IMAGE, parent=job["parent"], newest_first=False)
    return [row for row in rows if row["data"].get("job") == job["id"]]


def forget_all(tx: Connection, account: Account, model: Row) -> list[str]:
    """Forget every picture of a model and return their ids; the caller removes their files."""
    rows = documents.listed(tx, account, IMAGE, parent=model["id"])
    for row in rows:
        documents.remove(tx, row)
    return [row["id"] for row in rows]
