"""Our adapter and the vendor's published clients put the same requests on the wire, call by call, field by field.

Two clients are the referees: the current one, in this process, and one of the first era, in an interpreter of its own.
Every difference that is meant to be is listed below with its reason, and one that is listed but does not occur fails.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs
from uuid import uuid4

import pytest
from pydantic import SecretStr

from pipeline.models import Export, Operation, TrainingRun, TrainPlan
from pipeline.provider_requests import PictographRequest
from pipeline.start.planning import resolve_plan
from providers.calls import ClientOptions
from providers.pictograph.adapter import PictographProvider
from providers.pictograph.profile import pictograph_profile
from providers.pictograph.values import ModelRecord, TrainingSpec
from sandbox.server import SandboxServer
from tests.contract import client_calls
from tests.contract.published_clients import Client, InProcess, OwnInterpreter
from tests.waiting import eventually

DATASET, EXPORT, MODEL = "road signs", "night 1", "signs model"
AWKWARD = "a/b ü?%2F#"
CONFIG: dict[str, Any] = {"epochs": 3, "image_size": 64}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
KEY = "0123456789abcdef" * 2
SCRIPT = {"mode": "looks", "steps": [{"status": "running", "for_looks": 1, "epochs": 2}, {"status": "completed"}]}
T = TypeVar("T", Export, TrainingRun)
COMPARED_HEADERS = ("accept", "accept-encoding", "content-type", "idempotency-key", "x-api-key")


@dataclass(frozen=True)
class Request:
    """One request, with everything that differs between two accounts taken out."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: Any
    headers: dict[str, str]


@dataclass(frozen=True)
class Difference:
    """What our adapter may do otherwise than a client."""

    reason: str
    query: dict[str, list[str]] = field(default_factory=dict)
    """Ours sends these parameters in addition."""
    last_page: bool = False
    """Ours sends one more request for a page."""

    def applied_to(self, theirs: list[Request]) -> list[Request]:
        """Return what ours must look like."""
        first, *rest = theirs
        expected = [Request(first.method, first.path, {**first.query, **self.query}, first.body, first.headers), *rest]
        if self.last_page:
            rows = {"offset": ["N"]}
            expected.append(Request(first.method, first.path, {**first.query, **rows}, first.body, first.headers))
        return expected


SHORT_PAGE = Difference("A short page is no end: a server-side cap would hide paid runs.", last_page=True)
DIFFERENCES: dict[tuple[str, str], Difference] = {
    ("1.0", "datasets.list"): Difference("Ours pages every list alike, as 1.0 itself does in iter.", {"offset": ["0"]}),
    ("1.0", "models.download"): Difference("Ours names the format it reads, as 1.4 does.", {"format": ["onnx"]}),
    ("1.0", "credits.iter"): SHORT_PAGE,
    ("1.0", "datasets.iter"): SHORT_PAGE,
    ("1.0", "exports.iter"): SHORT_PAGE,
    ("1.0", "training.iter"): SHORT_PAGE,
    ("1.0", "models.iter"): SHORT_PAGE,
}
"""On top of these, in every request: User-Agent, the key's value, the idempotency key's value, and on signed addresses
Accept-Encoding (ours is ``identity``: a compressed answer has another digest and cannot be resumed)."""


def ended(seen: T) -> T | None:
    """Return an export or run that has ended."""
    return seen if seen.status.is_terminal else None


class Side:
    """An account with the same content as the other side's."""

    def __init__(self, server: SandboxServer, settings: dict[str, Any]) -> None:
        self.account = server.new_account(balance=10**9, engine="scripted", script=SCRIPT, **settings)
        self.account.add_dataset(DATASET, count=8)
        self.account.add_dataset(AWKWARD, count=1)
        profile = pictograph_profile(sandbox=True)
        self.provider = PictographProvider(SecretStr(self.account.api_key), ClientOptions(self.account.url), profile)
        request = PictographRequest(dataset=DATASET, sandbox=True, status_filter=None)
        self.plan: TrainPlan = resolve_plan(request, profile, Operation(id="parity"))
        self.provider.check_account(self.plan)
        self.provider.credits.unit()
        asked = self.provider.exports.create(DATASET, EXPORT, include_images=True)
        self.export = eventually(lambda: ended(self.provider.get_export(asked)), "the export's end")
        self.run_id = self.new_run("finished")
        run = eventually(lambda: ended(self.provider.training.get(self.run_id)), "the run's end")
        self.model: ModelRecord = self.provider.models.get(run.model_id or "")
        self.account.configure(script={"mode": "manual", "steps": [{"status": "running"}]})
        self.live_run = self.new_run("live")
        self.other_live_run = self.new_run("live too")

    def new_run(self, name: str) -> str:
        """Start a run and return its id."""
        spec = TrainingSpec(dataset=DATASET, export=EXPORT, pipeline="yolox")
        return self.provider.training.create(spec, name, key=uuid4().hex).handle.run_id

    def capture(self, act: Callable[[], object]) -> list[dict[str, Any]]:
        """Return the requests an action makes."""
        before = len(self.account.requests())
        act()
        return list(self.account.requests()[before:])


@dataclass
class Pair:
    """Two like accounts: a published client works on one, our adapter on the other."""

    era: str
    client: Client
    theirs: Side
    ours: Side


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    """One sandbox for this file."""
    with SandboxServer(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


def make_pair(
    server: SandboxServer, era: str, client_type: type[InProcess | OwnInterpreter], **settings: Any
) -> Iterator[Pair]:
    """Prepare both accounts, and release everything afterwards."""
    theirs, ours = Side(server, settings), Side(server, settings)
    client = client_type(theirs.account.api_key, theirs.account.url)
    yield Pair(era, client, theirs, ours)
    client.close()
    theirs.provider.close()
    ours.provider.close()


@pytest.fixture(scope="module")
def current(server: SandboxServer) -> Iterator[Pair]:
    """The current client against today's dialect."""
    yield from make_pair(server, "1.69", InProcess, dialect="v2", billing="micro_usd")


@pytest.fixture(scope="module")
def first(server: SandboxServer) -> Iterator[Pair]:
    """A client of the first era against its dialect."""
    yield from make_pair(server, "1.0", OwnInterpreter, dialect="v1", billing="credits")


def plain(entry: dict[str, Any]) -> Request:
    """Take out of a logged request what cannot be the same on both sides."""
    signed = entry["path"].startswith("/storage/")
    headers = {name: entry["headers"][name] for name in COMPARED_HEADERS if name in entry["headers"]}
    if "idempotency-key" in headers:
        headers["idempotency-key"] = re.sub(r"^[0-9a-f]{32}$", "32 hex", headers["idempotency-key"])
    if "x-api-key" in headers:
        headers["x-api-key"] = "a key"
    if signed:
        headers.pop("accept-encoding")
    body = json.loads(UUID.sub("U", entry["body"])) if entry["body"] else None
    query = {} if signed else parse_qs(entry["query"], keep_blank_values=True)
    return Request(entry["method"], UUID.sub("U", entry["path"]), query, body, headers)


def read(stream: Any) -> None:
    """Open and read a transfer."""
    with stream as opened:
        for _ in opened.chunks:
            pass


@dataclass(frozen=True)
class Call:
    """One call, as a published client and as our adapter make it."""

    target: str
    theirs: Callable[[Side, str, Path], tuple[list[Any], dict[str, Any]]]
    ours: Callable[[Side], object]


def fixed(*args: Any, **kwargs: Any) -> Callable[[Side, str, Path], tuple[list[Any], dict[str, Any]]]:
    """Return arguments that depend on nothing."""
    return lambda _side, _era, _folder: (list(args), kwargs)


def by_id(pick: Callable[[Side], str], parameter: str) -> Callable[[Side, str, Path], tuple[list[Any], dict[str, Any]]]:
    """Return an id: positional in the first era, where there was nothing else to name an object by."""
    return lambda side, era, _: ([pick(side)], {}) if era == "1.0" else ([], {parameter: pick(side)})


SPEC = TrainingSpec(dataset=DATASET, export=EXPORT, pipeline="yolox", gpu="a100", config=CONFIG)
EXPORT_FILTERS: dict[str, Any] = {"include_images": True, "class_filter": ["stop"], "status_filter": "complete"}
BOTH_ERAS = (
    Call("credits.balance", fixed(), lambda s: s.provider.credits.balance()),
    Call("credits.history", fixed(limit=5, offset=2), lambda s: s.provider.credits.history(limit=5, offset=2)),
    Call("credits.iter", fixed(), lambda s: list(s.provider.credits.iter())),
    Call("credits.estimate", fixed("training_a10g", quantity=30),
         lambda s: s.provider.credits.estimate("training_a10g", quantity=30)),
    Call("datasets.list", fixed(limit=7), lambda s: s.provider.datasets.list(limit=7)),
    Call("datasets.iter", fixed(), lambda s: list(s.provider.datasets.iter())),
    Call("datasets.get", fixed(DATASET), lambda s: s.provider.datasets.get(DATASET)),
    Call("exports.create", fixed(DATASET, "day", wait=False, **EXPORT_FILTERS),
         lambda s: s.provider.exports.create(DATASET, "day", include_images=True, class_filter=("stop",),
                                             status_filter="complete")),
    Call("exports.list", fixed(dataset_name=DATASET, status="completed", limit=9, offset=1),
         lambda s: s.provider.exports.list(dataset=DATASET, status="completed", limit=9, offset=1)),
    Call("exports.iter", fixed(dataset_name=DATASET), lambda s: list(s.provider.exports.iter(dataset=DATASET))),
    Call("exports.get", fixed(DATASET, EXPORT), lambda s: s.provider.get_export(s.export)),
    Call("exports.download", lambda _side, _era, folder: ([DATASET, EXPORT, str(folder / "export.zip")], {}),
         lambda s: read(s.provider.open_export(s.export))),
    Call("training.create", fixed(DATASET, EXPORT, pipeline_type="yolox", name="new", gpu_type="a100", config=CONFIG,
                                  wait=False),
         lambda s: s.provider.training.create(SPEC, "new", key=KEY)),
    Call("training.list", fixed(dataset_name=DATASET, limit=3),
         lambda s: s.provider.training.list(dataset=DATASET, limit=3)),
    Call("training.iter", fixed(page_size=50, dataset_name=DATASET),
         lambda s: list(s.provider.training.iter(dataset=DATASET, page_size=50))),
    Call("training.get", by_id(lambda s: s.run_id, "run_id"), lambda s: s.provider.training.get(s.run_id)),
    Call("training.cancel", by_id(lambda s: s.live_run, "run_id"), lambda s: s.provider.training.cancel(s.live_run)),
    Call("models.list", fixed(limit=10, status="ready", model_type="object_detection", dataset_name=DATASET),
         lambda s: s.provider.models.list(limit=10, status="ready", model_type="object_detection",
                                          dataset_name=DATASET)),
    Call("models.iter", fixed(page_size=50), lambda s: list(s.provider.models.iter(page_size=50))),
    Call("models.get", by_id(lambda s: s.model.id, "model_id"), lambda s: s.provider.models.get(s.model.id)),
    Call("models.download",
         lambda side, era, folder: ([side.model.id, str(folder / "m")], {}) if era == "1.0"
         else ([], {"model_id": side.model.id, "output_path": str(folder / "m")}),
         lambda s: read(s.provider.models.open(s.model))),
)  # fmt: skip
CURRENT_ERA = (
    Call("datasets.get", fixed(AWKWARD), lambda s: s.provider.datasets.get(AWKWARD)),
    Call("training.quote", fixed(DATASET, EXPORT, pipeline_type="yolox", gpu_type="a100", config=CONFIG),
         lambda s: s.provider.training.quote(SPEC)),
    Call("training.bulk_cancel", lambda side, _era, _folder: ([[side.other_live_run]], {}),
         lambda s: s.provider.training.bulk_cancel((s.other_live_run,))),
    Call("jobs.list", fixed(status="active", type="training", page_size=100),
         lambda s: list(s.provider.jobs.iter_active())),
    Call("models.versions", by_id(lambda s: s.model.id, "model_id"), lambda s: s.provider.models.versions(s.model.id)),
    Call("models.files", by_id(lambda s: s.model.id, "model_id"), lambda s: s.provider.models.files(s.model.id)),
)  # fmt: skip
DELETING = Call(
    "models.delete", by_id(lambda s: s.model.id, "model_id"), lambda s: s.provider.models.delete(s.model.id)
)


def compare(pair: Pair, call: Call, folder: Path) -> None:
    """Make a call on both sides and compare everything that was sent."""
    args, kwargs = call.theirs(pair.theirs, pair.era, folder)
    outcome: list[str] = []
    theirs = pair.theirs.capture(lambda: outcome.append(pair.client.call(call.target, args, kwargs)))
    assert outcome == ["ok"], f"the published client could not make the call: {outcome}"
    ours = pair.ours.capture(lambda: call.ours(pair.ours))
    allowed = DIFFERENCES.get((pair.era, call.target))
    sent, expected = [plain(entry) for entry in ours], [plain(entry) for entry in theirs]
    if allowed is not None:
        assert sent != expected, f"{call.target} does not differ any more: {allowed.reason}"
        expected = allowed.applied_to(expected)
        if allowed.last_page:
            sent[-1].query["offset"] = ["N"]
    assert sent == expected
    assert [entry["status"] for entry in ours][: len(theirs)] == [entry["status"] for entry in theirs]
    for entry in ours:
        assert entry["headers"]["user-agent"].startswith("train-pipeline/")


@pytest.mark.parametrize("call", [*BOTH_ERAS, *CURRENT_ERA, DELETING], ids=lambda call: call.target)
def test_the_current_client_sends_the_same(current: Pair, call: Call, tmp_path: Path) -> None:
    """Method, path, query, body and headers agree with the current client's in every call."""
    compare(current, call, tmp_path)


@pytest.mark.parametrize("call", [*BOTH_ERAS, DELETING], ids=lambda call: call.target)
def test_a_client_of_the_first_era_sends_the_same(first: Pair, call: Call, tmp_path: Path) -> None:
    """The same against a server of the first era, but for the differences listed with their reasons."""
    compare(first, call, tmp_path)


def test_every_listed_difference_belongs_to_a_call() -> None:
    """No difference is listed for a call that is not compared."""
    assert {target for _, target in DIFFERENCES} <= {call.target for call in (*BOTH_ERAS, *CURRENT_ERA, DELETING)}


def test_the_key_travels_as_the_clients_send_it(current: Pair) -> None:
    """API calls carry the key in X-API-Key and nowhere else; signed addresses carry none."""
    entries = current.ours.account.requests()
    assert any(entry["path"].startswith("/storage/") for entry in entries)
    for entry in entries:
        assert ("x-api-key" in entry["headers"]) != entry["path"].startswith("/storage/")
        assert "authorization" not in entry["headers"]


def test_the_calls_script_needs_nothing_of_ours() -> None:
    """The script for the other interpreter imports only the standard library and the vendor's client."""
    source = Path(client_calls.__file__).read_text()
    imported = set(re.findall(r"^\s*(?:from|import) (\w+)", source, re.MULTILINE))
    assert imported - sys.stdlib_module_names == {"pictograph"}
