"""Sandbox accounts with an adapter on them, and the shortest ways to an export, a run and a model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from pydantic import SecretStr

from pipeline.models import Export, ModelFacts, Operation, TrainingRun, TrainPlan
from pipeline.provider import ByteStream
from pipeline.provider_requests import PictographRequest
from pipeline.start.planning import resolve_plan
from providers.calls import ClientOptions
from providers.pictograph.adapter import PictographProvider
from providers.pictograph.profile import pictograph_profile
from providers.retry import RetryPolicy
from sandbox.server import SandboxServer
from tests.notes import MemoryNotes
from tests.waiting import eventually

DATASET = "road signs/1"
PROFILE = pictograph_profile(sandbox=True)
DIALECTS = {
    "v1 credits": {"dialect": "v1", "billing": "credits"},
    "v1 dollars": {"dialect": "v1", "billing": "micro_usd"},
    "v2": {"dialect": "v2", "billing": "micro_usd"},
    "both": {"dialect": "both", "billing": "micro_usd"},
}
SHORT = {"mode": "looks", "steps": [{"status": "queued", "for_looks": 1},
         {"status": "running", "for_looks": 2, "epochs": 4}, {"status": "completed"}]}  # fmt: skip
ENDLESS = {"mode": "manual", "steps": [{"status": "queued"}, {"status": "running"}]}
OPERATIONS = itertools.count()
NewAccount = Callable[..., "Account"]


class Account:
    """A sandbox account, an adapter on it, and the shortest ways to an export, a run and a model."""

    def __init__(self, server: SandboxServer, settings: dict[str, Any]) -> None:
        chosen = {"dialect": "v2", "billing": "micro_usd", "engine": "scripted", "script": SHORT, **settings}
        self.control = server.new_account(balance=chosen.pop("balance", 10**9), **chosen)
        self._opened: list[PictographProvider] = []
        self.provider = self.connect(self.control.api_key)

    def connect(self, key: str) -> PictographProvider:
        """Return an adapter with this key that does not wait long between attempts."""
        options = ClientOptions(self.control.url, timeout_s=5.0, retry=RetryPolicy(base_s=0.01))
        self._opened.append(PictographProvider(SecretStr(key), options, PROFILE))
        return self._opened[-1]

    def close(self) -> None:
        """Release every connection."""
        for provider in self._opened:
            provider.close()

    def plan(self, **request: Any) -> TrainPlan:
        """Return the plan of a new operation."""
        asked = PictographRequest(**{"dataset": DATASET, "sandbox": True, "status_filter": None, **request})
        return resolve_plan(asked, PROFILE, Operation(id=f"operation-{next(OPERATIONS)}"))

    def export(self, plan: TrainPlan) -> Export:
        """Return the plan's export, finished."""
        asked = self.provider.find_or_create_export(plan)

        def ended() -> Export | None:
            seen = self.provider.get_export(asked)
            return seen if seen.status.is_terminal else None

        return asked if asked.status.is_terminal else eventually(ended, "the export's end")

    def run(self) -> tuple[TrainPlan, Export, TrainingRun]:
        """Return a new run and what it was made from."""
        plan = self.plan()
        export = self.export(plan)
        return plan, export, self.create(plan, export)

    def create(self, plan: TrainPlan, export: Export) -> TrainingRun:
        """Order a training and create it."""
        notes = MemoryNotes()
        return self.provider.create_run(plan, self.provider.order(plan, export, notes), notes)

    def model(self) -> ModelFacts:
        """Return the model of a run that was watched to its end."""
        return self.provider.get_model(self.finish(self.run()[2]))

    def finish(self, run: TrainingRun) -> TrainingRun:
        """Look until the run has ended."""
        for _ in range(50):
            if run.status.is_terminal:
                return run
            run = self.provider.get_run(run.handle)
        raise AssertionError(f"{run} does not end")

    def paths(self, method: str) -> list[str]:
        """Return the paths that were asked with a method."""
        return [request["path"] for request in self.control.requests() if request["method"] == method]


def read(stream: ByteStream) -> bytes:
    """Return all bytes."""
    return b"".join(stream.chunks)
