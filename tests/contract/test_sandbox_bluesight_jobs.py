"""The life of emulated Bluesight jobs: words, gaps, cancels that do not hold, files that are wrong, waiting turns."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.server import SandboxServer
from sandbox.tiles_demo import Demonstration, demonstration
from tests.contract.bluesight_accounts import bluesight, tile_file
from tests.waiting import eventually

h5py = pytest.importorskip("h5py")
STEPS = [
    {"status": "pending"},
    {"status": "queued", "for_looks": 2},
    {"status": "running"},
    {"status": "completed"},
]
BY_LOOKS = {"mode": "looks", "steps": STEPS}
AT_ONCE = {"steps": [{"status": "completed"}]}
ENDLESS = [{"status": "pending"}, {"status": "running"}, {"status": "running"}]


@pytest.mark.parametrize(
    ("quirks", "words"),
    [
        ({}, ["initializing", "downloading_files", "validating_files", "running", "succeeded"]),
        ({"shows_queued": True}, ["initializing", "queued", "queued", "running", "succeeded"]),
        (
            {"missed_statuses": ["validating_files", "running"]},
            ["initializing", "downloading_files", "downloading_files", "downloading_files", "succeeded"],
        ),
        (
            {"missed_statuses": ["downloading_files", "validating_files"]},
            ["initializing", "initializing", "initializing", "running", "succeeded"],
        ),
    ],
)
def test_the_words_of_a_job(server: SandboxServer, quirks: dict[str, Any], words: list[str]) -> None:
    """A script shows in the vendor's words, in order; queued and gaps are a matter of settings."""
    with bluesight(server, scripted=BY_LOOKS, **quirks) as api:
        job = api.create(api.upload())
        seen = [api.job(job) for _ in words]
        assert [view["status"] for view in seen] == words
        assert [view["trained_model"] is not None for view in seen] == [False] * 4 + [True]
        assert [view["finished_at"] is not None for view in seen] == [False] * 4 + [True]


def test_words_of_a_script_pass_through(server: SandboxServer) -> None:
    """A word the vendor does not have is shown as it is, and succeeded ends a job as completed does."""
    steps = [{"status": "dreaming"}, {"status": "validating_files"}, {"status": "succeeded"}]
    with bluesight(server, scripted=steps) as api:
        job = api.create(api.upload())
        seen = [api.job(job)["status"]]
        for _ in range(2):
            api.control.advance(job)
            seen.append(api.job(job)["status"])
        assert seen == ["dreaming", "validating_files", "succeeded"]


def test_a_script_that_fails(server: SandboxServer) -> None:
    """The error has a class and a text, as every error of the vendor's jobs."""
    with bluesight(server, scripted={"steps": [{"status": "failed"}], "fail_message": "no luck"}) as api:
        view = api.job(api.create(api.upload()))
        assert (view["status"], view["error"], view["trained_model"]) == ("failed", "RuntimeError: no luck", None)
        step = {"status": "failed", "error_message": "OSError: disk full"}
        api.control.configure(script={"steps": [step]})
        assert api.job(api.create(api.upload()))["error"] == "OSError: disk full"


def test_a_cancel_is_overwritten(server: SandboxServer) -> None:
    """DELETE shows cancelled with a time; the job's next step shows again, and the job succeeds with a model."""
    with bluesight(server, scripted=STEPS) as api:
        job = api.create(api.upload())
        answer = api.cancel(job)
        assert (answer.status_code, answer.json()["status"], answer.json()["finished_at"] is None) == (
            200,
            "cancelled",
            False,
        )
        assert api.job(job)["status"] == "cancelled"
        again = api.cancel(job)
        assert (again.status_code, again.headers["content-type"]) == (400, "text/plain; charset=utf-8")
        assert again.text == '{"detail": "Training job is already finished with status: cancelled"}'
        api.control.advance(job, 3)
        assert api.job(job)["status"] == "running"
        assert api.cancel(job).json()["status"] == "cancelled"
        api.control.advance(job)
        ended = api.job(job)
        assert (ended["status"], ended["trained_model"] is not None) == ("succeeded", True)
        assert api.cancel(job).json() == {"detail": "Training job is already finished with status: succeeded"}


def test_a_cancel_may_be_final(server: SandboxServer) -> None:
    """By setting a cancelled job goes no further, whatever its script says."""
    with bluesight(server, scripted=STEPS, cancel="final") as api:
        job = api.create(api.upload())
        assert api.cancel(job).json()["status"] == "cancelled"
        api.control.advance(job, 9)
        assert api.job(job)["status"] == "cancelled"
        assert api.control.bill()["active_runs"] == 0


def put(tmp_path: Path, tiles: Any, name: str = "data") -> bytes:
    """Return an array as a training file."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset(name, data=tiles)
    return (tmp_path / "x.h5").read_bytes()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"no tiles", "OSError: Unable to synchronously open file (file signature not found)"),
        ("tiles", "ValueError: Dataset 'data' not found in the file."),
        (0, "IndexError: Index (0) out of range for empty dimension"),
        (1, "ValueError: The number of classes has to be greater than one; got 1 class"),
    ],
)
def test_a_wrong_file_fails_its_job(server: SandboxServer, tmp_path: Path, content: Any, error: str) -> None:
    """Upload and create take it; the job says what is wrong, and has neither a model nor a price."""
    if isinstance(content, str):
        content = put(tmp_path, demonstration(Demonstration(count=2, side=8)), content)
    elif isinstance(content, int):
        content = put(tmp_path, demonstration(Demonstration(count=3, side=8))[:content])
    with bluesight(server, scripted=AT_ONCE) as api:
        view = api.job(api.create(api.upload(content)))
        assert (view["status"], view["error"], view["trained_model"]) == ("failed", error, None)
        assert view["finished_at"] is not None
        assert api.control.bill()["net"] == 0


@pytest.mark.parametrize("role", ["training_file", "validation_file"])
@pytest.mark.parametrize("name", ["file-absent", "../../default-key"])
def test_a_file_that_is_not_there_fails_the_job(server: SandboxServer, role: str, name: str) -> None:
    """Create takes any id; what it is not is found out when the training begins."""
    with bluesight(server, scripted=STEPS) as api:
        job = api.create(api.upload(), **{role: name})
        assert api.job(job)["status"] == "initializing"
        api.control.advance(job, 3)
        view = api.job(job)
        error = f"ValueError: Error downloading file '{name}'. Probably, the file does not exist."
        assert (view["status"], view["error"]) == ("failed", error)


@pytest.mark.parametrize(
    ("hyperparameters", "error"),
    [
        (None, "ValueError: Hyperparameters must be specified for segmentation task!"),
        ({}, "ValueError: The number of classes must be specified in the hyperparameters for segmentation task!"),
        ({"num_classes": 2}, "IndexError: Target 2 is out of bounds."),
    ],
)
def test_segmentation_needs_its_classes(server: SandboxServer, hyperparameters: Any, error: str) -> None:
    """Without num_classes, or with too few, the job fails."""
    with bluesight(server, scripted=AT_ONCE) as api:
        file_id = api.upload(tile_file("segmentation"))
        job = api.job(api.create(file_id, task="segmentation", hyperparameters=hyperparameters))
        assert (job["status"], job["error"]) == ("failed", error)


def test_without_the_library_a_job_says_what_to_install(server: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads need no h5py; a job without it fails and names the extra."""
    monkeypatch.setitem(sys.modules, "h5py", None)
    with bluesight(server, scripted=AT_ONCE) as api:
        view = api.job(api.create(api.upload(b"tiles")))
        assert view["status"] == "failed"
        assert view["error"].startswith("ModuleNotFoundError: h5py is not installed")
        assert "train-pipeline[bluesight]" in view["error"]


def test_many_classes_cost_nothing(server: SandboxServer) -> None:
    """More classes than anybody has labels for are no reason to need more memory than there is."""
    with bluesight(server, scripted=AT_ONCE) as api:
        order = {"task": "segmentation", "hyperparameters": {"num_classes": 10**12}}
        job = api.job(api.create(api.upload(tile_file("segmentation")), **order))
        assert job["status"] == "succeeded"
        assert api.http.get(f"/models/{job['trained_model']}").json()["bytes"] < 100_000


def test_a_used_file_outlives_its_deletion(server: SandboxServer) -> None:
    """A job on a deleted file runs when an earlier job has read it, and fails when none has."""
    with bluesight(server, scripted=AT_ONCE) as api:
        used, unused = api.upload(), api.upload()
        assert api.job(api.create(used))["status"] == "succeeded"
        for file_id in (used, unused):
            assert api.http.delete(f"/files/{file_id}").is_success
        assert api.job(api.create(used))["status"] == "succeeded"
        assert api.job(api.create(unused))["status"] == "failed"


def test_a_copy_that_was_cut_off_stays_so(server: SandboxServer) -> None:
    """Later jobs on the same id fail too; the same bytes under a new id train."""
    with bluesight(server, scripted=AT_ONCE, truncates_downloads=True) as api:
        file_id = api.upload()
        errors = [api.job(api.create(file_id))["error"]]
        api.control.configure(bluesight={})
        errors.append(api.job(api.create(file_id))["error"])
        assert all(error.startswith("OSError: Unable to synchronously open file (truncated file") for error in errors)
        assert api.job(api.create(api.upload()))["status"] == "succeeded"


def test_everything_waits_while_a_job_trains(server: SandboxServer) -> None:
    """By setting every call of the account hangs until a scripted training ends; another account's does not.

    A create whose client has given up makes its job all the same; a look whose client has left is dropped.
    """
    with bluesight(server, scripted=ENDLESS, blocks_while_training="always") as api, bluesight(server) as other:
        file_id = api.upload()
        job = api.create(file_id)
        api.control.advance(job)
        order = {"task": "classification", "training_file": file_id}
        calls: list[tuple[str, str, Any]] = [
            ("GET", "/", None),
            ("GET", f"/files/{file_id}", None),
            ("GET", f"/training/jobs/{job}", None),
            ("POST", "/inference", {"model": "m", "images": []}),
        ]
        for method, path, body in calls:
            with pytest.raises(httpx.ReadTimeout):
                api.http.request(method, path, json=body, timeout=0.1)
        with pytest.raises(httpx.ReadTimeout):
            api.http.post("/training/jobs", json=order, timeout=0.1)
        assert other.http.get("/").is_success
        assert api.control.bill()["started_runs"] == 1
        left = eventually(lambda: [row for row in api.control.requests() if row["status"] == 499])
        assert {row["method"] for row in left} == {"GET"}
        api.control.configure(bluesight={"blocks_while_training": "never"})  # the held ones go by what they came with
        assert api.job(job)["status"] == "running"
        assert api.control.bill()["started_runs"] == 1
        api.control.configure(script=AT_ONCE)
        finish(api, job)
        eventually(lambda: api.control.bill()["started_runs"] == 2, "the create of a client that left")


def finish(api: Any, job: str) -> None:
    """End an endless job, as its owner may by setting."""
    api.control.configure(bluesight={"blocks_while_training": "never", "cancel": "final"})
    assert api.cancel(job).json()["status"] == "cancelled"


def test_a_look_that_waited_is_answered(server: SandboxServer) -> None:
    """A client with patience gets its answer when the training ends, and it is the end it sees."""
    steps = [{"status": "running", "for_s": 0.6}, {"status": "completed"}]
    with bluesight(server, scripted={"steps": steps}, blocks_while_training="always") as api:
        job, begun = api.create(api.upload()), time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            root = pool.submit(api.http.get, "/")
            assert api.job(job)["status"] == "succeeded"
            assert root.result().is_success
        assert time.monotonic() - begun > 0.4


def test_looks_never_hold_themselves_up(server: SandboxServer) -> None:
    """A job that only looks can move is not waited for, and scripted ones are not by default."""
    with bluesight(server, scripted=BY_LOOKS, blocks_while_training="always") as api:
        job = api.create(api.upload())
        assert "running" in [api.job(job)["status"] for _ in range(4)]
    with bluesight(server, scripted=ENDLESS) as api:
        job = api.create(api.upload())
        api.control.advance(job)
        assert api.job(job)["status"] == "running"


def test_a_server_ends_while_calls_wait(tmp_path: Path) -> None:
    """Stopping the sandbox does not wait for a training that never ends."""
    with (
        SandboxServer(tmp_path) as server,
        bluesight(server, scripted=ENDLESS, blocks_while_training="always") as api,
    ):
        job = api.create(api.upload())
        api.control.advance(job)
        with pytest.raises(httpx.ReadTimeout):
            api.http.post("/training/jobs", json={"task": "classification", "training_file": "f"}, timeout=0.1)
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
