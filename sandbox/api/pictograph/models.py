"""Models: list, look at, download weights and files, promote, delete."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field
from sqlalchemy import Connection, func, select, update

from sandbox import storage
from sandbox.api.pictograph.call import Admin, Answer, Call, Offset, Ref, Viewer
from sandbox.api.pictograph.dialect import V2_ONLY, DialectRoute
from sandbox.api.pictograph.errors import ApiError, not_found
from sandbox.api.pictograph.views import Json, model_view, one, page
from sandbox.clock import iso
from sandbox.modelstore import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    current_version,
    delete_model,
    find_model,
    version_file,
    versions_of,
)
from sandbox.store import Row, every, models

router = APIRouter(prefix="/models", route_class=DialectRoute)
_CONTENT_TYPES = {WEIGHTS_FILE: "application/octet-stream", CONFIG_FILE: "application/json"}


class IdsBody(BaseModel):
    """Body of a bulk delete."""

    model_ids: list[str] = Field(max_length=1000)


class VersionBody(BaseModel):
    """Body of a promotion; null lets the model follow its newest version again."""

    version_id: str | None


@router.get("/")
def list_models(  # noqa: PLR0913, PLR0917 -- the query parameters of the emulated call
    call: Viewer,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    offset: Offset = 0,
    name: str | None = None,
    dataset_name: str | None = None,
    status: str | None = None,
    model_type: str | None = None,
) -> dict[str, Any]:
    """Answer a page of models, newest first; archived ones only when asked for by status."""
    chosen = {"name": name, "dataset_name": dataset_name, "status": status, "model_type": model_type}
    wanted = [models.c.account_id == call.account.id]
    wanted += [models.c[column] == value for column, value in chosen.items() if value is not None]
    if status is None:
        wanted.append(models.c.status != "archived")
    if call.account.settings.dialect != "v2":
        wanted.append(models.c.model_type != "keypoint_detection")
    with call.sandbox.store.read() as tx:
        rows = every(tx, select(models).where(*wanted).order_by(models.c.seq.desc()).limit(limit).offset(offset))
        total = tx.execute(select(func.count()).select_from(models).where(*wanted)).scalar_one()
        views = [_view(tx, call, row) for row in rows]
    return page(call.account, "models", views, (limit, offset, total))


@router.post("/bulk-delete", openapi_extra=V2_ONLY)
def bulk_delete(call: Admin, body: IdsBody) -> Response:
    """Delete models by id."""
    return call.write(lambda tx: Answer({"data": _bulk_delete(tx, call, body.model_ids)}))


def _bulk_delete(tx: Connection, call: Call, ids: list[str]) -> Json:
    gone = []
    for ref in ids:
        model = find_model(tx, call.account, ref)
        if model is not None and model["id"] == ref and model["status"] != "archived":
            delete_model(tx, call.account, model, at_s=call.now_s)
            gone.append(ref)
    return {"succeeded": gone, "not_found": [ref for ref in dict.fromkeys(ids) if ref not in gone], "count": len(gone)}


@router.get("/{ref}")
def get(call: Viewer, ref: Ref) -> dict[str, Any]:
    """Answer one model by id, and by name in today's dialect."""
    with call.sandbox.store.read() as tx:
        return one(call.account, "model", _view(tx, call, _found(tx, call, ref)))


@router.get("/{ref}/download")
def download(
    call: Viewer,
    ref: Ref,
    weights: Annotated[str, Query(alias="format")] = "onnx",
    precision: str = "fp32",
    target: str | None = None,
) -> dict[str, Any]:
    """Mint a link to the weights of the current version."""
    with call.sandbox.store.read() as tx:
        model = _found(tx, call, ref)
        version = current_version(tx, model)
    if model["status"] != "ready" or version is None:
        message = f"Model status is '{model['status']}'; only 'ready' models can be downloaded."
        raise ApiError(call.account.settings.not_ready_status, message)
    if weights != "onnx" or precision != "fp32" or target is not None:
        raise ApiError(409, f"Model '{model['name']}' was never exported as {weights} ({precision})")
    minted = {"download_url": _url(call, version, WEIGHTS_FILE)}
    dialect = call.account.settings.dialect
    new = {"data": {**minted, "model_name": model["name"], "filename": WEIGHTS_FILE}}
    return minted if dialect == "v1" else {**new, **(minted if dialect == "both" else {})}


@router.get("/{ref}/versions", openapi_extra=V2_ONLY)
def versions(call: Viewer, ref: Ref) -> dict[str, Any]:
    """Answer the versions of a model, newest first."""
    with call.sandbox.store.read() as tx:
        model = _found(tx, call, ref)
        known, current = versions_of(tx, model["id"]), current_version(tx, model)
    newest = known[0]["id"] if known else None
    body = {"versions": _version_views(known, current), "latest_version_id": newest}
    body |= {"current_version_id": current["id"] if current else None, "pinned_version_id": model["pinned_version_id"]}
    return {"data": body}


@router.get("/{ref}/files", openapi_extra=V2_ONLY)
def files(call: Viewer, ref: Ref) -> dict[str, Any]:
    """Answer the files of every version of a model."""
    with call.sandbox.store.read() as tx:
        model = _found(tx, call, ref)
        known, current = versions_of(tx, model["id"]), current_version(tx, model)
    rows = [_file_view(call, version, name) for version in known for name in _CONTENT_TYPES]
    listed = _version_views(known, current)
    return {"data": {"versions": listed, "files": rows, "pinned_version_id": model["pinned_version_id"]}}


@router.get("/{ref}/files/download", openapi_extra=V2_ONLY)
def download_file(call: Viewer, ref: Ref, version_id: str, name: str) -> dict[str, Any]:
    """Mint a link to one file of one version."""
    with call.sandbox.store.read() as tx:
        model = _found(tx, call, ref)
        known = [version for version in versions_of(tx, model["id"]) if version["id"] == version_id]
    if not known or name not in _CONTENT_TYPES:
        raise not_found("File", name)
    return {"data": {"download_url": _url(call, known[0], name), "filename": name, "model_name": model["name"]}}


@router.patch("/{ref}/current-version", openapi_extra=V2_ONLY)
def set_current_version(call: Admin, ref: Ref, body: VersionBody) -> Response:
    """Promote a version, or let the model follow its newest one again."""
    return call.write(lambda tx: _promote(tx, call, ref, body.version_id))


def _promote(tx: Connection, call: Call, ref: str, version_id: str | None) -> Answer:
    model = _found(tx, call, ref)
    known = {version["id"] for version in versions_of(tx, model["id"])}
    if version_id is not None and version_id not in known:
        raise not_found("Version", version_id)
    values = {"pinned_version_id": version_id, "updated_at": call.now_s}
    tx.execute(update(models).where(models.c.id == model["id"]).values(values))
    return Answer({"data": _view(tx, call, _found(tx, call, model["id"]))})


@router.delete("/{ref}")
def delete(call: Admin, ref: Ref) -> Response:
    """Delete a model; its weights leave storage later, when the sandbox is started again."""
    with call.sandbox.store.write() as tx:
        delete_model(tx, call.account, _found(tx, call, ref), at_s=call.now_s)
    return Response(status_code=204)


def _found(tx: Connection, call: Call, ref: str) -> Row:
    model = find_model(tx, call.account, call.by_id_in_v1(ref))
    if model is None:
        raise not_found("Model", ref)
    return model


def _view(tx: Connection, call: Call, model: Row) -> Json:
    return model_view(call.account, model, len(versions_of(tx, model["id"])))


def _url(call: Call, version: Row, name: str) -> str:
    if not version_file(call.sandbox, call.account, version, name).is_file():
        raise ApiError(404, f"{name} is missing in storage")
    return storage.sign(call.sandbox, call.account, f"models/{version['id']}/{name}", call.base_url)


def _version_views(known: list[Row], current: Row | None) -> list[Json]:
    """Return versions, given newest first; the current one is another than the latest where an older one is pinned."""
    return [_version_view(version, current, is_latest=version is known[0]) for version in known]


def _version_view(version: Row, current: Row | None, *, is_latest: bool) -> Json:
    return {
        "version_id": version["id"],
        "version_number": version["number"],
        "version_label": f"{version['number']}.0.0",
        "status": "ready",
        "is_latest": is_latest,
        "is_current": current is not None and version["id"] == current["id"],
        "precision": "fp32",
        "training_run_id": version["run_id"],
        "architecture": version["architecture"],
        "metrics": version["metrics"] or {},
        "export_name": version["export_name"],
        "created_at": iso(version["created_at"]),
    }


def _file_view(call: Call, version: Row, name: str) -> Json:
    path = version_file(call.sandbox, call.account, version, name)
    return {
        "version_id": version["id"],
        "name": name,
        "kind": "weights" if name == WEIGHTS_FILE else "config",
        "format": name.rpartition(".")[2],
        "size_bytes": path.stat().st_size if path.is_file() else None,
        "content_type": _CONTENT_TYPES[name],
        "updated_at": iso(version["created_at"]),
        "runtime": "onnxruntime" if name == WEIGHTS_FILE else None,
        "precision": "fp32",
    }
