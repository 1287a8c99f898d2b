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


def main(url: str, api_key: str, folder: Path) -> None:
    """Call everything once."""
    client = Client(api_key=api_key, base_url=url)
    facts: dict[str, object] = {}
    facts["estimates"] = [
        client.credits.estimate(slug, quantity=30).total_credits
        for slug in ("training_a10g_per_minute", "training_a10g")
    ]
    facts["balance"] = client.credits.balance().credits_remaining
    dataset = client.datasets.get("signs")
    facts["completed_images"] = dataset.completed_image_count
    facts["dataset_by_id"] = client.datasets.get_by_id(dataset.id).name
    facts["images"] = len(client.datasets.get("signs", include_images=True, images_limit=3).images)
    facts["datasets"] = [row.name for row in client.datasets.iter(page_size=1)]
    facts["downloaded"] = client.datasets.download("signs", folder / "images").images_downloaded

    export = client.exports.create("signs", "e1", include_images=True, status_filter="complete", poll_interval=0.02)
    facts["export"] = [export.status, export.image_count]
    facts["exports"] = [row.name for row in client.exports.list(dataset_name="signs")]
    facts["export_get"] = client.exports.get("signs", "e1").id == export.id
    facts["export_bytes"] = client.exports.download("signs", "e1", folder / "e1.zip").stat().st_size == export.file_size
    facts["duplicate_export"] = failure_of(lambda: client.exports.create("signs", "e1"))

    order = {"dataset_name": "signs", "export_name": "e1", "pipeline_type": "yolox", "config": {"epochs": 10}}
    run = client.training.create(**order, name="first", poll_interval=0.05)
    facts["run"] = [run.status, run.progress, run.model_id is not None]
    facts["refund"] = [entry.operation for entry in client.credits.iter(page_size=1)]
    second = client.training.create(**order, name="second", wait=False)
    facts["queued"] = second.status
    facts["cancelled"] = client.training.cancel(second.id).status
    third = client.training.create(**order, name="third", wait=False)
    facts["waited"] = client.training.wait_for_completion(third.id, poll_interval=0.05).status
    facts["listed"] = [row.name for row in client.training.list(limit=20)]
    facts["completed"] = [row.name for row in client.training.iter(page_size=1, status="completed")]
    facts["got"] = client.training.get(run.id).name

    facts["models"] = sorted(model.name for model in client.models.list(limit=20, status="ready"))
    facts["iterated"] = sorted(model.name for model in client.models.iter(page_size=1))
    model = client.models.get(run.model_id)
    facts["model"] = [model.model_type, model.class_mapping, model.metrics["mAP"]]
    facts["weights"] = client.models.download(model.id, folder / "model.onnx").stat().st_size > 0
    client.models.delete(model.id)
    facts["after_delete"] = sorted(row.name for row in client.models.iter())
    facts["archived"] = [row.name for row in client.models.iter(status="archived")]
    unknown = "00000000-0000-4000-8000-000000000000"
    facts["missing"] = failure_of(lambda: client.training.get(unknown))
    facts["too_dear"] = failure_of(
        lambda: client.training.create(**{**order, "gpu_type": "h100", "config": {"epochs": 9000}}, name="dear")
    )
    facts["bad_gpu"] = failure_of(lambda: client.training.create(**{**order, "gpu_type": "tpu"}, name="bad"))
    facts["ended"] = failure_of(lambda: client.training.cancel(run.id))
    print(json.dumps(facts))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
