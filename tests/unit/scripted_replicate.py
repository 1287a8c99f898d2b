"""A Replicate server in memory for the adapter's unit tests: routes to answers, objects as the API sends them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from pydantic import JsonValue, SecretStr

from pipeline.local_requests import ReplicateRequest
from pipeline.models import (
    Export,
    ExportStatus,
    ModelTask,
    Operation,
    ProviderProfile,
    RunHandle,
    TrainPlan,
)
from pipeline.start.planning import resolve_plan
from providers.calls import ClientOptions
from providers.replicate.adapter import ReplicateProvider
from providers.replicate.profile import replicate_profile
from providers.replicate.values import ReplicateSetup

KEY = "r8_canary0123456789abcdef"
PROFILE = replicate_profile(sandbox=False)
NOW = 1_800_000_000.0
HEX = "ab" * 32
TRAINER = f"lab/trainer:{HEX}"
DESTINATION = "me/signs"
VERSION = f"{DESTINATION}:{'cd' * 32}"
RUN_ID = "zz4ibbonubfz7carwiefibzgga"
WEIGHTS = "https://abc.replicate.delivery/x/weights.zip"
FILE_URL = "https://api.replicate.com/v1/files/file-1"
TRAINER_PATH = f"/v1/models/lab/trainer/versions/{HEX}"
VERSION_PATH = f"/v1/models/me/signs/versions/{'cd' * 32}"
HANDLE = RunHandle(provider="replicate", run_id=RUN_ID, name="n", dataset="data.zip")
EXPORT = Export(id="e", name="data", dataset="data.zip", status=ExportStatus.COMPLETED, provider_status="local")
SETUP = ReplicateSetup(hardware="gpu-t4", task=ModelTask.OBJECT_DETECTION)
Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


def ago(**back: float) -> str:
    """Return a moment before now, as the API writes it."""
    return (datetime.fromtimestamp(NOW, UTC) - timedelta(**back)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def plan(dataset: str | Path = "data.zip", **request: Any) -> TrainPlan:
    """Return the plan of a request."""
    asked = {"trainer": TRAINER, "destination": DESTINATION, "dataset": str(dataset), **request}
    return resolve_plan(ReplicateRequest(**asked), PROFILE, Operation(id="operation"))


def archive(folder: Path, content: bytes = b"not looked into") -> Path:
    """Write a small archive."""
    path = folder / "data.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("a.txt", content)
    return path


def ok(payload: Any, status: int = 200) -> httpx.Response:
    """Return a JSON answer."""
    return httpx.Response(status, json=payload)


def problem(status: int, detail: Any = "no", **further: Any) -> httpx.Response:
    """Return an error answer."""
    body = {"detail": detail, "status": status, **further}
    return httpx.Response(status, json=body, headers={"Content-Type": "application/problem+json"})


def training(**changes: Any) -> dict[str, Any]:
    """Return a training as GET shows it."""
    row = {
        "id": RUN_ID,
        "model": "lab/trainer",
        "version": HEX,
        "status": "processing",
        "input": {"train_data": FILE_URL},
        "output": None,
        "logs": None,
        "error": None,
        "metrics": {},
        "created_at": ago(minutes=1),
        "urls": {"get": f"https://evil.example/v1/trainings/{RUN_ID}"},
    }
    return {**row, **changes}


def done(**changes: Any) -> dict[str, Any]:
    """Return a training that has succeeded."""
    row = {
        "status": "succeeded",
        "output": {"version": VERSION, "weights": WEIGHTS},
        "metrics": {"predict_time": 100.0, "total_time": 130.5},
    }
    return training(**{**row, **changes})


def page(*rows: dict[str, Any], following: str | None = None) -> httpx.Response:
    """Return a page of a list."""
    return ok({"next": following, "previous": None, "results": list(rows)})


def uploaded(**changes: Any) -> dict[str, Any]:
    """Return an uploaded file."""
    return {
        "id": "file-1",
        "name": "data.zip",
        "created_at": ago(minutes=2),
        "expires_at": ago(hours=-24),
        "urls": {"get": FILE_URL},
        **changes,
    }


def schema(training_input: dict[str, Any] | None = None, **components: Any) -> dict[str, Any]:
    """Return a version with a schema; without an argument of a trainer that takes data and epochs."""
    named = training_input or {"properties": {"train_data": {}, "epochs": {}}, "required": ["train_data"]}
    return {
        "id": HEX,
        "openapi_schema": {
            "paths": {"/trainings": {}},
            "components": {"schemas": {"TrainingInput": named, **components}},
        },
    }


def account() -> dict[str, Any]:
    """Return the account."""
    return {"type": "user", "username": "me", "name": "Me"}


def ready_routes(**changes: Answer | list[Answer]) -> dict[str, Answer | list[Answer]]:
    """Return the routes that checking and ordering ask."""
    routes: dict[str, Answer | list[Answer]] = {
        "GET /v1/account": ok(account()),
        f"GET {TRAINER_PATH}": ok(schema()),
        "GET /v1/models/me/signs": ok({"owner": "me", "name": "signs"}),
        "POST /v1/files": ok(uploaded(), 201),
        "GET /v1/files/file-1": ok(uploaded()),
    }
    return {**routes, **changes}


@dataclass
class Api:
    """A server in memory: routes to answers (the last one repeats), everything asked, and time that only counts."""

    routes: dict[str, list[Answer]]
    asked: list[httpx.Request] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    profile: ProviderProfile = PROFILE
    setup: ReplicateSetup = SETUP
    base_url: str = "https://api.replicate.com"

    @property
    def provider(self) -> ReplicateProvider:
        """A fresh adapter of this server."""
        options = ClientOptions(self.base_url, transport=httpx.MockTransport(self._answer), clock=self)
        return ReplicateProvider(SecretStr(KEY), options, self.profile, self.setup)

    def lines(self) -> list[str]:
        """Return what was asked, one line each."""
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.asked]

    def bodies(self, route: str) -> list[Any]:
        """Return the JSON bodies sent to a route."""
        return [json.loads(request.content) for request in self.asked if _route(request) == route]

    def time(self) -> float:
        """Return a moment that goes on with sleeping alone."""
        return NOW + sum(self.slept)

    def sleep(self, seconds: float, /) -> None:
        """Count instead of waiting."""
        self.slept.append(seconds)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.asked.append(request)
        answers = self.routes.get(_route(request), [problem(404, "Not found.")])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer


def _route(request: httpx.Request) -> str:
    return f"{request.method} {request.url.path}"


def api(routes: dict[str, Any], **further: Any) -> Api:
    """Return a server with these routes."""
    listed = {route: answers if isinstance(answers, list) else [answers] for route, answers in routes.items()}
    return Api(listed, **further)


def order(address: JsonValue = FILE_URL, **changes: Any) -> dict[str, JsonValue]:
    """Return an order as it is written down."""
    made: dict[str, JsonValue] = {
        "trainer": TRAINER,
        "destination": DESTINATION,
        "input": {"train_data": address},
        "since": ago(minutes=10),
    }
    return {**made, **changes}
