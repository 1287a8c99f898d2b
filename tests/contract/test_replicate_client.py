"""Replicate's published client, unmodified, on the sandbox: every call of its trainings, and what goes with them."""

from __future__ import annotations

import asyncio
import io
import tarfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from replicate.client import Client
from replicate.exceptions import ReplicateError
from replicate.training import Training

from sandbox.client import SandboxAccount
from sandbox.replicate.models import TRAINER, TRAINER_VERSION
from sandbox.server import SandboxServer

SHORTHAND = f"{TRAINER}:{TRAINER_VERSION}"
DESTINATION = "sandbox-user/signs"
GIVEN = {"train_data": "data:application/zip;base64,UEsFBg==", "pipeline": "classification", "epochs": 4}
QUICK = {"steps": [{"status": "running", "for_s": 0.05}, {"status": "completed"}]}
LONG = {"steps": [{"status": "queued", "for_s": 60}, {"status": "completed"}]}


@pytest.fixture
def account(server: SandboxServer) -> SandboxAccount:
    """An account whose trainings take a moment."""
    return server.new_account(engine="scripted", script=QUICK)


@pytest.fixture
def client(account: SandboxAccount) -> Iterator[Client]:
    """The client, with a model to train into."""
    made = connect(account)
    made.models.create(owner="sandbox-user", name="signs", visibility="private", hardware="gpu-t4")
    yield made
    made._client.close()


def connect(account: SandboxAccount) -> Client:
    """Return the client of an account."""
    return Client(api_token=account.api_key, base_url=account.url, trust_env=False)


def waited(client: Client, training: Training) -> Training:
    """Poll a training until it ended, as its users do."""
    deadline_s = time.monotonic() + 20
    while training.status not in ("succeeded", "failed", "canceled"):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
        training.reload()
    return training


def test_a_training_by_its_own_names(client: Client, account: SandboxAccount) -> None:
    """model=, version= and destination= start it, reload follows it, and it ends with a version of the destination."""
    training = client.trainings.create(model=TRAINER, version=TRAINER_VERSION, input=GIVEN, destination=DESTINATION)
    assert (training.status, training.model, training.version) == ("starting", TRAINER, TRAINER_VERSION)
    assert training.urls is not None
    assert "/v1/predictions/" in training.urls["get"]
    assert training.destination is None
    waited(client, training)
    assert (training.status, training.error, training.destination) == ("succeeded", None, DESTINATION)
    assert training.urls["get"].endswith(f"/v1/trainings/{training.id}")
    assert "100%|##########| 4/4" in (training.logs or "")
    versions = client.models.get(DESTINATION).versions.list()
    assert [f"{DESTINATION}:{version.id}" for version in versions] == [training.output["version"]]
    bill = account.bill()
    assert (bill["started_runs"], bill["paid_runs"], bill["active_runs"]) == (1, 1, 0)


@pytest.mark.parametrize(
    "start",
    [
        lambda client: client.trainings.create(version=SHORTHAND, input=GIVEN, destination=DESTINATION),
        lambda client: client.trainings.create(SHORTHAND, GIVEN, DESTINATION),
        lambda client: client.trainings.create(
            model=tuple(TRAINER.split("/")),
            version=TRAINER_VERSION,
            input=GIVEN,
            destination=client.models.get(DESTINATION),
        ),
        lambda client: client.trainings.create(
            model=client.models.get(TRAINER),
            version=client.models.get(TRAINER).latest_version,
            input=GIVEN,
            destination=tuple(DESTINATION.split("/")),
        ),
    ],
    ids=["shorthand", "positional", "tuple and model", "model and version"],
)
def test_every_way_to_say_what_to_train(client: Client, start: Callable[[Client], Training]) -> None:
    """All of the client's forms become the same request."""
    training = start(client)
    assert client.trainings.get(training.id).input == GIVEN
    assert training.model == TRAINER


def test_cancel_get_and_list(client: Client, account: SandboxAccount) -> None:
    """Cancel on the object and by id answer the new state; pages are followed by their absolute links."""
    account.configure(script=LONG, replicate={"page_size": 2})
    made = [client.trainings.create(SHORTHAND, GIVEN, DESTINATION) for _ in range(5)]
    made[0].cancel()
    assert made[0].status == "canceled"
    assert client.trainings.cancel(made[1].id).status == "canceled"
    assert client.trainings.get(made[2].id).status == "starting"
    first = client.trainings.list()
    second = client.trainings.list(first.next)
    third = client.trainings.list(second.next or "")
    pages = [[training.id for training in page] for page in (first, second, third)]
    assert [id for page in pages for id in page] == [training.id for training in reversed(made)]
    assert (third.next, first.previous) == (None, None)
    back = client.trainings.list(third.previous or "")
    assert [training.id for training in back] == pages[1]
    assert all(training.logs is None for training in first)
    with pytest.raises(ValueError, match="cursor"):
        client.trainings.list(None)


def test_the_same_without_blocking(client: Client, account: SandboxAccount) -> None:
    """async_create, async_get, async_list, async_reload and both async_cancels do what their namesakes do."""

    async def scene() -> None:
        created = await client.trainings.async_create(
            model=TRAINER, version=TRAINER_VERSION, input=GIVEN, destination=DESTINATION
        )
        deadline_s = time.monotonic() + 20
        while created.status != "succeeded":
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.02)
            await created.async_reload()
        account.configure(script=LONG)
        others = [
            await client.trainings.async_create(TRAINER, TRAINER_VERSION, GIVEN, destination=DESTINATION)
            for _ in range(2)
        ]
        await others[0].async_cancel()
        assert others[0].status == (await client.trainings.async_cancel(others[1].id)).status == "canceled"
        assert (await client.trainings.async_get(others[0].id)).status == "canceled"
        page = await client.trainings.async_list()
        assert [training.id for training in page] == [others[1].id, others[0].id, created.id]
        await client._async_client.aclose()

    _run(scene)


def _run(scene: Callable[[], Awaitable[None]]) -> None:
    with asyncio.Runner() as runner:
        runner.run(scene())  # type: ignore[arg-type]


def test_an_input_that_is_a_file_is_uploaded_first(client: Client, tmp_path: Path) -> None:
    """A path becomes a file of the account, and its address the input."""
    path = tmp_path / "data.zip"
    path.write_bytes(b"PK\x05\x06" + bytes(18))
    with path.open("rb") as opened:
        training = client.trainings.create(SHORTHAND, {**GIVEN, "train_data": opened}, DESTINATION)
    (file,) = client.files.list()
    assert (file.name, file.size, file.content_type) == ("data.zip", 22, "application/zip")
    assert training.input is not None
    assert training.input["train_data"] == file.urls["get"]
    assert client.files.get(file.id).checksums == file.checksums
    assert client.files.delete(file.id) is True
    with pytest.raises(ReplicateError) as caught:
        client.files.get(file.id)
    assert caught.value.status == 404


def test_metadata_of_a_file(client: Client) -> None:
    """What the client says of a file comes back with it."""
    file = client.files.create(io.BytesIO(b"x"), filename="x.txt", metadata={"run": 7})
    assert (file.name, file.metadata, file.content_type) == ("x.txt", {"run": 7}, "text/plain")


def test_a_trained_version_predicts(client: Client, account: SandboxAccount) -> None:
    """run() answers from the trained network itself, which the weights hold too."""
    training = waited(client, client.trainings.create(SHORTHAND, GIVEN, DESTINATION))
    version = training.output["version"]
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(picture, "PNG")
    answer = client.run(version, input={"image": picture})
    assert [row["label"] for row in answer["classes"]] == ["object"]
    prediction = client.predictions.create(version=version, input={"image": picture}, wait=5)
    assert (prediction.status, prediction.output) == ("succeeded", answer)
    later = client.predictions.create(version=version.split(":")[1], input={"image": picture})
    later.wait()
    assert later.output == answer
    assert [row.id for row in client.predictions.list()][:2] == [later.id, prediction.id]
    weights = client._client.get(training.output["weights"])
    with tarfile.open(fileobj=io.BytesIO(weights.content)) as archive:
        assert sorted(archive.getnames()) == ["config.json", "model.onnx"]
    assert account.bill()["others"][0]["what"] == "prediction"


def test_models_versions_account_and_hardware(client: Client) -> None:
    """Everything around trainings is read, and a version's deletion is accepted, which the client calls False."""
    assert client.accounts.current().username == "sandbox-user"
    assert "gpu-t4" in [row.sku for row in client.hardware.list()]
    assert client.webhooks.default.secret().key.startswith("whsec_")
    training = waited(client, client.trainings.create(SHORTHAND, GIVEN, DESTINATION))
    model = client.models.get(DESTINATION)
    assert model.latest_version is not None
    assert f"{DESTINATION}:{model.latest_version.id}" == training.output["version"]
    assert model.versions.get(model.latest_version.id).cog_version
    assert model.versions.delete(model.latest_version.id) is False
    assert list(model.versions.list()) == []
    schema = client.models.get(TRAINER).latest_version
    assert schema is not None
    assert "/trainings" in schema.openapi_schema["paths"]
    assert schema.openapi_schema["components"]["schemas"]["TrainingInput"]["required"] == ["train_data"]


@pytest.mark.parametrize(
    ("changes", "status", "detail"),
    [
        ({"destination": "sandbox-user/none"}, 404, "The specified training destination does not exist"),
        ({"destination": "somebody/signs"}, 404, "The specified training destination does not exist"),
        ({"version": "0" * 64}, 422, "does not exist"),
        ({"model": "sandbox/other"}, 404, "could not be found"),
        ({"webhook": "nowhere"}, 422, "webhook"),
    ],
    ids=str,
)
def test_what_is_refused(client: Client, changes: dict[str, Any], status: int, detail: str) -> None:
    """A wrong order raises with the vendor's words, and starts nothing."""
    order = {"model": TRAINER, "version": TRAINER_VERSION, "input": GIVEN, "destination": DESTINATION, **changes}
    with pytest.raises(ReplicateError, match=detail) as caught:
        client.trainings.create(**order)
    assert caught.value.status == status
    assert list(client.trainings.list()) == []


def test_a_wrong_token(server: SandboxServer) -> None:
    """It is refused with the vendor's title."""
    client = connect(SandboxAccount(server.url, "r8_wrong"))
    with pytest.raises(ReplicateError) as caught:
        client.trainings.list()
    client._client.close()
    assert (caught.value.status, caught.value.title) == (401, "Unauthenticated")
