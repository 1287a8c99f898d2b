"""What the fault tests share: one account, a clock that never waits, the real flow and the real command line."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

import providers.pictograph.profile
from pipeline.models import Operation, RunReport
from pipeline.provider_requests import PictographRequest
from pipeline.report.dossier import read_report
from pipeline.requests import TrainRequest
from sandbox.client import SandboxAccount

DATASET = "ds"
PATIENT_S = 20.0
"""Silence after which our clients hang up: no pause of a busy machine is taken for a fault."""
HASTY_S = 1.0
"""The same for requests that are stalled on purpose."""
STALL_S = 60.0
"""How long a stalled answer is held back, unless the client hangs up before."""

STAGES: dict[str, tuple[str, str]] = {
    "account": ("GET", r"/credits/balance$"),
    "dataset": ("GET", r"/datasets/ds$"),
    "export-create": ("POST", r"/exports/$"),
    "export-get": ("GET", r"/exports/[^/]+$"),
    "export-mint": ("GET", r"/exports/[^/]+/download$"),
    "export-bytes": ("GET", r"^/storage/.*/exports/"),
    "quote": ("POST", r"/training/quote$"),
    "estimate": ("GET", r"/credits/estimate$"),
    "find": ("GET", r"/training/$"),
    "create": ("POST", r"/training/$"),
    "look": ("GET", r"/training/[0-9a-f-]{36}$"),
    "cancel": ("POST", r"/training/[0-9a-f-]{36}/cancel$"),
    "model": ("GET", r"/models/[0-9a-f-]{36}$"),
    "mint": ("GET", r"/models/[0-9a-f-]{36}/download$"),
    "bytes": ("GET", r"^/storage/.*/models/"),
    "ledger": ("GET", r"/credits/history$"),
}
"""Every request of a run, by the stage that makes it: method, and what its path matches."""
BEFORE_PAYING = ("account", "dataset", "export-create", "export-get", "export-mint", "export-bytes", "quote", "find")
"""Stages that come before the paid training, in order, where the server gives quotes."""

RETRIED_STAGES = (
    "plan_training",
    "validate_export",
    "estimate_cost",
    "create_training",
    "download_model",
    "try_hosted_model",
)
"""Names in the flow's module of the stages that Prefect runs again."""


class SkippingClock:
    """The ``time`` module without waiting: a sleep is noted and the time moves on by it."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []

    def time(self) -> float:
        """Return seconds since the epoch."""
        return time.time() + sum(self.sleeps)

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        return time.monotonic() + sum(self.sleeps)

    def sleep(self, seconds: float, /) -> None:
        """Let the given seconds pass at once."""
        self.sleeps.append(seconds)


def skip_waiting(clock: SkippingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the clock where production code takes the ``time`` module, and take the delays off Prefect's retries."""
    import flows.train_pipeline as flow_module
    import providers.connect
    import tasks.collection
    import tasks.creation
    import tasks.deferral
    import tasks.exports
    import tasks.journal
    import tasks.polling

    waiting = (tasks.collection, tasks.creation, tasks.deferral, tasks.exports, tasks.journal, tasks.polling)
    for module in waiting:
        monkeypatch.setattr(module, "time", clock)
    options = functools.partial(providers.connect.ClientOptions, clock=clock)
    monkeypatch.setattr(providers.connect, "ClientOptions", options)
    for name in RETRIED_STAGES:
        stage = getattr(flow_module, name)
        assert stage.retries == 2  # Prefect's part of the promise stays as it is, only its delays go
        monkeypatch.setattr(flow_module, name, stage.with_options(retry_delay_seconds=0))


class Patience:
    """Makes our clients hang up early, and only on the requests that a test stalls."""

    def __init__(self) -> None:
        self._stalled: list[tuple[str, str]] = []

    def lose(self, method: str, path: str) -> None:
        """Hang up early on requests like these."""
        self._stalled.append((method, path))

    def lost(self, send: Callable[..., httpx.Response]) -> Callable[..., httpx.Response]:
        """Return the transport's own way of sending, with the shorter time for an answer where one is due."""

        def hasty(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
            path = request.url.path
            if any(request.method == method and re.search(wanted, path) for method, wanted in self._stalled):
                request.extensions["timeout"] = {**request.extensions["timeout"], "read": HASTY_S}
            return send(transport, request)

        return hasty


def hurry(what: str, monkeypatch: pytest.MonkeyPatch, **limits: float) -> None:
    """Give the sandbox's way of waiting for a ``run`` or an ``export`` other limits."""
    name = f"providers.pictograph.profile._SANDBOX_{what.upper()}_POLL"
    known = getattr(providers.pictograph.profile, name.rpartition(".")[2])
    monkeypatch.setattr(name, known.model_copy(update=limits))


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, without saying where."""

    name: str
    action: str
    rule: dict[str, Any] = field(default_factory=dict)

    def but(self, **changes: Any) -> Fault:
        """Return it with other settings."""
        return Fault(self.name, self.action, {**self.rule, **changes})

    def lost(self, times: int | None = 1) -> Fault:
        """Return it as a lost answer: the request had its effect."""
        return self.but(stage="after", times=times)


def status(code: int, **rule: Any) -> Fault:
    """Return the fault of an answer with this status."""
    return Fault(str(code), "status", {"status": code, **rule})


RESET = Fault("reset", "reset")
CLOSE = Fault("close", "close")
STALL = Fault("stall", "stall", {"seconds": STALL_S})
TRUNCATE = Fault("truncate", "truncate")
GARBAGE = Fault("garbage", "body")
BITFLIP = Fault("bitflip", "bitflip")
REFUSALS = (
    status(500),
    status(502),
    status(503),
    status(503, retry_after="7"),
    status(408),
    status(429, retry_after="5"),
)
BREAKS = (RESET, CLOSE, STALL, TRUNCATE)
PASSING = (*REFUSALS, *BREAKS)
"""Faults that pass by themselves: none of them may end a run."""


@dataclass(frozen=True)
class Ended:
    """How a flow run ended."""

    state: str
    report: RunReport

    @property
    def message(self) -> str:
        """The outcome in one sentence."""
        return self.report.message


@dataclass
class Workbench:
    """One account of the sandbox, and the flow against it."""

    account: SandboxAccount
    clock: SkippingClock
    patience: Patience
    output_dir: Path

    @property
    def stages(self) -> Mapping[str, tuple[str, str]]:
        """Every request of a run, by the stage that makes it: method, and what its path matches."""
        return STAGES

    def request(self, **changes: Any) -> TrainRequest:
        """Return a small request for the sandbox."""
        small = {"dataset": DATASET, "sandbox": True, "samples": 2, "min_agreement": 0.0, "output_dir": self.output_dir}
        return PictographRequest(**{**small, **changes})

    def run(self, **changes: Any) -> Ended:
        """Run the real flow to its end."""
        from flows.train_pipeline import train_pipeline

        state = train_pipeline(self.request(**changes), return_state=True)
        report = read_report(state.result(raise_on_failure=False))
        assert report is not None, f"{state.name}: {state.message}"
        return Ended(state.name or "", report)

    def command(self, *arguments: str) -> int:
        """Run the command line in this process against the sandbox and return its exit code."""
        from flows.commandline import main

        small = ["--sandbox", "--samples", "2", "--min-agreement", "0", "--output-dir", str(self.output_dir)]
        dataset = [] if "--dataset" in arguments else ["--dataset", DATASET]
        return main([*small, *dataset, *arguments])

    def break_stage(self, where: str, faults: Iterable[Fault], **rule: Any) -> None:
        """Let faults strike the requests of a stage, one after the other."""
        method, path = self.stages[where]
        for fault in faults:
            if fault.action == "stall":
                self.patience.lose(method, path)
            self.account.fault(fault.action, method=method, path=path, **{**fault.rule, **rule})

    def hits(self) -> list[int]:
        """Return how often each fault struck, in the order they were added."""
        return [fault["hits"] for fault in self.account.faults()]

    def sent(self, where: str) -> list[dict[str, Any]]:
        """Return the requests a stage made."""
        method, path = self.stages[where]
        log = self.account.requests()
        return [entry for entry in log if entry["method"] == method and re.search(path, entry["path"])]

    def active(self) -> int:
        """Return how many trainings still go on, and are billed for it."""
        return int(self.account.bill()["active_runs"])

    def started(self) -> int:
        """Return how many paid trainings the sandbox's books show."""
        return int(self.account.bill()["started_runs"])

    def good_model(self, operation: str, **changes: Any) -> Path:
        """Put a good model of an earlier time where this operation's will go."""
        from pipeline.start.planning import resolve_plan
        from providers.pictograph.profile import pictograph_profile

        plan = resolve_plan(self.request(**changes), pictograph_profile(sandbox=True), Operation(id=operation))
        plan.output_dir.mkdir(parents=True)
        target = plan.output_dir / "model.onnx"
        target.write_bytes(b"the good model of last night")
        return target


def leftovers(folder: Path) -> list[str]:
    """Return unfinished files."""
    return [path.name for path in folder.rglob("*.part")]
