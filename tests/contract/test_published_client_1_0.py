"""The vendor's 1.0 client, unmodified and in its own environment, against the sandbox."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.server import SandboxServer
from tests.contract.published_clients import old_interpreter

SCRIPT = Path(__file__).with_name("client_1_0.py")
STEPS = [{"status": "queued", "for_looks": 2}, {"status": "running", "for_looks": 2}, {"status": "completed"}]
"""Moved on by looks, so that a run that is cancelled without one is still queued, however slow the machine."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    """A sandbox for the tests of this file."""
    with SandboxServer(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="module", params=["v1", "both"])
def facts(
    request: pytest.FixtureRequest, server: SandboxServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the client reports after calling everything once, for an account of each dialect it can speak."""
    script = {"mode": "looks", "steps": STEPS, "gpu_minutes": 2}
    account = server.new_account(dialect=request.param, billing="credits", engine="scripted", script=script)
    account.add_dataset("signs", count=8, size=64)
    command = [old_interpreter(), str(SCRIPT), account.url, account.api_key, str(tmp_path_factory.mktemp("files"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return {**json.loads(done.stdout), "dialect": request.param, "bill": account.bill()}


def test_every_call_of_the_seed_document_works(facts: dict[str, Any]) -> None:
    """Datasets, exports, trainings and models are read back as they were made."""
    assert facts["estimates"] == [300, 300]
    assert facts["balance"] == 100_000
    assert (facts["completed_images"], facts["dataset_by_id"], facts["images"]) == (8, "signs", 3)
    assert facts["datasets"] == ["signs"]
    assert facts["downloaded"] == 8
    assert facts["export"] == ["completed", 8]
    assert facts["exports"] == ["e1"]
    assert facts["export_get"] is True
    assert facts["export_bytes"] is True
    assert facts["run"] == ["completed", 100, True]
    assert (facts["queued"], facts["cancelled"], facts["waited"]) == ("queued", "cancelled", "completed")
    assert facts["listed"] == ["third", "second", "first"]
    assert facts["completed"] == ["third", "first"]
    assert facts["got"] == "first"
    assert facts["weights"] is True


def test_the_class_mapping_has_the_form_of_the_dialect(facts: dict[str, Any]) -> None:
    """The old dialect maps indices, the union lists classes; the old client reads both."""
    kind, mapping, score = facts["model"]
    assert (kind, score) == ("object_detection", 0.71)
    names = ["parking", "stop", "warning"]
    expected = {str(i): name for i, name in enumerate(names)} if facts["dialect"] == "v1" else {"classes": names}
    assert mapping == expected


def test_deleted_models_leave_the_list(facts: dict[str, Any]) -> None:
    """In the old dialect they are archived and found by that status; otherwise they are gone."""
    assert facts["models"] == facts["iterated"] == ["first", "second", "third"][::2]
    assert facts["after_delete"] == ["third"]
    assert facts["archived"] == (["first"] if facts["dialect"] == "v1" else [])


def test_errors_become_the_exceptions_the_seed_names(facts: dict[str, Any]) -> None:
    """404, 409, 402, 422 and 400 arrive as their classes with readable messages and amounts."""
    assert facts["duplicate_export"]["type"] == "ConflictError"
    assert "e1" in facts["duplicate_export"]["message"]
    assert facts["missing"]["type"] == "NotFoundError"
    dear = facts["too_dear"]
    assert (dear["type"], dear["credit_cost"]) == ("PaymentRequiredError", 120 * 1125)
    assert dear["credits_remaining"] == facts["bill"]["balance"]
    assert (facts["bad_gpu"]["type"], facts["bad_gpu"]["status"]) == ("ValidationError", 422)
    assert (facts["ended"]["type"], facts["ended"]["status"]) == ("ValidationError", 400)


def test_the_ledger_holds_the_pre_charge_and_the_refund(facts: dict[str, Any]) -> None:
    """Five planned minutes are charged at create, three come back after two were used, newest first."""
    assert facts["refund"] == ["training_refund_a10g", "training_a10g"]
    assert facts["bill"]["charged"] == 150
    assert facts["bill"]["refunded"] == 30 + 50 + 30
    assert facts["bill"]["started_runs"] == 3
