"""Storage and faults on the wire: ranges, digests, and everything that goes wrong on purpose."""

import base64
import hashlib
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from sandbox.client import SandboxAccount
from sandbox.server import SandboxServer
from tests.waiting import eventually

CONTENT = bytes(range(256)) * 4096


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    """A sandbox for the tests of this file."""
    with SandboxServer(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="module")
def made(server: SandboxServer) -> SandboxAccount:
    """An account with one finished model of one mebibyte."""
    script = {"steps": [{"status": "completed"}]}
    account = server.new_account(engine="scripted", script=script)
    account.add_dataset("ds", count=3, size=64)
    account.upload_model(CONTENT)
    with account.http() as http:
        http.post("/exports/", json={"dataset_name": "ds", "name": "e", "include_images": True})
        eventually(lambda: http.get("/exports/?status=completed").json()["exports"], "the export")
        http.post("/training/", json=order())
        assert http.get("/training/r").json()["data"]["status"] == "completed"
    return account


@pytest.fixture
def account(made: SandboxAccount) -> Iterator[SandboxAccount]:
    """The same account, without the faults and settings of the test before."""
    yield made
    made.clear_faults()
    made.configure(hash_headers="goog", signed_url_ttl_s=3600)


def order() -> dict[str, Any]:
    """Return the body of a create."""
    return {"dataset_name": "ds", "export_name": "e", "pipeline_type": "yolox", "name": "r"}


def link(account: SandboxAccount) -> str:
    """Mint a link to the weights."""
    with account.http() as http:
        return str(http.get("/models/r/download").json()["download_url"])


@pytest.fixture(scope="module")
def web() -> Iterator[httpx.Client]:
    """A client without a key, as anybody has one who is given a link."""
    with httpx.Client(trust_env=False, timeout=30) as opened:
        yield opened


def call(account: SandboxAccount, path: str = "/credits/balance", **options: Any) -> httpx.Response:
    """Make one call of the API."""
    with account.http(timeout=30) as http:
        return http.get(path, **options)


def drain(web: httpx.Client, url: str) -> tuple[bytes, httpx.Headers, type[Exception] | None]:
    """Read a link as far as it goes: the bytes, the headers, and what broke it."""
    got = bytearray()
    with web.stream("GET", url) as answer:
        try:
            for chunk in answer.iter_bytes():
                got += chunk
        except httpx.TransportError as error:
            return bytes(got), answer.headers, type(error)
        return bytes(got), answer.headers, None


def test_a_signed_link_serves_the_bytes_without_a_key(account: SandboxAccount, web: httpx.Client) -> None:
    """The whole object arrives with its length, an entity tag and a matching digest."""
    answer = web.get(link(account))
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["accept-ranges"] == "bytes"
    digest = base64.b64encode(hashlib.md5(CONTENT, usedforsecurity=False).digest()).decode()
    assert answer.headers["x-goog-hash"] == f"md5={digest}"
    head = web.head(link(account))
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", answer.headers["etag"])


@pytest.mark.parametrize(
    ("wanted", "status", "expected", "shown"),
    [
        ("bytes=0-9", 206, CONTENT[:10], f"bytes 0-9/{len(CONTENT)}"),
        ("bytes=1000000-", 206, CONTENT[1_000_000:], f"bytes 1000000-{len(CONTENT) - 1}/{len(CONTENT)}"),
        ("bytes=-7", 206, CONTENT[-7:], f"bytes {len(CONTENT) - 7}-{len(CONTENT) - 1}/{len(CONTENT)}"),
        ("bytes=5-99999999", 206, CONTENT[5:], f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"),
        (f"bytes={len(CONTENT)}-", 416, b"", f"bytes */{len(CONTENT)}"),
        ("bytes=9-5", 416, b"", f"bytes */{len(CONTENT)}"),
        ("bytes=0-1,4-5", 200, CONTENT, None),
        ("pages=1", 200, CONTENT, None),
    ],
)
def test_ranges(
    account: SandboxAccount, web: httpx.Client, wanted: str, status: int, expected: bytes, shown: str | None
) -> None:
    """One range is served, one that cannot be is a 416, several or unknown units give the whole object."""
    answer = web.get(link(account), headers={"Range": wanted})
    assert (answer.status_code, answer.headers.get("content-range")) == (status, shown)
    assert answer.content == expected


def test_a_range_is_conditional_on_the_tag(account: SandboxAccount, web: httpx.Client) -> None:
    """If-Range with the current tag or date gives the range, with any other the whole object."""
    url = link(account)
    headers = web.get(url).headers
    for validator in (headers["etag"], headers["last-modified"]):
        assert web.get(url, headers={"Range": "bytes=5-", "If-Range": validator}).status_code == 206
    assert web.get(url, headers={"Range": "bytes=5-", "If-Range": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    ("mode", "present"), [("goog", "x-goog-hash"), ("content-md5", "content-md5"), ("etag-md5", None), ("none", None)]
)
def test_the_digest_is_where_the_account_wants_it(
    account: SandboxAccount, web: httpx.Client, mode: str, present: str | None
) -> None:
    """At most one header carries the MD5; only etag-md5 has it as the entity tag."""
    account.configure(hash_headers=mode)
    headers = web.get(link(account)).headers
    assert [name for name in ("x-goog-hash", "content-md5") if name in headers] == ([present] if present else [])
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    assert (headers["etag"] == f'"{md5}"') == (mode == "etag-md5")


def test_a_link_is_good_for_its_object_and_its_time(account: SandboxAccount, web: httpx.Client) -> None:
    """A changed path, a changed expiry and an expired link are refused with XML."""
    url = link(account)
    account.configure(signed_url_ttl_s=-1)
    old = web.get(link(account))
    assert (old.status_code, "ExpiredToken" in old.text) == (403, True)
    assert old.headers["content-type"].startswith("application/xml")
    for changed in (url.replace("model.onnx", "config.json"), url.replace("Expires=1", "Expires=2"), url[:-4]):
        assert web.get(changed).status_code == 403


def test_the_status_fault_comes_with_its_headers_so_often(account: SandboxAccount) -> None:
    """A rule skips, strikes and is then used up; Retry-After is sent as written."""
    account.fault("status", path="/balance$", status=503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT", times=2, skip=1)
    answers = [call(account) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 503, 503, 200]
    assert answers[1].headers["retry-after"] == "Wed, 21 Oct 2015 07:28:00 GMT"
    assert "x-request-id" in answers[1].headers
    assert [(fault["seen"], fault["hits"]) for fault in account.faults()] == [(3, 2)]


def test_faults_strike_their_account_only(account: SandboxAccount, server: SandboxServer) -> None:
    """Another account's requests pass while a rule without end is in force."""
    account.fault("status", times=None)
    other = server.new_account()
    assert (call(account).status_code, call(other).status_code) == (503, 200)


def test_before_means_without_effect_and_after_means_with_it(account: SandboxAccount) -> None:
    """A 500 before a create starts nothing; after it, the run exists though the answer was lost."""
    with account.http() as http:
        for stage, started in (("before", 0), ("after", 1)):
            before = account.bill()["started_runs"]
            account.fault("status", method="POST", path="/training/$", stage=stage, status=500)
            assert http.post("/training/", json=order()).status_code == 500
            assert account.bill()["started_runs"] - before == started


@pytest.mark.parametrize("stage", ["before", "after"])
def test_a_reset_is_a_real_one(account: SandboxAccount, stage: str) -> None:
    """The connection ends with a TCP reset, before or after the effect, and the log knows no status."""
    before = account.bill()["started_runs"]
    account.fault("reset", method="POST", path="/training/$", stage=stage)
    with account.http() as http, pytest.raises(httpx.ReadError, match="reset by peer"):
        http.post("/training/", json=order())
    assert account.bill()["started_runs"] - before == (stage == "after")
    entry = account.requests()[-1]
    assert (entry["status"], entry["fault"]) == (None, "reset")


def test_a_close_ends_the_connection_without_an_answer(account: SandboxAccount) -> None:
    """The server hangs up in the ordinary way, having said nothing."""
    account.fault("close")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        call(account)


@pytest.mark.parametrize("stage", ["before", "after"])
def test_a_stall_outlasts_an_impatient_client(account: SandboxAccount, stage: str) -> None:
    """The request is taken and not answered; who hangs up has its effect or not, who waits gets the answer."""
    before = account.bill()["started_runs"]
    account.fault("stall", method="POST", path="/training/$", stage=stage, seconds=30)
    with account.http(timeout=0.3) as http, pytest.raises(httpx.ReadTimeout):
        http.post("/training/", json=order())
    eventually(lambda: account.faults()[0]["hits"] == 1, "the request")  # the client may have been the faster one
    if stage == "after":
        eventually(lambda: account.bill()["started_runs"] == before + 1, "the effect")
    assert account.bill()["started_runs"] - before == (stage == "after")
    account.clear_faults()
    account.fault("stall", stage=stage, seconds=0.2)
    begin = time.monotonic()
    assert call(account).status_code == 200
    assert time.monotonic() - begin >= 0.2


def test_a_truncated_download_says_more_than_it_sends(account: SandboxAccount, web: httpx.Client) -> None:
    """Content-Length names the whole, half of it comes, and a range brings the rest."""
    url = link(account)
    account.fault("truncate", path="^/storage/", after_bytes=300_000)
    got, headers, broke = drain(web, url)
    assert headers["content-length"] == str(len(CONTENT))
    assert broke is httpx.RemoteProtocolError
    assert got == CONTENT[:300_000]
    assert got + web.get(url, headers={"Range": f"bytes={len(got)}-"}).content == CONTENT


def test_a_connection_can_break_in_the_middle_of_a_download(account: SandboxAccount, web: httpx.Client) -> None:
    """With after_bytes a reset comes after that much of the body."""
    account.fault("reset", path="^/storage/", after_bytes=100_000)
    got, _, broke = drain(web, link(account))
    assert broke is httpx.ReadError
    assert got == CONTENT[: len(got)]
    assert 0 < len(got) <= 100_000


def test_a_flipped_bit_changes_one_byte_and_no_header(account: SandboxAccount, web: httpx.Client) -> None:
    """Length and digest are those of the real object, one byte is not."""
    clean = web.get(link(account))
    account.fault("bitflip", path="^/storage/", after_bytes=700_000)
    flipped = web.get(link(account))
    assert [at for at in range(len(CONTENT)) if flipped.content[at] != CONTENT[at]] == [700_000]
    for name in ("content-length", "etag", "x-goog-hash"):
        assert flipped.headers[name] == clean.headers[name]


def test_headers_can_be_changed_and_removed(account: SandboxAccount, web: httpx.Client) -> None:
    """A wrong digest, a new tag and a missing length are told without touching the body."""
    account.fault("headers", path="^/storage/", headers={"x-goog-hash": "md5=AAAA", "ETag": None})
    answer = web.get(link(account))
    assert (answer.headers["x-goog-hash"], "etag" in answer.headers, answer.content) == ("md5=AAAA", False, CONTENT)


def test_a_range_can_be_ignored(account: SandboxAccount, web: httpx.Client) -> None:
    """The server answers 200 with the whole object, as some proxies do."""
    account.fault("ignore_range", path="^/storage/")
    answer = web.get(link(account), headers={"Range": "bytes=10-"})
    assert (answer.status_code, answer.content) == (200, CONTENT)


def test_garbage_can_come_with_a_good_status(account: SandboxAccount) -> None:
    """A 200 that is no JSON, or whatever text a rule holds."""
    account.fault("body")
    account.fault("body", body='{"data": null}', status=207)
    first, second = call(account), call(account)
    assert (first.status_code, first.headers["content-type"][:9]) == (200, "text/html")
    assert (second.status_code, second.json()) == (207, {"data": None})
