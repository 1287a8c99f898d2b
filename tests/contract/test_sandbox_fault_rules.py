"""Which fault rules are taken, and when one counts as having struck."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sandbox.client import SandboxAccount
from sandbox.launch import NO_TLS
from sandbox.server import SandboxServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    """A sandbox for the tests of this file."""
    with SandboxServer(tmp_path_factory.mktemp("home")) as running:
        yield running


def hits(account: SandboxAccount) -> list[tuple[int, int]]:
    """Return how often each rule matched and struck."""
    return [(rule["seen"], rule["hits"]) for rule in account.faults()]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"action": "status", "after_bytes": 5}, "'status' has no use for after_bytes"),
        ({"action": "body", "after_bytes": 0}, "'body' has no use for after_bytes"),
        ({"action": "ignore_range", "after_bytes": 5}, "'ignore_range' has no use for after_bytes"),
        ({"action": "reset", "status": 503}, "'reset' has no use for status"),
        ({"action": "stall", "body": "x", "retry_after": "5"}, "'stall' has no use for body and retry_after"),
        ({"action": "headers"}, "'headers' needs headers"),
    ],
)
def test_a_rule_that_would_do_nothing_is_refused(server: SandboxServer, rule: dict[str, Any], words: str) -> None:
    """Combinations without effect are told when the rule is made, instead of counting as struck."""
    with pytest.raises(RuntimeError, match=rf"422.*{words}"):
        server.new_account().fault(**rule)


def test_a_request_over_the_rate_limit_uses_no_fault_up(server: SandboxServer) -> None:
    """What is refused with 429 was not struck: the fault waits for the next request that is let in."""
    account = server.new_account(rate_limit=1, rate_window_s=0.5)
    with account.http() as http:
        http.get("/credits/balance")
        account.fault("status", path="/balance$", status=503)
        assert http.get("/credits/balance").status_code == 429
        assert hits(account) == [(0, 0)]
        assert account.requests()[-1]["fault"] is None
        deadline = time.monotonic() + 10
        while (status := http.get("/credits/balance").status_code) == 429 and time.monotonic() < deadline:
            time.sleep(0.05)
    assert (status, hits(account)) == (503, [(1, 1)])


@pytest.mark.parametrize("rule", [{"action": "truncate"}, {"action": "bitflip"}, {"action": "reset", "after_bytes": 9}])
def test_an_answer_without_a_body_uses_no_fault_up(server: SandboxServer, rule: dict[str, Any]) -> None:
    """A fault of the body passes over an answer that has none, and strikes the next one that has."""
    script = {"steps": [{"status": "completed"}]}
    account = server.new_account(engine="scripted", script=script)
    account.add_dataset("ds", count=3, size=64)
    with account.http() as http:
        order = {"dataset_name": "ds", "name": "e", "include_images": True}
        assert http.post("/exports/", json=order).status_code == 201
        looks = (http.get("/exports/?status=completed").json()["data"] for _ in range(2000))
        assert next(filter(None, looks), None), "the export was not built"
        url = http.get("/exports/e?dataset=ds").json()["data"]["download_url"]
    account.fault(**rule, path="^/storage/")
    head = httpx.head(url, trust_env=False, verify=NO_TLS)
    assert (head.status_code, hits(account), account.requests()[-1]["fault"]) == (200, [(1, 0)], None)
    clean = None
    with contextlib.suppress(httpx.TransportError):
        clean = httpx.get(url, trust_env=False, verify=NO_TLS).content
    assert hits(account) == [(2, 1)]
    assert clean != httpx.get(url, trust_env=False, verify=NO_TLS).content
