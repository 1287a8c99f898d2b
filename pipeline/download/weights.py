"""Bring the model here: an ONNX file, or the ONNX in whatever a trainer returned."""

from __future__ import annotations

import shutil
from dataclasses import replace

from pipeline.clock import Clock
from pipeline.download.collection import CANDIDATE_NAME, CollectedFile, collect, describe_artifact
from pipeline.download.readiness import READY_POLL, await_model, once_ready
from pipeline.download.unpacking import UnpackedModel, unpack_model
from pipeline.errors import ErrorContext, ModelLoadError, OutputPathError
from pipeline.models import Finding, ModelArtifact, ModelFacts, ModelTask, Severity, Skipped, TrainingRun, TrainPlan
from pipeline.provider import Provider

WEIGHTS_NAME = "weights"
"""The file as it was returned, whatever it is."""


def fetch_model(provider: Provider, plan: TrainPlan, run: TrainingRun, clock: Clock) -> ModelArtifact | Skipped:
    """Return the verified model of a completed run, a candidate beside the one accepted last; or why there is none.

    Raises:
        ArtifactError: It could not be had, is not what was announced, or cannot be taken out of what was returned.
        ModelLoadError: The request wants a model that runs here, and there is none.
    """
    got = _fetch(provider, plan, run, clock)
    if isinstance(got, Skipped) and plan.request.needs_weights:
        raise ModelLoadError(f"smoke='onnx' wants a model that runs here, and there is none: {got.reason}")
    return got


def _fetch(provider: Provider, plan: TrainPlan, run: TrainingRun, clock: Clock) -> ModelArtifact | Skipped:
    if plan.profile.weights == "none":
        return Skipped(stage="download", reason=f"{plan.profile.title} gives no weights away")
    model = await_model(provider, run, READY_POLL, clock)
    if model.no_weights is not None:
        return Skipped(stage="download", reason=model.no_weights)
    in_archive = plan.profile.weights == "archive"
    file = collect(
        once_ready(lambda at: provider.open_model(model, at), READY_POLL, clock),
        plan.output_dir / (WEIGHTS_NAME if in_archive else CANDIDATE_NAME),
        max_bytes=plan.request.max_model_bytes,
        clock=clock,
    )
    return take_out_model(file, model, plan) if in_archive else describe_artifact(file, model)


def take_out_model(file: CollectedFile, model: ModelFacts, plan: TrainPlan) -> ModelArtifact | Skipped:
    """Return the ONNX model in the weights, a candidate beside the model accepted last; or why there is none.

    Raises:
        OutputPathError: The candidate cannot be written.
        UnpackError: The weights are an archive that cannot be read, or holds several models.
        ArtifactTooLargeError: It unpacks to more than the request allows.
    """
    folder = plan.output_dir / "unpacked"
    found = unpack_model(file.path, folder, max_bytes=plan.request.max_model_bytes)
    if found is None:
        return Skipped(stage="smoke test", reason=f"the weights in {str(file.path)!r} hold no ONNX model")
    candidate = plan.output_dir / CANDIDATE_NAME
    try:
        shutil.copyfile(found.path, candidate)  # the weights stay as they came: they may be gone at the provider soon
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputPathError(
            f"the model cannot be written to {str(candidate)!r} ({reason}); make room or choose another output_dir",
            ErrorContext(field="output_dir"),
        ) from error
    taken = replace(file, path=candidate, size_bytes=found.size_bytes, md5=found.md5, sha256=found.sha256)
    described = describe_artifact(taken, _with_facts(model, found))
    return described.model_copy(update={"findings": _remark_on(found, plan)})


def _with_facts(model: ModelFacts, found: UnpackedModel) -> ModelFacts:
    """Add what the archive says of its model to what the provider says, which counts more."""
    return model.model_copy(
        update={
            "classes": model.classes or found.classes,
            "architecture": model.architecture or found.architecture,
            "input_size": model.input_size or found.input_size,
            "metrics": {**found.metrics, **model.metrics},
        }
    )


def _remark_on(found: UnpackedModel, plan: TrainPlan) -> tuple[Finding, ...]:
    """Say that the model was trained for another task than it is read for; a word that is not ours says nothing."""
    if found.task == plan.task or found.task not in set(ModelTask):
        return ()
    text = (
        f"The config beside the model says that it was trained for {found.task!r}, and it is read as "
        f"{plan.task.value!r}; look whether {plan.request.KIND_FIELD}={plan.request.kind!r} is what was meant."
    )
    return (Finding(severity=Severity.WARNING, code="task_differs", message=text),)
