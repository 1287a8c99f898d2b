"""Models of the emulated PhotoGPT API: create, update, list, read, train, delete."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from sandbox import documents
from sandbox.api.photogpt.call import Call, Caller, PhotogptRoute, ok
from sandbox.api.photogpt.views import Json, model_view
from sandbox.lifecycle import look
from sandbox.photogpt.errors import PhotogptError
from sandbox.photogpt.images import forget_all, forget_bytes
from sandbox.photogpt.lifecycle import fail_generations
from sandbox.photogpt.models import MODEL, add_model, is_training, latest_training, living, owned
from sandbox.photogpt.training import trigger
from sandbox.store import Row

router = APIRouter(prefix="/models", route_class=PhotogptRoute)


class ModelBody(BaseModel):
    """Body of a create, or of an update when it names a model."""

    model_config = ConfigDict(extra="ignore")

    id: str | None = None
    name: str | None = Field(default=None, min_length=1)
    age: float | None = Field(default=None, strict=True, gt=0)
    gender: Literal["Male", "Female"] | None = None
    ethnicity: str | None = None
    eyeColor: str | None = None  # noqa: N815 -- the vendor's spelling

    @property
    def about(self) -> dict[str, Any]:
        """What it says about the person."""
        return self.model_dump(exclude={"id"}, exclude_none=True)


@router.post("")
def create_or_update(call: Caller, body: ModelBody) -> Json:
    """Make a model, or change what one says about its person; the answer shows nothing of it."""
    with call.sandbox.store.write() as tx:
        model = _created(tx, call, body) if body.id is None else _updated(tx, call, body, body.id)
        return ok(model_view(call.account, model, latest_training(tx, call.account, model), details=False))


def _created(tx: Connection, call: Call, body: ModelBody) -> Row:
    missing = [name for name in call.settings.required_fields if getattr(body, name) is None]
    if missing:
        raise PhotogptError(400, f"missing fields: {', '.join(missing)}")
    return add_model(tx, call.account, body.about, at_s=call.now_s)


def _updated(tx: Connection, call: Call, body: ModelBody, ref: str) -> Row:
    model = living(tx, call.account, ref)
    about = {**model["data"]["about"], **body.about}
    documents.change(tx, model, name=about.get("name"), data={"about": about, "updated_at": call.now_s})
    return living(tx, call.account, ref)


@router.get("")
def list_models(
    call: Caller,
    page_num: Annotated[int, Query(alias="pageNum", ge=1)] = 1,
    page_size: Annotated[int | None, Query(alias="pageSize", ge=1, le=100)] = None,
) -> Json:
    """Answer the account's models, newest first; in pages where the account's settings say so."""
    size = page_size or call.settings.models_page_size
    with call.sandbox.store.write() as tx:
        rows = documents.listed(tx, call.account, MODEL)
        if call.settings.deleted_models == "gone":
            rows = [row for row in rows if row["status"] != "deleted"]
        if call.settings.models_page_size is not None and size is not None:
            rows = rows[(page_num - 1) * size : page_num * size]
        views = [_shown(tx, call, row) for row in rows]
    if call.settings.models_page_size is None:
        return ok(views)
    return ok(views, page=page_num, pageSize=size)


@router.get("/{ref}")
def get_model(call: Caller, ref: str) -> Json:
    """Answer one model."""
    with call.sandbox.store.write() as tx:
        return ok(_shown(tx, call, owned(tx, call.account, MODEL, ref)))


def _shown(tx: Connection, call: Call, model: Row) -> Json:
    """Return a model's view, counting the look at its training."""
    training = latest_training(tx, call.account, model)
    if training is not None:
        look(tx, [training])
    return model_view(call.account, model, training, details=call.settings.shows_name)


@router.get("/{ref}/train")
def train(call: Caller, ref: str) -> Json:
    """Start a training: a GET with an effect, as the vendor has it."""
    with call.sandbox.store.write() as tx:
        trigger(tx, call.account, living(tx, call.account, ref), at_s=call.now_s)
    return ok("Training triggered")


@router.delete("/{ref}")
def delete(call: Caller, ref: str) -> Json:
    """Delete a model with its pictures, which fails what is being generated with it; not while it trains."""
    with call.sandbox.store.write() as tx:
        model = living(tx, call.account, ref)
        if is_training(latest_training(tx, call.account, model)):
            raise PhotogptError(409, "the model is training")
        fail_generations(tx, call.account, model, "the model was deleted", at_s=call.now_s)
        pictures = forget_all(tx, call.account, model)
        documents.change(tx, model, status="deleted", data={"updated_at": call.now_s})
    forget_bytes(call.sandbox, call.account, pictures)
    return ok("Model deleted")
