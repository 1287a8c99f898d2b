"""Emulated Bluesight jobs that train for real: in a child process, holding up their account, stranded by a restart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from sandbox.client import SandboxAccount
from sandbox.server import SandboxServer
from sandbox.tiles import read_tiles
from sandbox.tiles_model import TileModel
from tests.contract.bluesight_accounts import Bluesight, bluesight, images, tile_file
from tests.waiting import eventually

pytest.importorskip("h5py")
ROOT = Path(__file__).parents[2]
LARGE = ("segmentation", 120, 64)
"""A file that trains for some seconds."""
BY_PIXEL: dict[str, Any] = {"task": "segmentation", "hyperparameters": {"num_classes": 3}}


def test_a_tile_classifier_is_trained(server: SandboxServer) -> None:
    """From upload to labels: a job in a child process learns the three surfaces, and forgets its folder."""
    with bluesight(server) as api:
        job = api.create(api.upload())
        ended = api.ended(job)
        assert (ended["status"], ended["error"]) == ("succeeded", None)
        assert ended["finished_at"] >= ended["created_at"]
        assert api.http.get(f"/models/{ended['trained_model']}").json()["bytes"] > 1000
        tiles, labels = images(count=9)
        assert api.infer(ended["trained_model"], tiles).json() == {"labels": labels}
        assert list((server.home / "jobs").iterdir()) == []
        bill = api.control.bill()
        assert (bill["started_runs"], bill["active_runs"], bill["net"]) == (1, 0, 0)


def test_a_training_holds_up_its_account(server: SandboxServer) -> None:
    """While it trains a look times out, and a create whose client has given up makes a job afterwards.

    The words before that come in the vendor's order, and after the training the model labels pixels.
    """
    with bluesight(server) as api:
        file_id = api.upload(tile_file(*LARGE))
        job, words, waits = api.create(file_id, **BY_PIXEL), list[str](), 0
        while "succeeded" not in words:
            try:
                words.append(api.http.get(f"/training/jobs/{job}", timeout=0.3).json()["status"])
            except httpx.ReadTimeout:
                waits += 1
                if waits == 1:
                    eventually(lambda: progress_of(server.home).get("step"), "the training")
                    with pytest.raises(httpx.ReadTimeout):
                        api.http.post(
                            "/training/jobs", json={"task": "classification", "training_file": "f"}, timeout=0.2
                        )
                    assert api.control.bill()["started_runs"] == 1
            assert "failed" not in words
            time.sleep(0.02)
        order = ["initializing", "downloading_files", "validating_files", "running", "succeeded"]
        assert words == sorted(words, key=order.index)
        assert waits >= 1
        eventually(lambda: api.control.bill()["started_runs"] == 2, "the job of the client that left")
        tiles, labels = images("segmentation", side=64)
        found = api.infer(api.job(job)["trained_model"], tiles).json()["labels"]
        assert np.mean(np.array(found) == np.array(labels)) > 0.95


@pytest.mark.parametrize(("cancel", "status"), [("advisory", "succeeded"), ("final", "cancelled")])
def test_a_cancel_of_a_training(server: SandboxServer, cancel: str, status: str) -> None:
    """A cancelled job trains on to its model all the same; where a cancel is final its child is gone in a moment."""
    with bluesight(server, cancel=cancel, blocks_while_training="never") as api:
        job = api.create(api.upload())
        eventually(lambda: api.job(job)["status"] == "validating_files", "the child")
        assert api.cancel(job).json()["status"] == "cancelled"
        jobs = server.home / "jobs"
        if cancel == "final":
            eventually(lambda: not list(jobs.iterdir()), "the child's end", within_s=5)
        view = eventually(lambda: view if (view := api.job(job))["status"] == status else None)
        assert (view["trained_model"] is not None) == (cancel == "advisory")


def test_a_wrong_file_fails_in_the_child(server: SandboxServer) -> None:
    """The error of the child is the job's, in the same words as a script's, and nothing is waited for."""
    with bluesight(server) as api:
        jobs = [api.create(api.upload(b"x")), api.create(api.upload(), task="segmentation"), api.create("file-absent")]
        errors = [api.ended(job)["error"] for job in jobs]
        assert errors == [
            "OSError: Unable to synchronously open file (file signature not found)",
            "ValueError: Hyperparameters must be specified for segmentation task!",
            "ValueError: Error downloading file 'file-absent'. Probably, the file does not exist.",
        ]


def test_a_restart_strands_a_job(tmp_path: Path) -> None:
    """A job that trained when its server ended stays in its last status; nobody waits for it, and others train."""
    with SandboxServer(tmp_path) as server, bluesight(server) as api:
        job = api.create(api.upload(tile_file(*LARGE)), **BY_PIXEL)
        eventually(lambda: progress_of(tmp_path).get("step"), "the training")
        key = api.control.api_key
    with SandboxServer(tmp_path) as server:
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=10) as client:
            api = Bluesight(SandboxAccount(server.url, key), client)
            assert api.job(job)["status"] == "running"
            other = api.create(api.upload())
            assert api.ended(other)["status"] == "succeeded"
            assert api.job(job)["status"] == "running"
            assert api.cancel(job).json()["status"] == "cancelled"
            assert api.job(job)["status"] == "cancelled"


def progress_of(home: Path) -> dict[str, Any]:
    """Return what the one training child says."""
    found = list((home / "jobs").glob("*/progress.json"))
    return dict(json.loads(found[0].read_text())) if found else {}


def test_the_command_line_draws_tiles(tmp_path: Path) -> None:
    """`python -m sandbox tiles` writes a file that reads as ordered and says what is in it; nonsense gets one line."""
    path = tmp_path / "drawn" / "tiles.h5"
    words = ["--task", "segmentation", "--count", "5", "--side", "24", "--seed", "3"]
    done = sandbox_command("tiles", str(path), *words)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    tiles = read_tiles(path)
    assert (tiles.pixels.shape, tiles.labels.shape) == ((5, 4, 24, 24), (5, 24, 24))
    assert (said["tiles"], said["classes"]) == (5, ["water", "forest", "field"])
    wrong = sandbox_command("tiles", str(path), "--side", "12")
    assert (wrong.returncode != 0, "Traceback" in wrong.stderr) == (True, False)
    assert "multiple of 8" in wrong.stderr


def sandbox_command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the sandbox."""
    command = [sys.executable, "-m", "sandbox", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def order(folder: Path, content: bytes, **job: Any) -> Path:
    """Write the folder of a child's job."""
    (folder / "training_file").write_bytes(content)
    (folder / "job.json").write_text(json.dumps({"training_file": "training_file", "validation_file": None, **job}))
    return folder


def child(folder: Path) -> subprocess.Popen[bytes]:
    """Start a child by itself."""
    command = [sys.executable, "-m", "sandbox.training.tiles", str(folder)]
    log = (folder / "log.txt").open("wb")
    with log:
        return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)


def test_the_child_answers_as_the_network_it_trained(tmp_path: Path) -> None:
    """The labels computed without torch are right as often as the child found with torch; a model is read unpickled."""
    content = tile_file("segmentation", 24, 16)
    folder = order(tmp_path, content, validation_file="training_file", **BY_PIXEL)
    assert child(folder).wait(60) == 0
    result = json.loads((folder / "result.json").read_text())
    tiles = read_tiles(folder / "training_file")
    model = TileModel.from_bytes((folder / "model.npz").read_bytes())
    right = float((model.predict(tiles.pixels, tiles.bands) == tiles.labels).mean())
    assert (result["status"], model.kind) == ("completed", "network")
    assert right == pytest.approx(result["accuracy"], abs=1e-3)
    assert right > 0.95
    assert f"{right:.3f}"[:4] in (folder / "log.txt").read_text()


def test_a_killed_child_leaves_no_result(tmp_path: Path) -> None:
    """What a guard must tell apart from an end: no result, and progress that says it trained."""
    folder = order(tmp_path, tile_file(*LARGE), **BY_PIXEL)
    process = child(folder)
    eventually(lambda: (folder / "progress.json").is_file() and "step" in (folder / "progress.json").read_text())
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    assert not (folder / "result.json").exists()
