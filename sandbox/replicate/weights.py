"""What a finished training leaves behind: an archive that is delivered, and a version that can be run."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from sandbox.accounts import Account
from sandbox.core import Sandbox, put_bytes
from sandbox.replicate.models import find_model, new_version
from sandbox.replicate.settings import ReplicateSettings
from sandbox.store import Row

MODEL_FILE, CONFIG_FILE = "model.onnx", "config.json"
_NAMES = {
    "tar": "trained_model.tar",
    "tar.gz": "trained_model.tar.gz",
    "zip": "trained_model.zip",
    "onnx": "model.onnx",
    "no_onnx": "trained_model.tar",
}


class PackagingError(RuntimeError):
    """The provider cannot make a version of what was trained; the message is the vendor's own."""


@dataclass(frozen=True)
class Made:
    """What the trainer made: the files of its archive, model.onnx and config.json among them."""

    files: Mapping[str, bytes]

    @property
    def config(self) -> dict[str, Any]:
        """The facts the trainer wrote about its model."""
        document: dict[str, Any] = json.loads(self.files[CONFIG_FILE])
        return document


def publish(sandbox: Sandbox, tx: Connection, account: Account, row: Row, made: Made, *, at_s: float) -> dict[str, Any]:
    """Store the weights of a training, add a version to its destination and return what its data keeps of that.

    Raises:
        PackagingError: The destination is gone, or the settings say that it fails.
    """
    settings = account.settings.replicate
    owner, _, name = row["data"]["destination"].partition("/")
    if settings.package_fails or find_model(tx, account, owner, name) is None:
        raise PackagingError("Failed to create trained image after successful training run")
    version = new_version(tx, account, name, training=row["id"], at_s=at_s)
    file_name = settings.weights_name or _NAMES[settings.weights]
    put_bytes(sandbox.object_path(account.id, "replicate", row["id"], file_name), _packed(settings, made))
    for kept in (MODEL_FILE, CONFIG_FILE):
        put_bytes(sandbox.object_path(account.id, "replicate", version["id"], kept), made.files[kept])
    return {"trained_version": f"{owner}/{name}:{version['id']}", "weights": file_name}


def unpacked(content: bytes) -> Made:
    """Return the files of a trainer's tar.

    Raises:
        PackagingError: It is no tar with a model and its config.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            members = [member for member in archive if member.isfile()]
            files = {member.name.removeprefix("./"): _read(archive, member) for member in members}
    except tarfile.TarError as error:
        raise PackagingError(f"the trainer's weights are no tar: {error}") from error
    missing = [name for name in (MODEL_FILE, CONFIG_FILE) if name not in files]
    if missing:
        raise PackagingError(f"the trainer's weights hold no {' and no '.join(missing)}")
    return Made(files)


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return b"" if file is None else file.read()


def _packed(settings: ReplicateSettings, made: Made) -> bytes:
    form = settings.weights
    if form == "onnx":
        return made.files[MODEL_FILE]
    files = {name: content for name, content in made.files.items() if form != "no_onnx" or name != MODEL_FILE}
    packed = io.BytesIO()
    if form == "zip":
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return packed.getvalue()
    with tarfile.open(fileobj=packed, mode="w:gz" if form == "tar.gz" else "w") as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return packed.getvalue()
