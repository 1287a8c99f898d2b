"""Bluesight's training jobs and hosted inference."""

import numpy as np
from fastapi import APIRouter

from sandbox import documents, lifecycle
from sandbox.api.bluesight.bodies import Image, InferenceBody, JobBody, Json, job_view
from sandbox.api.bluesight.call import BluesightRoute, Call, Caller, refused
from sandbox.bluesight.jobs import FIRST, JOB, add_job, cancel, is_finished, status_of
from sandbox.bluesight.models import find_model, labelled, was_missed
from sandbox.store import Row

router = APIRouter(route_class=BluesightRoute)


@router.post("/training/jobs")
def create(call: Caller, body: JobBody) -> Json:
    """Take an order for a training."""
    with call.sandbox.store.write() as tx:
        row = add_job(call.sandbox, tx, call.account, body.model_dump(mode="json"))
    call.sandbox.wake.set()
    return job_view(call.sandbox, call.account, row, status=FIRST)


@router.get("/training/jobs/{job_id}")
def show(call: Caller, job_id: str) -> Json:
    """Show where a job is."""
    with call.sandbox.store.read() as tx:
        row = documents.find(tx, call.account, JOB, job_id)
    if row is None:
        raise refused(404, "Training job not found")
    view = job_view(call.sandbox, call.account, row)
    if row["completed_at"] is None and lifecycle.is_scripted(row):
        with call.sandbox.store.write() as tx:
            lifecycle.look(tx, [row])
    return view


@router.delete("/training/jobs/{job_id}")
def cancel_job(call: Caller, job_id: str) -> Json:
    """Cancel a job, as far as that goes."""
    sandbox, account = call.sandbox, call.account
    with sandbox.store.write() as tx:
        row = documents.find(tx, account, JOB, job_id)
        if row is None:
            raise refused(404, "Training job not found")
        status = status_of(sandbox, account, row)
        if is_finished(status):
            raise refused(400, f"Training job is already finished with status: {status}")
        row = cancel(sandbox, tx, account, row)
    sandbox.wake.set()
    return job_view(sandbox, account, row)


@router.post("/inference")
def infer(call: Caller, body: InferenceBody) -> Json:
    """Answer the labels a model gives to tiles."""
    row = _model(call, body.model)
    if not body.images:
        return {"labels": []}
    is_classification = row["data"]["task"] == "classification"
    if is_classification and call.account.settings.bluesight.classification_inference == "broken":
        raise TypeError("argument should be a bytes-like object or ASCII string, not 'list'")
    if is_classification:
        return {"labels": [int(_labels(call, row, [image])[0]) for image in body.images]}
    return {"labels": _labels(call, row, body.images).tolist()}


def _labels(call: Call, row: Row, images: list[Image]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the labels of images that share everything but their pixels.

    Raises:
        ValueError: They differ, or the model cannot read them.
    """
    first = images[0]
    for number, image in enumerate(images):
        if (image.bands, image.gsd, image.platform) != (first.bands, first.gsd, first.platform):
            raise ValueError(f"image {number} has other bands, gsd or platform than the first")
    tiles = [np.asarray(image.pixels, np.float32) for image in images]
    return labelled(call.sandbox, call.account, row, tiles, first.bands)


def _model(call: Call, name: str) -> Row:
    """Return the model; an unknown one is looked for in storage the first time, which fails differently."""
    with call.sandbox.store.write() as tx:
        row = find_model(call.sandbox, tx, call.account, name)
        if row is not None:
            return row
        is_known_to_be_missing = was_missed(call.sandbox, tx, call.account, name)
    if is_known_to_be_missing:
        raise refused(404, "Model not found")
    raise RuntimeError(f"Error downloading model '{name}': Object not found")
