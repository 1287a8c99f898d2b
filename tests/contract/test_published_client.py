"""The vendor's current client, unmodified, against the sandbox: every call the seed documents, and today's others."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from pictograph import Client
from pictograph.exceptions import (
    ApiError,
    AuthError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    PaymentRequiredError,
    RateLimitError,
    ValidationError,
)

from sandbox.client import SandboxAccount
from sandbox.server import SandboxServer

STEPS = [{"status": "queued", "for_looks": 4}, {"status": "running", "for_looks": 3}, {"status": "completed"}]
"""Moved on by looks, so that a run nobody waits for stays queued, however slow the machine."""
SCRIPT = {"mode": "looks", "steps": STEPS}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    """A sandbox for the tests of this file."""
    with SandboxServer(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture(scope="module", params=["v2", "both"])
def account(request: pytest.FixtureRequest, server: SandboxServer) -> SandboxAccount:
    """An account of each dialect the client can speak, with a finished export."""
    made = server.new_account(dialect=request.param, engine="scripted", script={**SCRIPT, "gpu_minutes": 3})
    made.add_dataset("road signs/x", count=8, size=64)
    with connect(made) as client:
        client.exports.create("road signs/x", "e 1/x", include_images=True, poll_interval=0.02)
    return made


def connect(account: SandboxAccount, *, max_retries: int = 0) -> Client:
    """Open the vendor's client for an account."""
    return Client(api_key=account.api_key, base_url=account.url, max_retries=max_retries)


@pytest.fixture
def client(account: SandboxAccount) -> Iterator[Client]:
    """The vendor's client, open."""
    with connect(account) as opened:
        yield opened


@pytest.fixture
def train(client: Client) -> Callable[..., Any]:
    """A training with what the test does not care about filled in."""

    def start(name: str, **changes: Any) -> Any:
        order = {"pipeline_type": "yolox", "config": {"epochs": 10}, "poll_interval": 0.02, **changes}
        return client.training.create(dataset_name="road signs/x", export_name="e 1/x", name=name, **order)

    return start


def test_credits(client: Client) -> None:
    """Balance and both spellings of an estimate are read, in micro-USD."""
    balance = client.credits.balance()
    assert balance.included_remaining_micro_usd > 990_000_000
    for slug in ("training_a10g", "training_a10g_per_minute"):
        estimate = client.credits.estimate(slug, quantity=30)
        assert (estimate.total_micro_usd, estimate.sufficient) == (687_510, True)
    with pytest.raises(ValidationError, match="Unknown operation: bogus") as caught:
        client.credits.estimate("bogus")
    assert caught.value.status_code == 400


def test_datasets(client: Client, tmp_path: Path) -> None:
    """A dataset with a slash in its name is found by name and id, and its images download."""
    dataset = client.datasets.get("road signs/x", include_images=True, images_limit=3)
    assert (dataset.image_count, dataset.completed_image_count, len(dataset.images or [])) == (8, 8, 3)
    assert client.datasets.get(dataset_id=dataset.id).name == "road signs/x"
    assert [row.name for row in client.datasets.iter(page_size=1)] == ["road signs/x"]
    report = client.datasets.download("road signs/x", output_dir=tmp_path)
    assert report.images_downloaded == 8
    assert report.failures == []


def test_exports(client: Client, tmp_path: Path) -> None:
    """An export is listed, found in both ways, downloaded whole, and deleted alone and in bulk."""
    export = client.exports.get("road signs/x", "e 1/x")
    assert (export.status, export.image_count) == ("completed", 8)
    assert client.exports.get_by_id(export.id).name == "e 1/x"
    assert [row.id for row in client.exports.list(dataset_name="road signs/x", status="completed")] == [export.id]
    saved = client.exports.download("road signs/x", "e 1/x", output_path=tmp_path / "e.zip")
    assert saved.stat().st_size == export.file_size
    others = [client.exports.create("road signs/x", name, poll_interval=0.02) for name in ("a", "b")]
    client.exports.delete("road signs/x", "a")
    result = client.exports.bulk_delete([row.id for row in others])
    assert (result.succeeded, result.not_found) == ([others[1].id], [others[0].id])
    with pytest.raises(ConflictError):
        client.exports.create("road signs/x", "e 1/x")


def test_training_to_a_model_that_runs(client: Client, train: Callable[..., Any], tmp_path: Path) -> None:
    """A training is waited for, billed once, and leaves a model whose weights a runtime loads."""
    before = client.credits.balance().period_spend_micro_usd
    run = train("run 1/x")
    assert (run.status, run.progress, run.current_epoch, run.total_epochs) == ("completed", 100, 10, 10)
    assert client.credits.balance().period_spend_micro_usd - before == 3 * 22_917
    assert client.training.get("run 1/x").id == client.training.get(run_id=run.id).id == run.id
    model = client.models.get(model_id=run.model_id)
    assert (model.name, model.status, model.class_mapping) == (
        "run 1/x",
        "ready",
        {"classes": ["parking", "stop", "warning"]},
    )
    weights = client.models.download(model_id=model.id, output_path=tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(weights, providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].shape == [1, 84, 8]
    manifest = client.models.files("run 1/x")
    assert sorted(file.name for file in manifest.files) == ["config.json", "model.onnx"]
    config = client.models.download_file("run 1/x", file_name="config.json", output_path=tmp_path / "config.json")
    assert config.stat().st_size == next(file.size_bytes for file in manifest.files if file.name == "config.json")


def test_versions_of_a_model(client: Client, train: Callable[..., Any]) -> None:
    """A second training can add a version, either can be promoted, and the model is deleted with both."""
    run = train("versioned")
    again = train("versioned again", version_of_model_id=run.model_id)
    assert again.model_id == run.model_id
    payload = client.models.versions("versioned")
    assert [version.version_number for version in payload.versions] == [2, 1]
    oldest = payload.versions[-1].version_id
    client.models.set_current_version("versioned", version_id=oldest)
    assert client.models.versions("versioned").current_version_id == oldest
    client.models.set_current_version("versioned", version_id=None)
    assert client.models.versions("versioned").current_version_id == payload.latest_version_id
    client.models.delete("versioned")
    with pytest.raises(NotFoundError):
        client.models.get("versioned")


def test_cancel_and_lists(client: Client, train: Callable[..., Any]) -> None:
    """A run is cancelled by name and in bulk, an ended one cannot be, and lists page and filter."""
    first, second = train("c1", wait=False), train("c2", wait=False)
    assert client.training.cancel("c1").status == "cancelled"
    result = client.training.bulk_cancel([first.id, second.id])
    assert (result.succeeded, result.not_found) == ([second.id], [first.id])
    with pytest.raises(ValidationError, match="Cannot cancel training run with status 'cancelled'"):
        client.training.cancel("c1")
    cancelled = [run.name for run in client.training.iter(page_size=1, status="cancelled")]
    assert cancelled[:2] == ["c2", "c1"]
    with pytest.raises(ValidationError) as caught:
        client.training.list(limit=101)
    assert caught.value.status_code == 422
    waited = client.training.wait_for_completion(run_id=train("c3", wait=False).id, poll_interval=0.02)
    assert waited.status == "completed"


def test_jobs_and_notifications(client: Client, train: Callable[..., Any]) -> None:
    """A running training is an active job with a way to cancel it, and its end is a notification."""
    run = train("job", wait=False)
    active = [job for job in client.jobs.list(status="active", type="training") if job.id == run.id]
    assert active[0].cancel_path == f"/api/v1/developer/training/{run.id}/cancel"
    client.training.wait_for_completion("job", poll_interval=0.02)
    assert client.jobs.get(run.id).status == "completed"
    newest = client.notifications.list(limit=1)[0]
    assert (newest.type, newest.title) == ("training_complete", "job")


def test_quote(client: Client, account: SandboxAccount) -> None:
    """A quote prices a run without starting it, and names what keeps it from starting."""
    order = {"dataset_name": "road signs/x", "export_name": "e 1/x", "pipeline_type": "yolox", "config": {"epochs": 10}}
    before = account.bill()
    quote = client.training.quote(**order, gpu_type="auto")
    assert (quote.can_start, quote.gpu_type, quote.estimate.total_micro_usd) == (True, "a10g", 5 * 22_917)
    account.set_balance(1_999_999)
    try:
        poor = client.training.quote(**order)
        with pytest.raises(PaymentRequiredError) as caught:
            client.training.create(**order, name="poor", wait=False)
    finally:
        account.set_balance(before["balance"])  # the account is shared
    assert [block.code for block in poor.blocking] == ["insufficient_credits"]
    assert (caught.value.credit_cost, caught.value.credits_remaining) == (2_000_000, 1_999_999)
    assert account.bill()["started_runs"] == before["started_runs"]


def test_a_failed_run_raises_and_costs_nothing(server: SandboxServer) -> None:
    """The client's wait ends in an error with the run's message, and the bill stays at zero."""
    steps = [{"status": "running"}, {"status": "failed", "error_message": "CUDA out of memory"}]
    account = server.new_account(engine="scripted", script={"mode": "looks", "steps": steps})
    account.add_dataset("ds", count=3, size=64)
    with connect(account) as client:
        client.exports.create("ds", "e", include_images=True, poll_interval=0.02)
        with pytest.raises(ApiError, match="CUDA out of memory"):
            client.training.create(
                dataset_name="ds", export_name="e", pipeline_type="classification", name="r", poll_interval=0.02
            )
        assert client.models.list(status="failed")[0].name == "r"
        with pytest.raises(ValidationError, match="only 'ready' models can be downloaded"):
            client.models.download("r", output_path="never.onnx")
    assert account.bill()["net"] == 0


def test_refusals_become_the_clients_exceptions(server: SandboxServer) -> None:
    """Wrong key, low role, missing object and an exhausted rate limit arrive as their own classes."""
    account = server.new_account(engine="scripted")
    with connect(account) as client:
        with pytest.raises(NotFoundError):
            client.training.get("nobody")
        account.configure(role="viewer")
        with pytest.raises(ForbiddenError):
            client.exports.create("ds", "e")
        account.configure(rate_limit=1)
        with pytest.raises(RateLimitError) as caught:
            client.credits.balance()
        assert 3500 < caught.value.retry_after <= 3600
    with Client(api_key="pk_live_nobody", base_url=account.url) as stranger, pytest.raises(AuthError):
        stranger.credits.balance()


def test_a_retried_create_starts_one_run(server: SandboxServer) -> None:
    """The answer to a create is lost on the wire; the client's own retry gets the first run, not a second."""
    account = server.new_account(engine="scripted", script=SCRIPT)
    account.add_dataset("ds", count=3, size=64)
    with connect(account, max_retries=3) as client:
        client.exports.create("ds", "e", include_images=True, poll_interval=0.02)
        account.fault("reset", method="POST", path="/training/$", stage="after")
        run = client.training.create(
            dataset_name="ds", export_name="e", pipeline_type="yolox", name="once", poll_interval=0.05
        )
    creates = [
        entry for entry in account.requests() if entry["method"] == "POST" and entry["path"].endswith("/training/")
    ]
    assert len(creates) == 2
    assert len({entry["headers"]["idempotency-key"] for entry in creates}) == 1
    assert (run.status, account.bill()["started_runs"], account.bill()["paid_runs"]) == ("completed", 1, 1)
