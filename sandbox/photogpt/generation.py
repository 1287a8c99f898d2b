"""Generations: the images are made when the job begins, and shown when it succeeds."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from sandbox import documents
from sandbox.accounts import Account
from sandbox.core import Sandbox
from sandbox.photogpt.composition import enlarged, stand_in
from sandbox.photogpt.images import Picture, add, file_of, forget_bytes, images_of_job, keep
from sandbox.photogpt.jobs import GENERATION, Job, add_job
from sandbox.photogpt.models import HIDDEN, IMAGE
from sandbox.settings import Script, Step
from sandbox.store import Row

_UPSCALE = 2


@dataclass(frozen=True)
class Wish:
    """What a generation is to give."""

    size: tuple[int, int]
    """Width and height."""
    count: int
    seed: int
    ground: Row | None = None
    """An uploaded picture to start from; one of the model's when absent."""


def script_of(account: Account) -> Script:
    """Return what a generation goes through, as the account's settings say."""
    settings = account.settings.photogpt
    last = Step(status="completed")
    if settings.generation_error is not None:
        last = Step(status="failed", error_message=settings.generation_error)
    queued = Step(status="queued", for_s=settings.generation_queued_s)
    running = Step(status="running", for_s=settings.generation_running_s)
    return Script(mode=settings.generation_mode, steps=(queued, running, last))


def compose(sandbox: Sandbox, account: Account, inputs: Sequence[Row], wish: Wish) -> list[Picture]:
    """Make and keep the images of a generation; nobody knows their addresses yet."""
    files = [file_of(sandbox, account, image) for image in inputs]
    ground = None if wish.ground is None else file_of(sandbox, account, wish.ground)
    made = []
    for number in range(wish.count):
        made.append(Picture("output", "png"))
        keep(sandbox, account, made[-1], stand_in(files, wish.size, wish.seed + number, ground))
    return made


def compose_enlarged(sandbox: Sandbox, account: Account, image: Row) -> list[Picture]:
    """Make and keep an enlarged picture; empty where the original cannot be decoded here."""
    content = enlarged(file_of(sandbox, account, image).read_bytes(), _UPSCALE)
    if content is None:
        return []
    picture = Picture("output", "png")
    keep(sandbox, account, picture, content)
    return [picture]


def begin(
    tx: Connection, account: Account, model: Row, made: Sequence[Picture], *, at_s: float, upscales: str | None = None
) -> Row:
    """Begin the job that will show these images, and take their price.

    Raises:
        PhotogptError: The balance is short.
    """
    price = account.settings.photogpt.image_credits * len(made)
    job = add_job(tx, account, Job(GENERATION, model, script_of(account), price), at_s=at_s)
    for picture in made:
        row = add(tx, account, model["id"], picture, at_s=at_s)
        documents.change(tx, row, status=HIDDEN, data={"job": job["id"]})
    return documents.change(tx, job, data={"upscales": upscales})


def show(tx: Connection, account: Account, job: Row, *, at_s: float) -> None:
    """Make the images of a job known, and an upscaled one to its original."""
    images = images_of_job(tx, account, job)
    for image in images:
        documents.change(tx, image, status=None, data={"updated_at": at_s})
    origin = documents.find(tx, account, IMAGE, job["data"]["upscales"] or "")
    if origin is not None and images:
        upscaled = {"id": images[0]["id"], "file": images[0]["data"]["file"]}
        documents.change(tx, origin, data={"upscaled": upscaled, "updated_at": at_s})


def discard(sandbox: Sandbox, tx: Connection, account: Account, job: Row) -> None:
    """Forget the images of a job that failed."""
    images = images_of_job(tx, account, job)
    for image in images:
        documents.remove(tx, image)
    forget_bytes(sandbox, account, [image["id"] for image in images])
