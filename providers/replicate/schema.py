"""What a trainer takes as inputs, so that a wrong one is named before anything is uploaded or paid for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pydantic import JsonValue

from pipeline.errors import ConfigurationError, ErrorContext
from pipeline.local_requests import ReplicateRequest
from providers.replicate.secrecy import UNSTORED, refuse_secrets
from providers.replicate.wire import VersionWire

PIPELINE_INPUT = "pipeline"
"""The input of a trainer that can train several pipelines."""


@dataclass(frozen=True)
class InputSchema:
    """The inputs of a version's training, or of its predictions."""

    names: frozenset[str]
    """All of them."""
    required: frozenset[str]
    """Those without a default."""


def training_inputs(trainer: VersionWire) -> InputSchema | None:
    """Return what a trainer takes; none when the version carries no schema."""
    return _inputs(trainer, "TrainingInput")


def prediction_inputs(version: VersionWire) -> InputSchema | None:
    """Return what a version's predictions take; none when the version carries no schema."""
    return _inputs(version, "Input")


def fill_inputs(
    request: ReplicateRequest, trainer: VersionWire, secret_names: Collection[str] = ()
) -> dict[str, JsonValue]:
    """Return the trainer's inputs without the data's address: the request's own, and the pipeline where it takes one.

    ``secret_names`` are given as well, by the environment, and are not among them.

    Raises:
        ConfigurationError: The version is no trainer, or an input is unknown, missing, given twice or a secret.
    """
    refuse_secrets(request.inputs)
    secrets = frozenset(secret_names)
    twice = secrets & {*request.inputs, request.data_input}
    if twice:
        raise _refused(UNSTORED, f"{UNSTORED} holds {_listed(twice)}, which the request fills; leave it out")
    _check_trainer(request, trainer)
    schema = training_inputs(trainer)
    inputs = dict(request.inputs)
    if schema is None:
        return inputs
    if PIPELINE_INPUT in schema.names - {request.data_input} - secrets:
        inputs.setdefault(PIPELINE_INPUT, request.pipeline)
    if request.data_input not in schema.names:
        message = f"data_input={request.data_input!r} is no input of the trainer; it takes: {_listed(schema.names)}"
        raise _refused("data_input", message)
    _check_names("inputs", inputs.keys(), schema)
    _check_names(UNSTORED, secrets, schema)
    missing = schema.required - inputs.keys() - secrets - {request.data_input}
    if missing:
        raise _refused("inputs", f"inputs lacks {_listed(missing)}, which the trainer needs; add it")
    return inputs


def _check_trainer(request: ReplicateRequest, trainer: VersionWire) -> None:
    paths = trainer.openapi_schema.get("paths")
    if isinstance(paths, dict) and paths and "/trainings" not in paths:
        message = f"trainer={request.trainer!r} can predict but not train; name a version that is a trainer"
        raise _refused("trainer", message)


def _check_names(field: str, given: Collection[str], schema: InputSchema) -> None:
    unknown = set(given) - schema.names
    if unknown:
        message = (
            f"{field} holds {_listed(unknown)}, which the trainer does not take; it takes: {_listed(schema.names)}"
        )
        raise _refused(field, message)


def _inputs(version: VersionWire, name: str) -> InputSchema | None:
    components = _object(version.openapi_schema.get("components"))
    schema = _object(_object(components.get("schemas")).get(name))
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict):
        return None
    needed = {item for item in required if isinstance(item, str)} if isinstance(required, list) else set()
    return InputSchema(frozenset(properties), frozenset(needed))


def _object(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))


def _refused(field: str, message: str) -> ConfigurationError:
    return ConfigurationError(message, ErrorContext(operation="account.check", field=field))
