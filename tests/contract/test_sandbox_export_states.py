"""Exports take their time: the time of the sandbox's clock, which the test alone moves."""

from pathlib import Path

from sandbox.clock import ManualClock
from sandbox.server import SandboxServer
from tests.waiting import eventually

DELAY_S = 0.05
"""Length of each state; the worker, which waits in real time, looks about that often."""


def test_an_export_goes_through_its_states(tmp_path: Path) -> None:
    """pending, processing and completed follow each other by the account's delays, and not before."""
    clock = ManualClock()
    with SandboxServer(tmp_path, clock) as server:
        delays = {"export_pending_s": DELAY_S, "export_processing_s": DELAY_S}
        account = server.new_account(dialect="v2", engine="scripted", **delays)
        account.add_dataset("ds", count=3, size=64)
        with account.http(timeout=30) as http:
            http.post("/exports/", json={"dataset_name": "ds", "name": "slow"}).raise_for_status()

            def status() -> str:
                return str(http.get("/exports/slow", params={"dataset": "ds"}).json()["data"]["status"])

            assert {status() for _ in range(20)} == {"pending"}
            clock.advance(1.2 * DELAY_S)
            assert eventually(lambda: (word := status()) != "pending" and word) == "processing"
            assert {status() for _ in range(20)} == {"processing"}
            clock.advance(1.2 * DELAY_S)
            assert eventually(lambda: (word := status()) != "processing" and word) == "completed"
