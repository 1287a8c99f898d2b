"""Training runs: create, quote, list, look at, cancel."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field
from sqlalchemy import Connection, func, select

from sandbox import billing
from sandbox.api.pictograph.call import Answer, Call, Member, Offset, Ref, Viewer
from sandbox.api.pictograph.dialect import V2_ONLY, DialectRoute
from sandbox.api.pictograph.errors import ApiError, insufficient, not_found
from sandbox.api.pictograph.ordering import NamedTrainingBody, TrainingBody, check_order
from sandbox.api.pictograph.views import Json, one, page, run_view
from sandbox.engines import is_moved_by_looks, look
from sandbox.fitting import auto_choice, quoted_fits
from sandbox.gpus import TIERS
from sandbox.prices import MICRO_USD_PER_CREDIT, minute_price, minute_prices, planned_minutes
from sandbox.runs import Order, cancel, create_run, find_run, visible_pipelines
from sandbox.settings import ROLES
from sandbox.store import Row, every, runs

router = APIRouter(prefix="/training", route_class=DialectRoute)
PAGE_CAP = 100


class IdsBody(BaseModel):
    """Body of a bulk cancel."""

    run_ids: list[str] = Field(max_length=1000)


@router.post("/")
def create(call: Member, body: NamedTrainingBody) -> Response:
    """Start a training."""
    return call.write(lambda tx: _create(tx, call, body))


def _create(tx: Connection, call: Call, body: NamedTrainingBody) -> Answer:
    order = check_order(tx, call.account, body, body.name)
    missing = billing.shortage(tx, call.account, order.gpu_type, _minutes(call, order))
    if missing is not None:
        raise insufficient(call.account, missing)
    run = create_run(call.sandbox, tx, call.account, order)
    view = one(call.account, "training_run", run_view(call.account, run))
    return Answer(view, call.account.settings.create_status)


@router.post("/quote", openapi_extra=V2_ONLY)
def quote(call: Viewer, body: TrainingBody) -> dict[str, Any]:
    """Check and price a training without starting it."""
    with call.sandbox.store.read() as tx:
        order = check_order(tx, call.account, body, "quote")
        missing = billing.shortage(tx, call.account, order.gpu_type, _minutes(call, order))
        left = billing.spendable(tx, call.account)
    return {"data": _quote(call, body, order, missing, left)}


def _minutes(call: Call, order: Order) -> int:
    return planned_minutes(call.account.settings, order.epochs, order.gpu_type)


def _quote(call: Call, body: TrainingBody, order: Order, missing: billing.Shortage | None, left: int) -> Json:
    settings, minutes = call.account.settings, _minutes(call, order)
    factor = MICRO_USD_PER_CREDIT if settings.billing == "credits" else 1
    price = minute_price(settings, order.gpu_type) * factor
    blocking = []
    if missing is not None:
        blocking.append({"code": "insufficient_credits", "message": "The balance is below what a start needs."})
    if ROLES.index(settings.role) < ROLES.index("member"):
        blocking.append({"code": "forbidden", "message": "Starting a run needs the role member."})
    return {
        "dataset_id": order.dataset["id"],
        "dataset_name": order.dataset["name"],
        "export_id": order.export["id"],
        "export_name": order.export["name"],
        "image_count": order.export["image_count"],
        "annotation_count": order.export["annotation_count"],
        "pipeline_type": order.pipeline_type,
        "requested_gpu_type": body.gpu_type,
        "gpu_type": order.gpu_type,
        **_memory(call, order, factor),
        "epochs": order.epochs,
        "classes": order.export["classes"] or [],
        "deleted_images": 0,
        "estimate": {"minutes": minutes, "micro_usd_per_minute": price, "total_micro_usd": price * minutes, "note": ""},
        "balance": {
            "budget_remaining_micro_usd": left * factor,
            "required_to_start_micro_usd": billing.start_price(call.account, order.gpu_type, minutes) * factor,
            "covers_estimate": left * factor >= price * minutes,
        },
        "can_start": not blocking,
        "blocking": blocking,
        "config": order.config,
    }


def _memory(call: Call, order: Order, factor: int) -> Json:
    settings, asked = call.account.settings, (order.pipeline_type, order.config)
    choice = auto_choice(settings, *asked)
    tiers = [
        {
            "gpu_type": gpu,
            "total_mib": TIERS[gpu].memory_mib,
            "fits": quoted_fits(settings, *asked, gpu),
            "micro_usd_per_minute": price * factor,
        }
        for gpu, price in minute_prices(settings).items()
    ]
    return {
        "fits": quoted_fits(settings, *asked, order.gpu_type),
        "recommended_gpu_type": choice["gpu_type"],
        "gpu_autoselect": choice,
        "tiers": tiers,
    }


@router.get("/")
def list_runs(
    call: Viewer,
    limit: Annotated[int, Query(ge=1, le=PAGE_CAP)] = 50,
    offset: Offset = 0,
    dataset_name: str | None = None,
    status: str | None = None,
) -> dict[str, Any]:
    """Answer a page of runs, newest first."""
    wanted = [runs.c.account_id == call.account.id, runs.c.pipeline_type.in_(visible_pipelines(call.account))]
    if dataset_name is not None:
        wanted.append(runs.c.dataset_name == dataset_name)
    if status is not None:
        wanted.append(runs.c.status == status)
    with call.sandbox.store.read() as tx:
        rows = every(tx, select(runs).where(*wanted).order_by(runs.c.seq.desc()).limit(limit).offset(offset))
        total = tx.execute(select(func.count()).select_from(runs).where(*wanted)).scalar_one()
    count_looks(call, rows)
    return page(call.account, "training_runs", [run_view(call.account, row) for row in rows], (limit, offset, total))


@router.get("/{ref}")
def get(call: Viewer, ref: Ref) -> dict[str, Any]:
    """Answer one run by id, and in today's dialect by name (the most recent one)."""
    with call.sandbox.store.read() as tx:
        run = _found(tx, call, ref)
    count_looks(call, [run])
    return one(call.account, "training_run", run_view(call.account, run))


@router.post("/bulk-cancel", openapi_extra=V2_ONLY)
def bulk_cancel(call: Member, body: IdsBody) -> Response:
    """Cancel every run of a list that still goes on."""
    return call.write(lambda tx: Answer({"data": _bulk_cancel(tx, call, body.run_ids)}))


def _bulk_cancel(tx: Connection, call: Call, ids: list[str]) -> Json:
    found = [run for ref in dict.fromkeys(ids) if (run := find_run(tx, call.account, ref)) and run["id"] == ref]
    gone = [run["id"] for run in found if run["completed_at"] is None]
    for run in found:
        if run["id"] in gone:
            cancel(tx, call.account, run, at_s=call.now_s)
    return {"succeeded": gone, "not_found": [ref for ref in dict.fromkeys(ids) if ref not in gone], "count": len(gone)}


@router.post("/{ref}/cancel")
def cancel_one(call: Member, ref: Ref) -> Response:
    """Cancel a run that still goes on."""
    return call.write(lambda tx: _cancel(tx, call, ref))


def _cancel(tx: Connection, call: Call, ref: str) -> Answer:
    run = _found(tx, call, ref)
    if run["completed_at"] is not None:
        raise ApiError(400, f"Cannot cancel training run with status '{run['status']}'")
    run = cancel(tx, call.account, run, at_s=call.now_s)
    return Answer(one(call.account, "training_run", run_view(call.account, run)))


def _found(tx: Connection, call: Call, ref: str) -> Row:
    run = find_run(tx, call.account, call.by_id_in_v1(ref))
    if run is None:
        raise not_found("Training run", ref)
    return run


def count_looks(call: Call, shown: list[Row]) -> None:
    """Move runs that are scripted by looks on, after this answer."""
    if any(is_moved_by_looks(run) for run in shown):
        with call.sandbox.store.write() as tx:
            look(tx, shown)
