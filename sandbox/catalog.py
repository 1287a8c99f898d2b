"""Datasets and exports: what is trained on, and how an export comes to be."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection, insert, or_, select, update

from sandbox.accounts import Account, find_account
from sandbox.core import Sandbox, new_id
from sandbox.datasets import DataError, LabelledImage, class_names
from sandbox.exportzip import read_export, write_export
from sandbox.store import Row, datasets, every, exports, first, notifications
from sandbox.training.selection import assign_splits

EXPORT_FILE = "export.zip"


def images_path(sandbox: Sandbox, dataset_id: str) -> Path:
    """Return the file that keeps a dataset's images and labels."""
    return sandbox.home / "datasets" / f"{dataset_id}.zip"


def add_dataset(
    sandbox: Sandbox, account: Account, name: str, images: Sequence[LabelledImage], *, cold: bool = False
) -> Row:
    """Add a dataset with its images; one of the same name is replaced, its exports stay as they are.

    Raises:
        DataError: Two images share a name.
    """
    dataset_id, path = new_id(), None
    path = images_path(sandbox, dataset_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Held-out pictures are chosen once, here, so that every export of the dataset names the same ones.
    write_export(path, dataset=name, export=name, images=assign_splits(images), include_images=True)
    counts = Counter(shape.name for image in images for shape in image.shapes)
    counts.update(tag for image in images for tag in image.tags)
    values = {
        "image_count": len(images),
        "completed_image_count": sum(image.status == "complete" for image in images),
        "total_size": sum(len(image.content) for image in images),
        "classes": [{"name": label, "type": "bbox"} for label in class_names(images)],
        "cold": cold,
    }
    with sandbox.store.write() as tx:
        known = find_dataset(tx, account, name)
        if known is None:
            values |= {"id": dataset_id, "account_id": account.id, "name": name, "created_at": sandbox.clock.now_s()}
            tx.execute(insert(datasets).values(values))
        else:
            path.replace(images_path(sandbox, known["id"]))
            tx.execute(update(datasets).where(datasets.c.id == known["id"]).values(values))
        row = find_dataset(tx, account, name)
    if row is None:
        raise DataError(f"dataset {name!r} was removed while it was added: add it again")
    return row


def find_dataset(tx: Connection, account: Account, ref: str) -> Row | None:
    """Return a dataset by id or name."""
    named = or_(datasets.c.id == ref, datasets.c.name == ref)
    return first(tx, select(datasets).where(datasets.c.account_id == account.id, named))


def dataset_images(sandbox: Sandbox, dataset_id: str) -> list[LabelledImage]:
    """Return the images of a dataset, as they are now."""
    return read_export(images_path(sandbox, dataset_id))


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


def advance_exports(sandbox: Sandbox) -> float | None:
    """Move every open export on by what its age allows and return seconds until the next one is due, or None."""
    with sandbox.store.read() as tx:
        waiting = every(tx, select(exports).where(exports.c.status.in_(("pending", "processing"))))
        owners = {account_id: find_account(tx, account_id) for account_id in {row["account_id"] for row in waiting}}
    due_s: list[float] = []
    for export in waiting:
        account = owners[export["account_id"]]
        if account is None:
            continue
        settings = account.settings
        age_s = sandbox.clock.now_s() - export["created_at"]
        ready_s = settings.export_pending_s + settings.export_processing_s
        if age_s >= ready_s:
            _finish_export(sandbox, account, export)
            continue
        if export["status"] == "pending" and age_s >= settings.export_pending_s:
            with sandbox.store.write() as tx:
                tx.execute(update(exports).where(exports.c.id == export["id"]).values(status="processing"))
        due_s.append((settings.export_pending_s if age_s < settings.export_pending_s else ready_s) - age_s)
    return min(due_s, default=None)


def _finish_export(sandbox: Sandbox, account: Account, export: Row) -> None:
    values = _built(sandbox, account, export)
    with sandbox.store.write() as tx:
        tx.execute(
            update(exports).where(exports.c.id == export["id"]).values(completed_at=sandbox.clock.now_s(), **values)
        )
        kind = "export_ready" if values["status"] == "completed" else "export_failed"
        notify(tx, account, kind, export["name"], {"export_id": export["id"]}, at_s=sandbox.clock.now_s())


def _built(sandbox: Sandbox, account: Account, export: Row) -> dict[str, object]:
    if account.settings.export_error is not None:
        return {"status": "failed", "error_message": account.settings.export_error}
    try:
        everything = dataset_images(sandbox, export["dataset_id"])
        images = select_images(everything, export["status_filter"], export["class_filter"])
        path = export_path(sandbox, export)
        path.parent.mkdir(parents=True, exist_ok=True)
        counts = write_export(
            path,
            dataset=export["dataset_name"],
            export=export["name"],
            images=images,
            include_images=export["include_images"],
        )
    except (OSError, DataError) as error:
        return {"status": "failed", "error_message": f"export {export['name']!r} could not be built: {error}"}
    return {
        "status": "completed",
        "file_size": counts.size_bytes,
        "image_count": counts.image_count,
        "annotation_count": counts.annotation_count,
        "classes": list(class_names(images)),
    }


def notify(tx: Connection, account: Account, kind: str, title: str, metadata: dict[str, str], *, at_s: float) -> None:
    """Add a row to the account's notification feed."""
    row = {"id": new_id(), "account_id": account.id, "type": kind, "title": title, "metadata": metadata}
    tx.execute(insert(notifications).values(**row, message=None, read=False, created_at=at_s))
