"""What the control API does when an account is in a bad way, and what deleting and signing leave behind."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from sandbox.client import SandboxAccount
from sandbox.core import new_id
from sandbox.launch import NO_TLS
from sandbox.server import SandboxServer

DONE = {"steps": [{"status": "completed"}]}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sandbox."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[SandboxServer]:
    """A sandbox for the tests of this file."""
    with SandboxServer(home) as running:
        yield running


def prepare(server: SandboxServer, **settings: Any) -> SandboxAccount:
    """Make an account with a dataset "ds" and a finished export "e"."""
    account = server.new_account(**{"engine": "scripted", "script": DONE, **settings})
    account.add_dataset("ds", count=3, size=64)
    with account.http() as http:
        order = {"dataset_name": "ds", "name": "e", "include_images": True}
        assert http.post("/exports/", json=order).status_code == 201
        looks = (http.get("/exports/?status=completed").json()["data"] for _ in range(2000))
        assert next(filter(None, looks), None), "the export was not built"
    return account


def start(account: SandboxAccount, name: str = "r") -> dict[str, Any]:
    """Create a run."""
    body = {"dataset_name": "ds", "export_name": "e", "pipeline_type": "yolox", "name": name}
    with account.http() as http:
        answer = http.post("/training/", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json()["data"])


def read(account: SandboxAccount, path: str) -> httpx.Response:
    """Make one call of the API."""
    with account.http() as http:
        return http.get(path)


def test_a_model_that_was_never_uploaded_fails_its_run_alone(server: SandboxServer) -> None:
    """A script that wants uploaded weights without any ends as failed and says what to do; every call still answers."""
    account = prepare(server, script={**DONE, "model": "uploaded"})
    run = start(account)
    ended = read(account, f"/training/{run['id']}").json()["data"]
    assert (ended["status"], "PUT /_sandbox/model" in ended["error_message"]) == ("failed", True)
    assert read(account, "/credits/balance").status_code == 200
    assert account.bill()["net"] == 0


def test_damage_in_an_upload_fails_the_run_and_not_the_calls(server: SandboxServer, home: Path) -> None:
    """Whatever is wrong with the weights to serve, the run says it."""
    account = prepare(server)
    account.upload_model(b"weights", classes="a")
    about = home / "uploads" / f"{account.control('GET', '/account')['id']}.json"
    about.write_text("not JSON")
    start(account)
    assert "cannot be served" in read(account, "/training/r").json()["data"]["error_message"]


def test_an_upload_comes_before_the_runs_that_wait_for_it(server: SandboxServer) -> None:
    """Uploading, changing settings and resetting do not first bring runs up to date."""
    account = prepare(server, script={**DONE, "model": "uploaded"})
    start(account)
    account.configure(role="owner")
    account.upload_model(b"late but there")
    assert read(account, "/training/r").json()["data"]["status"] == "completed"
    account.reset()
    assert read(account, "/training/").json()["data"] == []


def test_a_pipeline_nobody_knows_is_no_setting(server: SandboxServer) -> None:
    """A word outside the vendor's pipelines is refused when it is set, not when a run ends."""
    with pytest.raises(RuntimeError, match=r"422.*pipelines"):
        server.new_account(pipelines=["foo"])
    account = server.new_account()
    with pytest.raises(RuntimeError, match=r"422.*pipelines"):
        account.configure(pipelines=["yolox", "foo"])
    assert account.configure(pipelines=["detectron2"])["pipelines"] == ["detectron2"]


def test_a_seed_below_zero_is_refused(server: SandboxServer) -> None:
    """It is a 422 that names the field, not an error of the generator's."""
    with pytest.raises(RuntimeError, match=r"422.*seed"):
        server.new_account().add_dataset("ds", count=3, size=64, seed=-1)


def test_the_billing_of_a_used_account_cannot_be_changed(server: SandboxServer) -> None:
    """The answer is a 409 that says how; after a reset the account is free to change."""
    account = prepare(server)
    start(account)
    with pytest.raises(RuntimeError, match=r"409.*reset the account"):
        account.configure(billing="credits")
    account.reset()
    assert account.configure(billing="credits")["billing"] == "credits"


def test_a_key_is_given_once(server: SandboxServer) -> None:
    """A second account with the same key is a 409 that does not repeat it."""
    server.new_account(api_key="pk_live_sandbox_twice")
    with pytest.raises(RuntimeError, match="409") as caught:
        server.new_account(api_key="pk_live_sandbox_twice")
    assert "pk_live_sandbox_twice" not in str(caught.value)


@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_deleted_export_leaves_no_file(server: SandboxServer, home: Path, one_by_one: bool) -> None:
    """Its link is dead and its ZIP is gone, deleted alone or with others."""
    account = prepare(server)
    with account.http() as http:
        export = http.get("/exports/e", params={"dataset": "ds"}).json()["data"]
        folder = home / "objects" / account.control("GET", "/account")["id"] / "exports" / export["id"]
        assert folder.is_dir()
        if one_by_one:
            assert http.delete(f"/exports/{export['id']}").status_code == 204
        else:
            ids = [export["id"], export["id"], new_id()]
            done = http.post("/exports/bulk-delete", json={"export_ids": ids}).json()["data"]
            assert done == {"succeeded": ids[:1], "not_found": ids[2:], "count": 1}
    assert not folder.exists()
    assert httpx.get(export["download_url"], trust_env=False, verify=NO_TLS).status_code == 404


@pytest.mark.parametrize("query", ["X-Sandbox-Expires={e}&X-Sandbox-Signature=%C3%A9",
                                   "X-Sandbox-Expires=%C2%B2&X-Sandbox-Signature=0",
                                   "X-Sandbox-Expires=%D9%A1&X-Sandbox-Signature=0", ""])  # fmt: skip
def test_a_signature_of_any_letters_is_refused(server: SandboxServer, query: str) -> None:
    """What is not ASCII, or a number only to some, is a wrong signature and no error of the server's."""
    account = prepare(server)
    url = read(account, "/exports/e?dataset=ds").json()["data"]["download_url"]
    expires = urlsplit(url).query.partition("=")[2].partition("&")[0]
    changed = f"{url.partition('?')[0]}?{query.format(e=expires)}"
    answer = httpx.get(changed, trust_env=False, verify=NO_TLS)
    assert (answer.status_code, "SignatureDoesNotMatch" in answer.text) == (403, True)


def test_a_model_that_is_removed_leaves_storage_with_the_next_start(tmp_path: Path) -> None:
    """The bytes are there until the sandbox is started again, and no longer."""
    with SandboxServer(tmp_path) as server:
        account = prepare(server)
        start(account)
        with account.http() as http:
            model = http.get("/models/r").json()["data"]
            assert http.delete(f"/models/{model['id']}").status_code == 204
        assert len(list(tmp_path.glob("objects/*/models/*/model.onnx"))) == 1
    with SandboxServer(tmp_path):
        assert list(tmp_path.glob("objects/*/models/*/model.onnx")) == []
        assert len(list(tmp_path.glob("objects/*/exports/*/export.zip"))) == 1
