"""What the users of the other three providers have and ask for: local data, an account, and always the same command."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest
from PIL import Image

from pipeline.provider_requests import REQUESTS
from pipeline.requests import TrainRequest
from sandbox.client import SandboxAccount
from sandbox.exportzip import write_export
from sandbox.replicate.models import TRAINER, TRAINER_VERSION
from sandbox.roadsigns import road_signs
from sandbox.server import SandboxServer
from sandbox.tiles_demo import Demonstration, write_demonstration
from tests.fault.conftest import CLASSES, quiet_detector
from tests.fault.scenes import Scene
from tests.fault.workbench import PATIENT_S, Patience, SkippingClock, Workbench, skip_waiting

PICTURES = 12
"""Pictures of the person, as few as there may be."""
QUIRKS = {"generation_queued_s": 0, "generation_running_s": 0, "second_trigger": "again", "trained_trigger": "again"}
"""PhotoGPT with pictures made at once, where each trigger too many would be a training that is billed."""

SCRIPT = {
    "mode": "looks",
    "model": "uploaded",
    "steps": [{"status": "queued"}, {"status": "running", "epochs": 5, "for_looks": 4}, {"status": "completed"}],
}
"""A training of six looks, searches counted."""

Fields = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Vendor:
    """One provider as its user knows it."""

    name: str
    stages: Mapping[str, tuple[str, str]]
    """Requests of a run, by the stage that makes them: method, and what their paths match."""
    furnish: Callable[[SandboxAccount, Path], Fields]
    """Puts the training data into a folder, and returns what a request asks for."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the account."""
    is_billed: bool = True
    """Whether a training costs anything."""

    def __str__(self) -> str:
        """Return its name."""
        return self.name

    def account(self, sandbox: SandboxServer, **settings: Any) -> SandboxAccount:
        """Open an account whose trainings take six looks."""
        return sandbox.new_account(**{"engine": "scripted", "script": SCRIPT, **self.settings, **settings})


def _tiles(_: SandboxAccount, folder: Path) -> Fields:
    pytest.importorskip("h5py")
    path = folder / f"{folder.name}.h5"
    write_demonstration(path, Demonstration(count=24, side=16))
    return {"dataset": str(path)}


def _portraits(_: SandboxAccount, folder: Path) -> Fields:
    person = folder / f"{folder.name}-person"
    person.mkdir(parents=True)
    for number in range(PICTURES):
        Image.new("RGB", (300, 300), (number * 20, 90, 160)).save(person / f"{number:02}.jpg")
    return {"dataset": str(person), "age": 34, "gender": "Female", "price_credits": 500}


def _archive(account: SandboxAccount, folder: Path) -> Fields:
    path = folder / f"{folder.name}.zip"
    write_export(path, dataset="ds", export="e", images=road_signs(8, size=64), include_images=True)
    account.upload_model(quiet_detector(), classes=",".join(CLASSES), architecture="yolox-s", side=64)
    trainer, small = f"{TRAINER}:{TRAINER_VERSION}", {"samples": 2, "min_agreement": 0.0}
    return {"dataset": str(path), "trainer": trainer, "destination": "sandbox-user/signs", **small}


_ID = "[^/]+$"
BLUESIGHT = Vendor(
    "bluesight",
    MappingProxyType(
        {
            "greet": ("GET", "^/$"),
            "upload": ("POST", "^/files$"),
            "create": ("POST", "^/training/jobs$"),
            "look": ("GET", f"^/training/jobs/{_ID}"),
            "try": ("POST", "^/inference$"),
        }
    ),
    _tiles,
    is_billed=False,
)
PHOTOGPT = Vendor(
    "photogpt",
    MappingProxyType(
        {
            "greet": ("GET", "^/api/ping$"),
            "model": ("POST", "^/api/models$"),
            "upload": ("POST", "^/api/images/upload$"),
            "create": ("GET", "^/api/models/[^/]+/train$"),
            "look": ("GET", f"^/api/models/{_ID}"),
            "try": ("POST", "^/api/images/generation$"),
        }
    ),
    _portraits,
    MappingProxyType({"billing": "credits", "photogpt": QUIRKS}),
)
REPLICATE = Vendor(
    "replicate",
    MappingProxyType(
        {
            "greet": ("GET", "^/v1/account$"),
            "model": ("POST", "^/v1/models$"),
            "upload": ("POST", "^/v1/files$"),
            "create": ("POST", "/trainings$"),
            "look": ("GET", f"^/v1/trainings/{_ID}"),
            "bytes": ("GET", "^/delivery/"),
            "try": ("POST", "/predictions$"),
        }
    ),
    _archive,
)


@dataclass(frozen=True)
class VendorScene(Scene):
    """One user of such a provider."""

    vendor: Vendor
    fields: Fields

    @property
    def stages(self) -> Mapping[str, tuple[str, str]]:
        """Every request of the command."""
        return self.vendor.stages

    @property
    def asked(self) -> tuple[str, ...]:
        """What the command asks for."""
        words = [self.vendor.name]
        for name, value in self.fields.items():
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
        return tuple(words)

    @property
    def is_priced(self) -> bool:
        """Whether there is a price."""
        return self.vendor.is_billed

    def has_made(self, what: str) -> bool:
        """Tell whether a create whose answer is held back has made its run; other effects are not waited for."""
        return what != "create" or super().has_made(what)

    def count(self, what: str) -> int:
        """Return how often a request was sent."""
        return len(self.sent(what))

    def assert_closed(self, *, runs: int = 1, outcome: str = "accepted") -> None:
        """Fail unless so many trainings were started, one was collected with this outcome, and its books are closed."""
        bill = self.account.bill()
        assert (bill["started_runs"], bill["active_runs"]) == (runs, 0)
        assert bill["paid_runs"] == (runs if self.vendor.is_billed else 0)
        (row,) = self.operations()
        assert (row["state"], row["outcome"], row["owner"]) == ("collected", outcome, None)
        assert row["run_id"] in [run["id"] for run in bill["runs"]] or self.vendor is PHOTOGPT
        if self.is_priced:
            assert bool(row["settled"])
            assert row["billed"] == row["amount"] > 0
        (report,) = self.reports()
        assert report.outcome.value == outcome


def open_vendor_scene(
    vendor: Vendor, sandbox: SandboxServer, api: str, folder: Path, fields: Fields | None = None, **settings: Any
) -> VendorScene:
    """Open an account of a sandbox, training data and a folder."""
    folder.mkdir(parents=True)
    account = vendor.account(sandbox, **settings)
    return VendorScene(account, api, folder, vendor, {**vendor.furnish(account, folder), **(fields or {})})


@dataclass
class VendorBench(Workbench):
    """One account of such a provider, and the flow against it."""

    vendor: Vendor
    fields: Fields

    @property
    def stages(self) -> Mapping[str, tuple[str, str]]:
        """Every request of a run."""
        return self.vendor.stages

    def request(self, **changes: Any) -> TrainRequest:
        """Return a small request for the sandbox."""
        kind = REQUESTS[self.vendor.name]
        return kind(**{**self.fields, "sandbox": True, "output_dir": self.output_dir, **changes})


def open_vendor_bench(
    vendor: Vendor, sandbox: SandboxServer, folder: Path, patch: pytest.MonkeyPatch, **settings: Any
) -> VendorBench:
    """Open an account with the flow before it, in this process and with nothing left to wait for."""
    clock, patience, account = SkippingClock(), Patience(), vendor.account(sandbox, **settings)
    patch.setenv("TRAIN_PIPELINE_SANDBOX_URL", account.url)
    patch.setenv("TRAIN_PIPELINE_SANDBOX_KEY", account.api_key)
    patch.setenv("TRAIN_PIPELINE_JOURNAL", str(folder / "journal.db"))
    patch.setenv(f"{vendor.name.upper()}_TIMEOUT", str(PATIENT_S))
    skip_waiting(clock, patch)
    patch.setattr("providers.storage.LEAST_READ_S", PATIENT_S)
    patch.setattr(httpx.HTTPTransport, "handle_request", patience.lost(httpx.HTTPTransport.handle_request))
    return VendorBench(account, clock, patience, folder / "runs", vendor, vendor.furnish(account, folder))


def shows(text: str, *words: str) -> bool:
    """Tell whether all words are in a text, line breaks or not."""
    flat = re.sub(r"\s+", " ", text)
    return all(word in flat for word in words)
