"""Datasets: list, look up in both forms of address, with images, and the download listing."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from sqlalchemy import func, select

from sandbox import storage
from sandbox.api.pictograph.call import Call, Offset, Ref, Viewer
from sandbox.api.pictograph.dialect import V1_ONLY, V2_ONLY, DialectRoute
from sandbox.api.pictograph.views import Json, dataset_view, one, page
from sandbox.catalog import dataset_images
from sandbox.clock import iso
from sandbox.core import put_bytes
from sandbox.datasets import LabelledImage
from sandbox.store import Row, datasets, every

router = APIRouter(prefix="/datasets", route_class=DialectRoute)
Limit = Annotated[int, Query(ge=1, le=10_000)]
Mode = Literal["full", "images_only", "annotations_only"]


@router.get("/")
def list_datasets(
    call: Viewer, limit: Annotated[int, Query(ge=1, le=1000)] = 100, offset: Offset = 0, archived: bool = False
) -> dict[str, Any]:
    """Answer a page of datasets, newest first; the sandbox has no archived ones."""
    mine = datasets.c.account_id == call.account.id
    query = select(datasets).where(mine).order_by(datasets.c.created_at.desc(), datasets.c.id)
    with call.sandbox.store.read() as tx:
        rows = [] if archived else every(tx, query.limit(limit).offset(offset))
        total = 0 if archived else tx.execute(select(func.count()).select_from(datasets).where(mine)).scalar_one()
    return page(call.account, "datasets", [dataset_view(call.account, row) for row in rows], (limit, offset, total))


@router.get("/by-name/{name}", openapi_extra=V1_ONLY)
def get_by_name(
    call: Viewer, name: Ref, include_images: bool = False, images_limit: Limit = 1000, images_offset: Offset = 0
) -> dict[str, Any]:
    """Answer one dataset by name, the old form of address."""
    return _dataset(call, name, (images_offset, images_limit) if include_images else None)


@router.get("/by-name/{name}/download", openapi_extra=V1_ONLY)
def download_by_name(
    call: Viewer, name: Ref, mode: Mode = "full", limit: Limit = 10_000, status_filter: str | None = None
) -> dict[str, Any]:
    """Answer links to a dataset's files, the old form of address."""
    return _download(call, name, mode, limit, status_filter)


@router.get("/{ref}")
def get(
    call: Viewer, ref: Ref, include_images: bool = False, images_limit: Limit = 1000, images_offset: Offset = 0
) -> dict[str, Any]:
    """Answer one dataset by id, and by name in today's dialect."""
    return _dataset(call, call.by_id_in_v1(ref), (images_offset, images_limit) if include_images else None)


@router.get("/{ref}/download", openapi_extra=V2_ONLY)
def download(
    call: Viewer, ref: Ref, mode: Mode = "full", limit: Limit = 10_000, status_filter: str | None = None
) -> dict[str, Any]:
    """Answer links to a dataset's files."""
    return _download(call, ref, mode, limit, status_filter)


def _dataset(call: Call, ref: str, window: tuple[int, int] | None) -> dict[str, Any]:
    dataset = call.dataset(ref)
    view = dataset_view(call.account, dataset)
    if window is not None:
        images = dataset_images(call.sandbox, dataset["id"])[window[0] : window[0] + window[1]]
        view["images"] = [_image_view(dataset, image) for image in images]
    return one(call.account, "dataset", view)


def _image_view(dataset: Row, image: LabelledImage) -> Json:
    return {
        "id": f"{dataset['id']}:{image.name}",
        "dataset_id": dataset["id"],
        "filename": image.name,
        "status": image.status,
        "split": image.split,
        "annotation_count": len(image.shapes) + len(image.tags),
        "file_size": len(image.content),
        "width": image.width,
        "height": image.height,
        "created_at": iso(dataset["created_at"]),
    }


def _download(call: Call, ref: str, mode: Mode, limit: int, status_filter: str | None) -> dict[str, Any]:
    dataset = call.dataset(ref)
    images = [
        image
        for image in dataset_images(call.sandbox, dataset["id"])
        if status_filter is None or image.status == status_filter
    ]
    items = [_item(call, dataset, image, mode) for image in images[:limit]]
    old, new = {"items": items, "dataset_id": dataset["id"]}, {"data": {"items": items, "id": dataset["id"]}}
    dialect = call.account.settings.dialect
    return {**(old if dialect != "v2" else {}), **(new if dialect != "v1" else {})}


def _item(call: Call, dataset: Row, image: LabelledImage, mode: Mode) -> Json:
    item = _image_view(dataset, image)
    if mode != "annotations_only":
        key = f"datasets/{dataset['id']}/{image.name}"
        path = call.sandbox.object_path(call.account.id, "datasets", dataset["id"], image.name)
        if not path.exists() or path.stat().st_size != len(image.content):
            put_bytes(path, image.content)
        item["image_url"] = storage.sign(call.sandbox, call.account, key, call.base_url)
    return item
