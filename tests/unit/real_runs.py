"""An account with a finished export and runs of the real engine, whose children are no processes."""

import json
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from sandbox import runs
from sandbox.accounts import Account, create_account
from sandbox.catalog import add_dataset, advance_exports
from sandbox.core import Sandbox, new_id
from sandbox.roadsigns import road_signs
from sandbox.settings import AccountSettings
from sandbox.store import Row, exports, first


class FakeChild:
    """A child process that does what the test says, and ends when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.code = folder, None

    code: int | None

    def poll(self) -> int | None:
        """Return the exit code, None while it works."""
        return self.code

    def terminate(self) -> None:
        """End."""
        self.code = -15

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code at once."""
        return self.code or 0

    def report(self, *seconds: float, total: int = 10) -> None:
        """Write an epoch a duration."""
        lines = [
            {"epoch": number, "total_epochs": total, "loss": 1.0, "learning_rate": 0.1, "seconds": length}
            for number, length in enumerate(seconds, 1)
        ]
        (self.folder / "progress.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def finish(self, status: str = "completed", message: str | None = None) -> None:
        """Write a result, and a model to go with it."""
        write_result(self.folder, status, message)
        self.code = 0


def write_result(folder: Path, status: str = "completed", message: str | None = None) -> None:
    """Write what a child leaves behind."""
    (folder / "model.onnx").write_bytes(b"weights")
    (folder / "config.json").write_text(json.dumps({"training": {}}))
    end = {"status": status, "error_message": message, "metrics": {"mAP50": 1.0}, "history": []}
    end |= {"architecture": "net", "classes": ["a"], "train_seconds": 61}
    (folder / "result.json").write_text(json.dumps(end))


def make_account(sandbox: Sandbox) -> Account:
    """Return an account with a dataset "ds" of six images and a finished export "e" of it."""
    made = create_account(sandbox, AccountSettings())
    order(sandbox, made, add_dataset(sandbox, made, "ds", road_signs(6, size=64)))
    advance_exports(sandbox)
    return made


def order(sandbox: Sandbox, account: Account, dataset: Row, name: str = "e") -> None:
    """Order an export; it is built when the exports are moved on."""
    values = {"id": new_id(), "account_id": account.id, "dataset_id": dataset["id"], "dataset_name": dataset["name"]}
    values |= {"name": name, "format": "pictograph", "include_images": True, "status": "pending"}
    with sandbox.store.write() as tx:
        tx.execute(insert(exports).values({**values, "created_at": sandbox.clock.now_s()}))


def the_export(sandbox: Sandbox, name: str = "e") -> Row:
    """Return an export by name."""
    with sandbox.store.read() as tx:
        row = first(tx, select(exports).where(exports.c.name == name))
    assert row is not None
    return row


def start_run(sandbox: Sandbox, account: Account, name: str = "r", **config: Any) -> str:
    """Create a run and return its id."""
    export = the_export(sandbox)
    source = {"id": export["dataset_id"], "name": "ds"}
    with sandbox.store.write() as tx:
        made = runs.create_run(
            sandbox, tx, account, runs.Order(source, export, name, "yolox", "a10g", 10, {"epochs": 10, **config})
        )
    return str(made["id"])


def run_of(sandbox: Sandbox, run_id: str) -> Row:
    """Read a run."""
    with sandbox.store.read() as tx:
        return runs.reload(tx, run_id)
