"""A Bluesight server in memory for the adapter's unit tests: routes to answers, bodies and types as it sends them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from pipeline.local_requests import BluesightRequest
from pipeline.models import Export, ExportStatus, Operation, ProviderProfile, RunHandle, TrainPlan
from pipeline.start.planning import resolve_plan
from providers.bluesight.adapter import BluesightProvider
from providers.bluesight.profile import bluesight_profile
from providers.bluesight.session import CONNECT_S
from providers.calls import ClientOptions

PROFILE = bluesight_profile(sandbox=False)
EXPORT = Export(
    id="e1", name="tiles", dataset="tiles.h5", status=ExportStatus.COMPLETED, provider_status="local", image_count=6
)
HANDLE = RunHandle(provider="bluesight", run_id="trainingjob-aaaaaaaa", name="fields-1", dataset="tiles.h5")
JOBS = "/training/jobs"
JOB = f"{JOBS}/{HANDLE.run_id}"
MODEL = "model-cccccccc"
Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


def ok(payload: Any) -> httpx.Response:
    """Return a JSON answer."""
    return httpx.Response(200, json=payload)


def refused(status: int, detail: str) -> httpx.Response:
    """Return an error as the server writes it: JSON that says it is plain text."""
    text = json.dumps({"detail": detail})
    return httpx.Response(status, content=text, headers={"Content-Type": "text/plain; charset=utf-8"})


WELCOME = ok({"message": "Welcome to Bluesight API! It is a test."})
INVALID = refused(400, "RequestValidationError: [{'type': 'missing', 'loc': ('body', 'task')}]")


def job_row(**changes: Any) -> dict[str, Any]:
    """Return a job as the API sends it."""
    row = {"task": "classification", "training_file": "file-bbbbbbbb", "validation_file": None,
           "hyperparameters": None, "id": HANDLE.run_id, "created_at": 1_736_000_000, "finished_at": None,
           "status": "running", "error": None, "trained_model": None}  # fmt: skip
    return {**row, **changes}


def file_row(size_bytes: int | None, number: int = 0) -> dict[str, Any]:
    """Return an upload as the API sends it."""
    return {"filename": "x.h5", "bytes": size_bytes, "id": f"file-{number:08d}", "created_at": 1_736_000_000}


@dataclass
class Api:
    """A server in memory: routes to answers (the last one repeats), everything asked, and time that only counts."""

    routes: dict[str, list[Answer]]
    asked: list[httpx.Request] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    profile: ProviderProfile = PROFILE

    @property
    def provider(self) -> BluesightProvider:
        """A fresh adapter of this server."""
        return self.with_key(None)

    def with_key(self, key: str | None, base_url: str = "https://blue.example") -> BluesightProvider:
        """Return an adapter with a key."""
        options = ClientOptions(base_url, CONNECT_S, transport=httpx.MockTransport(self._answer), clock=self)
        return BluesightProvider(None if key is None else SecretStr(key), options, self.profile)

    def lines(self) -> list[str]:
        """Return what was asked, one line each."""
        return [_route(request) for request in self.asked]

    def bodies(self, route: str) -> list[Any]:
        """Return the JSON bodies sent to a route."""
        return [json.loads(request.content) for request in self.asked if _route(request) == route]

    def read_timeouts(self) -> list[float]:
        """Return how long each answer was waited for."""
        return [request.extensions["timeout"]["read"] for request in self.asked]

    def time(self) -> float:
        """Return a fixed moment."""
        return 1_800_000_000.0

    def sleep(self, seconds: float, /) -> None:
        """Count instead of waiting."""
        self.slept.append(seconds)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        answers = self.routes.get(_route(request), [refused(404, "Not Found")])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer


def _route(request: httpx.Request) -> str:
    return f"{request.method} {request.url.raw_path.decode()}"


def api(routes: dict[str, Answer | list[Answer]]) -> Api:
    """Return a server with these routes."""
    return Api({route: answers if isinstance(answers, list) else [answers] for route, answers in routes.items()})


def storing() -> Callable[[httpx.Request], httpx.Response]:
    """Return an upload route that tells the size of the file in the form, and gives each upload an id of its own."""
    stored: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        stored.append(file_in(request))
        return ok(file_row(len(stored[-1]), len(stored)))

    return answer


def file_in(request: httpx.Request) -> bytes:
    """Return the bytes of the only part of a form."""
    boundary = request.headers["Content-Type"].partition("boundary=")[2].encode()
    parts = request.content.split(b"--" + boundary)
    assert len(parts) == 3
    return parts[1].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


def plan(folder: Path, **request: Any) -> TrainPlan:
    """Return the plan of a request whose files and outputs are in a folder; the files need not exist."""
    asked = {"dataset": str(folder / "tiles.h5"), "output_dir": folder / "runs", **request}
    return resolve_plan(BluesightRequest(**asked), PROFILE, Operation(id="operation"))
