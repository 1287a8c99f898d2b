"""What tests of every adapter must know about each vendor besides its profile: addresses, words, the least request."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import SecretStr

from pipeline.local_requests import BluesightRequest, PhotogptRequest, ReplicateRequest
from pipeline.models import ProviderProfile
from pipeline.provider import Provider
from pipeline.provider_requests import PictographRequest
from pipeline.requests import TrainRequest
from providers.bluesight.adapter import BluesightProvider
from providers.bluesight.profile import bluesight_profile
from providers.bluesight.session import AnswerTimes
from providers.calls import ClientOptions
from providers.photogpt.adapter import PhotogptProvider
from providers.photogpt.profile import photogpt_profile
from providers.pictograph.adapter import PictographProvider
from providers.pictograph.profile import pictograph_profile
from providers.replicate.adapter import ReplicateProvider
from providers.replicate.profile import replicate_profile
from providers.replicate.values import ReplicateSetup
from sandbox.replicate.models import TRAINER, TRAINER_VERSION
from tests.contract.bluesight_accounts import tile_file
from tests.contract.photogpt_calls import QUICK, picture

Json = dict[str, Any]
DATASET = "signs"
"""Name of the data set at a vendor that keeps data sets."""


@dataclass(frozen=True)
class Connection:
    """What an adapter is made of."""

    key: SecretStr
    options: ClientOptions
    profile: ProviderProfile
    request: TrainRequest


@dataclass(frozen=True)
class Route:
    """A call of a vendor's API, as fault rules name it."""

    method: str
    path: str
    """Regular expression."""

    def matches(self, method: str, path: str) -> bool:
        """Tell whether a request is this call."""
        return method == self.method and re.search(self.path, path) is not None


@dataclass(frozen=True)
class Said:
    """A refusal in the vendor's own words."""

    status: int
    body: Json | None = None
    """None answers what the sandbox makes up for the status."""

    def fault(self) -> Json:
        """Return the fault rule that says it."""
        body = {} if self.body is None else {"body": json.dumps(self.body)}
        return {"action": "status", "status": self.status, **body}


@dataclass(frozen=True)
class Limited:
    """How a vendor says that there were too many requests."""

    settings: Json
    """What of an account allows one request alone."""
    names_delay: bool
    """Whether the vendor's own 429 says when to come back."""
    in_words: tuple[tuple[Json, float], ...] = ()
    """Bodies in which it has said so, and how many seconds that is."""


@dataclass(frozen=True)
class Vendor:
    """One vendor, for tests."""

    profile: Callable[..., ProviderProfile]
    """Makes the profile, by ``sandbox``."""
    adapter: Callable[[Connection], Provider]
    """Makes an adapter."""
    request: Callable[[Path], TrainRequest]
    """Makes the least request, with its training data in a folder."""
    create: Route
    """The one request that is paid for."""
    look: Route
    """A look at one run."""
    check: Route
    """What tells whether the key is accepted."""
    cancel: Route | None
    """What asks for the end of a run; none where nothing does."""
    upload: Route | None
    """What brings training data there; none where they are there."""
    envelope: str | None
    """The key under which an answer holds its object."""
    limited: Limited
    """Its 429."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of its sandbox accounts."""
    base: str = ""
    """Where its API begins on the sandbox, as far as the adapter is told."""
    listing: Route | None = None
    """What lists runs; none where nothing does."""
    refused: Said = Said(422)
    """A value was refused."""
    missing: Said = Said(404)
    """There is no such run."""
    conflict: Said = Said(409)
    """The object's state forbids it."""


_THROTTLED: tuple[tuple[Json, float], ...] = (
    ({"detail": "Request was throttled. Expected available in 1 second."}, 1),
    ({"detail": "Request was throttled. Your rate limit resets in ~30s.", "status": 429}, 30),
    ({"detail": "Request was throttled. Your rate limit resets in ~3s.", "status": 429, "retry_after": 5}, 5),
)


def _archive(folder: Path) -> Path:
    path = folder / "signs.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("readme.txt", "nobody looks into it")
    return path


def _pictures(folder: Path) -> Path:
    made = folder / "portraits"
    made.mkdir(exist_ok=True)
    for number in range(12):
        (made / f"{number:02}.png").write_bytes(picture(number))
    return made


def _tiles(folder: Path) -> Path:
    path = folder / "tiles.h5"
    path.write_bytes(tile_file(count=8, side=8))
    return path


def _bluesight(made: Connection) -> Provider:
    # This adapter takes the time of an answer by what is asked, and the client's for the connection alone.
    s = made.options.timeout_s
    return BluesightProvider(made.key, made.options, made.profile, times=AnswerTimes(s, s, s, s))


def _replicate(made: Connection) -> Provider:
    assert isinstance(made.request, ReplicateRequest)
    setup = ReplicateSetup(hardware=made.request.hardware, task=made.profile.pipelines[made.request.pipeline])
    return ReplicateProvider(made.key, made.options, made.profile, setup)


VENDORS: Mapping[str, Vendor] = MappingProxyType({
    "pictograph": Vendor(
        profile=pictograph_profile,
        adapter=lambda made: PictographProvider(made.key, made.options, made.profile),
        request=lambda folder: PictographRequest(dataset=DATASET, status_filter=None, sandbox=True, output_dir=folder),
        create=Route("POST", "/training/$"),
        look=Route("GET", "/training/[^/]+$"),
        check=Route("GET", "/credits"),
        cancel=Route("POST", "/training/[^/]+/cancel$"),
        upload=None,
        envelope="data",
        limited=Limited({"rate_limit": 1}, names_delay=True),
        settings={"dialect": "v2", "billing": "micro_usd"},
        listing=Route("GET", "/(training/|jobs)$"),
    ),
    "replicate": Vendor(
        profile=replicate_profile,
        adapter=_replicate,
        request=lambda folder: ReplicateRequest(
            dataset=str(_archive(folder)),
            trainer=f"{TRAINER}:{TRAINER_VERSION}",
            destination="sandbox-user/signs",
            sandbox=True,
            output_dir=folder,
        ),
        create=Route("POST", "/versions/[^/]+/trainings$"),
        look=Route("GET", "/v1/trainings/[^/]+$"),
        check=Route("GET", "/v1/account$"),
        cancel=Route("POST", "/v1/trainings/[^/]+/cancel$"),
        upload=Route("POST", "/v1/files$"),
        envelope=None,
        limited=Limited({"replicate": {"requests_per_minute": 1}}, names_delay=True, in_words=_THROTTLED),
        settings={"billing": "micro_usd"},
        listing=Route("GET", "/v1/trainings$"),
    ),
    "bluesight": Vendor(
        profile=bluesight_profile,
        adapter=_bluesight,
        request=lambda folder: BluesightRequest(dataset=str(_tiles(folder)), sandbox=True, output_dir=folder),
        create=Route("POST", "/training/jobs$"),
        look=Route("GET", "/training/jobs/[^/]+$"),
        check=Route("GET", "^/$"),
        cancel=Route("DELETE", "/training/jobs/[^/]+$"),
        upload=Route("POST", "/files$"),
        envelope=None,
        # The vendor has no limit; a proxy in front of it may have one.
        limited=Limited({"rate_limit": 1}, names_delay=False),
        # Its server answers 400 to whatever goes wrong: only the sentence tells.
        refused=Said(400, {"detail": "RequestValidationError: [{'loc': ('body', 'task')}]"}),
        missing=Said(404, {"detail": "Training job not found"}),
        conflict=Said(400, {"detail": "Training job is already finished with status: succeeded"}),
    ),
    "photogpt": Vendor(
        profile=photogpt_profile,
        adapter=lambda made: PhotogptProvider(made.key, made.options, made.profile),
        request=lambda folder: PhotogptRequest(
            dataset=str(_pictures(folder)), age=40, gender="Female", sandbox=True, output_dir=folder
        ),
        create=Route("GET", "/models/[^/]+/train$"),
        look=Route("GET", "/models/[^/]+$"),
        check=Route("GET", "/ping$"),
        cancel=None,
        upload=Route("POST", "/images/upload$"),
        envelope="result",
        limited=Limited({"rate_limit": 1}, names_delay=False),
        # The vendor at its worst: each trigger is billed, and nothing refuses a second one.
        settings={"billing": "credits", "photogpt": {**QUICK, "second_trigger": "again", "trained_trigger": "again"}},
        base="/api",
        listing=Route("GET", "/models$"),
        refused=Said(400),
    ),
})  # fmt: skip
"""Every vendor there is an adapter for."""
