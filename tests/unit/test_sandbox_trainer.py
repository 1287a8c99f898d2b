"""The real engine between ticks and restarts: lost exports, broken runs, the cap; its children do not train."""

import fcntl
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, update

from sandbox import runs, trainer
from sandbox.accounts import Account
from sandbox.catalog import delete_export, export_path
from sandbox.core import Sandbox
from sandbox.jobfolder import JobFolder
from sandbox.store import every, exports, models, versions
from sandbox.store import runs as run_table
from sandbox.trainer import Trainer
from tests.unit.real_runs import FakeChild, run_of, start_run, the_export, write_result


def test_a_result_written_before_the_server_died_is_collected(
    sandbox: Sandbox, account: Account, children: list[FakeChild]
) -> None:
    """A new trainer on the home takes what the child left behind and trains nothing again."""
    run_id = start_run(sandbox, account)
    Trainer(sandbox).tick()
    children[0].finish()
    Trainer(sandbox).tick()
    ended = run_of(sandbox, run_id)
    assert (ended["status"], ended["charged"], len(children)) == ("completed", 2 * 22_917, 1)
    assert not (sandbox.jobs / run_id).exists()
    with sandbox.store.read() as tx:
        assert [version["run_id"] for version in every(tx, select(versions))] == [run_id]


def test_a_failure_written_before_the_server_died_is_collected(
    sandbox: Sandbox, account: Account, children: list[FakeChild]
) -> None:
    """The reason the child gave is the run's, and no second child repeats it."""
    run_id = start_run(sandbox, account)
    Trainer(sandbox).tick()
    children[0].finish("failed", "out of memory")
    Trainer(sandbox).tick()
    ended = run_of(sandbox, run_id)
    assert (ended["status"], ended["error_message"], len(children)) == ("failed", "out of memory", 1)


def test_a_child_that_was_only_stopped_is_started_again(
    sandbox: Sandbox, account: Account, children: list[FakeChild]
) -> None:
    """What a stopped server's child wrote as cancelled is taken back, and so is the request to cancel."""
    run_id = start_run(sandbox, account)
    earlier = Trainer(sandbox)
    earlier.tick()
    children[0].finish("cancelled")
    earlier.stop()
    Trainer(sandbox).tick()
    assert len(children) == 2
    assert run_of(sandbox, run_id)["status"] == "queued"
    assert not [name for name in ("cancel", "result.json") if (sandbox.jobs / run_id / name).exists()]


def test_a_restart_runs_no_other_program(
    sandbox: Sandbox, account: Account, children: list[FakeChild], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without ps, or any program but Python, goes on with its trainings."""
    start_run(sandbox, account)
    Trainer(sandbox).tick()

    def missing(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("no such program")

    monkeypatch.setattr(subprocess, "run", missing)
    Trainer(sandbox).tick()
    assert len(children) == 2


def test_a_child_of_the_server_before_is_waited_for(
    sandbox: Sandbox, account: Account, children: list[FakeChild]
) -> None:
    """While somebody holds the job's lock no second child starts; what the first writes in the end is taken."""
    run_id = start_run(sandbox, account)
    Trainer(sandbox).tick()
    folder = sandbox.jobs / run_id
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert JobFolder(folder).is_taken
        later = Trainer(sandbox)
        later.tick()
        assert (len(children), later.is_busy) == (1, False)
        write_result(folder)
    assert not JobFolder(folder).is_taken
    later.tick()
    assert (len(children), run_of(sandbox, run_id)["status"]) == (1, "completed")


def test_a_run_that_cannot_be_handled_fails_and_the_next_goes_on(
    sandbox: Sandbox, account: Account, children: list[FakeChild], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error nobody foresaw ends the run it belongs to, with its reason, and leaves nothing behind."""
    poisoned, next_one = (start_run(sandbox, account, name) for name in ("poisoned", "next"))
    check = trainer.jobs.check_job

    def broken(kind: str, images: Any, config: Any) -> str | None:
        if config.get("poison"):
            raise ZeroDivisionError("by nothing")
        return check(kind, images, config)

    with sandbox.store.write() as tx:
        tx.execute(update(run_table).where(run_table.c.id == poisoned).values(config={"poison": True}))
    monkeypatch.setattr(trainer.jobs, "check_job", broken)
    Trainer(sandbox).tick()
    ended = run_of(sandbox, poisoned)
    assert (ended["status"], "ZeroDivisionError: by nothing" in ended["error_message"]) == ("failed", True)
    assert [child.folder.name for child in children] == [next_one]
    assert not (sandbox.jobs / poisoned).exists()


def test_a_cancel_between_two_looks_leaves_no_model_behind(
    sandbox: Sandbox, account: Account, children: list[FakeChild]
) -> None:
    """The trainer has read the run before it was cancelled: what it then notes changes nothing."""
    run_id = start_run(sandbox, account)
    engine = Trainer(sandbox)
    engine.tick()
    children[0].report(1.0)
    seen = run_of(sandbox, run_id)
    with sandbox.store.write() as tx:
        runs.cancel(tx, account, seen, at_s=5.0)
    engine._follow(seen)
    engine._begin_to_fail(seen, "out of memory")
    ended = run_of(sandbox, run_id)
    assert (ended["status"], ended["started_at"], ended["draft_model_id"]) == ("cancelled", None, None)
    with sandbox.store.read() as tx:
        assert every(tx, select(models)) == []


def test_a_result_that_comes_after_the_cancel_changes_nothing(
    sandbox: Sandbox, account: Account, children: list[FakeChild]
) -> None:
    """Its warnings are no warnings of a cancelled run."""
    run_id = start_run(sandbox, account)
    engine = Trainer(sandbox)
    engine.tick()
    children[0].finish()
    seen, folder = run_of(sandbox, run_id), JobFolder(children[0].folder)
    with sandbox.store.write() as tx:
        runs.cancel(tx, account, seen, at_s=5.0)
    engine._collect(seen, folder, {**(folder.result() or {}), "warnings": [{"code": "images_left_out"}]})
    ended = run_of(sandbox, run_id)
    assert (ended["status"], ended["warnings"], ended["model_id"]) == ("cancelled", None, None)


def test_a_broken_result_fails_its_run(sandbox: Sandbox, account: Account, children: list[FakeChild]) -> None:
    """A child that says it completed, but left no model, is not asked for it for ever."""
    run_id = start_run(sandbox, account)
    engine = Trainer(sandbox)
    engine.tick()
    children[0].finish()
    (children[0].folder / "model.onnx").unlink()
    engine.tick()
    ended = run_of(sandbox, run_id)
    assert (ended["status"], "model.onnx" in ended["error_message"], ended["charged"]) == ("failed", True, 0)


@pytest.mark.parametrize("seconds", [(7300.0,), (3600.0, 3600.0)])
def test_a_run_ends_at_the_service_s_cap(
    sandbox: Sandbox, account: Account, children: list[FakeChild], seconds: tuple[float, ...]
) -> None:
    """Two hours of training time end a run as failed, stop its child and cost nothing."""
    run_id = start_run(sandbox, account)
    engine = Trainer(sandbox)
    engine.tick()
    children[0].report(7100.0)
    engine.tick()
    assert run_of(sandbox, run_id)["status"] == "running"
    children[0].report(*seconds)
    engine.tick()
    ended = run_of(sandbox, run_id)
    assert (ended["status"], "7200 s" in ended["error_message"], ended["charged"]) == ("failed", True, 0)
    assert (children[0].code, engine.is_busy) == (-15, False)


def test_a_run_goes_on_without_the_export_it_began_with(
    sandbox: Sandbox, account: Account, children: list[FakeChild]
) -> None:
    """The job keeps a copy: an export deleted in the middle of a training does not end it at the next start."""
    run_id = start_run(sandbox, account)
    Trainer(sandbox).tick()
    export = the_export(sandbox)
    with sandbox.store.write() as tx:
        tx.execute(delete(exports).where(exports.c.id == export["id"]))
    delete_export(sandbox, export)
    assert not export_path(sandbox, export).exists()
    Trainer(sandbox).tick()
    assert (len(children), run_of(sandbox, run_id)["error_message"]) == (2, None)
    job = json.loads((sandbox.jobs / run_id / "job.json").read_text())
    assert Path(job["export"]).is_file()


def test_a_run_whose_export_went_before_it_began_fails(
    sandbox: Sandbox, account: Account, children: list[FakeChild]
) -> None:
    """There is nothing to train on, and no folder stays behind."""
    run_id = start_run(sandbox, account)
    with sandbox.store.write() as tx:
        tx.execute(delete(exports))
    Trainer(sandbox).tick()
    assert "deleted" in run_of(sandbox, run_id)["error_message"]
    assert (children, list(sandbox.jobs.iterdir()) if sandbox.jobs.exists() else []) == ([], [])


def test_the_job_says_what_the_training_is_called(
    sandbox: Sandbox, account: Account, children: list[FakeChild]
) -> None:
    """The child learns the names of run and export for the config.json of the model, and trains on one thread."""
    run_id = start_run(sandbox, account, "my run")
    Trainer(sandbox).tick()
    job = json.loads((sandbox.jobs / run_id / "job.json").read_text())
    assert (job["name"], job["export_name"], job["threads"]) == ("my run", "e", 1)


def test_a_run_is_running_from_its_first_epoch_on_and_stays_so(
    sandbox: Sandbox, account: Account, children: list[FakeChild]
) -> None:
    """It starts when the first epoch begins, not when it ends, and a resume does not send it back to the queue."""
    run_id = start_run(sandbox, account)
    engine = Trainer(sandbox)
    engine.tick()
    assert (run_of(sandbox, run_id)["status"], run_of(sandbox, run_id)["started_at"]) == ("queued", None)
    children[0].report()
    engine.tick()
    begun = run_of(sandbox, run_id)
    assert (begun["status"], begun["progress"], begun["started_at"]) == ("running", 0, sandbox.clock.now_s())
    children[0].report(1.0, 1.0)
    engine.tick()
    assert (run_of(sandbox, run_id)["progress"], run_of(sandbox, run_id)["eta_seconds"]) == (20, 8)
    Trainer(sandbox).tick()
    resumed = run_of(sandbox, run_id)
    assert (len(children), resumed["status"], resumed["current_epoch"]) == (2, "running", 2)


@pytest.mark.parametrize("how", ["cancelled", "refused"])
def test_no_folder_outlives_its_run(sandbox: Sandbox, account: Account, children: list[FakeChild], how: str) -> None:
    """A run cancelled while no server was there, and one refused at a resume, leave nothing in the jobs folder."""
    run_id = start_run(sandbox, account)
    Trainer(sandbox).tick()
    with sandbox.store.write() as tx:
        if how == "cancelled":
            runs.cancel(tx, account, runs.reload(tx, run_id), at_s=1.0)
        else:
            tx.execute(update(run_table).values(config={"epochs": -1}))
    Trainer(sandbox).tick()
    assert run_of(sandbox, run_id)["completed_at"] is not None
    assert list(sandbox.jobs.iterdir()) == []


def test_one_run_trains_at_a_time(sandbox: Sandbox, account: Account, children: list[FakeChild]) -> None:
    """The second waits as queued, and takes over in the very tick that sees the first end."""
    ids = [start_run(sandbox, account, name) for name in ("first", "second")]
    engine = Trainer(sandbox)
    engine.tick()
    assert ([child.folder.name for child in children], run_of(sandbox, ids[1])["status"]) == (ids[:1], "queued")
    children[0].finish()
    engine.tick()
    assert [child.folder.name for child in children] == ids


def test_a_child_that_dies_again_and_again_is_given_up(
    sandbox: Sandbox, account: Account, children: list[FakeChild]
) -> None:
    """Three deaths without a result fail the run, with the end of what the child printed."""
    run_id = start_run(sandbox, account)
    engine = Trainer(sandbox)
    for _ in range(3):
        engine.tick()
        children[-1].code = 1
        (children[-1].folder / "log.txt").write_text("Killed")
        engine.tick()
    engine.tick()
    assert (len(children), run_of(sandbox, run_id)["status"]) == (3, "failed")
    assert run_of(sandbox, run_id)["error_message"].endswith("again and again: Killed")
