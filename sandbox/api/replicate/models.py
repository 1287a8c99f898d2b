"""Models and versions of the emulated Replicate API."""

import re
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import Connection

from sandbox import documents
from sandbox.api.replicate.call import Call, Caller
from sandbox.api.replicate.errors import not_found, refuse
from sandbox.api.replicate.pages import page
from sandbox.dialects import answer
from sandbox.replicate.models import (
    TRAINER_VERSION,
    find_model,
    find_version,
    is_trainer,
    model_view,
    trainer_version_view,
    trainer_view,
    version_view,
    versions_of,
)
from sandbox.replicate.prices import MICRO_USD_PER_S
from sandbox.replicate.words import MODEL
from sandbox.store import Row

router = APIRouter()
_MAX_MODELS = 1000
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*$")
_OPTIONAL = ("description", "github_url", "paper_url", "license_url", "cover_image_url")


@router.post("/v1/models", status_code=201)
def create_model(call: Caller) -> Response:
    """Add a model, to be the destination of trainings."""
    body = call.body()
    _check_model(call, body)
    name = body["name"]
    data = {key: body.get(key) for key in ("visibility", "hardware", *_OPTIONAL)}
    with call.sandbox.store.write() as tx:
        if documents.find(tx, call.account, MODEL, name) is not None:
            raise refuse(409, f"A model named {body['owner']}/{name} already exists.", "Conflict")
        if len(documents.listed(tx, call.account, MODEL)) >= _MAX_MODELS:
            raise refuse(403, f"You can have at most {_MAX_MODELS} models.")
        row = documents.add(tx, call.account, MODEL, id=name, data=data, name=name, at_s=call.now_s)
    return answer(model_view(call.base_url, call.account, row, None), 201)


def _check_model(call: Call, body: dict[str, Any]) -> None:
    missing = [key for key in ("owner", "name", "visibility", "hardware") if not isinstance(body.get(key), str)]
    if missing:
        raise refuse(422, "; ".join(f"{key} is required" for key in missing))
    if body["owner"] != call.settings.username:
        raise refuse(403, f"You cannot create a model for {body['owner']}.")
    if not _NAME.match(body["name"]):
        raise refuse(422, "name may hold lower-case letters, digits, dots, dashes and underscores.")
    if body["visibility"] not in ("public", "private"):
        raise refuse(422, "visibility must be public or private.")
    if body["hardware"] not in MICRO_USD_PER_S:
        raise refuse(422, f"hardware must be one of {', '.join(MICRO_USD_PER_S)}.")


@router.get("/v1/models/{owner}/{name}")
def get_model(call: Caller, owner: str, name: str) -> dict[str, Any]:
    """Answer the trainer, or one of the account's models."""
    if is_trainer(owner, name):
        return trainer_view(call.base_url)
    with call.sandbox.store.read() as tx:
        row, known = _own(call, tx, owner, name), versions_of(tx, call.account, name)
    return model_view(call.base_url, call.account, row, known[0] if known else None)


@router.delete("/v1/models/{owner}/{name}", status_code=204)
def delete_model(call: Caller, owner: str, name: str) -> Response:
    """Remove a private model that has no versions."""
    _check_not_trainer(owner, name)
    with call.sandbox.store.write() as tx:
        row = _own(call, tx, owner, name)
        if row["data"]["visibility"] != "private":
            raise refuse(403, "You can only delete private models.")
        if versions_of(tx, call.account, name):
            raise refuse(403, "You can only delete models without versions.")
        documents.remove(tx, row)
    return Response(status_code=204)


@router.get("/v1/models/{owner}/{name}/versions")
def list_versions(call: Caller, owner: str, name: str) -> dict[str, Any]:
    """Answer a page of a model's versions, newest first."""
    if is_trainer(owner, name):
        return {"previous": None, "next": None, "results": [trainer_version_view()]}
    with call.sandbox.store.read() as tx:
        _own(call, tx, owner, name)
        return page(call, versions_of(tx, call.account, name), version_view)


@router.get("/v1/models/{owner}/{name}/versions/{version}")
def get_version(call: Caller, owner: str, name: str, version: str) -> dict[str, Any]:
    """Answer one version."""
    if is_trainer(owner, name) and version == TRAINER_VERSION:
        return trainer_version_view()
    with call.sandbox.store.read() as tx:
        _own(call, tx, owner, name)
        return version_view(_own_version(call, tx, name, version))


@router.delete("/v1/models/{owner}/{name}/versions/{version}", status_code=202)
def delete_version(call: Caller, owner: str, name: str, version: str) -> Response:
    """Begin to remove a version of a private model."""
    _check_not_trainer(owner, name)
    with call.sandbox.store.write() as tx:
        row = _own(call, tx, owner, name)
        found = _own_version(call, tx, name, version)
        if row["data"]["visibility"] != "private":
            raise refuse(403, "You can only delete versions of private models.")
        documents.remove(tx, found)
    return Response(status_code=202)


def _check_not_trainer(owner: str, name: str) -> None:
    if is_trainer(owner, name):
        raise refuse(403, "You can only delete models that you own.")


def _own(call: Call, tx: Connection, owner: str, name: str) -> Row:
    row = find_model(tx, call.account, owner, name)
    if row is None:
        raise not_found("model")
    return row


def _own_version(call: Call, tx: Connection, name: str, version: str) -> Row:
    row = find_version(tx, call.account, name, version)
    if row is None:
        raise not_found("version")
    return row
