"""Hosted generation of the emulated PhotoGPT API: images of a trained model, upscaling, presets."""

import re
import secrets

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from sandbox.api.photogpt.call import Call, Caller, PhotogptRoute, ok
from sandbox.api.photogpt.views import Json
from sandbox.photogpt.errors import PhotogptError
from sandbox.photogpt.generation import Wish, begin, compose, compose_enlarged
from sandbox.photogpt.images import Picture, forget_bytes, images_of
from sandbox.photogpt.models import IMAGE, latest_training, living, owned, status_of
from sandbox.store import Row

router = APIRouter(route_class=PhotogptRoute)
_PRESETS = ("headshot", "studio", "outdoor", "casual", "black-and-white")
_SIDE = 1024


class GenerationBody(BaseModel):
    """Body of a generation with a model of one's own."""

    model_config = ConfigDict(extra="ignore")

    modelID: str  # noqa: N815 -- the vendor's spelling, here and below
    prompt: str = ""
    preset: str | None = None
    inputImageId: str | None = None  # noqa: N815
    width: int = Field(default=_SIDE, ge=64, le=2048)
    height: int = Field(default=_SIDE, ge=64, le=2048)
    numImages: int = Field(default=1, ge=1, le=4)  # noqa: N815
    steps: int | None = Field(default=None, ge=1)
    seed: int | None = None
    runType: str | None = None  # noqa: N815
    enhanceFace: bool = False  # noqa: N815
    styleStrength: float | None = None  # noqa: N815


class UpscalingBody(BaseModel):
    """Body of an upscaling."""

    model_config = ConfigDict(extra="ignore")

    imageID: str  # noqa: N815 -- the vendor's spelling


@router.post("/images/generation")
def generate(call: Caller, body: GenerationBody) -> Json:
    """Begin a job that makes images with a trained model."""
    _check_words(call, body)
    with call.sandbox.store.read() as tx:
        model = living(tx, call.account, body.modelID)
        status = status_of(call.account, model, latest_training(tx, call.account, model))
        if status != "ready":
            raise PhotogptError(400, f"the model is not ready: {status}")
        ground = None if body.inputImageId is None else owned(tx, call.account, IMAGE, body.inputImageId)
        inputs = images_of(tx, call.account, model["id"], ["modelInput"])
    seed = secrets.randbits(32) if body.seed is None else body.seed
    wish = Wish((body.width, body.height), body.numImages, seed, ground)
    made = compose(call.sandbox, call.account, inputs, wish)
    return _begun(call, model, made)


def _check_words(call: Call, body: GenerationBody) -> None:
    if body.preset is not None and body.preset not in _PRESETS:
        raise PhotogptError(400, "unknown preset")
    if not body.prompt.strip() and body.preset is None:
        raise PhotogptError(400, "missing fields: prompt")
    words = re.findall(r"\w+", body.prompt.lower())
    if any(word.lower() in words for word in call.settings.refused_words):
        raise PhotogptError(400, "the prompt was refused by moderation", "prompt_refused")


@router.post("/images/upscaling")
def upscale(call: Caller, body: UpscalingBody) -> Json:
    """Begin a job that enlarges a picture."""
    with call.sandbox.store.read() as tx:
        image = owned(tx, call.account, IMAGE, body.imageID)
        model = living(tx, call.account, image["parent"])
    made = compose_enlarged(call.sandbox, call.account, image)
    if not made:
        raise PhotogptError(400, "this image cannot be upscaled")
    return _begun(call, model, made, upscales=image["id"])


def _begun(call: Call, model: Row, made: list[Picture], *, upscales: str | None = None) -> Json:
    """Begin the job of these images; a refusal takes them away again."""
    try:
        with call.sandbox.store.write() as tx:
            living(tx, call.account, model["id"])
            job = begin(tx, call.account, model, made, at_s=call.now_s, upscales=upscales)
    except PhotogptError:
        forget_bytes(call.sandbox, call.account, [picture.id for picture in made])
        raise
    return ok({"jobId": job["id"], "status": "queued"})


@router.get("/presets")
def presets(call: Caller) -> Json:
    """Answer the tags a generation takes as preset."""
    return ok(list(_PRESETS))
