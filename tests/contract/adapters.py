"""One bench for every adapter: an account of its vendor at the sandbox, and the shortest ways to a training."""

from __future__ import annotations

import itertools
import json
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import httpx
from pydantic import JsonValue, SecretStr

from pipeline.errors import ProviderError
from pipeline.journal.bookkeeping import AttemptLog
from pipeline.journal.store import Journal
from pipeline.models import (
    Export,
    ExportReport,
    ExportStatus,
    Operation,
    ProviderProfile,
    RunHandle,
    RunStatus,
    SamplePicture,
    TrainingRun,
    TrainPlan,
)
from pipeline.provider import Provider
from pipeline.requests import TrainRequest
from pipeline.start.creation import Creating, create_once
from pipeline.start.planning import resolve_plan
from providers.calls import ClientOptions
from providers.retry import DEFAULT, ONCE, RetryPolicy
from sandbox.client import SandboxAccount
from sandbox.launch import NO_TLS
from sandbox.server import SandboxServer
from tests.contract.photogpt_calls import picture
from tests.contract.vendors import DATASET, VENDORS, Connection, Route, Vendor
from tests.intents import intent_of
from tests.notes import MemoryNotes
from tests.waiting import eventually

T = TypeVar("T")
STEPS = [{"status": "queued"}, {"status": "running", "for_looks": 2, "epochs": 4}, {"status": "completed"}]
"""Moved by hand: one step to begin, two to be half through, three to be done."""
RUNNING, HALFWAY, DONE = 1, 2, 3
PLENTY = 10**9
_OPERATIONS = itertools.count()


@dataclass
class Hurried:
    """The ``time`` module, but for waiting: sleeping only moves the hands."""

    slept_s: list[float] = field(default_factory=list)
    """What was waited for, in turn."""

    def time(self) -> float:
        """Return seconds since the epoch, with what was slept."""
        return time.time() + sum(self.slept_s)

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        return time.monotonic() + sum(self.slept_s)

    def sleep(self, seconds: float, /) -> None:
        """Wait for no time at all."""
        self.slept_s.append(seconds)


class Listening(httpx.BaseTransport):
    """The network, with an ear on what it answers."""

    def __init__(self) -> None:
        self._network = httpx.HTTPTransport(verify=NO_TLS)
        self.heard: list[tuple[str, str, Any]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and remember the JSON it was answered with."""
        response = self._network.handle_request(request)
        content = response.read()
        self.heard.append((request.method, request.url.path, json.loads(content)))
        return httpx.Response(response.status_code, headers=response.headers, content=content)

    def close(self) -> None:
        """Release connections."""
        self._network.close()


@dataclass(frozen=True)
class Ordered:
    """A training that is ready to be created."""

    plan: TrainPlan
    order: dict[str, JsonValue]
    notes: MemoryNotes


@dataclass
class Bench:
    """An account, adapters on it, and whatever a test needs to get them into trouble."""

    name: str
    vendor: Vendor
    control: SandboxAccount
    folder: Path
    request: TrainRequest
    """The least request, its training data in the folder."""
    clock: Hurried = field(default_factory=Hurried)
    _opened: list[Provider] = field(default_factory=list)
    _export: Export | None = None

    @property
    def profile(self) -> ProviderProfile:
        """The facts that expectations are computed from."""
        return self.vendor.profile(sandbox=True)

    def adapter(
        self,
        *,
        key: str | None = None,
        timeout_s: float = 5.0,
        retry: RetryPolicy = DEFAULT,
        profile: ProviderProfile | None = None,
        transport: httpx.BaseTransport | None = None,
        address: str | None = None,
    ) -> Provider:
        """Return an adapter that nobody has used yet, as another process would have it."""
        base = (address or self.control.url) + self.vendor.base
        options = ClientOptions(base, timeout_s=timeout_s, retry=retry, clock=self.clock, transport=transport)
        secret = SecretStr(key or self.control.api_key)
        made = Connection(secret, options, profile or self.profile, self.request)
        self._opened.append(self.vendor.adapter(made))
        return self._opened[-1]

    @cached_property
    def once(self) -> Provider:
        """An adapter that sends nothing twice, so that one fault is what it sees."""
        return self.adapter(retry=ONCE)

    def close(self) -> None:
        """Release every connection."""
        for provider in self._opened:
            provider.close()

    def plan(self, **request: Any) -> TrainPlan:
        """Return the plan of a new operation."""
        asked = self.request.model_copy(update=request)
        return resolve_plan(asked, self.profile, Operation(id=f"operation-{next(_OPERATIONS)}"))

    def export(self, plan: TrainPlan) -> Export:
        """Return what is trained on: one finished export there, or what stands for the local data."""
        if self._export is None:
            self._export = self._finished(plan) if self.profile.data == "export" else _local(plan)
        return self._export

    def _finished(self, plan: TrainPlan) -> Export:
        provider = self.adapter()
        asked = provider.find_or_create_export(plan)

        def ended() -> Export | None:
            seen = provider.get_export(asked)
            return seen if seen.status.is_terminal else None

        return eventually(ended, "the export's end")

    def report(self, plan: TrainPlan) -> ExportReport:
        """Return what an inspection of the training data would have kept: one picture of it."""
        sample = self.folder / "sample.png"
        sample.write_bytes(picture())
        samples = (SamplePicture(path=sample),)
        return ExportReport(
            export=self.export(plan), classes=(), findings=(), content_fingerprint="0" * 64, samples=samples
        )

    def order(self) -> Ordered:
        """Return a new training that is prepared; what is sent went through JSON, as the journal keeps it."""
        plan, notes = self.plan(), MemoryNotes()
        order = self.adapter().order(plan, self.export(plan), notes)
        return Ordered(plan, json.loads(json.dumps(order)), notes)

    def create(self, ready: Ordered, provider: Provider | None = None) -> TrainingRun:
        """Start it, by an adapter that has not seen it before unless one is named."""
        return (provider or self.adapter()).create_run(ready.plan, ready.order, ready.notes)

    def run(self) -> TrainingRun:
        """Return a new run."""
        return self.create(self.order())

    def create_once(self, plan: TrainPlan) -> TrainingRun:
        """Create the plan's run as a process of its own would: by the journal's word and the core's rules."""
        journal = Journal(str(self.folder / "journal.db"))
        try:
            log = AttemptLog(journal, intent_of(plan, None), time)
            work = Creating(self.adapter(), plan, log, self.clock)
            return create_once(work, self.export(plan))
        finally:
            journal.close()

    def moved(self, run: TrainingRun, steps: int) -> TrainingRun:
        """Move a run so many steps on and look at it."""
        # A vendor's run may have another id than what is billed for it; the name is then the same.
        ids = (run.handle.run_id, run.handle.name)
        line = next(line for line in self.control.bill()["runs"] if line["id"] in ids or line["name"] in ids)
        self.control.advance(line["id"], steps)
        return self.adapter().get_run(run.handle)

    def look_at(self, run: TrainingRun) -> Any:
        """Return the vendor's own answer to a look, as it came over the wire."""
        heard = Listening()
        provider = self.adapter(transport=heard)
        provider.get_run(run.handle)
        return next(body for method, path, body in heard.heard if self.vendor.look.matches(method, path))

    def started(self) -> int:
        """Return how many trainings were begun, wanted or not."""
        return int(self.control.bill()["started_runs"])

    def fault(self, route: Route, *, times: int | None = None, **rule: Any) -> None:
        """Let a call fail, until faults are cleared."""
        action = rule.pop("action")
        self.control.fault(action, method=route.method, path=route.path, times=times, **rule)

    def asked(self, route: Route | None = None) -> list[dict[str, Any]]:
        """Return the requests of this account, all of them or one call's."""
        found = self.control.requests()
        return [one for one in found if route is None or route.matches(one["method"], one["path"])]

    def unknown(self, like: RunHandle) -> RunHandle:
        """Return the handle of a run that does not exist, with an id of the right form."""
        # Digits of hex stay such digits, all characters change, and what an id begins with stays.
        turned = str.maketrans("0123456789abcdef" + "ghijklmnopqrstuvwxyz", "123456789abcdef0" + "hijklmnopqrstuvwxyzg")
        head, dash, tail = like.run_id.rpartition("-")
        return like.model_copy(update={"run_id": head + dash + tail.translate(turned)})


@contextmanager
def opened(server: SandboxServer, name: str, folder: Path, **settings: Any) -> Iterator[Bench]:
    """Open an account of a vendor, with adapters that never wait."""
    vendor = VENDORS[name]
    chosen = {"engine": "scripted", "script": {"mode": "manual", "steps": STEPS}, **vendor.settings, **settings}
    control = server.new_account(balance=PLENTY, **chosen)
    bench = Bench(name, vendor, control, folder, vendor.request(folder))
    if bench.profile.data == "export":
        control.add_dataset(DATASET, count=bench.profile.min_images, size=32)
    try:
        yield bench
    finally:
        bench.close()


def _local(plan: TrainPlan) -> Export:
    about = plan.request.data_name
    return Export(id=about, name=about, dataset=about, status=ExportStatus.COMPLETED, provider_status="local")


def tried(call: Callable[[], T]) -> T | ProviderError:
    """Return what a call gives, or the error it ends in."""
    try:
        return call()
    except ProviderError as error:
        return error


def whole_story(error: BaseException, records: list[logging.LogRecord]) -> str:
    """Return everything that an error and the log would show somebody."""
    logged = [record.getMessage() for record in records]
    return "\n".join([*traceback.format_exception(error), repr(error), repr(getattr(error, "context", "")), *logged])


def in_flight(run: TrainingRun) -> bool:
    """Tell whether a run is neither over nor something nobody understands."""
    return run.status in {RunStatus.PENDING, RunStatus.QUEUED, RunStatus.RUNNING}
