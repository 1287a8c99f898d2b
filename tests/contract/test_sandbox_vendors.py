"""What an account's vendors know of each other: one shared key opens nothing, one ledger is not everybody's."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from sandbox.accounts import PUBLIC_KEY
from sandbox.server import SandboxServer
from tests.contract.photogpt_calls import AT_ONCE, PERSON, QUICK, NewCaller, callers, fetched, picture, upload


@pytest.fixture
def new_caller(server: SandboxServer) -> Iterator[NewCaller]:
    """Give a function that opens an account with these settings of PhotoGPT."""
    with callers(server) as make:
        yield make


def test_the_public_key_opens_bluesight_alone(server: SandboxServer) -> None:
    """Its account exists once somebody was at Bluesight, and still no other vendor takes the key."""
    bearer = {"Authorization": f"Bearer {PUBLIC_KEY}"}

    def status(path: str, headers: dict[str, str] | None = None) -> int:
        about = {"API-Version": "1", "User-Agent": "tests/1", **(headers or {})}
        return httpx.get(server.url + path, headers=about, trust_env=False).status_code

    assert status("/files/none") == status("/files/none", bearer) == 404
    assert status("/v1/account", bearer) == 401
    assert status("/api/ping", bearer) == 401
    assert status("/api/v1/developer/credits/balance", {"X-API-Key": PUBLIC_KEY}) == 401


@pytest.mark.parametrize("error", [None, "no face found"])
def test_pictograph_tells_nothing_of_other_vendors_charges(new_caller: NewCaller, error: str | None) -> None:
    """Neither its recent history nor its usage knows a PhotoGPT training or image, or what came back for one."""
    caller = new_caller(AT_ONCE, generation_error=error, **QUICK)
    caller.generate(caller.trained())
    caller.account.set_balance(9000)
    headers = {"X-API-Key": caller.account.api_key}
    with httpx.Client(base_url=caller.account.url, headers=headers, trust_env=False) as http:
        balance = http.get("/api/v1/developer/credits/balance").json()
        usage = http.get("/api/v1/developer/credits/usage-by-operation").json()
    assert [entry["operation"] for entry in balance["recent_history"]] == ["top_up"]
    assert (balance["credits_remaining"], balance["period_spend_micro_usd"]) == (9000, 0)
    assert (usage["operations"], usage["total_micro_usd"], usage["total_events"]) == ([], 0, 0)


def test_the_log_of_a_person_shows_nothing_of_him(new_caller: NewCaller) -> None:
    """Neither what was told about him nor the address of his picture can be read from the request log."""
    caller = new_caller()
    ref = caller.ask("POST", "/models", json={**PERSON, "name": "Somebody"})["id"]
    url = caller.ask("POST", "/images/upload", **upload(ref, picture()))["url"]
    assert fetched(url).status_code == 200
    caller.http.post("/images/upload", content=picture())
    log = str(caller.account.requests())
    assert url.rpartition("/")[2].partition(".")[0] not in log
    assert "Somebody" not in log
    assert "IHDR" not in log
