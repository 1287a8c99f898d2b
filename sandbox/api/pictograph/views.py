"""The JSON of the emulated API: envelopes and objects, as each dialect writes them."""

from collections.abc import Sequence
from typing import Any

from sandbox.accounts import Account
from sandbox.clock import iso
from sandbox.store import Row

Json = dict[str, Any]


def one(account: Account, key: str, item: Json) -> Json:
    """Wrap one object: under its own name in v1, under data in v2, under both for callers of both."""
    dialect = account.settings.dialect
    body = {} if dialect == "v2" else {key: item}
    return body if dialect == "v1" else {"data": item, **body}


def page(account: Account, key: str, items: Sequence[Json], window: tuple[int, int, int]) -> Json:
    """Wrap a page of objects; window is (limit, offset, total)."""
    limit, offset, total = window
    listed = list(items)
    if account.settings.dialect == "v1":
        return {key: listed}
    more = offset + len(listed) < total
    pagination = {"limit": limit, "offset": offset, "total": total, "has_more": more}
    body: Json = {"data": listed, "pagination": pagination}
    return body if account.settings.dialect == "v2" else {**body, key: listed}


def run_view(account: Account, run: Row) -> Json:
    """Return a training run."""
    same = ("id", "name", "dataset_id", "export_id", "model_id", "pipeline_type", "gpu_type", "status", "progress")
    more = ("current_epoch", "total_epochs", "metrics", "config", "eta_seconds", "error_message")
    body = {key: run[key] for key in (*same, *more)}
    body |= {key: iso(run[key]) for key in ("started_at", "completed_at", "created_at")}
    body |= {"organization_id": account.organization_id, "training_time_seconds": run["training_minutes"]}
    if account.settings.dialect != "v1":
        body["warnings"] = run["warnings"]
    return body


def model_view(account: Account, model: Row, version_count: int) -> Json:
    """Return a model."""
    body = {key: model[key] for key in ("id", "name", "model_type", "architecture", "status", "metrics")}
    body |= {"organization_id": account.organization_id, "description": None, "visibility": "private"}
    body |= {"class_mapping": class_mapping(account, model["classes"]), "version": f"{max(1, version_count)}.0.0"}
    body |= {"parent_model_id": None, "created_at": iso(model["created_at"]), "updated_at": iso(model["updated_at"])}
    if account.settings.dialect != "v1":
        body |= {"training_config": model["training_config"], "forked_from_model_id": None, "precision": "fp32"}
    return body


def class_mapping(account: Account, classes: Sequence[str] | None) -> Json | None:
    """Return the class list in the form the account's dialect writes."""
    if classes is None:
        return None
    form = account.settings.class_mapping
    if form == "index" or (form == "auto" and account.settings.dialect == "v1"):
        return {str(index): name for index, name in enumerate(classes)}
    return {"classes": list(classes)}


def export_view(account: Account, export: Row, download_url: str | None = None) -> Json:
    """Return an export; the download link is there once it is completed, and not on create."""
    same = ("id", "dataset_name", "name", "format", "status", "include_images", "class_filter", "status_filter")
    body = {key: export[key] for key in (*same, "error_message", "file_size", "image_count", "annotation_count")}
    body |= {"organization_id": account.organization_id, "download_url": download_url}
    body |= {"created_at": iso(export["created_at"]), "expires_at": iso(export["created_at"] + 30 * 24 * 3600)}
    if account.settings.dialect != "v2":
        body["project_id"] = export["dataset_id"]
    if account.settings.dialect != "v1":
        body["dataset_id"] = export["dataset_id"]
    return body


def dataset_view(account: Account, dataset: Row) -> Json:
    """Return a dataset without its images."""
    body = {key: dataset[key] for key in ("id", "name", "image_count", "completed_image_count", "total_size")}
    body |= {"organization_id": account.organization_id, "description": None, "created_at": iso(dataset["created_at"])}
    body["classes"] = dataset["classes"]
    if account.settings.dialect != "v2":
        body["archived_images"] = 0
    if account.settings.dialect != "v1":
        body |= {"archived_image_count": 0, "is_public": False, "is_archived": False, "archived_at": None}
        body |= {
            "storage_class": "coldline" if dataset["cold"] else "standard",
            "updated_at": iso(dataset["created_at"]),
        }
    return body


def entry_view(entry: Row) -> Json:
    """Return a ledger entry."""
    body = {key: entry[key] for key in ("id", "operation", "amount", "balance_after", "description")}
    metadata = {"training_run_id": entry["run_id"]} if entry["run_id"] else None
    return {**body, "metadata": metadata, "created_at": iso(entry["created_at"])}
