"""A Pictograph server in memory for the adapter's unit tests: routes to answers, rows as the API sends them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import JsonValue, SecretStr

from pipeline.models import Export, ExportStatus, Operation, ProviderProfile, RunHandle, TrainPlan
from pipeline.provider_requests import PictographRequest
from pipeline.start.planning import resolve_plan
from providers.calls import ClientOptions
from providers.pictograph.adapter import API_PREFIX, PictographProvider
from providers.pictograph.profile import pictograph_profile

PROFILE = pictograph_profile(sandbox=False)
EXPORT = Export(id="e1", name="ex 1", dataset="road-signs", status=ExportStatus.COMPLETED, provider_status="completed")
ORDER: dict[str, JsonValue] = {
    "dataset": "road-signs",
    "export": "ex 1",
    "pipeline": "yolox",
    "gpu": "a10g",
    "config": {},
}
HANDLE = RunHandle(provider="pictograph", run_id="11111111-1111-4111-8111-111111111111", name="n", dataset="road-signs")
Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


def plan(**request: Any) -> TrainPlan:
    """Return the plan of a request for the road signs."""
    return resolve_plan(PictographRequest(dataset="road-signs", **request), PROFILE, Operation(id="operation"))


def ok(payload: Any, status: int = 200) -> httpx.Response:
    """Return a JSON answer."""
    return httpx.Response(status, json=payload)


def refused(status: int, message: str = "no") -> httpx.Response:
    """Return an error answer."""
    return httpx.Response(status, json={"detail": message})


def run_row(**changes: Any) -> dict[str, Any]:
    """Return a run as the API sends it."""
    row = {"id": HANDLE.run_id, "organization_id": "o", "name": "n", "pipeline_type": "yolox", "status": "running",
           "created_at": "2026-05-12T12:00:00Z"}  # fmt: skip
    return {**row, **changes}


def model_row(**changes: Any) -> dict[str, Any]:
    """Return a model as the API sends it."""
    row = {"id": "m1", "name": "signs", "model_type": "object_detection", "status": "ready",
           "class_mapping": {"classes": ["stop", "yield"]}, "metrics": {"mAP": 0.5}}  # fmt: skip
    return {**row, **changes}


def export_row(**changes: Any) -> dict[str, Any]:
    """Return an export as the API sends it."""
    return {"id": "e1", "dataset_name": "road-signs", "name": "ex 1", "status": "completed", **changes}


@dataclass
class Api:
    """A server in memory: routes to answers (the last one repeats), everything asked, and time that only counts."""

    routes: dict[str, list[Answer]]
    asked: list[httpx.Request] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    profile: ProviderProfile = PROFILE

    @property
    def provider(self) -> PictographProvider:
        """A fresh adapter of this server."""
        options = ClientOptions("https://api.example", transport=httpx.MockTransport(self._answer), clock=self)
        return PictographProvider(SecretStr("pk_live_key"), options, self.profile)

    def lines(self) -> list[str]:
        """Return what was asked, one line each, below the API's prefix."""
        return [f"{request.method} {_below(request)}" for request in self.asked]

    def bodies(self, route: str) -> list[Any]:
        """Return the JSON bodies sent to a route."""
        return [json.loads(request.content) for request in self.asked if _route(request) == route]

    def time(self) -> float:
        """Return a fixed moment."""
        return 1_800_000_000.0

    def sleep(self, seconds: float, /) -> None:
        """Count instead of waiting."""
        self.slept.append(seconds)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answers = self.routes.get(_route(request), [refused(404, "no such route")])
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer


def _below(request: httpx.Request) -> str:
    return request.url.raw_path.decode().removeprefix(API_PREFIX)


def _route(request: httpx.Request) -> str:
    return f"{request.method} {_below(request).partition('?')[0]}"


def api(routes: dict[str, Answer | list[Answer]]) -> Api:
    """Return a server with these routes."""
    return Api({route: answers if isinstance(answers, list) else [answers] for route, answers in routes.items()})


QUOTE = {
    "dataset_id": "d", "gpu_type": "a100", "fits": True, "can_start": True, "image_count": 9,
    "estimate": {"minutes": 12.5, "micro_usd_per_minute": 40_000, "total_micro_usd": 500_000},
    "balance": {"budget_remaining_micro_usd": 9_000_000, "covers_estimate": True},
}  # fmt: skip


def old_server(name: str = "road%2Fsigns") -> dict[str, Answer | list[Answer]]:
    """Return the routes of a server of the first era."""
    return {
        "GET /datasets/": ok({"datasets": []}),
        f"GET /datasets/by-name/{name}": ok({"dataset": {"id": "d", "name": "x"}}),
        f"GET /exports/{name}/ex%201": ok({"export": export_row()}),
    }


def new_server(name: str = "road%2Fsigns") -> dict[str, Answer | list[Answer]]:
    """Return the routes of a server of today."""
    return {
        "GET /datasets/": ok({"data": [], "pagination": {"has_more": False}}),
        f"GET /datasets/{name}": ok({"data": {"id": "d", "name": "x"}}),
        "GET /exports/ex%201": ok({"data": export_row()}),
    }


def paged(rows: list[dict[str, Any]], cap: int, style: str) -> Callable[[httpx.Request], httpx.Response]:
    """Return a list route that caps its pages below what is asked."""

    def answer(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        page = rows[offset : offset + cap]
        if style == "v1":
            return ok({"training_runs": page})
        return ok({"data": page, "pagination": {"has_more": offset + cap < len(rows)}})

    return answer
