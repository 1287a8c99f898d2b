"""What a training has to pass before it is accepted: the checks a create and a quote share."""

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import Connection

from sandbox.accounts import Account
from sandbox.api.pictograph.errors import ApiError, invalid, not_found
from sandbox.catalog import find_dataset, find_export
from sandbox.fitting import AUTO, AUTOSELECT_KEY, auto_choice
from sandbox.gpus import TIERS
from sandbox.jsontext import JsonObject
from sandbox.modelstore import MODEL_TYPES, find_model
from sandbox.prices import DEFAULT_EPOCHS, epochs_of
from sandbox.runs import Order
from sandbox.store import Row
from sandbox.training.jobs import TRAINABLE, not_trainable
from sandbox.training.recipes import RECIPES


class TrainingBody(BaseModel):
    """Body of a quote; a create needs a name besides."""

    dataset_name: str
    export_name: str
    pipeline_type: str
    gpu_type: str = "a10g"
    config: JsonObject = Field(default_factory=dict)
    version_of_model_id: str | None = None


class NamedTrainingBody(TrainingBody):
    """Body of a create."""

    name: str = Field(min_length=1, max_length=100)


@dataclass(frozen=True)
class _Source:
    dataset: Row
    export: Row


def check_order(tx: Connection, account: Account, body: TrainingBody, name: str) -> Order:
    """Return the order a body asks for.

    Raises:
        ApiError: 404, 400 or 422, in the order the vendor's documents suggest: names first, then values.
    """
    _check_words(account, body)
    source = _source(tx, account, body)
    config = {key: value for key, value in _unwrapped(body).items() if key != AUTOSELECT_KEY}  # ours to say
    try:
        epochs = epochs_of(config, _default_epochs(account, body.pipeline_type))
    except ValueError as error:
        raise invalid("body.config.epochs", str(error)) from error
    _check_model(tx, account, body)
    gpu_type = body.gpu_type
    if gpu_type == AUTO:
        choice = auto_choice(account.settings, body.pipeline_type, config)
        gpu_type, config = choice["gpu_type"], {**config, AUTOSELECT_KEY: choice}
    return Order(
        source.dataset, source.export, name, body.pipeline_type, gpu_type, epochs, config, body.version_of_model_id
    )


def _default_epochs(account: Account, pipeline_type: str) -> int:
    return RECIPES[pipeline_type].epochs if account.settings.engine == "real" else DEFAULT_EPOCHS


def _check_words(account: Account, body: TrainingBody) -> None:
    pipelines = account.settings.accepted_pipelines
    if body.pipeline_type not in pipelines:
        raise invalid("body.pipeline_type", f"'{body.pipeline_type}' is not one of {', '.join(pipelines)}")
    if account.settings.engine == "real" and body.pipeline_type not in TRAINABLE:
        raise invalid("body.pipeline_type", f"{not_trainable(body.pipeline_type)}, or the scripted engine")
    gpus = tuple(TIERS) if account.settings.dialect == "v1" else (*TIERS, AUTO)
    if body.gpu_type not in gpus:
        raise invalid("body.gpu_type", f"'{body.gpu_type}' is not one of {', '.join(gpus)}")


def _source(tx: Connection, account: Account, body: TrainingBody) -> _Source:
    dataset = find_dataset(tx, account, body.dataset_name)
    if dataset is None:
        raise not_found("Dataset", body.dataset_name)
    export = find_export(tx, account, body.export_name, dataset["id"])
    if export is None:
        raise not_found("Export", body.export_name)
    if export["status"] != "completed":
        raise ApiError(400, f"Export must be completed before training (current status: {export['status']})")
    needed = account.settings.smallest_export
    if (export["image_count"] or 0) < needed:
        message = f"export '{export['name']}' has {export['image_count']} images, training needs at least {needed}"
        raise invalid("body.export_name", message)
    return _Source(dataset, export)


def _unwrapped(body: TrainingBody) -> dict[str, Any]:
    head = body.config.get("_pictograph")
    if not isinstance(head, dict):
        return body.config
    if head.get("pipeline", body.pipeline_type) != body.pipeline_type:
        raise ApiError(400, f"config was written by pipeline '{head['pipeline']}', not '{body.pipeline_type}'")
    inner = body.config.get("training", body.config.get("config", {}))
    return dict(inner) if isinstance(inner, dict) else {}


def _check_model(tx: Connection, account: Account, body: TrainingBody) -> None:
    if body.version_of_model_id is None:
        return
    model = find_model(tx, account, body.version_of_model_id)
    if model is None:
        raise not_found("Model", body.version_of_model_id)
    if model["model_type"] != MODEL_TYPES[body.pipeline_type]:
        raise ApiError(
            400, f"Model '{model['name']}' is for {model['model_type']}: a version must be for the same task"
        )
