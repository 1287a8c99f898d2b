"""Jobs and notifications: one list of everything that goes on, and the feed of what ended."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from sqlalchemy import ColumnElement, func, select

from sandbox.api.pictograph.call import Call, Offset, Ref, Viewer
from sandbox.api.pictograph.dialect import V2_ONLY, DialectRoute
from sandbox.api.pictograph.errors import not_found
from sandbox.api.pictograph.training import count_looks
from sandbox.api.pictograph.views import Json
from sandbox.clock import iso
from sandbox.runs import find_run, visible_pipelines
from sandbox.store import Row, every, exports, first, notifications, runs

router = APIRouter(route_class=DialectRoute)
_NEWEST = 1000
_WORDS = {"pending": "queued", "processing": "running"}
_ENDED: dict[str, tuple[ColumnElement[bool], ...]] = {  # the newest thousand are those of the filter
    "active": (runs.c.completed_at.is_(None),),
    "finished": (runs.c.completed_at.is_not(None),),
}
JobStatus = Literal["all", "active", "finished", "queued", "running", "completed", "failed", "cancelled"]
Limit = Annotated[int, Query(ge=1, le=100)]


@router.get("/jobs", openapi_extra=V2_ONLY)
def list_jobs(
    call: Viewer,
    status: JobStatus = "active",
    limit: Limit = 50,
    offset: Offset = 0,
    kind: Annotated[str | None, Query(alias="type")] = None,
) -> dict[str, Any]:
    """Answer trainings and exports as jobs, newest first."""
    with call.sandbox.store.read() as tx:
        mine = (runs.c.account_id == call.account.id, runs.c.pipeline_type.in_(visible_pipelines(call.account)))
        trainings = every(
            tx, select(runs).where(*mine, *_ENDED.get(status, ())).order_by(runs.c.seq.desc()).limit(_NEWEST)
        )
        owned = select(exports).where(exports.c.account_id == call.account.id)
        built = every(tx, owned.order_by(exports.c.created_at.desc()).limit(_NEWEST))
    jobs = [] if kind not in (None, "training") else [_training_job(run) for run in trainings]
    jobs += [] if kind not in (None, "export") else [_export_job(export) for export in built]
    jobs = sorted((job for job in jobs if _matches(job, status)), key=lambda job: str(job["created_at"]), reverse=True)
    shown = jobs[:_NEWEST][offset : offset + limit]
    ids = {job["id"] for job in shown}
    count_looks(call, [run for run in trainings if run["id"] in ids])
    more = offset + len(shown) < len(jobs)
    return {"data": shown, "pagination": {"limit": limit, "offset": offset, "total": len(jobs), "has_more": more}}


@router.get("/jobs/{ref}", openapi_extra=V2_ONLY)
def get_job(call: Viewer, ref: Ref) -> dict[str, Any]:
    """Answer one job; its id is the id of the run or export behind it."""
    return {"data": _job(call, ref)}


def _job(call: Call, ref: str) -> Json:
    with call.sandbox.store.read() as tx:
        run = find_run(tx, call.account, ref)
        owned = select(exports).where(exports.c.account_id == call.account.id, exports.c.id == ref)
        export = first(tx, owned)
    if run is not None and run["id"] == ref:
        count_looks(call, [run])
        return _training_job(run)
    if export is None:
        raise not_found("Job", ref)
    return _export_job(export)


def _matches(job: Json, status: JobStatus) -> bool:
    active = job["completed_at"] is None  # not by its word: a script may use any
    return {"all": True, "active": active, "finished": not active}.get(status, bool(job["status"] == status))


def _training_job(run: Row) -> Json:
    ended = run["completed_at"] is not None
    return {
        **_times(run),
        "id": run["id"],
        "type": "training",
        "status": _WORDS.get(run["status"], run["status"]),
        "progress": float(run["progress"]),
        "name": run["name"],
        "dataset_id": run["dataset_id"],
        "error": run["error_message"],
        "cancel_path": None if ended else f"/api/v1/developer/training/{run['id']}/cancel",
        "detail": {key: run[key] for key in ("current_epoch", "total_epochs", "model_id", "pipeline_type", "gpu_type")},
    }


def _export_job(export: Row) -> Json:
    return {
        **_times(export),
        "id": export["id"],
        "type": "export",
        "status": _WORDS.get(export["status"], export["status"]),
        "progress": 100.0 if export["status"] == "completed" else 0.0,
        "name": export["name"],
        "dataset_id": export["dataset_id"],
        "error": export["error_message"],
        "cancel_path": None,
        "detail": {"image_count": export["image_count"]},
    }


def _times(row: Row) -> Json:
    changed = row["completed_at"] or row["created_at"]
    return {
        "created_at": iso(row["created_at"]),
        "updated_at": iso(changed),
        "completed_at": iso(row["completed_at"]),
    }


@router.get("/notifications", openapi_extra=V2_ONLY)
def list_notifications(
    call: Viewer, unread_only: bool = False, limit: Limit = 50, offset: Offset = 0
) -> dict[str, Any]:
    """Answer the feed, newest first."""
    wanted = [notifications.c.account_id == call.account.id]
    if unread_only:
        wanted.append(notifications.c.read.is_(False))
    query = select(notifications).where(*wanted).order_by(notifications.c.seq.desc())
    with call.sandbox.store.read() as tx:
        rows = every(tx, query.limit(limit).offset(offset))
        total = tx.execute(select(func.count()).select_from(notifications).where(*wanted)).scalar_one()
    same = ("id", "type", "title", "message", "metadata", "read")
    views = [
        {
            **{key: row[key] for key in same},
            "organization_id": call.account.organization_id,
            "created_at": iso(row["created_at"]),
        }
        for row in rows
    ]
    more = offset + len(views) < total
    page = {"limit": limit, "offset": offset, "total": total, "has_more": more}
    return {"notifications": views, "pagination": page}
