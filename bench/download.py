"""Verified download: ours beside the published client's download followed by two hash passes over the file.

Ours is ``pipeline.download.collection.collect`` over the adapter's ``open_model``: received, hashed twice, compared
and put in its place in one pass. The published client is used as it is (``models.download``);
MD5 and SHA-256 are what a careful user computes afterwards. Same file, same sandbox in a process of its own, in turns.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import describe_machine, isolate, parse_quick, running_sandbox

if TYPE_CHECKING:
    from sandbox.client import SandboxAccount

NEEDED = 1.4
"""Smallest acceptable ratio of the medians."""
MEGABYTE = 10**6


def main() -> int:
    """Measure, print, and return 1 when the needed ratio is missed."""
    quick = parse_quick(__doc__)
    size_bytes, rounds = (256 << 20, 3) if quick else (512 << 20, 9)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="bench-download-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        isolate(root)
        print(describe_machine("pictograph", "httpx"))
        with running_sandbox(root / "sandbox") as url:
            ours, theirs = _measure(root, url, size_bytes, rounds)
    return _show(ours, theirs, size_bytes)


def _measure(
    root: Path, url: str, size_bytes: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    from sandbox.client import new_account

    account = new_account(url, engine="scripted", script={"steps": [{"status": "completed"}]})
    content = os.urandom(size_bytes)  # not ONNX: it is transferred and hashed, never opened
    account.upload_model(content)
    expected = hashlib.md5(content, usedforsecurity=False).hexdigest(), hashlib.sha256(content).hexdigest()
    del content
    run_id = _train(account)
    ours: dict[str, list[float]] = {"all": []}
    theirs: dict[str, list[float]] = {"download": [], "md5": [], "sha256": [], "all": []}
    for number in range(rounds + 1):
        _settle_disk(root)
        times = _ours(account, run_id, root / "ours.onnx", expected)
        _settle_disk(root)
        other = _theirs(account, run_id, root / "theirs.onnx", expected)
        if number:  # the first round fills the server's file cache and pays for imports
            for kept, new in ((ours, times), (theirs, other)):
                for name, seconds in new.items():
                    kept[name].append(seconds)
    return ours, theirs


def _train(account: SandboxAccount) -> str:
    """Make the run whose model is downloaded, and return its id."""
    account.add_dataset("bench", count=8, single=True)
    with account.http(timeout=120) as http:
        order: dict[str, Any] = {"dataset_name": "bench", "name": "bench", "include_images": True}
        http.post("/exports/", json=order).raise_for_status()
        while http.get("/exports/bench/bench").json()["data"]["status"] != "completed":
            time.sleep(0.05)
        body = {"dataset_name": "bench", "export_name": "bench", "pipeline_type": "classification", "name": "bench"}
        run = http.post("/training/", json={**body, "gpu_type": "a10g", "config": {}})
        run.raise_for_status()
        run_id = str(run.json()["data"]["id"])
        while http.get(f"/training/{run_id}").json()["data"]["status"] != "completed":
            time.sleep(0.05)
    return run_id


def _settle_disk(root: Path) -> None:
    """Take away earlier files and let the disk catch up, so that nobody pays for the other's writing."""
    for path in root.glob("*.onnx"):
        path.unlink()
    os.sync()


def _ours(account: SandboxAccount, run_id: str, target: Path, expected: tuple[str, str]) -> dict[str, float]:
    from pydantic import SecretStr

    from pipeline.download.collection import collect
    from pipeline.models import RunHandle
    from providers.calls import ClientOptions
    from providers.pictograph.adapter import PictographProvider
    from providers.pictograph.profile import pictograph_profile

    began = time.perf_counter()
    options, profile = ClientOptions(base_url=account.url), pictograph_profile(sandbox=True)
    with closing(PictographProvider(SecretStr(account.api_key), options, profile)) as provider:
        handle = RunHandle(provider="pictograph", run_id=run_id, name="bench", dataset="bench")
        model = provider.get_model(provider.get_run(handle))
        file = collect(lambda at: provider.open_model(model, at), target, max_bytes=1 << 40, clock=time)
    seconds = time.perf_counter() - began
    if (file.md5, file.sha256) != expected or not file.verified_by:
        raise RuntimeError(f"our download was not verified: {file}")
    return {"all": seconds}


def _theirs(account: SandboxAccount, run_id: str, target: Path, expected: tuple[str, str]) -> dict[str, float]:
    from pictograph import Client

    began = time.perf_counter()
    with Client(api_key=account.api_key, base_url=account.url, max_retries=0) as client:
        model_id = client.training.get(run_id=run_id).model_id
        client.models.download(model_id=model_id, output_path=target)
    downloaded = time.perf_counter()
    md5 = _digest(target, lambda: hashlib.md5(usedforsecurity=False))
    hashed = time.perf_counter()
    sha256 = _digest(target, hashlib.sha256)
    ended = time.perf_counter()
    if (md5, sha256) != expected:
        raise RuntimeError("the published client's download is damaged")
    return {
        "download": downloaded - began,
        "md5": hashed - downloaded,
        "sha256": ended - hashed,
        "all": ended - began,
    }


def _digest(path: Path, algorithm: Callable[[], Any]) -> str:
    with path.open("rb") as file:
        return str(hashlib.file_digest(file, algorithm).hexdigest())


def _show(ours: dict[str, list[float]], theirs: dict[str, list[float]], size_bytes: int) -> int:
    print(f"\n{size_bytes / MEGABYTE:.0f} MB, {len(ours['all'])} downloads each, in turns; medians")
    print(f"  {'ours, verified':<44} {_figures(ours['all'], size_bytes)}")
    print(f"  {'published client and two hash passes':<44} {_figures(theirs['all'], size_bytes)}")
    for name in ("download", "md5", "sha256"):
        print(f"    {name:<42} {_figures(theirs[name], size_bytes)}")
    ratio = median(theirs["all"]) / median(ours["all"])
    print(f"ratio {ratio:.2f}; needed >= {NEEDED}: {'met' if ratio >= NEEDED else 'MISSED'}")
    return 0 if ratio >= NEEDED else 1


def _figures(times: list[float], size_bytes: int) -> str:
    middle = median(times)
    return f"{middle:6.2f} s ({min(times):.2f} to {max(times):.2f})  {size_bytes / MEGABYTE / middle:6.0f} MB/s"


if __name__ == "__main__":
    sys.exit(main())
