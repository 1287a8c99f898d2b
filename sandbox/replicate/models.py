"""The models of the emulated Replicate API: the trainer everybody finds, and the account's own with their versions."""

import hashlib
import secrets
from typing import Any

from sqlalchemy import Connection

from sandbox import documents
from sandbox.accounts import Account
from sandbox.replicate.words import MODEL, VERSION, stamp
from sandbox.store import Row
from sandbox.training.jobs import TRAINABLE

TRAINER_OWNER, TRAINER_NAME = "sandbox", "vision-trainer"
TRAINER = f"{TRAINER_OWNER}/{TRAINER_NAME}"
TRAINER_VERSION = hashlib.sha256(TRAINER.encode()).hexdigest()
_COG = "0.23.1"
_BUILT_S = 1_760_000_000.0

_INPUT: dict[str, dict[str, Any]] = {
    "train_data": {"type": "string", "format": "uri", "title": "Train Data", "x-order": 0},
    "pipeline": {"type": "string", "enum": sorted(TRAINABLE), "default": "yolox", "x-order": 1},
    "epochs": {"type": "integer", "minimum": 1, "x-order": 2},
    "batch_size": {"type": "integer", "minimum": 1, "x-order": 3},
    "learning_rate": {"type": "number", "exclusiveMinimum": 0, "x-order": 4},
    "image_size": {"type": "integer", "minimum": 32, "x-order": 5},
    "seed": {"type": "integer", "minimum": 0, "default": 0, "x-order": 6},
}
_KINDS: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float)}


def is_trainer(owner: str, name: str) -> bool:
    """Whether this is the model that can be trained."""
    return (owner, name) == (TRAINER_OWNER, TRAINER_NAME)


def find_model(tx: Connection, account: Account, owner: str, name: str) -> Row | None:
    """Return one of the account's own models."""
    return documents.find(tx, account, MODEL, name) if owner == account.settings.replicate.username else None


def find_version(tx: Connection, account: Account, name: str, version: str) -> Row | None:
    """Return a version of one of the account's own models."""
    row = documents.find(tx, account, VERSION, version)
    return row if row is not None and row["parent"] == name else None


def versions_of(tx: Connection, account: Account, name: str) -> list[Row]:
    """Return the versions of one of the account's own models, newest first."""
    return documents.listed(tx, account, VERSION, parent=name)


def new_version(tx: Connection, account: Account, name: str, *, training: str, at_s: float) -> Row:
    """Add a version to one of the account's own models."""
    about = {"training": training}
    return documents.add(tx, account, VERSION, id=secrets.token_hex(32), data=about, parent=name, at_s=at_s)


def input_problem(given: dict[str, Any]) -> str | None:
    """Return what the trainer has against an input, in the words a run fails with, or None."""
    problems = []
    if given.get("train_data") is None:
        problems.append(
            {"loc": ["body", "input", "train_data"], "msg": "field required", "type": "value_error.missing"}
        )
    for name, rule in _INPUT.items():
        fault = _fault(rule, given[name]) if given.get(name) is not None else None
        if fault is not None:
            problems.append({"loc": ["body", "input", name], "msg": fault, "type": "value_error"})
    return None if not problems else f"Prediction input failed validation: {{'detail': {problems}}}"


def _fault(rule: dict[str, Any], value: object) -> str | None:
    if not isinstance(value, _KINDS[rule["type"]]) or isinstance(value, bool):
        return f"value is not a valid {rule['type']}"
    if rule.get("format") == "uri" and not str(value).startswith(("http://", "https://", "data:")):
        return "invalid or missing URL scheme"
    if "enum" in rule and value not in rule["enum"]:
        return f"value is not a valid enumeration member; permitted: {', '.join(rule['enum'])}"
    if isinstance(value, int | float) and not _is_large_enough(rule, value):
        return "value is too small"
    return None


def _is_large_enough(rule: dict[str, Any], value: float) -> bool:
    return value >= rule.get("minimum", value) and ("exclusiveMinimum" not in rule or value > rule["exclusiveMinimum"])


def trainer_version_view() -> dict[str, Any]:
    """Return the trainer's version as the API shows it."""
    given = {"type": "object", "title": "TrainingInput", "required": ["train_data"], "properties": _INPUT}
    made = {"weights": {"type": "string", "format": "uri"}}
    output = {"type": "object", "title": "TrainingOutput", "properties": made}
    paths = {"/trainings": {"post": {"summary": "Train", "operationId": "train_trainings_post"}}}
    schema = _schema(paths, {"TrainingInput": given, "TrainingOutput": output})
    return {"id": TRAINER_VERSION, "created_at": stamp(_BUILT_S), "cog_version": _COG, "openapi_schema": schema}


def trainer_view(base_url: str) -> dict[str, Any]:
    """Return the trainer as the API shows it."""
    about = {"description": "Trains a vision model on a ZIP of labelled pictures.", "visibility": "public"}
    return _model(base_url, TRAINER_OWNER, TRAINER_NAME, about, trainer_version_view())


def model_view(base_url: str, account: Account, row: Row, newest: Row | None) -> dict[str, Any]:
    """Return one of the account's own models as the API shows it."""
    latest = None if newest is None else version_view(newest)
    return _model(base_url, account.settings.replicate.username, row["id"], row["data"], latest)


def version_view(row: Row) -> dict[str, Any]:
    """Return a trained version as the API shows it."""
    image = {"type": "string", "format": "uri", "title": "Image", "x-order": 0}
    given = {"type": "object", "title": "Input", "required": ["image"], "properties": {"image": image}}
    paths = {"/predictions": {"post": {"summary": "Predict", "operationId": "predict_predictions_post"}}}
    schema = _schema(paths, {"Input": given, "Output": {"type": "object", "title": "Output"}})
    return {"id": row["id"], "created_at": stamp(row["created_at"]), "cog_version": _COG, "openapi_schema": schema}


def _schema(paths: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    info = {"title": "Cog", "version": "0.1.0"}
    return {"openapi": "3.0.2", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _model(
    base_url: str, owner: str, name: str, about: dict[str, Any], latest: dict[str, Any] | None
) -> dict[str, Any]:
    links = ("description", "github_url", "paper_url", "license_url", "cover_image_url")
    return {
        "url": f"{base_url.rstrip('/')}/{owner}/{name}",
        "owner": owner,
        "name": name,
        "visibility": about["visibility"],
        **{key: about.get(key) for key in links},
        "run_count": about.get("run_count", 0),
        "default_example": None,
        "latest_version": latest,
    }
