"""The training entry point in the form that Cog packages: labelled images in, ``weights.tar`` out.

It uses the sandbox's recipes, networks and export, so what is tried there is what runs here; it works without Cog.
"""

import io
import json
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.layouts.reading import read_data
from sandbox.training.recipes import RECIPES, ConfigError, resolve
from sandbox.training.selection import Selection, select
from trainers.replicate.bar import bar_line

try:
    from cog import BaseModel, Path
except ImportError:
    from pathlib import Path

    class BaseModel:  # type: ignore[no-redef]
        """What Cog's class of this name does: fields are taken by the constructor."""

        def __init_subclass__(cls) -> None:
            """Make the subclass a dataclass."""
            dataclass(cls)


_HIGHEST_SEED = 2**32 - 1


class TrainingOutput(BaseModel):  # type: ignore[misc]
    """What a training returns; Replicate makes a version of the destination model from it."""

    weights: Path
    """A tar of ``model.onnx`` and ``config.json``."""


def train(  # noqa: PLR0913, PLR0917 - each is a field of the trainer's form
    train_data: Path,
    pipeline: str = "yolox",
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    image_size: int | None = None,
    seed: int = 0,
) -> TrainingOutput:
    """Train a model on a ZIP of labelled images and return its weights; progress goes to standard error.

    Args:
        train_data: A Pictograph export, or COCO, YOLO, masks or class folders with their pictures, as a ZIP.
        pipeline: What to train, such as ``yolox`` or ``classification``.
        epochs: Passes over the training images; empty is the recipe's own.
        batch_size: Images in a step; empty is the recipe's own.
        learning_rate: Peak of the learning rate; empty is the recipe's own.
        image_size: Side of the network's input in pixels; empty is the recipe's own.
        seed: The same data, values and seed give the same bytes.

    Raises:
        DataError: The data cannot be read, or cannot train this pipeline.
        ConfigError: A value cannot be used.
        TrainingError: Training or export gave no usable model.
    """
    _check(pipeline, seed)
    config = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "image_size": image_size}
    settings, warnings = resolve(RECIPES[pipeline], config)
    data = read_data(Path(train_data))
    selection = select(data.images, settings, seed)
    _say(f"{len(data.images)} images read as {data.layout}, {len(selection.train)} to train on")
    for notice in (*data.notices, *(warning["message"] for warning in (*warnings, *selection.warnings))):
        _say(f"note: {notice}")
    folder = Path(tempfile.mkdtemp(prefix="trained-"))
    try:
        return TrainingOutput(weights=_packed(folder, _fit(selection, settings, seed, folder / "model.onnx")))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _check(pipeline: object, seed: object) -> None:
    if not isinstance(pipeline, str) or pipeline not in RECIPES:
        raise ConfigError(f"pipeline is {pipeline!r}: give one of {', '.join(RECIPES)}")
    if type(seed) is not int or not 0 <= seed <= _HIGHEST_SEED:
        raise ConfigError(f"seed is {seed!r}: give a whole number from 0 to {_HIGHEST_SEED}")


def _fit(selection: Selection, settings: Any, seed: int, model: Path) -> dict[str, Any]:
    """Train and export to ``model``; return its config."""
    import torch  # a second or two, which a fault in the data should not cost

    from sandbox.training.export import export_onnx
    from sandbox.training.loop import Trainer
    from sandbox.training.task import task_of

    torch.set_num_threads(1)  # sums in another order are other bytes
    task = task_of(selection.classes, settings)
    trainer = Trainer(task, task.samples(selection.train), len(selection.train), seed=seed, checkpoint=None)
    total = settings.total_epochs(len(selection.train))
    started = time.monotonic()
    _say(bar_line(0, total, 0.0))
    for epoch in trainer.epochs(task.samples(selection.val) if selection.val else None):
        if epoch.metrics:
            figures = ", ".join(f"{name} {value:.3f}" for name, value in epoch.metrics.items())
            _say(f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, {figures}")
        _say(bar_line(epoch.epoch, total, time.monotonic() - started))
    network, samples = trainer.network, task.samples(selection.test)
    metrics = task.evaluate(network, samples)
    facts = {
        "model_type": settings.recipe.model_type,
        "architecture": settings.recipe.architecture,
        "classes": list(task.classes),
    }
    export_onnx(task, network, task.example(samples), model, {**facts, "metrics": metrics})
    _say(f"held out: {task.key_metric} {metrics[task.key_metric]} on {metrics['evaluated_images']} images")
    return {
        "pipeline": settings.recipe.pipeline_type,
        "task": settings.recipe.model_type,
        "classes": list(task.classes),
        "architecture": settings.recipe.architecture,
        "input_size": [settings.height, settings.width],
        "metrics": metrics,
    }


def _packed(folder: Path, config: Mapping[str, Any]) -> Path:
    """Return a tar of the model and its config, without clock or owner in it: the same model is the same tar."""
    members = {
        "model.onnx": (folder / "model.onnx").read_bytes(),
        "config.json": json.dumps(config, indent=1, allow_nan=False).encode(),
    }
    weights = folder / "weights.tar"
    with tarfile.open(weights, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return weights


def _say(line: str) -> None:
    """Print a line at once: whoever watches the log sees it when it happens."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
