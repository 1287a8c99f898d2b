"""Jobs of the emulated PhotoGPT API: a listing by time, and the detail of one."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import Connection

from sandbox import documents
from sandbox.api.photogpt.call import Call, Caller, PhotogptRoute, ok
from sandbox.api.photogpt.views import Json, job_detail, job_item
from sandbox.lifecycle import look
from sandbox.photogpt.errors import PhotogptError, not_found
from sandbox.photogpt.images import images_of_job
from sandbox.photogpt.jobs import GENERATION, KINDS
from sandbox.photogpt.models import HIDDEN
from sandbox.photogpt.window import Window, WindowError, read_window, seq_of, token_of
from sandbox.store import Row

router = APIRouter(prefix="/jobs", route_class=PhotogptRoute)


@router.get("")
def list_jobs(
    call: Caller,
    start: str | None = None,
    end: str | None = None,
    page_token: Annotated[str | None, Query(alias="pageToken")] = None,
) -> Json:
    """Answer a page of the jobs of a time window, newest first."""
    try:
        window = read_window(start, end, call.now_s)
        before = None if page_token is None else seq_of(page_token)
    except WindowError as error:
        raise PhotogptError(400, str(error)) from error
    with call.sandbox.store.read() as tx:
        rows = _within(tx, call, window, before)
    shown = rows[: call.settings.jobs_page_size]
    more = token_of(shown[-1]["seq"]) if len(rows) > len(shown) else None
    return ok({"jobs": [job_item(call.account, row) for row in shown], "nextPageToken": more})


def _within(tx: Connection, call: Call, window: Window, before: int | None) -> list[Row]:
    kinds = KINDS if call.settings.jobs_show_trainings else (GENERATION,)
    rows = [row for kind in kinds for row in documents.listed(tx, call.account, kind, before_seq=before)]
    within = [row for row in rows if window.begin_s <= row["created_at"] <= window.end_s]
    return sorted(within, key=lambda row: int(row["seq"]), reverse=True)


@router.get("/{ref}")
def get_job(call: Caller, ref: str) -> Json:
    """Answer one job, a generation or a training."""
    with call.sandbox.store.write() as tx:
        found = (documents.find(tx, call.account, kind, ref) for kind in KINDS)
        job = next((row for row in found if row is not None), None)
        if job is None:
            raise not_found("job")
        look(tx, [job])
        images = [row for row in images_of_job(tx, call.account, job) if row["status"] != HIDDEN]
        return ok(job_detail(call.account, job, images, call.base_url))
