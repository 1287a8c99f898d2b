"""Runs in the environment of the vendor's 1.0 client: every call the seed documents, facts printed as JSON."""

# ruff: noqa: T201

import json
import sys
from pathlib import Path

from pictograph import Client
from pictograph.exceptions import ConflictError, NotFoundError, PaymentRequiredError, ValidationError


def failure_of(call):
    """Return the class name, status and message of the error a call raises."""
    try:
        call()
    except (ConflictError, NotFoundError, PaymentRequiredError, ValidationError) as error:
        money = {key: getattr(error, key, None) for key in ("credit_cost", "credits_remaining")}
        return {"type": type(error).__name__, "status": error.status_code, "message": str(error), **money}
    return None


Facts = dict[str, object]


def read_datasets(client: Client, folder: Path) -> Facts:
    """Prices, balance and data sets."""
    slugs = ("training_a10g_per_minute", "training_a10g")
    dataset = client.datasets.get("signs")
    return {
        "estimates": [client.credits.estimate(slug, quantity=30).total_credits for slug in slugs],
        "balance": client.credits.balance().credits_remaining,
        "completed_images": dataset.completed_image_count,
        "dataset_by_id": client.datasets.get_by_id(dataset.id).name,
        "images": len(client.datasets.get("signs", include_images=True, images_limit=3).images),
        "datasets": [row.name for row in client.datasets.iter(page_size=1)],
        "downloaded": client.datasets.download("signs", folder / "images").images_downloaded,
    }


def make_export(client: Client, folder: Path) -> Facts:
    """An export, read back in every way."""
    export = client.exports.create("signs", "e1", include_images=True, status_filter="complete", poll_interval=0.02)
    saved = client.exports.download("signs", "e1", folder / "e1.zip")
    return {
        "export": [export.status, export.image_count],
        "exports": [row.name for row in client.exports.list(dataset_name="signs")],
        "export_get": client.exports.get("signs", "e1").id == export.id,
        "export_bytes": saved.stat().st_size == export.file_size,
        "duplicate_export": failure_of(lambda: client.exports.create("signs", "e1")),
    }


def train(client: Client, order: dict) -> tuple[object, Facts]:
    """A training waited for, one cancelled before it was looked at, and one waited for afterwards."""
    run = client.training.create(**order, name="first", poll_interval=0.05)
    facts: Facts = {"run": [run.status, run.progress, run.model_id is not None]}
    facts["refund"] = [entry.operation for entry in client.credits.iter(page_size=1)]
    second = client.training.create(**order, name="second", wait=False)
    facts["queued"] = second.status
    facts["cancelled"] = client.training.cancel(second.id).status
    third = client.training.create(**order, name="third", wait=False)
    facts["waited"] = client.training.wait_for_completion(third.id, poll_interval=0.05).status
    facts["listed"] = [row.name for row in client.training.list(limit=20)]
    facts["completed"] = [row.name for row in client.training.iter(page_size=1, status="completed")]
    facts["got"] = client.training.get(run.id).name
    return run, facts


def read_model(client: Client, model_id: str, folder: Path) -> Facts:
    """The first run's model: listed, downloaded, deleted."""
    facts: Facts = {"models": sorted(model.name for model in client.models.list(limit=20, status="ready"))}
    facts["iterated"] = sorted(model.name for model in client.models.iter(page_size=1))
    model = client.models.get(model_id)
    facts["model"] = [model.model_type, model.class_mapping, model.metrics["mAP"]]
    facts["weights"] = client.models.download(model.id, folder / "model.onnx").stat().st_size > 0
    client.models.delete(model.id)
    facts["after_delete"] = sorted(row.name for row in client.models.iter())
    facts["archived"] = [row.name for row in client.models.iter(status="archived")]
    return facts


def make_mistakes(client: Client, order: dict, ended: str) -> Facts:
    """What is refused."""
    unknown = "00000000-0000-4000-8000-000000000000"
    dear = {**order, "gpu_type": "h100", "config": {"epochs": 9000}, "name": "dear"}
    return {
        "missing": failure_of(lambda: client.training.get(unknown)),
        "too_dear": failure_of(lambda: client.training.create(**dear)),
        "bad_gpu": failure_of(lambda: client.training.create(**{**order, "gpu_type": "tpu"}, name="bad")),
        "ended": failure_of(lambda: client.training.cancel(ended)),
    }


def main(url: str, api_key: str, folder: Path) -> None:
    """Call everything once."""
    client = Client(api_key=api_key, base_url=url)
    order = {"dataset_name": "signs", "export_name": "e1", "pipeline_type": "yolox", "config": {"epochs": 10}}
    facts = {**read_datasets(client, folder), **make_export(client, folder)}
    run, trained = train(client, order)
    facts |= trained | read_model(client, run.model_id, folder) | make_mistakes(client, order, run.id)
    print(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
