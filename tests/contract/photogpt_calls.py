"""What the tests of the emulated PhotoGPT API share: a caller with an account of its own, and small pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from PIL import Image

from sandbox.client import SandboxAccount
from sandbox.launch import NO_TLS
from sandbox.server import SandboxServer

PERSON = {"name": "p", "age": 30, "gender": "Female"}
AT_ONCE = {"mode": "manual", "steps": [{"status": "completed"}]}
ENDLESS = {"mode": "manual", "steps": [{"status": "running"}]}
SMALL = {"prompt": "a portrait", "width": 96, "height": 64, "seed": 4}
QUICK = {"generation_queued_s": 0, "generation_running_s": 0}


def picture(number: int = 0, kind: str = "PNG") -> bytes:
    """Return a small picture; numbers tell them apart."""
    kept = io.BytesIO()
    Image.new("RGB", (24, 24), (number * 12 % 256, 90, 160)).save(kept, kind)
    return kept.getvalue()


@dataclass(frozen=True)
class Caller:
    """A client of one account, with the headers the vendor asks for."""

    server: SandboxServer
    account: SandboxAccount
    http: httpx.Client = field(repr=False)

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Return the result of a call that must succeed."""
        answer = self.http.request(method, path, **options)
        assert answer.status_code == 200, answer.text
        assert answer.json()["status"] == "OK"
        return answer.json().get("result")

    def refused(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        """Return status and message of a call that must be refused in the vendor's envelope."""
        answer = self.http.request(method, path, **options)
        body = answer.json()
        assert (set(body), body["status"], body["result"]) == ({"status", "message", "err", "result"}, "NOK", None)
        return answer.status_code, body["message"]

    def model(self, pictures: int = 0) -> str:
        """Make a model with so many pictures and return its id."""
        ref = str(self.ask("POST", "/models", json=PERSON)["id"])
        for number in range(pictures):
            self.ask("POST", "/images/upload", **upload(ref, picture(number)))
        return ref

    def trained(self) -> str:
        """Make a model that is ready; the account's script must end at once."""
        ref = self.model(12)
        self.ask("GET", f"/models/{ref}/train")
        assert self.status(ref) == "ready"
        return ref

    def trigger(self, ref: str) -> int:
        """Trigger a training and return the status of the answer."""
        return self.http.get(f"/models/{ref}/train").status_code

    def generate(self, ref: str, **changes: Any) -> Any:
        """Generate, and return the detail of the job once it ended; the account's generations must be quick."""
        job = self.ask("POST", "/images/generation", json={"modelID": ref, **SMALL, **changes})
        assert (set(job), job["status"]) == ({"jobId", "status"}, "queued")
        return self.ask("GET", f"/jobs/{job['jobId']}")

    def status(self, ref: str) -> str:
        """Return the status of a model."""
        return str(self.ask("GET", f"/models/{ref}")["status"])

    def kept(self) -> int:
        """Return how many pictures of the account are on disk."""
        folder = self.server.home / "objects" / self.account.control("GET", "/account")["id"] / "photogpt"
        return sum(path.is_file() for path in folder.rglob("*"))

    def training(self) -> str:
        """Return the id of the newest training, which the trigger does not tell."""
        return str(self.account.bill()["runs"][-1]["id"])


NewCaller = Callable[..., Caller]


@contextmanager
def callers(server: SandboxServer) -> Iterator[NewCaller]:
    """Yield a function that opens an account, in credits, with these settings of PhotoGPT."""
    with ExitStack() as opened:

        def make(script: dict[str, Any] = ENDLESS, balance: int = 10_000, **photogpt: Any) -> Caller:
            account = server.new_account(billing="credits", balance=balance, script=script, photogpt=photogpt)
            headers = {"Authorization": f"Bearer {account.api_key}", "API-Version": "1", "User-Agent": "tests/1"}
            http = httpx.Client(base_url=f"{server.url}/api", headers=headers, trust_env=False, verify=NO_TLS)
            return Caller(server, account, opened.enter_context(http))

        yield make


def upload(ref: str, content: bytes, kind: str = "modelInput", *, as_json: bool = False) -> dict[str, Any]:
    """Return the parts of an upload, `data` as a plain field or as a part of type JSON."""
    data = json.dumps({"modelID": ref, "type": kind})
    part = (None, data, "application/json") if as_json else (None, data)
    return {"files": {"file": ("a.png", content, "image/png"), "data": part}}


def fetched(url: str, **options: Any) -> httpx.Response:
    """Fetch a picture as anybody could, without a key."""
    return httpx.get(url, trust_env=False, verify=NO_TLS, **options)
