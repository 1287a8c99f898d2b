"""Make the README's pictures from a real rehearsal: ``python -m docs.screenshots``, with Chromium on the PATH.

Starts a Prefect server and a sandbox of its own, trains the demo model, and takes pictures of what a user sees.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from pipeline.report.contactsheet import contact_sheet
from sandbox.launch import find_running
from tests.e2e.browser import Browser

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
MOST_BYTES = 300_000
START_S = 90.0
SETTLE_S = 4.0
"""Seconds for a page to finish drawing its graph, which no word on it tells."""
WIDTH = 1280


def main() -> None:
    """Make all pictures."""
    with tempfile.TemporaryDirectory(prefix="screenshots-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with prefect_server(folder) as api:
            try:
                rehearse(folder, api)
            finally:
                end_sandbox(folder)
            overlays = sorted(folder.glob("runs/sandbox/*/overlays/*.png"))
            (IMAGES / "predictions.png").write_bytes(small_png(contact_sheet(overlays)))
            photograph(folder, api)


@contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """Serve Prefect's API and pages from a new database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    api = f"http://127.0.0.1:{port}/api"
    settings = environment(folder, PREFECT_UI_API_URL=api)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, env=settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        deadline = time.monotonic() + START_S
        while not is_up(api):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the Prefect server did not start")
            time.sleep(0.2)
        yield api
    finally:
        process.terminate()
        process.wait(30)


def is_up(api: str) -> bool:
    """Tell whether the server answers."""
    try:
        return httpx.get(f"{api}/health", timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """Return an environment whose Prefect and sandbox live in this folder."""
    return {
        **os.environ,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "TRAIN_PIPELINE_SANDBOX_HOME": str(folder / "sandbox"),
        "TRAIN_PIPELINE_JOURNAL": str(folder / "journal.db"),
        "PYTHONPATH": str(ROOT),
        **changes,
    }


def rehearse(folder: Path, api: str) -> None:
    """Run the demo as the README says."""
    command = [sys.executable, "-m", "flows.train_pipeline"]
    subprocess.run(command, cwd=folder, env=environment(folder, PREFECT_API_URL=api), check=True)  # noqa: S603 -- our own module


def end_sandbox(folder: Path) -> None:
    """End the sandbox the demo has left running."""
    found = find_running((folder / "sandbox").resolve())
    if found is not None:
        health = httpx.get(f"{found.url}/_sandbox/health", timeout=10, trust_env=False).json()
        os.kill(health["pid"], signal.SIGTERM)


def photograph(folder: Path, api: str) -> None:
    """Take the pictures of the run's page and of its report."""
    (run,) = ask(api, "/flow_runs/filter")
    (report,) = ask(api, "/artifacts/filter", artifacts={"type": {"any_": ["markdown"]}})
    pages = f"{api.removesuffix('/api')}/v2"
    with Browser(WIDTH, 900) as page:
        page.open(f"{pages}/runs/flow-run/{run['id']}", str(run["name"]), "Completed", "10 Task runs", "price: ")
        time.sleep(SETTLE_S)
        save(page, "prefect-run.png")
        page.resize(WIDTH, 2140)
        page.open(f"{pages}/artifacts/artifact/{report['id']}", "Training loss", "Classes in the export")
        time.sleep(SETTLE_S)
        save(page, "prefect-artifacts.png")
        page.resize(WIDTH, 900)
        page.open(f"{pages}/deployments/deployment/{deploy(folder, api)}/run", "Name of the data set to train on.")
        page.click("Replicate")
        page.wait_for("The model of yours that gets the new version")
        time.sleep(SETTLE_S)
        save(page, "prefect-form.png")


def deploy(folder: Path, api: str) -> str:
    """Offer the flow on a run form, as the README says, and return its deployment's id."""
    settings = environment(folder, PREFECT_API_URL=api)
    for words in (["work-pool", "create", "train-pipeline", "--type", "process"], ["deploy", "--name", "manual"]):
        command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
        subprocess.run(command, cwd=ROOT, env=settings, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    (deployment,) = ask(api, "/deployments/filter")
    return str(deployment["id"])


def ask(api: str, path: str, **query: Any) -> list[dict[str, Any]]:
    """Return what the server finds."""
    return list(httpx.post(f"{api}{path}", json=query, timeout=30, trust_env=False).raise_for_status().json())


def save(page: Browser, name: str) -> None:
    """Write what the window shows."""
    (IMAGES / name).write_bytes(small_png(page.picture()))


def small_png(picture: bytes) -> bytes:
    """Return the picture as a PNG below the limit, with as many colours as fit."""
    with Image.open(io.BytesIO(picture)) as opened:
        image = opened.convert("RGB")
    for colours in (256, 128, 64, 32):
        buffer = io.BytesIO()
        palette = image.quantize(colours)
        image.quantize(colours, palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(buffer, "PNG", optimize=True)
        if buffer.tell() < MOST_BYTES:
            return buffer.getvalue()
    raise SystemExit(f"a picture does not fit in {MOST_BYTES} bytes")


if __name__ == "__main__":
    if shutil.which("chromium") is None:
        raise SystemExit("no chromium on the PATH")
    IMAGES.mkdir(exist_ok=True)
    main()
