"""Cancelled in mid-training at Replicate, Bluesight and PhotoGPT: as far as each of them ends a training, and said so.

Real processes, cancelled through Prefect or with a signal, as in ``test_cancel_table``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from sandbox.server import SandboxServer
from tests.fault.forks import Running, ended_in_any_case
from tests.fault.processes import cancel_flow_run
from tests.fault.vendors import (
    BLUESIGHT,
    PHOTOGPT,
    REPLICATE,
    SCRIPT,
    Vendor,
    VendorScene,
    open_vendor_bench,
    open_vendor_scene,
    shows,
)

BY_HAND = {**SCRIPT, "mode": "manual", "steps": [{"status": "running", "epochs": 5}, {"status": "completed"}]}
"""A training that goes on until the test says so."""
RUNNING = {BLUESIGHT: "training: running", PHOTOGPT: "training: training", REPLICATE: "training: processing"}
"""What is said of one that goes on."""


@dataclass(frozen=True)
class Seen:
    """What one cancel came to."""

    scene: VendorScene
    code: int
    said: str
    active: int
    """Trainings that went on when the process had ended."""

    @property
    def row(self) -> dict[str, Any]:
        """The operation, as the journal holds it."""
        (only,) = self.scene.operations()
        return only


WAYS = ((REPLICATE, "api"), (REPLICATE, "term"), (BLUESIGHT, "api"), (PHOTOGPT, "api"))


@pytest.fixture(scope="module")
def seen(
    sandbox: SandboxServer, prefect_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[Vendor, str], Future[Seen]]]:
    """Play all at the same time."""

    def play(vendor: Vendor, way: str) -> Seen:
        folder = tmp_path_factory.mktemp("cancels") / f"{vendor}-{uuid4().hex[:8]}"
        scene = open_vendor_scene(vendor, sandbox, prefect_server, folder, script=BY_HAND)
        with ended_in_any_case(scene.start(*(["--cancel-on-interrupt"] if way == "term" else []))) as running:
            running.until(lambda: scene.account.bill()["runs"] and RUNNING[vendor] in running.said, "its training")
            _cancel(way, scene, running)
            code = running.wait()
            return Seen(scene, code, running.said, scene.account.bill()["active_runs"])

    with ThreadPoolExecutor(len(WAYS)) as pool:
        yield {(vendor, way): pool.submit(play, vendor, way) for vendor, way in WAYS}


def _cancel(way: str, scene: VendorScene, running: Running) -> None:
    if way == "term":
        os.kill(running.pid, signal.SIGTERM)
        return
    kind = {BLUESIGHT: "classification", PHOTOGPT: "portrait", REPLICATE: "yolox"}[scene.vendor]
    data = scene.folder.name + ("-person" if scene.vendor is PHOTOGPT else "")
    wanted = {"flow_runs": {"name": {"any_": [f"rehearse-{data}-{kind}"]}}}
    found = httpx.post(f"{scene.api}/flow_runs/filter", json=wanted, timeout=30).raise_for_status().json()
    cancel_flow_run(scene.api, found[0]["id"])


@pytest.mark.parametrize("way", ["api", "term"])
def test_a_training_at_replicate_is_cancelled(seen: dict[tuple[Vendor, str], Future[Seen]], way: str) -> None:
    """Canceled there, the time it ran is billed and known, and the operation is closed."""
    it = seen[REPLICATE, way].result()
    (run,) = it.scene.account.bill()["runs"]
    assert (it.code, run["status"], it.active) == (6 if way == "api" else -signal.SIGTERM, "cancelled", 0), it.said
    assert (it.row["state"], it.row["outcome"], bool(it.row["settled"])) == ("closed", "cancelled", True)
    assert it.row["amount"] == run["charged"]
    assert it.row["cancel_confirmed_at_s"] is not None


def test_a_cancel_at_bluesight_is_advice_and_said_to_be(seen: dict[tuple[Vendor, str], Future[Seen]]) -> None:
    """The job reads cancelled, and may go on: a person is told, before the flow ends as cancelled."""
    it = seen[BLUESIGHT, "api"].result()
    assert it.code == 6, it.said
    assert shows(it.said, "compute may continue at the provider"), it.said
    assert (it.row["state"], it.row["outcome"]) == ("closed", "cancelled")
    (report,) = it.scene.reports()
    assert report.run is not None
    assert "cancel_is_advice" in [finding.code for finding in report.run.warnings]
    assert it.active == 1, "and so it does"


def test_a_training_at_photogpt_cannot_be_cancelled_and_that_is_said(
    seen: dict[tuple[Vendor, str], Future[Seen]],
) -> None:
    """It goes on and is paid for: no cancelled outcome, an open operation, and the same command collects it."""
    it = seen[PHOTOGPT, "api"].result()
    assert (it.code, it.active) == (1, 1), it.said
    assert shows(it.said, "could not be cancelled", "goes on", "--operation"), it.said
    assert (it.row["state"], it.row["cancel_confirmed_at_s"]) == ("created", None)
    (run,) = it.scene.account.bill()["runs"]
    it.scene.account.advance(run["id"], ticks=2)
    with ended_in_any_case(it.scene.start()) as again:
        assert again.wait() == 0, again.said
    assert [report.outcome.value for report in it.scene.reports()] == ["untried"]
    assert it.scene.left() == ("collected", 1)


@pytest.mark.parametrize(
    "asked", [{"cancel_on_interrupt": True}, {"on_deadline": "cancel", "deadline_s": 60.0}], ids=str
)
def test_a_cancel_that_photogpt_cannot_carry_out_is_not_promised(
    sandbox: SandboxServer, prefect_api: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    """A request that wants one is refused with its field, before anything is uploaded."""
    assert prefect_api
    bench = open_vendor_bench(PHOTOGPT, sandbox, tmp_path, monkeypatch)
    ended = bench.run(**asked)
    assert ended.state == "InvalidRequest", ended.message
    assert shows(ended.message, next(iter(asked)), "does not offer"), ended.message
    assert bench.sent("model") == []
