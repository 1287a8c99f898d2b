"""The sandbox as a process: starting, finding, killing, idling, and the command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.client import SandboxAccount, new_account
from sandbox.jobfolder import JobFolder
from sandbox.launch import ADDRESS_FILE, LOG_FILE, SandboxStartError, ensure_running, find_running, home_lock
from sandbox.server import SandboxServer, free_socket
from sandbox.training import jobs
from tests.servers import free_port
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
EXPORT = {"dataset_name": "ds", "name": "e", "include_images": True}
BUILT_IN = {"road-signs": 200, "road-signs-classes": 200}
"""The default account's data sets with their sizes."""
Start = Callable[..., tuple[subprocess.Popen[bytes], str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `python -m sandbox serve` on one home as often as wanted; every child is ended at the end."""
    (tmp_path / "default-key").write_text("pk_live_sandbox_none")  # keeps the built-in datasets from being made
    children: list[subprocess.Popen[bytes]] = []

    def run(*options: str) -> tuple[subprocess.Popen[bytes], str]:
        log = (tmp_path / LOG_FILE).open("ab")
        command = [sys.executable, "-m", "sandbox", "serve", "--home", str(tmp_path), *options]
        child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        log.close()
        children.append(child)
        eventually(lambda: find_running(tmp_path) or child.poll() is not None, "the server")
        found = find_running(tmp_path)
        assert found is not None, f"the server ended: {(tmp_path / LOG_FILE).read_text()[-2000:]}"
        return child, found.url

    yield run
    for child in children:
        child.kill()
        child.wait()


def train(account: SandboxAccount, *, pipeline_type: str = "yolox", **config: Any) -> dict[str, Any]:
    """Make dataset and export where they are missing, and start a run."""
    with account.http() as http:
        http.post("/exports/", json=EXPORT)
        eventually(lambda: http.get("/exports/?status=completed").json()["exports"])
        body = {"dataset_name": "ds", "export_name": "e", "pipeline_type": pipeline_type, "name": "r"}
        answer = http.post("/training/", json={**body, "config": config})
        assert answer.status_code == 201, answer.text
        return dict(answer.json()["data"])


def look(account: SandboxAccount, name: str = "r") -> dict[str, Any]:
    """Read a run."""
    with account.http() as http:
        return dict(http.get(f"/training/{name}").json()["data"])


def test_a_killed_server_forgets_nothing(start: Start) -> None:
    """After SIGKILL and a restart the address, the account, its scripted run and its money are what they were."""
    child, first_url = start("--port", str(free_port()))  # of the usual ones another sandbox might take it meanwhile
    steps = [{"status": "queued", "for_s": 1.0}, {"status": "completed"}]
    account = new_account(first_url, engine="scripted", script={"steps": steps, "gpu_minutes": 4})
    account.add_dataset("ds", count=3, size=64)
    run = train(account)
    child.send_signal(signal.SIGKILL)
    child.wait()
    _, url = start()
    assert url == first_url
    again = SandboxAccount(url, account.api_key)
    assert look(again, run["id"])["id"] == run["id"]
    eventually(lambda: look(again)["status"] == "completed")
    assert (again.bill()["paid_runs"], again.bill()["charged"]) == (1, 4 * 22_917)
    assert again.requests()[0]["path"].endswith("/exports/")


def test_a_training_survives_the_death_of_everything(start: Start, tmp_path: Path) -> None:
    """SIGKILL of server and child in mid-training: the run goes on where it was, to the bytes of a calm one, paid once.

    The seconds each epoch took come back from before the death: no epoch that was reported is trained again.
    """
    server, url = start()
    account = new_account(url, engine="real")
    account.add_dataset("ds", count=10, size=64)
    run = train(account, epochs=25, image_size=64)
    folder = tmp_path / "jobs" / run["id"]
    eventually(lambda: look(account, run["id"])["current_epoch"] >= 2)
    child = int((folder / "lock").read_text())
    for pid in (server.pid, child):
        os.killpg(pid, signal.SIGKILL)
    server.wait()
    eventually(lambda: not JobFolder(folder).is_taken, "the child's end")
    before = JobFolder(folder).epochs()
    assert 2 <= len(before) < 25
    assert (folder / "checkpoint.pt").is_file()
    assert not (folder / "result.json").exists()
    calm = same_order(folder, tmp_path / "calm")
    _, url = start()
    again = SandboxAccount(url, account.api_key)
    first_look = look(again, run["id"])
    assert (first_look["status"], first_look["current_epoch"] >= 2) == ("running", True)
    ended = eventually(lambda: ended_view(again))
    assert (ended["status"], ended["progress"], ended["total_epochs"]) == ("completed", 100, 25)
    history = ended["metrics"]["history"]
    assert history[: len(before)] == before
    assert [entry["epoch"] for entry in history] == list(range(1, 26))
    assert calm.wait(60) == 0
    undisturbed = JobFolder(tmp_path / "calm").result() or {}
    assert [entry["loss"] for entry in history] == [entry["loss"] for entry in undisturbed["history"]]
    assert weights_of(again, ended) == (tmp_path / "calm" / "model.onnx").read_bytes()
    with again.http() as http:
        assert [model["name"] for model in http.get("/models/").json()["data"]] == ["r"]
    bill = again.bill()
    assert (bill["started_runs"], bill["paid_runs"]) == (1, 1)


def same_order(folder: Path, other: Path) -> subprocess.Popen[bytes]:
    """Start the order of a job folder in another one, where nobody disturbs it."""
    other.mkdir()
    shutil.copyfile(folder / "export.zip", other / "export.zip")
    job = json.loads((folder / "job.json").read_text())
    (other / "job.json").write_text(json.dumps({**job, "export": str(other / "export.zip")}))
    return jobs.start(other)


def weights_of(account: SandboxAccount, run: dict[str, Any]) -> bytes:
    """Download a run's model as a client would."""
    with account.http() as http:
        url = http.get(f"/models/{run['model_id']}/download").json()["download_url"]
    answer = httpx.get(url, trust_env=False).raise_for_status()
    assert len(answer.content) > 10**6
    return answer.content


def test_a_training_goes_on_when_its_server_is_started_again(tmp_path: Path) -> None:
    """Stopping a server in order ends the child, not the run: the next server brings it to its end, paid once."""
    with SandboxServer(tmp_path) as server:
        account = server.new_account(engine="real")
        account.add_dataset("ds", count=10, size=64)
        run = train(account, epochs=25, image_size=64)
        eventually(lambda: look(account)["current_epoch"] >= 2)
    assert not trains(tmp_path / "jobs" / run["id"])
    with SandboxServer(tmp_path) as server:
        again = SandboxAccount(server.url, account.api_key)
        assert look(again)["status"] in ("queued", "running")
        ended = eventually(lambda: ended_view(again))
        assert (ended["status"], ended["current_epoch"]) == ("completed", 25)
        assert (again.bill()["started_runs"], again.bill()["paid_runs"]) == (1, 1)
    assert not (tmp_path / "jobs" / run["id"]).exists()


def ended_view(account: SandboxAccount, name: str = "r") -> dict[str, Any] | None:
    """Return the run once it has ended, one way or another."""
    view = look(account, name)
    return view if view["status"] in ("completed", "failed", "cancelled") else None


def test_a_real_training_is_followed_and_stopped(tmp_path: Path) -> None:
    """Progress and loss are shown while it trains; a cancel ends the child at once; one trains at a time."""
    with SandboxServer(tmp_path) as server:
        account = server.new_account(engine="real")
        account.add_dataset("ds", count=12, size=64)
        first = train(account, epochs=2000, image_size=64)
        second = train_again(account)
        seen = eventually(lambda: view if (view := look(account, first["id"]))["current_epoch"] >= 2 else None)
        assert seen["status"] == "running"
        assert seen["progress"] == 100 * seen["current_epoch"] // 2000
        assert seen["metrics"]["loss"] > 0
        assert seen["eta_seconds"] > 0
        assert look(account, second)["status"] == "queued"
        folder = tmp_path / "jobs" / first["id"]
        assert trains(folder)
        with account.http() as http:
            http.post(f"/training/{first['id']}/cancel")
            eventually(lambda: not trains(folder), "the child's end")
            assert look(account, first["id"])["current_epoch"] < 1000
            assert look(account, second)["status"] in ("queued", "running")
            http.post(f"/training/{second}/cancel")
        assert account.bill()["net"] == 0


def train_again(account: SandboxAccount) -> str:
    """Start a second run and return its id."""
    with account.http() as http:
        body = {"dataset_name": "ds", "export_name": "e", "pipeline_type": "yolox", "name": "s"}
        return str(http.post("/training/", json={**body, "config": {"epochs": 2000}}).json()["data"]["id"])


def trains(folder: Path) -> bool:
    """Whether a training child works in this folder."""
    return JobFolder(folder).is_taken


def test_a_training_that_cannot_be_fails_with_its_reason(tmp_path: Path) -> None:
    """Too few images a class: the run is accepted and fails with words that say what to do, and costs nothing."""
    with SandboxServer(tmp_path) as server:
        account = server.new_account(engine="real")
        account.add_dataset("ds", count=6, size=64)
        train(account, pipeline_type="classification")
        ended = eventually(lambda: ended_view(account))
        assert ended["status"] == "failed"
        assert "images" in ended["error_message"]
        assert account.bill()["net"] == 0


def test_two_starters_get_one_server(tmp_path: Path) -> None:
    """ensure_running from several threads and again later returns the same address, with data and a secret key."""
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: ensure_running(tmp_path), range(3)))
    assert len({(address.url, address.api_key) for address in found}) == 1
    address = ensure_running(tmp_path)
    assert address == found[0]
    assert address.api_key.startswith("pk_live_sandbox_")
    assert address.api_key not in repr(address)
    assert images_of(SandboxAccount(address.url, address.api_key)) == BUILT_IN
    pid = int(httpx.get(f"{address.url}/_sandbox/health", timeout=30, trust_env=False).json()["pid"])
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not (tmp_path / ADDRESS_FILE).exists(), "the server's end")
    assert address.api_key not in (tmp_path / LOG_FILE).read_text()


def images_of(account: SandboxAccount) -> dict[str, int]:
    """Return the account's data sets with their sizes."""
    with account.http(timeout=30) as http:
        return {row["name"]: row["image_count"] for row in http.get("/datasets/").json()["data"]}


def test_a_server_that_nobody_asks_ends_itself(tmp_path: Path) -> None:
    """With --exit-when-idle it ends in order after that time without a request, and takes its address with it."""
    (tmp_path / "default-key").write_text("pk_live_sandbox_none")
    idle = [sys.executable, "-m", "sandbox", "serve", "--home", str(tmp_path), "--exit-when-idle", "0.5"]
    with (tmp_path / LOG_FILE).open("ab") as log:
        child = subprocess.Popen(idle, cwd=ROOT, stdout=log, stderr=log)
    try:
        assert child.wait(60) == 0, (tmp_path / LOG_FILE).read_text()
    finally:
        child.kill()
        child.wait()
    assert not (tmp_path / ADDRESS_FILE).exists()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The error of ensure_running holds the end of the server's log."""
    lock = home_lock(tmp_path, "serving.lock", wait_s=0)
    try:
        with pytest.raises(SandboxStartError, match="another sandbox uses"):
            ensure_running(tmp_path.resolve())
    finally:
        lock.release()


def test_one_home_has_one_server(tmp_path: Path) -> None:
    """A second server on the same home is refused; after the first has stopped it may start."""
    with SandboxServer(tmp_path), pytest.raises(SandboxStartError, match="another sandbox uses"):
        SandboxServer(tmp_path).start()
    with SandboxServer(tmp_path) as again:
        assert httpx.get(f"{again.url}/_sandbox/health", trust_env=False).is_success


def test_ports_stay_clear_of_the_ones_people_use() -> None:
    """Free ports are taken from 7717 on, never from 8000 to 8999; a taken port is said to be."""
    sockets = [free_socket(0) for _ in range(3)]
    ports = [listener.getsockname()[1] for listener in sockets]
    with pytest.raises(SandboxStartError, match=str(ports[0])):
        free_socket(ports[0])
    for listener in sockets:
        listener.close()
    assert len(set(ports)) == 3
    assert all(7717 <= port < 8000 for port in ports)


def test_a_terminated_server_tidies_up(start: Start, tmp_path: Path) -> None:
    """SIGTERM ends the server in order: exit code zero, no stale address, nothing left training."""
    child, url = start()
    account = new_account(url, engine="real")
    account.add_dataset("ds", count=10, size=64)
    run = train(account, epochs=2000, image_size=64)
    eventually(lambda: trains(tmp_path / "jobs" / run["id"]))
    child.terminate()
    assert child.wait(10) == 0
    assert not (tmp_path / ADDRESS_FILE).exists()
    eventually(lambda: not trains(tmp_path / "jobs" / run["id"]))


def test_the_command_line(start: Start, tmp_path: Path) -> None:
    """status, import, bill and reset work on the running server; reset leaves the built-in data sets and no run."""
    _, url = start()
    account = new_account(url, api_key="pk_live_sandbox_none", engine="scripted")
    folder = tmp_path / "pictures"
    make_class_folders(folder)
    assert json.loads(command(tmp_path, "status"))["url"] == url
    assert json.loads(command(tmp_path, "import", str(folder), "--name", "mine"))["image_count"] == 4
    account.add_dataset("ds", count=3, size=64)
    train(account)
    assert json.loads(command(tmp_path, "bill"))["started_runs"] == 1
    assert "as new; its settings stay" in command(tmp_path, "reset")
    assert json.loads(command(tmp_path, "bill"))["started_runs"] == 0
    assert images_of(account) == BUILT_IN


def test_a_command_for_a_home_without_a_server_says_what_to_do(tmp_path: Path) -> None:
    """One line that names the command to start one, and no traceback."""
    wrong = subprocess.run(
        [sys.executable, "-m", "sandbox", "bill", "--home", str(tmp_path / "no")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert wrong.returncode != 0
    assert "python -m sandbox serve" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def make_class_folders(folder: Path) -> None:
    """Write two classes of two images each."""
    from PIL import Image

    for index, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            Image.new("RGB", (32, 32), (90 * index, 40 * number, 9)).save(folder / name / f"{name}{number}.png")


def command(home: Path, *words: str) -> str:
    """Run a command on a home and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "sandbox", *words, "--home", str(home)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
