"""A PhotoGPT server in memory for the adapter's unit tests: models, pictures and jobs, faults in front or behind."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from pydantic import SecretStr

from pipeline.local_requests import PhotogptRequest
from pipeline.models import Export, ExportStatus, Operation, ProviderProfile, RunHandle, TrainPlan
from pipeline.start.planning import resolve_plan
from providers.calls import ClientOptions
from providers.photogpt.adapter import PhotogptProvider
from providers.photogpt.profile import photogpt_profile
from tests.notes import MemoryNotes
from tests.unit.conftest import picture_bytes

BASE = "https://photogpt.example/api"
KEY = "pg_canary0123456789"
PROFILE = photogpt_profile(sandbox=False)
EXPORT = Export(id="e", name="p", dataset="p", status=ExportStatus.COMPLETED, provider_status="local")
NOW_S = 1_800_000_000.0


def make_folder(home: Path, count: int = 12) -> Path:
    """Return a folder of pictures whose names nobody may learn."""
    folder = home / "anna"
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"secret-{number:02}.png").write_bytes(picture_bytes(f"face {number}", 32))
    return folder


def make_plan(folder: Path, **request: Any) -> TrainPlan:
    """Return the plan of a request for a folder of pictures."""
    facts = {"dataset": str(folder), "age": 34, "gender": "Female", "output_dir": folder.parent / "runs", **request}
    return resolve_plan(PhotogptRequest(**facts), PROFILE, Operation(id="operation"))


def handle_of(model_id: str) -> RunHandle:
    """Return the handle of a model's training."""
    return RunHandle(provider="photogpt", run_id=model_id, name="anna-portrait-x", dataset="anna")


def ok(result: Any, **more: Any) -> httpx.Response:
    """Return a success in the vendor's envelope."""
    return httpx.Response(200, json={"status": "OK", "result": result, **more})


def nok(status: int, message: str = "no") -> httpx.Response:
    """Return a refusal in the vendor's envelope."""
    return httpx.Response(status, json={"status": "NOK", "message": message, "err": "code_1", "result": None})


def moment(at_s: float) -> str:
    """Return a time as the API writes it."""
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


@dataclass
class After:
    """The call has its effect, and its answer is lost in this way."""

    answer: httpx.Response | Exception


Fault = httpx.Response | Exception | After | None


@dataclass
class Server:
    """PhotoGPT in memory; ``faults`` of a route are met in turn, None lets a call through."""

    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    pictures: dict[str, list[str]] = field(default_factory=dict)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    asked: list[httpx.Request] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    shows_name: bool = False
    models_page: int | None = None
    on_train: Callable[[str], None] | None = None
    images_hook: Callable[[httpx.Request, str], httpx.Response] | None = None
    now_s: float = NOW_S
    profile: ProviderProfile = PROFILE
    made: int = 0

    @property
    def provider(self) -> PhotogptProvider:
        """A fresh adapter of this server, as a new process has it."""
        options = ClientOptions(BASE, transport=httpx.MockTransport(self._answer), clock=self)
        return PhotogptProvider(SecretStr(KEY), options, self.profile)

    def time(self) -> float:
        """Return the time, which only sleeping moves."""
        return self.now_s

    def sleep(self, seconds: float, /) -> None:
        """Let time pass at once."""
        self.slept.append(seconds)
        self.now_s += seconds

    def lines(self) -> list[str]:
        """Return what was asked, without queries."""
        return [_line(request) for request in self.asked]

    def count(self, route: str) -> int:
        """Return how often a route was asked for."""
        return sum(re.fullmatch(route, line) is not None for line in self.lines())

    def add_model(self, model_id: str, status: str = "new", **about: Any) -> str:
        """Add a model as somebody else would."""
        self.models[model_id] = {"id": model_id, "status": status, "createdAt": moment(self.now_s),
                                 "updatedAt": moment(self.now_s), "modelType": "identity", "about": about}  # fmt: skip
        self.pictures.setdefault(model_id, [])
        return model_id

    def add_job(self, model_id: str, status: str = "success", **facts: Any) -> str:
        """Add a job about a model."""
        job_id = f"job_{len(self.jobs) + 1}"
        self.jobs.append({"jobId": job_id, "status": status, "modelId": model_id, "credits": 500, "images": [],
                          "createdAt": moment(self.now_s), **facts})  # fmt: skip
        return job_id

    def trains(self, model_id: str) -> None:
        """Start a training, as the trigger does."""
        self.models[model_id]["status"] = "training"
        self.add_job(model_id, "running")

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        line = _line(request)
        pattern = next((route for route in self.faults if re.fullmatch(route, line)), None)
        queue = self.faults[pattern] if pattern is not None else []
        fault = queue.pop(0) if queue else None
        if isinstance(fault, Exception):
            raise fault
        if isinstance(fault, httpx.Response):
            return fault
        answer = self._route(line, request)
        if isinstance(fault, After):
            if isinstance(fault.answer, Exception):
                raise fault.answer
            return fault.answer
        return answer

    def _route(self, line: str, request: httpx.Request) -> httpx.Response:
        for pattern, handler in _ROUTES:
            if match := re.fullmatch(pattern, line):
                return handler(self, request, *match.groups())
        return nok(404, "no such route")

    def ping(self, _: httpx.Request) -> httpx.Response:
        """Answer that it lives."""
        return httpx.Response(200, json={"message": "pong!", "status": "OK"})

    def list_models(self, request: httpx.Request) -> httpx.Response:
        """Answer the models, newest first."""
        rows = [self._shown(model_id) for model_id in reversed(self.models)]
        if self.models_page is None:
            return ok(rows)
        page = int(request.url.params.get("pageNum", 1))
        shown = rows[(page - 1) * self.models_page : page * self.models_page]
        return ok(shown, page=page, pageSize=self.models_page)

    def create_model(self, request: httpx.Request) -> httpx.Response:
        """Make a model; the answer shows nothing of the person."""
        self.made += 1
        model_id = self.add_model(f"m{self.made}", **json.loads(request.content))
        return ok({key: value for key, value in self.models[model_id].items() if key != "about"})

    def get_model(self, _: httpx.Request, model_id: str) -> httpx.Response:
        """Answer one model."""
        return ok(self._shown(model_id)) if model_id in self.models else nok(404)

    def _shown(self, model_id: str) -> dict[str, Any]:
        model = {key: value for key, value in self.models[model_id].items() if key != "about"}
        return model | (self.models[model_id]["about"] if self.shows_name else {})

    def train(self, _: httpx.Request, model_id: str) -> httpx.Response:
        """Start a training."""
        if self.models[model_id]["status"] != "new":
            return nok(409, "already training")
        (self.on_train or self.trains)(model_id)
        return ok("Training triggered")

    def upload(self, request: httpx.Request) -> httpx.Response:
        """Keep a picture."""
        data = re.search(rb'\{"modelID".*?\}', request.content)
        assert data is not None
        model_id = json.loads(data.group())["modelID"]
        image_id = f"i{sum(len(ids) for ids in self.pictures.values()) + 1}-{len(self.asked)}"
        self.pictures[model_id].append(image_id)
        return ok({"id": image_id, "modelID": model_id, "type": "modelInput", "url": "https://storage.example/x"})

    def answer_images(self, request: httpx.Request, model_id: str) -> httpx.Response:
        """Answer a page of a model's pictures, as the test wants it."""
        return (self.images_hook or self.list_images)(request, model_id)

    def list_images(self, request: httpx.Request, model_id: str) -> httpx.Response:
        """Answer a page of a model's pictures."""
        assert request.url.params["imageType"] == "input"
        page, size = int(request.url.params["pageNum"]), int(request.url.params["pageSize"])
        shown = self.pictures[model_id][(page - 1) * size : page * size]
        return ok([{"id": image_id, "type": "modelInput"} for image_id in shown], page=page, pageSize=size)

    def get_image(self, _: httpx.Request, image_id: str) -> httpx.Response:
        """Answer one picture."""
        return ok({"id": image_id}) if any(image_id in ids for ids in self.pictures.values()) else nok(404)

    def delete_image(self, _: httpx.Request, image_id: str) -> httpx.Response:
        """Remove a picture."""
        for ids in self.pictures.values():
            if image_id in ids:
                ids.remove(image_id)
                return ok("Image deleted")
        return nok(404)

    def list_jobs(self, request: httpx.Request) -> httpx.Response:
        """Answer the jobs of a window, one a page."""
        begin, end = (datetime.fromisoformat(request.url.params[name]).timestamp() for name in ("start", "end"))
        assert end - begin <= 7 * 86_400
        rows = [job for job in reversed(self.jobs) if begin <= datetime.fromisoformat(job["createdAt"]).timestamp()]
        rows = [job for job in rows if datetime.fromisoformat(job["createdAt"]).timestamp() <= end]
        at = int(request.url.params.get("pageToken", 0))
        shown = {key: value for row in rows[at : at + 1] for key, value in row.items() if key not in _DETAIL}
        return ok({"jobs": [shown] if shown else [], "nextPageToken": str(at + 1) if at + 1 < len(rows) else None})

    def get_job(self, _: httpx.Request, job_id: str) -> httpx.Response:
        """Answer one job, without its price."""
        row = next((job for job in self.jobs if job["jobId"] == job_id), None)
        return nok(404) if row is None else ok({key: value for key, value in row.items() if key != "credits"})

    def generate(self, request: httpx.Request) -> httpx.Response:
        """Begin a generation that is done at once."""
        model_id = json.loads(request.content)["modelID"]
        images = [{"id": "o1", "url": "https://storage.example/o1.png?sig=SECRET"}]
        job_id = self.add_job(model_id, images=images, credits=10)
        return ok({"jobId": job_id, "status": "queued"})

    def picture(self, _: httpx.Request) -> httpx.Response:
        """Serve what was made."""
        return stored(drawn(768, 768))


def stored(content: bytes) -> httpx.Response:
    """Return a file as a storage sends it."""
    return httpx.Response(200, stream=httpx.ByteStream(content), headers={"Content-Length": str(len(content))})


def drawn(width: int, height: int) -> bytes:
    """Return a plain PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 150)).save(buffer, "PNG")
    return buffer.getvalue()


class DyingNotes(MemoryNotes):
    """Notes of a process that dies while it writes for the nth time: before or after the writing."""

    def __init__(self, deaths: int, *, after: bool = False) -> None:
        super().__init__()
        self.deaths = deaths
        self.after = after

    def write(self, notes: dict[str, Any]) -> None:
        """Die, or write, or both."""
        self.deaths -= 1
        if self.deaths == 0 and not self.after:
            raise KeyboardInterrupt
        super().write(notes)
        if self.deaths == 0:
            raise KeyboardInterrupt


def _line(request: httpx.Request) -> str:
    return f"{request.method} {request.url.path.removeprefix('/api')}"


_DETAIL = {"modelId", "images"}
_ROUTES: list[tuple[str, Callable[..., httpx.Response]]] = [
    (r"GET /ping", Server.ping),
    (r"GET /models", Server.list_models),
    (r"POST /models", Server.create_model),
    (r"GET /models/([^/]+)", Server.get_model),
    (r"GET /models/([^/]+)/train", Server.train),
    (r"GET /models/([^/]+)/images", Server.answer_images),
    (r"POST /images/upload", Server.upload),
    (r"POST /images/generation", Server.generate),
    (r"GET /images/([^/]+)", Server.get_image),
    (r"DELETE /images/([^/]+)", Server.delete_image),
    (r"GET /jobs", Server.list_jobs),
    (r"GET /jobs/([^/]+)", Server.get_job),
    (r"GET /o1.png", Server.picture),
]
