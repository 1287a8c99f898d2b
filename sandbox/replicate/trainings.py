"""Trainings of the emulated Replicate API: creating, scripting, cancelling, and what they cost."""

import json
import zlib
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection

from sandbox import attempts, documents, lifecycle
from sandbox.accounts import Account
from sandbox.core import Sandbox
from sandbox.datasets import DataError, class_names
from sandbox.engines import UPLOADS
from sandbox.layouts.reading import read_data
from sandbox.lifecycle import Outcome, Scene
from sandbox.modelstore import MODEL_TYPES
from sandbox.replicate.inputs import own_file, own_file_id
from sandbox.replicate.logs import complete_logs, scripted_logs
from sandbox.replicate.models import input_problem
from sandbox.replicate.prices import cost
from sandbox.replicate.weights import CONFIG_FILE, MODEL_FILE, Made, PackagingError, publish
from sandbox.replicate.words import FILE, TRAINING, neutral, new_run_id
from sandbox.store import Row
from sandbox.tinymodel import ARCHITECTURES, SIDE, tiny_model

WAITING = "webhook"
"""`parent` of a run as long as there is something to tell its webhook."""
_AT_ONCE_S = 3e-06


@dataclass(frozen=True)
class Order:
    """A training that passed every check of its create."""

    model: str
    version: str
    destination: str
    given: dict[str, Any]
    base_url: str
    webhook: str | None = None
    events: tuple[str, ...] = ()


def create(sandbox: Sandbox, tx: Connection, account: Account, order: Order) -> Row:
    """Add a training; an input the trainer refuses fails it at once, as on the hosted service."""
    at_s = sandbox.clock.now_s()
    data = {
        **_engine_data(account),
        "model": order.model,
        "version": order.version,
        "destination": order.destination,
        "input": order.given,
        "base_url": order.base_url,
        "webhook": order.webhook,
        "events": list(order.events),
        "hardware": account.settings.replicate.trainer_hardware,
    }
    about: dict[str, Any] = {"name": order.destination, "status": "pending"}
    about["parent"] = WAITING if order.webhook else None
    row = documents.add(tx, account, TRAINING, id=new_run_id(), data=data, at_s=at_s, **about)
    problem = input_problem(order.given)
    if problem is not None:
        lifecycle.end(tx, account, row, Outcome("failed", {"error": problem, "seconds": _AT_ONCE_S}), at_s=at_s)
    return row


def _engine_data(account: Account) -> dict[str, Any]:
    """Return what moves a training; a script in the vendor's own words is kept in the words every vendor has."""
    data = lifecycle.engine_data(account)
    for step in data["script"]["steps"] if data["script"] is not None else ():
        step["status"] = neutral(step["status"])
    return data


def cancel(sandbox: Sandbox, tx: Connection, account: Account, row: Row) -> Row:
    """End a training at its owner's wish; the time it ran is billed, and one that ended before stays as it is."""
    now_s = sandbox.clock.now_s()
    seconds = _AT_ONCE_S if row["started_at"] is None else _seconds(sandbox, account, row, now_s)
    data: dict[str, Any] = {"seconds": seconds}
    if lifecycle.is_scripted(row):
        data["logs"] = scripted_logs(row, lifecycle.position(sandbox, row))
    charge = 0 if row["started_at"] is None else charge_of(account, row, seconds)
    return lifecycle.end(tx, account, row, Outcome("cancelled", data, charge), at_s=now_s)


def charge_of(account: Account, row: Row, seconds: float) -> int:
    """Return what a training of so many seconds costs."""
    return cost(account, row["data"]["hardware"], seconds)


def _seconds(sandbox: Sandbox, account: Account, row: Row, at_s: float) -> float:
    """Return the time a training ran, in the measure of its script, or of its last child."""
    began_s = row["started_at"]
    if began_s is None:
        return 0.0
    if not lifecycle.is_scripted(row):
        return attempts.ran_s(row, at_s) * account.settings.gpu_seconds_per_second
    script = lifecycle.script_of(row)
    if script.gpu_minutes is not None:
        return script.gpu_minutes * 60.0
    if script.mode == "time":
        return float(at_s - began_s) * script.speed
    return lifecycle.position(sandbox, row).entered_at * account.settings.replicate.seconds_per_look


@dataclass(frozen=True)
class ScriptedTrainings:
    """How scripted trainings end."""

    endings: frozenset[str] = field(default=frozenset({"aborted"}))

    def end(self, scene: Scene) -> Outcome:
        """Deliver tiny weights, or say why there are none; whatever ran is billed."""
        status, step = scene.position.step.status, scene.position.step
        has_begun = scene.row["started_at"] is not None or status == "completed"
        missing = _missing_data(scene) if has_begun else None
        if missing is not None:
            return missing
        seconds = _seconds(scene.sandbox, scene.account, scene.row, scene.at_s)
        data: dict[str, Any] = {"seconds": seconds, "logs": scripted_logs(scene.row, scene.position)}
        if status == "aborted":
            return Outcome(status, {"seconds": 0.0, "logs": None})
        if status == "completed":
            data["logs"] = complete_logs(scene.row)
            try:
                data |= publish(scene.sandbox, scene.tx, scene.account, scene.row, _tiny(scene), at_s=scene.at_s)
            except PackagingError as error:
                status, data["error"] = "failed", str(error)
        elif status == "failed":
            data["error"] = step.error_message or scene.script.fail_message
        return Outcome(status, data, charge_of(scene.account, scene.row, seconds))

    def moved(self, scene: Scene) -> None:
        """Fail a training that begins without its data; webhooks are the background's, which looks at what is."""
        row = scene.row
        if row["started_at"] is None or row["completed_at"] is not None or row["data"].get("has_data"):
            return
        missing = _missing_data(scene)
        if missing is None:
            documents.change(scene.tx, row, data={"has_data": True})
        else:
            lifecycle.end(scene.tx, scene.account, row, missing, at_s=row["started_at"])


def _missing_data(scene: Scene) -> Outcome | None:
    """Return how a training ends whose data is an uploaded file that was gone when it began; other data is not read."""
    data, url = scene.row["data"], str(scene.row["data"]["input"].get("train_data"))
    file_id = None if data.get("has_data") else own_file_id(url, data["base_url"])
    if file_id is None:
        return None
    began_s = scene.at_s if scene.row["started_at"] is None else scene.row["started_at"]
    file = documents.find(scene.tx, scene.account, FILE, file_id)
    if file is not None and file["data"]["expires_at"] > began_s:
        return None
    place = urlsplit(url)._replace(query="", fragment="").geturl()
    error = f"Could not download train_data: the input at {place!r} cannot be fetched (there is no such file any more)"
    return Outcome("failed", {"error": error, "seconds": _AT_ONCE_S})


def _tiny(scene: Scene) -> Made:
    """Return the weights of a scripted training: an uploaded model, or a tiny one with the data's classes."""
    given = scene.row["data"]["input"]
    pipeline = str(given.get("pipeline") or "yolox")
    about: dict[str, Any] = {"architecture": ARCHITECTURES[pipeline], "classes": _classes(scene, given), "side": SIDE}
    uploaded = scene.sandbox.home / UPLOADS / f"{scene.account.id}.onnx"
    if scene.script.model == "uploaded" or (scene.script.model == "auto" and uploaded.exists()):
        content = uploaded.read_bytes()
        told = json.loads(uploaded.with_suffix(".json").read_text(encoding="utf-8"))
        about |= {key: value for key, value in told.items() if value}
    else:
        content = tiny_model(pipeline, about["classes"], seed=zlib.crc32(scene.row["id"].encode()))
    config = {
        "pipeline": pipeline,
        "task": MODEL_TYPES[pipeline],
        "classes": about["classes"],
        "architecture": about["architecture"],
        "input_size": [about["side"], about["side"]],
    }
    return Made({MODEL_FILE: content, CONFIG_FILE: json.dumps(config, indent=1).encode()})


def _classes(scene: Scene, given: dict[str, Any]) -> list[str]:
    """Return the classes of the uploaded data; a script trains on anything, so what cannot be read has one class."""
    path = own_file(scene.sandbox, scene.tx, scene.account, str(given.get("train_data")))
    try:
        images = read_data(path).images if path is not None else []
    except (DataError, OSError):
        images = []
    return list(class_names(images)) or ["object"]
