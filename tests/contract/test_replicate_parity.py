"""Replicate's published client and our adapter put the same requests on the wire, call by call, field by field.

What differs on purpose is named beside the call; everything else that differs fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from replicate.client import Client

from pipeline.models import ModelTask, RunHandle
from providers.calls import ClientOptions
from providers.replicate.adapter import ReplicateProvider
from providers.replicate.profile import replicate_profile
from providers.replicate.values import ReplicateSetup
from sandbox.client import SandboxAccount
from sandbox.replicate.models import TRAINER, TRAINER_VERSION
from sandbox.server import SandboxServer

DESTINATION = "sandbox-user/signs"
GIVEN: dict[str, Any] = {"train_data": "https://data.example/d.zip", "pipeline": "classification", "epochs": 4}
HOOK = {"webhook": "https://hooks.example/x?id=1", "webhook_events_filter": ["start", "completed"]}
LONG = {"steps": [{"status": "queued", "for_s": 60}, {"status": "completed"}]}
_ID = re.compile(r"(?<=trainings)/[a-z0-9]{26}|(?<=files)/[\w-]+")
HEADERS = ("authorization", "content-type", "content-length", "prefer")
"""What a server may act on; the rest says which program it is and what it can read."""


@dataclass(frozen=True)
class Asked:
    """One request, without what two programs cannot have in common."""

    method: str
    path: str
    query: str
    body: Any
    headers: dict[str, str]


@dataclass
class Side:
    """An account, and the two programs that work on it."""

    account: SandboxAccount
    client: Client
    provider: ReplicateProvider

    def asked(self, act: Callable[[], object]) -> list[Asked]:
        """Return the requests an action makes, in order."""
        before = len(self.account.requests())
        act()
        return [_asked(row) for row in self.account.requests()[before:]]

    def new_training(self) -> str:
        """Start a training that lasts, and return its id."""
        version = f"{TRAINER}:{TRAINER_VERSION}"
        return str(self.client.trainings.create(version=version, input=GIVEN, destination=DESTINATION).id)


def _asked(row: dict[str, Any]) -> Asked:
    headers = {name: value for name, value in row["headers"].items() if name in HEADERS}
    form = headers.get("content-type", "").startswith("multipart/form-data")
    if form:
        headers["content-type"] = "multipart/form-data"
    if form or row["body"]:  # the same document may be written with other blanks
        headers.pop("content-length", None)
    body = json.loads(row["body"]) if row["body"] and not form else None
    return Asked(row["method"], _ID.sub("/ID", row["path"]), row["query"], body, headers)


@pytest.fixture(scope="module")
def side(server: SandboxServer) -> Iterator[Side]:
    """One account for this file, with a destination."""
    account = server.new_account(engine="scripted", script=LONG)
    client = Client(api_token=account.api_key, base_url=account.url, trust_env=False)
    client.models.create(owner="sandbox-user", name="signs", visibility="private", hardware="gpu-t4")
    setup = ReplicateSetup(hardware="gpu-t4", task=ModelTask.CLASSIFICATION)
    options = ClientOptions(account.url)
    provider = ReplicateProvider(SecretStr(account.api_key), options, replicate_profile(sandbox=True), setup)
    yield Side(account, client, provider)
    provider.close()
    client._client.close()


def handle(run_id: str) -> RunHandle:
    """Return the handle of a training."""
    return RunHandle(provider="replicate", run_id=run_id, name=run_id, dataset="d")


def test_a_create_is_the_same_request(side: Side) -> None:
    """Path, keys, values and media type, with a webhook and without; both calling forms of the client."""
    shorthand = f"{TRAINER}:{TRAINER_VERSION}"
    for hook in ({}, HOOK):
        body = {"destination": DESTINATION, "input": GIVEN, **hook}
        ours = side.asked(lambda body=body: side.provider.trainings.create(shorthand, body))  # type: ignore[misc]
        forms: list[dict[str, Any]] = [{"version": shorthand}, {"model": TRAINER, "version": TRAINER_VERSION}]
        for form in forms:
            call = {**form, "input": GIVEN, "destination": DESTINATION, **hook}
            assert side.asked(lambda call=call: side.client.trainings.create(**call)) == ours  # type: ignore[misc]
    assert ours[0].body == {"destination": DESTINATION, "input": GIVEN, **HOOK}


def test_looking_cancelling_and_listing_are_the_same_requests(side: Side) -> None:
    """The id's own address, an empty cancel, and a list without parameters."""
    looked_at, theirs, ours = (side.new_training() for _ in range(3))
    calls: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (lambda: side.client.trainings.get(looked_at), lambda: side.provider.trainings.get(looked_at)),
        (lambda: side.client.trainings.cancel(theirs), lambda: side.provider.trainings.cancel(ours)),
        (side.client.trainings.list, lambda: list(side.provider.trainings.iter(pages=1))),
    ]
    for client, adapter in calls:
        assert side.asked(client) == side.asked(adapter)


def test_what_is_asked_around_a_training_is_the_same(side: Side) -> None:
    """Account, hardware, models and the secret of webhooks."""
    calls: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (side.client.accounts.current, side.provider.accounts.get),
        (side.client.hardware.list, side.provider.accounts.hardware),
        (side.client.webhooks.default.secret, side.provider.accounts.webhook_secret),
        (lambda: side.client.models.get(DESTINATION), lambda: side.provider.models.get(DESTINATION)),
    ]
    for client, adapter in calls:
        assert side.asked(client) == side.asked(adapter)


def test_a_version_is_asked_for_alike(side: Side) -> None:
    """The client reads the model first; the version itself is at the same address."""
    trainer = side.client.models.get(TRAINER)
    (theirs,) = side.asked(lambda: trainer.versions.get(TRAINER_VERSION))
    assert side.asked(lambda: side.provider.models.version(f"{TRAINER}:{TRAINER_VERSION}")) == [theirs]


def test_a_new_destination_is_asked_for_alike(side: Side) -> None:
    """Ours looks first whether there is one: a name that is taken has no documented answer."""
    theirs = side.asked(
        lambda: side.client.models.create(owner="sandbox-user", name="a", visibility="private", hardware="cpu")
    )
    looked, ours = side.asked(lambda: side.provider.models.ensure("sandbox-user/b", hardware="cpu"))
    assert (looked.method, looked.path) == ("GET", "/v1/models/sandbox-user/b")
    assert ours.body == {**theirs[0].body, "name": "b"}
    assert (ours.method, ours.path, ours.headers) == (theirs[0].method, theirs[0].path, theirs[0].headers)


def test_files_are_handled_alike(side: Side, tmp_path: Path) -> None:
    """The upload is a form to the same address; looking at a file and removing it are the same requests."""
    path = tmp_path / "data.zip"
    path.write_bytes(b"PK\x05\x06" + b"\0" * 18)
    kept: dict[str, str] = {}

    def client() -> None:
        kept["theirs"] = side.client.files.create(path).id

    def adapter() -> None:
        kept["ours"] = side.provider.files.upload(path, path.name, "application/zip", {"operation": "k"}).id

    theirs, ours = side.asked(client), side.asked(adapter)
    assert [(one.method, one.path, one.headers) for one in ours] == [(o.method, o.path, o.headers) for o in theirs]
    assert side.asked(lambda: side.client.files.get(kept["theirs"])) == side.asked(
        lambda: side.provider.files.get(kept["ours"])
    )
    assert side.asked(lambda: side.client.files.delete(kept["theirs"])) == side.asked(
        lambda: side.provider.files.delete(kept["ours"])
    )
