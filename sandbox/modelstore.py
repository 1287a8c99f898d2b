"""Trained models: rows, versions and the files behind them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from sandbox.accounts import Account
from sandbox.core import Sandbox, new_id, put_bytes
from sandbox.store import Row, every, first, models, versions

MODEL_TYPES = {
    "yolox": "object_detection",
    "rfdetr_detection": "object_detection",
    "rfdetr_segmentation": "instance_segmentation",
    "detectron2": "instance_segmentation",
    "sm_pytorch": "semantic_segmentation",
    "classification": "classification",
    "rfdetr_keypoint": "keypoint_detection",
}
WEIGHTS_FILE = "model.onnx"
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Trained:
    """What a finished training hands over."""

    weights: bytes
    architecture: str
    classes: tuple[str, ...]
    metrics: dict[str, Any]
    config: dict[str, Any]
    gpu_minutes: int


def draft(tx: Connection, account: Account, run: Row, *, at_s: float) -> str | None:
    """Add the model row that exists while a run trains; None when the run adds a version to a known model."""
    if run["version_of_model_id"] is not None:
        return None
    model_id = new_id()
    tx.execute(
        insert(models).values(
            id=model_id,
            account_id=account.id,
            dataset_name=run["dataset_name"],
            name=run["name"],
            model_type=MODEL_TYPES.get(run["pipeline_type"], "object_detection"),
            pipeline_type=run["pipeline_type"],
            status="training",
            created_at=at_s,
            updated_at=at_s,
        )
    )
    return model_id


def publish(sandbox: Sandbox, tx: Connection, run: Row, trained: Trained, export_name: str, *, at_s: float) -> str:
    """Store a run's weights as the newest version of its model, make the model ready and return its id."""
    model_id = str(run["version_of_model_id"] or run["draft_model_id"])
    number = 1 + len(versions_of(tx, model_id))
    version_id = new_id()
    folder = (run["account_id"], "models", version_id)
    put_bytes(sandbox.object_path(*folder, WEIGHTS_FILE), trained.weights)
    document = json.dumps(trained.config, indent=2, sort_keys=True).encode()
    put_bytes(sandbox.object_path(*folder, CONFIG_FILE), document)
    tx.execute(
        insert(versions).values(
            id=version_id,
            model_id=model_id,
            run_id=run["id"],
            number=number,
            architecture=trained.architecture,
            metrics=trained.metrics,
            export_name=export_name,
            created_at=at_s,
        )
    )
    values = {"status": "ready", "updated_at": at_s, "training_config": trained.config.get("training", {})}
    values |= {"architecture": trained.architecture, "metrics": trained.metrics, "classes": list(trained.classes)}
    tx.execute(update(models).where(models.c.id == model_id).values(values))
    return model_id


def abandon(tx: Connection, run: Row, *, at_s: float) -> None:
    """Mark the model of a run that did not finish as failed."""
    if run["draft_model_id"] is not None:
        query = update(models).where(models.c.id == run["draft_model_id"])
        tx.execute(query.values(status="failed", updated_at=at_s))


def find_model(tx: Connection, account: Account, ref: str) -> Row | None:
    """Return a model by id, or the newest of a name that is not archived."""
    owned = select(models).where(models.c.account_id == account.id).order_by(models.c.seq.desc())
    by_name = (models.c.name == ref) & (models.c.status != "archived")
    return first(tx, owned.where(models.c.id == ref)) or first(tx, owned.where(by_name))


def versions_of(tx: Connection, model_id: str) -> list[Row]:
    """Return the versions of a model, newest first."""
    return every(tx, select(versions).where(versions.c.model_id == model_id).order_by(versions.c.seq.desc()))


def current_version(tx: Connection, model: Row) -> Row | None:
    """Return the promoted version of a model, or else its newest one."""
    known = versions_of(tx, model["id"])
    pinned = [version for version in known if version["id"] == model["pinned_version_id"]]
    return next(iter(pinned or known), None)


def delete_model(tx: Connection, account: Account, model: Row, *, at_s: float) -> None:
    """Archive or remove a model, whichever the account's dialect does; a later sweep takes the files."""
    how = account.settings.model_delete
    if how == "archive" or (how == "auto" and account.settings.dialect == "v1"):
        tx.execute(update(models).where(models.c.id == model["id"]).values(status="archived", updated_at=at_s))
        return
    tx.execute(delete(versions).where(versions.c.model_id == model["id"]))
    tx.execute(delete(models).where(models.c.id == model["id"]))


def version_file(sandbox: Sandbox, account: Account, version: Row, name: str) -> Path:
    """Return where a version's file is."""
    return sandbox.object_path(account.id, "models", version["id"], name)
