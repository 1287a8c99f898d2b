"""What a trainer returned as weights: find the ONNX in it."""

from __future__ import annotations

import shutil
from dataclasses import replace

from pipeline.collection import CANDIDATE_NAME, CollectedFile, describe_artifact
from pipeline.errors import ErrorContext, OutputPathError
from pipeline.models import ModelArtifact, ModelFacts, Skipped, TrainPlan
from pipeline.unpacking import UnpackedModel, unpack_model

WEIGHTS_NAME = "weights"
"""The file as it was returned, whatever it is."""


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
    return describe_artifact(taken, _with_facts(model, found))


def _with_facts(model: ModelFacts, found: UnpackedModel) -> ModelFacts:
    """Add what the archive says of its model to what the provider says, which counts more."""
    return model.model_copy(
        update={
            "classes": model.classes or found.classes,
            "architecture": model.architecture or found.architecture,
            "metrics": {**found.metrics, **model.metrics},
        }
    )
