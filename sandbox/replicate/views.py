"""How the emulated Replicate API shows trainings, predictions and files."""

from typing import Any

from sandbox import lifecycle
from sandbox.accounts import Account
from sandbox.core import Sandbox
from sandbox.replicate.logs import scripted_logs
from sandbox.replicate.words import PREDICTION, TRAINING, stamp, word
from sandbox.store import Row

_CREATE_LAG_S = 0.023  # between the instant a create answers and the one every later answer names
_PATHS = {TRAINING: "trainings", PREDICTION: "predictions"}


def created_view(row: Row, base_url: str) -> dict[str, Any]:
    """Return a new training as its create answers: little of it, and links that lead to /predictions/."""
    return {
        "id": row["id"],
        "model": row["data"]["model"],
        "version": row["data"]["version"],
        "input": row["data"]["input"],
        "logs": "",
        "error": None,
        "status": "starting",
        "created_at": stamp(row["created_at"] - _CREATE_LAG_S, 9),
        "urls": _urls(row, base_url, "predictions"),
    }


def run_view(sandbox: Sandbox, account: Account, row: Row, base_url: str) -> dict[str, Any]:
    """Return a training or prediction as it is now."""
    logs = None if is_removed(sandbox, account, row) else logs_of(sandbox, row)
    return {**list_view(sandbox, account, row, base_url), "logs": logs}


def list_view(sandbox: Sandbox, account: Account, row: Row, base_url: str) -> dict[str, Any]:
    """Return a training or prediction as a list shows it: without logs, which take their time to write."""
    data, removed = row["data"], is_removed(sandbox, account, row)
    return {
        "id": row["id"],
        "model": data["model"],
        "version": data["version"],
        "input": {} if removed else data["input"],
        "output": None if removed else _output(account, row, base_url),
        "error": data.get("error"),
        "status": word(row["status"]),
        "created_at": stamp(row["created_at"]),
        "started_at": stamp(row["started_at"]),
        "completed_at": stamp(row["completed_at"]),
        "metrics": _metrics(row),
        "urls": _urls(row, base_url, _PATHS[row["kind"]]),
        "source": "api",
        "data_removed": removed,
        **({"webhook_completed": None} if row["kind"] == TRAINING else {}),
    }


def is_removed(sandbox: Sandbox, account: Account, row: Row) -> bool:
    """Whether the data of a run is gone: it is not kept for ever."""
    ended_s = row["completed_at"]
    return ended_s is not None and sandbox.clock.now_s() >= ended_s + account.settings.replicate.retention_s


def logs_of(sandbox: Sandbox, row: Row) -> str | None:
    """Return everything a run has printed."""
    if row["completed_at"] is None and lifecycle.is_scripted(row):
        return scripted_logs(row, lifecycle.position(sandbox, row))
    logs: str | None = row["data"].get("logs")
    return logs


def weights_url(account: Account, row: Row, base_url: str) -> str:
    """Return where the weights of a finished training are delivered from."""
    return f"{base_url.rstrip('/')}/delivery/{account.id}/{row['id']}/{row['data']['weights']}"


def file_view(row: Row, base_url: str) -> dict[str, Any]:
    """Return an uploaded file."""
    data = row["data"]
    kept = ("content_type", "size", "etag", "checksums", "metadata")
    return {
        "id": row["id"],
        "name": row["name"],
        **{key: data[key] for key in kept},
        "created_at": stamp(row["created_at"], 3),
        "expires_at": stamp(data["expires_at"], 3),
        "urls": {"get": f"{base_url.rstrip('/')}/v1/files/{row['id']}"},
    }


def _output(account: Account, row: Row, base_url: str) -> Any:
    data = row["data"]
    if row["kind"] == PREDICTION:
        return data.get("output")
    if "trained_version" not in data:
        return None
    whole = {"version": data["trained_version"], "weights": weights_url(account, row, base_url)}
    form = account.settings.replicate.output
    return {"object": whole, "url": whole["weights"], "list": [whole]}[form]


def _metrics(row: Row) -> dict[str, float]:
    if row["completed_at"] is None:
        return {}
    seconds = row["data"].get("seconds") or 0.0
    return {"predict_time": seconds, "total_time": max(seconds, row["completed_at"] - row["created_at"])}


def _urls(row: Row, base_url: str, path: str) -> dict[str, str]:
    here = f"{base_url.rstrip('/')}/v1/{path}/{row['id']}"
    return {"cancel": f"{here}/cancel", "get": here}
