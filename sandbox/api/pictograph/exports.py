"""Exports: create, look up in both forms of address, download, delete."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field
from sqlalchemy import Connection, delete, func, insert, select

from sandbox import storage
from sandbox.api.pictograph.call import Admin, Answer, Call, Member, Offset, Ref, Viewer, is_uuid
from sandbox.api.pictograph.dialect import V1_ONLY, V2_ONLY, DialectRoute
from sandbox.api.pictograph.errors import ApiError, invalid, not_found
from sandbox.api.pictograph.views import Json, export_view, one, page
from sandbox.catalog import EXPORT_FILE, delete_export, find_dataset, find_export
from sandbox.core import new_id
from sandbox.settings import EXPORT_FORMATS
from sandbox.store import Row, every, exports, first

router = APIRouter(prefix="/exports", route_class=DialectRoute)


class ExportBody(BaseModel):
    """Body of a create."""

    dataset_name: str
    name: str = Field(min_length=1, max_length=100)
    format: str = "pictograph"
    include_images: bool = False
    class_filter: list[str] | None = None
    status_filter: str | None = None
    organize_by_split: bool = False


class IdsBody(BaseModel):
    """Body of a bulk delete."""

    export_ids: list[str] = Field(max_length=1000)


@router.post("/")
def create(call: Member, body: ExportBody) -> Response:
    """Take an order for an export; a worker builds it."""
    if body.format not in EXPORT_FORMATS[call.account.settings.dialect]:
        raise invalid("body.format", f"'{body.format}' is not an export format")
    if body.format != "pictograph":
        raise invalid("body.format", f"the sandbox writes the format 'pictograph' only, not '{body.format}'")
    call.dataset(body.dataset_name)  # outside the transaction: a built-in one may have to be made first
    return call.write(lambda tx: _create(tx, call, body))


def _create(tx: Connection, call: Call, body: ExportBody) -> Answer:
    dataset = find_dataset(tx, call.account, body.dataset_name)
    if dataset is None:
        raise not_found("Dataset", body.dataset_name)
    if dataset["cold"]:
        message = f"Dataset '{dataset['name']}' is in cold storage: restore it first"
        raise ApiError(409, message, code="dataset_cold", legacy={"error": "dataset_cold", "message": message})
    same = (exports.c.dataset_id == dataset["id"], exports.c.name == body.name)
    if first(tx, select(exports.c.id).where(*same)) is not None:
        raise ApiError(409, f"Export '{body.name}' already exists in dataset '{dataset['name']}'")
    values = {"id": new_id(), "account_id": call.account.id, "dataset_id": dataset["id"], "status": "pending"}
    values |= {**body.model_dump(), "dataset_name": dataset["name"], "created_at": call.now_s}
    tx.execute(insert(exports).values(values))
    row = first(tx, select(exports).where(exports.c.id == values["id"]))
    view = one(call.account, "export", export_view(call.account, row or values))
    return Answer(view, call.account.settings.create_status)


@router.get("/")
def list_exports(
    call: Viewer,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    offset: Offset = 0,
    dataset_name: str | None = None,
    status: str | None = None,
) -> dict[str, Any]:
    """Answer a page of exports, newest first."""
    wanted = [exports.c.account_id == call.account.id]
    if dataset_name is not None:
        wanted.append(exports.c.dataset_name == dataset_name)
    if status is not None:
        wanted.append(exports.c.status == status)
    query = select(exports).where(*wanted).order_by(exports.c.created_at.desc(), exports.c.id)
    with call.sandbox.store.read() as tx:
        rows = every(tx, query.limit(limit).offset(offset))
        total = tx.execute(select(func.count()).select_from(exports).where(*wanted)).scalar_one()
    return page(call.account, "exports", [_view(call, row) for row in rows], (limit, offset, total))


@router.post("/bulk-delete", openapi_extra=V2_ONLY)
def bulk_delete(call: Admin, body: IdsBody) -> Response:
    """Delete exports by id."""
    gone: list[Row] = []
    answer = call.write(lambda tx: Answer({"data": _bulk_delete(tx, call, body.export_ids, gone)}))
    for export in gone:
        delete_export(call.sandbox, export)
    return answer


def _bulk_delete(tx: Connection, call: Call, ids: list[str], gone: list[Row]) -> Json:
    for ref in dict.fromkeys(ids):
        export = find_export(tx, call.account, ref)
        if export is not None:
            _remove(tx, export)
            gone.append(export)
    done = [export["id"] for export in gone]
    return {"succeeded": done, "not_found": [ref for ref in dict.fromkeys(ids) if ref not in done], "count": len(done)}


@router.get("/{ref}", openapi_extra=V2_ONLY)
def get_today(call: Viewer, ref: Ref, dataset: str | None = None) -> dict[str, Any]:
    """Answer one export by id, or by name inside ?dataset=."""
    return one(call.account, "export", _view(call, _found(call, ref, dataset)))


@router.get("/{ref}/download")
def download_today(call: Viewer, ref: Ref, dataset: str | None = None) -> dict[str, Any]:
    """Mint a download link; without ?dataset= the old clients may mean an export that is called "download"."""
    if call.speaks("v2") and (dataset is not None or is_uuid(ref) or not call.speaks("v1")):
        return _download(call, _found(call, ref, dataset))
    return get_by_path(call, ref, "download")


@router.get("/{dataset}/{ref}", openapi_extra=V1_ONLY)
def get_by_path(call: Viewer, dataset: Ref, ref: Ref) -> dict[str, Any]:
    """Answer one export by dataset and name, the old form of address."""
    return one(call.account, "export", _view(call, _found(call, ref, dataset)))


@router.get("/{dataset}/{ref}/download", openapi_extra=V1_ONLY)
def download_by_path(call: Viewer, dataset: Ref, ref: Ref) -> dict[str, Any]:
    """Mint a download link, the old form of address."""
    return _download(call, _found(call, ref, dataset))


@router.delete("/{ref}", openapi_extra=V2_ONLY)
def delete_today(call: Admin, ref: Ref, dataset: str | None = None) -> Response:
    """Delete one export."""
    return _delete(call, ref, dataset)


@router.delete("/{dataset}/{ref}", openapi_extra=V1_ONLY)
def delete_by_path(call: Admin, dataset: Ref, ref: Ref) -> Response:
    """Delete one export, the old form of address."""
    return _delete(call, ref, dataset)


def _found(call: Call, ref: str, dataset: str | None) -> Row:
    with call.sandbox.store.read() as tx:
        export = find_export(tx, call.account, ref, dataset)
    if export is None:
        raise not_found("Export", ref)
    return export


def _view(call: Call, export: Row) -> Json:
    ready = export["status"] == "completed"
    return export_view(call.account, export, _url(call, export) if ready else None)


def _url(call: Call, export: Row) -> str:
    return storage.sign(call.sandbox, call.account, f"exports/{export['id']}/{EXPORT_FILE}", call.base_url)


def _download(call: Call, export: Row) -> dict[str, Any]:
    if export["status"] != "completed":
        raise ApiError(400, f"Export '{export['name']}' is not completed (current status: {export['status']})")
    minted = {"download_url": _url(call, export)}
    dialect = call.account.settings.dialect
    return minted if dialect == "v1" else {"data": minted, **(minted if dialect == "both" else {})}


def _delete(call: Call, ref: str, dataset: str | None) -> Response:
    with call.sandbox.store.write() as tx:
        export = find_export(tx, call.account, ref, dataset)
        if export is None:
            raise not_found("Export", ref)
        _remove(tx, export)
    delete_export(call.sandbox, export)
    return Response(status_code=204)


def _remove(tx: Connection, export: Row) -> None:
    tx.execute(delete(exports).where(exports.c.id == export["id"]))
