"""One training job from its folder to its result: data, split, training, evaluation, export."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from sandbox.exportzip import read_export
from sandbox.modelconfig import ModelFacts, model_config
from sandbox.training.export import export_onnx
from sandbox.training.loop import Trainer
from sandbox.training.recipes import RECIPES, Settings, resolve
from sandbox.training.results import CHECKPOINT, PROGRESS, write_json
from sandbox.training.selection import Selection, select
from sandbox.training.task import Task, task_of


def run_job(job_dir: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Train what the job asks for; progress, model and config land in its folder, the result's fields are returned.

    Raises:
        DataError: The export cannot train this pipeline type.
        ConfigError: A config value cannot be used.
        TrainingError: Training or export gave no usable model.
    """
    seed = int(job["seed"])
    torch.set_num_threads(int(job.get("threads", 1)))
    settings, notices = resolve(RECIPES[job["pipeline_type"]], job["config"])
    selection = select(read_export(Path(job["export"])), settings, seed)
    task = task_of(selection.classes, settings)
    trainer = _train(task, selection, job, job_dir)
    samples = task.samples(selection.test)
    network = trainer.network
    metrics = task.evaluate(network, samples)
    notes = {**_facts(task, settings), "metrics": metrics}
    export_onnx(task, network, task.example(samples), job_dir / "model.onnx", notes)
    write_json(job_dir / "config.json", _config(job, task, len(trainer.history)))
    return {
        "status": "completed",
        "error_message": None,
        "metrics": metrics,
        "classes": list(task.classes),
        "image_size": [settings.height, settings.width],
        "held_out": [image.name for image in selection.test],
        "model_type": settings.recipe.model_type,
        "architecture": settings.recipe.architecture,
        "warnings": [*notices, *selection.warnings, *_unmeasured(task, metrics)],
        "train_seconds": round(sum(entry["seconds"] for entry in trainer.history), 3),
        "history": trainer.history,
    }


def _unmeasured(task: Task, metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the warning that the model's quality is not known, or nothing."""
    if metrics[task.key_metric] is not None:
        return []
    count = metrics["evaluated_images"]
    message = (
        f"{task.key_metric} is not known: none of the {count} images held out for testing shows a trained class; "
        "label more images"
    )
    return [{"code": "metric_not_measured", "message": message}]


def _train(task: Task, selection: Selection, job: Mapping[str, Any], job_dir: Path) -> Trainer:
    train = task.samples(selection.train)
    validation = task.samples(selection.val) if selection.val else None
    checkpoint, device = job_dir / CHECKPOINT, str(job.get("device", "cpu"))
    trainer = Trainer(task, train, len(selection.train), seed=int(job["seed"]), checkpoint=checkpoint, device=device)
    with (job_dir / PROGRESS).open("w", encoding="utf-8") as stream:
        # After a resume: the epochs the checkpoint knows of, which may be one less than were reported.
        _append(stream, trainer.history)
        for epoch in trainer.epochs(validation):
            _append(stream, [epoch.as_json()])
    return trainer


def _append(stream: Any, entries: Iterable[Mapping[str, Any]]) -> None:
    for entry in entries:
        stream.write(json.dumps(entry) + "\n")
    stream.flush()


def _facts(task: Task, settings: Settings) -> dict[str, Any]:
    return {
        "model_type": settings.recipe.model_type,
        "architecture": settings.recipe.architecture,
        "classes": list(task.classes),
    }


def _config(job: Mapping[str, Any], task: Task, epochs: int) -> dict[str, Any]:
    settings = task.settings
    recipe = settings.recipe
    facts = ModelFacts(
        recipe.pipeline_type,
        recipe.model_type,
        recipe.architecture,
        task.classes,
        (settings.height, settings.width),
        str(job.get("name") or recipe.pipeline_type),
        str(job.get("export_name") or ""),
    )
    training = {"epochs": epochs, "batch_size": settings.batch_size, "learning_rate": settings.learning_rate}
    return model_config(facts, {**training, "model_size": settings.size.word})
