"""The JSON of the emulated PhotoGPT API, in its two casings: modelID in images, modelId in jobs."""

from typing import Any

from sandbox.accounts import Account
from sandbox.clock import iso
from sandbox.photogpt.books import credits_of
from sandbox.photogpt.images import FOLDER
from sandbox.photogpt.jobs import TRAINING, word_of
from sandbox.photogpt.models import status_of
from sandbox.storage import PREFIX as STORAGE_PREFIX
from sandbox.store import Row

Json = dict[str, Any]
_MODEL_TYPE = "identity"


def model_view(account: Account, model: Row, training: Row | None, *, details: bool) -> Json:
    """Return a model; its details are what its owner wrote about the person."""
    body: Json = {"id": model["id"], "status": status_of(account, model, training), "modelType": _MODEL_TYPE}
    body |= {"createdAt": iso(model["created_at"]), "updatedAt": iso(_changed_s(model, training))}
    return body | (model["data"]["about"] if details else {})


def image_view(account: Account, image: Row, base_url: str) -> Json:
    """Return a picture with its address, which needs no key."""
    data = image["data"]
    body: Json = {"id": image["id"], "url": address_of(account, image["id"], data["file"], base_url)}
    body |= {"modelID": image["parent"], "type": image["name"]}
    body |= {"createdAt": iso(image["created_at"]), "updatedAt": iso(data["updated_at"])}
    upscaled = data.get("upscaled")
    url = None if upscaled is None else address_of(account, upscaled["id"], upscaled["file"], base_url)
    body |= {"folderID": None, "liked": False, "publicMediaID": None}
    return body | {"upscaledImageID": upscaled and upscaled["id"], "upscaledImageURL": url, "data": {}}


def job_item(account: Account, job: Row) -> Json:
    """Return a job as the listing shows it: neither its model nor its type."""
    body: Json = {"jobId": job["id"], "status": word_of(account, job), "createdAt": iso(job["created_at"])}
    body |= {"updatedAt": iso(job["data"]["updated_at"]), "credits": credits_of(account, job)}
    return body | {"errorMessage": job["data"].get("error")}


def job_detail(account: Account, job: Row, images: list[Row], base_url: str) -> Json:
    """Return a job with its images and, where the account's settings say so, the model it is about."""
    body: Json = {"jobId": job["id"], "status": word_of(account, job)}
    body |= {"images": [image_view(account, image, base_url) for image in images], "videos": []}
    body |= {"error": job["data"].get("error"), "createdAt": iso(job["created_at"])}
    if job["kind"] != TRAINING or account.settings.photogpt.training_jobs_name_model:
        body["modelId"] = job["parent"]
    return body


def address_of(account: Account, image_id: str, file_name: str, base_url: str) -> str:
    """Return the address of a picture."""
    return f"{base_url.rstrip('/')}{STORAGE_PREFIX}{account.id}/{FOLDER}/{image_id}/{file_name}"


def _changed_s(model: Row, training: Row | None) -> float:
    changes = [model["data"]["updated_at"]]
    if training is not None:
        changes.append(training["data"]["updated_at"])
    return float(max(changes))
