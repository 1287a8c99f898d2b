"""Datasets and exports: what is trained on, and how an export comes to be."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, or_, select, update

from sandbox.accounts import Account, find_account
from sandbox.core import Sandbox, new_id
from sandbox.datasets import DataError, LabelledImage, class_names
from sandbox.exportzip import class_kinds, read_export, write_export
from sandbox.store import Row, datasets, every, exports, first, notifications
from sandbox.training.selection import assign_splits

logger = logging.getLogger(__name__)

EXPORT_FILE = "export.zip"


def add_dataset(
    sandbox: Sandbox, account: Account, name: str, images: Sequence[LabelledImage], *, cold: bool = False
) -> Row:
    """Add a dataset with its images; one of the same name is replaced, its exports stay as they are.

    Raises:
        DataError: Two images share a name, or a name cannot be written.
    """
    dataset_id, created_at = new_id(), sandbox.clock.now_s()
    path = sandbox.images_path(dataset_id)
    # Held-out pictures are chosen once, here, so that every export of the dataset names the same ones.
    write_export(path, dataset=name, export=name, images=assign_splits(images), include_images=True)
    values = {
        "image_count": len(images),
        "completed_image_count": sum(image.status == "complete" for image in images),
        "total_size": sum(len(image.content) for image in images),
        "classes": class_kinds(images),
        "cold": cold,
    }
    with sandbox.store.write() as tx:
        known = find_dataset(tx, account, name)
        if known is None:
            known = {"id": dataset_id, "account_id": account.id, "name": name, "created_at": created_at}
            tx.execute(insert(datasets).values({**known, **values}))
        else:
            path.replace(sandbox.images_path(known["id"]))
            # The single images that download links lead to are of the dataset as it was.
            shutil.rmtree(sandbox.object_folder(account.id, "datasets", known["id"]), ignore_errors=True)
            tx.execute(update(datasets).where(datasets.c.id == known["id"]).values(values))
    return {**known, **values}


def find_dataset(tx: Connection, account: Account, ref: str) -> Row | None:
    """Return a dataset by id or name."""
    named = or_(datasets.c.id == ref, datasets.c.name == ref)
    return first(tx, select(datasets).where(datasets.c.account_id == account.id, named))


def dataset_images(sandbox: Sandbox, dataset_id: str) -> list[LabelledImage]:
    """Return the images of a dataset, as they are now."""
    return read_export(sandbox.images_path(dataset_id))


def find_export(tx: Connection, account: Account, ref: str, dataset: str | None = None) -> Row | None:
    """Return an export by id, or by its name inside a dataset (id or name)."""
    query = select(exports).where(exports.c.account_id == account.id)
    if dataset is None:
        return first(tx, query.where(exports.c.id == ref))
    inside = or_(exports.c.dataset_name == dataset, exports.c.dataset_id == dataset)
    named = or_(exports.c.name == ref, exports.c.id == ref)
    return first(tx, query.where(inside, named).order_by(exports.c.created_at.desc()))


def export_path(sandbox: Sandbox, export: Row) -> Path:
    """Return where an export's ZIP is, or will be."""
    return sandbox.object_path(export["account_id"], "exports", export["id"], EXPORT_FILE)


def select_images(
    images: Sequence[LabelledImage], status_filter: str | None, class_filter: Sequence[str] | None
) -> list[LabelledImage]:
    """Return the images an export holds; a status word that is no real stage matches nothing."""
    kept = [image for image in images if status_filter is None or image.status == status_filter]
    if not class_filter:
        return kept
    wanted = set(class_filter)
    narrowed = [
        replace(
            image,
            shapes=tuple(shape for shape in image.shapes if shape.name in wanted),
            tags=tuple(tag for tag in image.tags if tag in wanted),
        )
        for image in kept
    ]
    return [image for image in narrowed if image.shapes or image.tags]


def delete_export(sandbox: Sandbox, export: Row) -> None:
    """Remove the files of an export whose row is gone."""
    shutil.rmtree(sandbox.object_folder(export["account_id"], "exports", export["id"]), ignore_errors=True)


def advance_exports(sandbox: Sandbox) -> float | None:
    """Move every open export on by what its age allows and return seconds until the next one is due, or None."""
    with sandbox.store.read() as tx:
        waiting = every(tx, select(exports).where(exports.c.status.in_(("pending", "processing"))))
    due_s = [_advance_export(sandbox, export) for export in waiting]
    return min((seconds for seconds in due_s if seconds is not None), default=None)


def _advance_export(sandbox: Sandbox, export: Row) -> float | None:
    """Move one export on; whatever is wrong with it fails it, and keeps nothing else waiting."""
    try:
        with sandbox.store.read() as tx:
            account = find_account(tx, export["account_id"])
        return None if account is None else _age_export(sandbox, account, export)
    except Exception as error:  # see above
        logger.exception("export %s cannot be built", export["id"])
        _end_export(sandbox, export, _failed(export, f"{type(error).__name__}: {error}"))
    return None


def _age_export(sandbox: Sandbox, account: Account, export: Row) -> float | None:
    settings = account.settings
    age_s: float = sandbox.clock.now_s() - export["created_at"]
    ready_s = settings.export_pending_s + settings.export_processing_s
    if age_s >= ready_s:
        _end_export(sandbox, export, _built(sandbox, account, export))
        return None
    if export["status"] == "pending" and age_s >= settings.export_pending_s:
        with sandbox.store.write() as tx:
            tx.execute(update(exports).where(exports.c.id == export["id"]).values(status="processing"))
    return (settings.export_pending_s if age_s < settings.export_pending_s else ready_s) - age_s


def _end_export(sandbox: Sandbox, export: Row, values: dict[str, Any]) -> None:
    at_s = sandbox.clock.now_s()
    with sandbox.store.write() as tx:
        ended = update(exports).where(exports.c.id == export["id"]).values(completed_at=at_s, **values)
        if tx.execute(ended).rowcount:
            kind = "export_ready" if values["status"] == "completed" else "export_failed"
            notify(tx, export["account_id"], kind, export["name"], {"export_id": export["id"]}, at_s=at_s)
            return
    delete_export(sandbox, export)  # it was deleted while it was built


def _failed(export: Row, reason: str) -> dict[str, Any]:
    return {"status": "failed", "error_message": f"export {export['name']!r} could not be built: {reason}"}


def _built(sandbox: Sandbox, account: Account, export: Row) -> dict[str, Any]:
    if account.settings.export_error is not None:
        return {"status": "failed", "error_message": account.settings.export_error}
    try:
        everything = dataset_images(sandbox, export["dataset_id"])
        images = select_images(everything, export["status_filter"], export["class_filter"])
        counts = write_export(
            export_path(sandbox, export),
            dataset=export["dataset_name"],
            export=export["name"],
            images=images,
            include_images=export["include_images"],
        )
    except (OSError, DataError) as error:
        return _failed(export, str(error))
    return {
        "status": "completed",
        "file_size": counts.size_bytes,
        "image_count": counts.image_count,
        "annotation_count": counts.annotation_count,
        "classes": list(class_names(images)),
    }


def notify(tx: Connection, account_id: str, kind: str, title: str, metadata: dict[str, str], *, at_s: float) -> None:
    """Add a row to an account's notification feed."""
    row = {"id": new_id(), "account_id": account_id, "type": kind, "title": title, "metadata": metadata}
    tx.execute(insert(notifications).values(**row, message=None, read=False, created_at=at_s))
