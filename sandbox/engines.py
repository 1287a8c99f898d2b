"""The scripted engine: runs that follow a script instead of training."""

import json
import zlib
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, select, update

from sandbox import runs
from sandbox.accounts import Account
from sandbox.core import Sandbox
from sandbox.fitting import memory_failure
from sandbox.modelconfig import ModelFacts, model_config
from sandbox.modelstore import MODEL_TYPES, Trained
from sandbox.script import Position, epoch_of, first_running, locate, memory_peak, noisy_eta_s
from sandbox.settings import Script
from sandbox.store import Row, every, exports, first
from sandbox.store import runs as run_table
from sandbox.tinymodel import ARCHITECTURES, SIDE, tiny_model

UPLOADS = "uploads"


def settle_scripted(sandbox: Sandbox, account: Account) -> None:
    """Bring every scripted run of an account to where its script stands now."""
    open_runs = (
        select(run_table)
        .where(run_table.c.account_id == account.id, run_table.c.completed_at.is_(None))
        .where(run_table.c.engine == "scripted")
    )
    with sandbox.store.read() as tx:
        moved = [run for run in every(tx, open_runs) if _changes(sandbox, account, run)]
    if not moved:
        return
    with sandbox.store.write() as tx:
        for run in moved:
            _settle(sandbox, tx, account, runs.reload(tx, run["id"]))


def look(tx: Connection, shown: list[Row]) -> None:
    """Count one look at each of these runs; it moves the ones that are scripted by looks, after this answer."""
    ids = [run["id"] for run in shown if run["script"] and run["script"]["mode"] == "looks"]
    if ids:
        tx.execute(update(run_table).where(run_table.c.id.in_(ids)).values(ticks=run_table.c.ticks + 1))


def is_moved_by_looks(run: Row) -> bool:
    """Whether showing this run moves it."""
    return bool(run["completed_at"] is None and run["script"] and run["script"]["mode"] == "looks")


def advance(tx: Connection, run: Row, ticks: int) -> None:
    """Move a manually scripted run on."""
    tx.execute(update(run_table).where(run_table.c.id == run["id"]).values(ticks=run_table.c.ticks + ticks))


@lru_cache(maxsize=256)
def _parsed(text: str) -> Script:
    return Script.model_validate_json(text)


def _script(run: Row) -> Script:
    return _parsed(json.dumps(run["script"]))


def _elapsed(sandbox: Sandbox, run: Row, script: Script) -> float:
    """Return how far a run's script is, in the script's own measure."""
    if script.mode != "time":
        return float(run["ticks"])
    return float((sandbox.clock.now_s() - run["created_at"]) * script.speed)


def _position(sandbox: Sandbox, run: Row) -> tuple[Script, Position]:
    script = _script(run)
    return script, locate(script, _elapsed(sandbox, run, script))


def _changes(sandbox: Sandbox, account: Account, run: Row) -> bool:
    script, position = _position(sandbox, run)
    values = _view(script, position, run)
    if position.is_terminal or any(run[key] != value for key, value in values.items()):
        return True
    return _out_of_memory(sandbox, account, run) is not None


def _out_of_memory(sandbox: Sandbox, account: Account, run: Row) -> tuple[str, float] | None:
    """Return why a run's GPU is too small and when that showed, once it has; None before, and where it is not."""
    script = _script(run)
    shows_at = memory_peak(script)
    if shows_at is None or _elapsed(sandbox, run, script) < shows_at:
        return None
    failure = memory_failure(account.settings, run)
    return None if failure is None else (failure, _instant(run, script, shows_at, sandbox.clock.now_s()))


def _instant(run: Row, script: Script, at: float, now_s: float) -> float:
    """Return when a point of the script was reached: exact for time, the present for looks."""
    return min(now_s, run["created_at"] + at / script.speed) if script.mode == "time" else now_s


def _settle(sandbox: Sandbox, tx: Connection, account: Account, run: Row) -> None:
    script, position = _position(sandbox, run)
    now_s = sandbox.clock.now_s()
    at_s = _instant(run, script, position.entered_at, now_s)
    started = first_running(script)
    if started is not None and started <= position.entered_at:
        run = runs.begin(tx, account, run, at_s=_instant(run, script, started, now_s))
        refusal = _unusable_export(tx, run)
        if refusal is not None:
            runs.fail(tx, account, run, refusal, at_s=at_s)
            return
        shortage = _out_of_memory(sandbox, account, run)
        if shortage is not None:
            runs.fail(tx, account, run, shortage[0], at_s=shortage[1])
            return
    if not position.is_terminal:
        runs.observe(tx, run, **_view(script, position, run))
        return
    _end(sandbox, tx, account, run, position, at_s)


def _end(sandbox: Sandbox, tx: Connection, account: Account, run: Row, position: Position, at_s: float) -> None:
    script = _script(run)
    if position.step.status == "cancelled":
        runs.cancel(tx, account, run, at_s=at_s)
    elif position.step.status == "failed":
        runs.fail(tx, account, run, position.step.error_message or script.fail_message, at_s=at_s)
    else:
        _deliver(sandbox, tx, account, run, at_s)


def _deliver(sandbox: Sandbox, tx: Connection, account: Account, run: Row, at_s: float) -> None:
    """Complete a run with its weights; when there are none to serve, fail it: every later call of the account goes on.

    The weights are whatever somebody uploaded, or did not: no error of theirs may reach a request.
    """
    try:
        trained = _weights(sandbox, tx, account, run, _script(run))
    except Exception as error:  # see above
        reason = f"{type(error).__name__}: {error}"
        runs.fail(tx, account, run, f"the scripted weights cannot be served ({reason})", at_s=at_s)
        return
    runs.complete(sandbox, tx, account, run, trained, at_s)


def _unusable_export(tx: Connection, run: Row) -> str | None:
    export = first(tx, select(exports).where(exports.c.id == run["export_id"]))
    if export is None or not export["image_count"]:
        return "num_samples=0: the export holds no image"
    return None if export["include_images"] else f"export {export['name']!r} has no image_ids: include its images"


def _view(script: Script, position: Position, run: Row) -> dict[str, Any]:
    step = position.step
    epoch, total = epoch_of(position, run["config"].get("epochs") or run["total_epochs"])
    metrics = step.metrics or ({"loss": round(4.0 / (1 + epoch), 4)} if epoch else {})
    return {
        "status": step.status,
        "progress": step.progress if step.progress is not None else int(100 * epoch / total),
        "current_epoch": epoch,
        "total_epochs": total,
        "metrics": metrics,
        "eta_seconds": noisy_eta_s(script, position, epoch, run["id"]),
        "error_message": step.error_message,
    }


def _weights(sandbox: Sandbox, tx: Connection, account: Account, run: Row, script: Script) -> Trained:
    export = first(tx, select(exports.c.name, exports.c.classes).where(exports.c.id == run["export_id"])) or {}
    classes = tuple(export.get("classes") or ("object",))
    pipeline, side = run["pipeline_type"], SIDE
    about: dict[str, Any] = {"architecture": ARCHITECTURES[pipeline]}
    uploaded = sandbox.home / UPLOADS / f"{account.id}.onnx"
    if script.model == "uploaded" and not uploaded.exists():
        raise FileNotFoundError("no model was uploaded: put one in with PUT /_sandbox/model")
    if script.model == "uploaded" or (script.model == "auto" and uploaded.exists()):
        content = uploaded.read_bytes()
        about |= json.loads(uploaded.with_suffix(".json").read_text(encoding="utf-8"))
        classes = tuple(about.get("classes") or classes)
        side = about.get("side") or SIDE
    else:
        content = tiny_model(pipeline, classes, seed=zlib.crc32(run["id"].encode()))
    facts = ModelFacts(
        pipeline,
        MODEL_TYPES[pipeline],
        about["architecture"],
        classes,
        (side, side),
        run["name"],
        str(export.get("name") or ""),
    )
    config = model_config(facts, run["config"])
    minutes = run["planned_minutes"] if script.gpu_minutes is None else script.gpu_minutes
    return Trained(content, about["architecture"], classes, script.metrics, config, minutes)
