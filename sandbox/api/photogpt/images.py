"""Pictures of the emulated PhotoGPT API: upload, list, look at, delete, and fetch by address."""

import json
import re
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, ValidationError
from sqlalchemy import Connection
from starlette.datastructures import FormData, UploadFile

from sandbox import documents
from sandbox.api.photogpt.call import Call, Caller, PhotogptRoute, ok
from sandbox.api.photogpt.views import Json, image_view
from sandbox.core import Sandbox
from sandbox.photogpt.errors import PhotogptError
from sandbox.photogpt.images import FOLDER, MOST_PICTURES, Picture, add, forget_bytes, images_of, keep
from sandbox.photogpt.models import IMAGE, MODEL, is_training, latest_training, living, owned
from sandbox.photogpt.pictures import MEDIA_TYPES, SUFFIXES, NoPictureError, decoded, encoded, picture_format
from sandbox.storage import PREFIX as STORAGE_PREFIX
from sandbox.store import Row

MOST_BYTES = 20_000_000
router = APIRouter(prefix="/images", route_class=PhotogptRoute)
of_models = APIRouter(prefix="/models", route_class=PhotogptRoute)
addresses = APIRouter()
_FILTERS = {
    "all": ("modelInput", "auxiliaryType", "output"),
    "input": ("modelInput",),
    "output": ("output",),
    "auxiliaryType": ("auxiliaryType",),
}
_TYPES = {suffix: MEDIA_TYPES[format_] for format_, suffix in SUFFIXES.items()}
_FILE = re.compile(r"([0-9a-f]{48})(\.[a-z]{3,4})$")
_ID = re.compile(r"[0-9a-f-]{36}$")


class UploadData(BaseModel):
    """The part `data` of an upload."""

    model_config = ConfigDict(extra="ignore")

    modelID: str  # noqa: N815 -- the vendor's spelling
    type: Literal["modelInput", "auxiliaryType"]


async def _parts(request: Request) -> AsyncIterator[FormData]:
    """Yield the parts of the body, refusing one that is too large before it is read as a form."""
    if len(request.state.body) > MOST_BYTES:
        raise PhotogptError(400, "the request is larger than 20 MB", "file_too_large")
    async with request.form(max_files=2, max_fields=10) as form:
        yield form


@router.post("/upload")
def upload(call: Caller, form: Annotated[FormData, Depends(_parts)]) -> Json:
    """Keep a picture for a model."""
    data, content = _data(form), _file(form)
    try:
        found = picture_format(content)
    except NoPictureError as error:
        raise PhotogptError(400, str(error), "invalid_image") from error
    picture = Picture(data.type, found)
    if not call.settings.keeps_bytes and (plain := decoded(content)) is not None:
        picture, content = Picture(data.type, "png"), encoded(plain)
    with call.sandbox.store.write() as tx:
        row = _added(tx, call, data.modelID, picture)
        keep(call.sandbox, call.account, picture, content)
    return ok(image_view(call.account, row, call.base_url))


def _data(form: FormData) -> UploadData:
    """Read the part `data`, which may come as a text field or as a part with a type of its own."""
    part = form.get("data")
    text = part.file.read() if isinstance(part, UploadFile) else part
    if text is None:
        raise PhotogptError(400, "part data is missing")
    try:
        return UploadData.model_validate(json.loads(text))
    except ValidationError as error:
        wrong = ", ".join(str(entry["loc"][0]) if entry["loc"] else "data" for entry in error.errors())
        raise PhotogptError(400, f"part data is invalid: {wrong}") from error
    except ValueError as error:
        raise PhotogptError(400, "part data is not JSON") from error


def _file(form: FormData) -> bytes:
    part = form.get("file")
    if not isinstance(part, UploadFile):
        raise PhotogptError(400, "part file is missing, or has no filename")
    return part.file.read()


def _added(tx: Connection, call: Call, model_id: str, picture: Picture) -> Row:
    model = living(tx, call.account, model_id)
    if is_training(latest_training(tx, call.account, model)):
        raise PhotogptError(409, "the model is training")
    if len(images_of(tx, call.account, model["id"], [picture.type])) >= MOST_PICTURES:
        raise PhotogptError(400, f"the model has {MOST_PICTURES} images of this type already", "image_count")
    return add(tx, call.account, model["id"], picture, at_s=call.now_s)


@of_models.get("/{ref}/images")
def list_images(
    call: Caller,
    ref: str,
    image_type: Annotated[Literal["all", "input", "output", "auxiliaryType"], Query(alias="imageType")] = "all",
    page_num: Annotated[int, Query(alias="pageNum", ge=1)] = 1,
    page_size: Annotated[int, Query(alias="pageSize", ge=1, le=100)] = 20,
) -> Json:
    """Answer a page of a model's pictures, oldest first."""
    with call.sandbox.store.read() as tx:
        model = living(tx, call.account, ref)
        rows = images_of(tx, call.account, model["id"], _FILTERS[image_type])
    shown = rows[(page_num - 1) * page_size : page_num * page_size]
    views = [image_view(call.account, row, call.base_url) for row in shown]
    return ok(views, page=page_num, pageSize=page_size)


@router.get("/{ref}")
def get_image(call: Caller, ref: str) -> Json:
    """Answer what is known about a picture."""
    with call.sandbox.store.read() as tx:
        return ok(image_view(call.account, owned(tx, call.account, IMAGE, ref), call.base_url))


@router.delete("/{ref}")
def delete_image(call: Caller, ref: str) -> Json:
    """Delete a picture; not while its model trains."""
    with call.sandbox.store.write() as tx:
        image = owned(tx, call.account, IMAGE, ref)
        model = documents.find(tx, call.account, MODEL, image["parent"])
        if model is not None and is_training(latest_training(tx, call.account, model)):
            raise PhotogptError(409, "the model is training")
        documents.remove(tx, image)
    forget_bytes(call.sandbox, call.account, [image["id"]])
    return ok("Image deleted")


@addresses.get(STORAGE_PREFIX + "{account_id}/" + FOLDER + "/{image_id}/{file_name}")
@addresses.head(STORAGE_PREFIX + "{account_id}/" + FOLDER + "/{image_id}/{file_name}")
def fetch(request: Request, account_id: str, image_id: str, file_name: str) -> Response:
    """Serve a picture to whoever holds its address."""
    sandbox: Sandbox = request.app.state.sandbox
    named = _FILE.match(file_name)
    if named is None or not _ID.match(image_id) or not _ID.match(account_id):
        return Response("not found", 404)
    path = sandbox.object_path(account_id, FOLDER, image_id, file_name)
    if not path.is_file():
        return Response("not found", 404)
    return FileResponse(path, media_type=_TYPES.get(named[2], "application/octet-stream"))
