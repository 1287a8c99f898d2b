"""Judge a model by running it on real pictures of its own export.

A model is accepted when it opens, runs, answers differently to different pictures, speaks of the classes it was trained
on, and finds enough of the labels on the sample pictures.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.data.pictures import PictureError
from pipeline.errors import ErrorContext, InferenceError, OutputCheckError, OutputPathError
from pipeline.models import (
    Finding,
    HostedReport,
    ModelArtifact,
    ModelFacts,
    ModelTask,
    SamplePicture,
    SampleResult,
    Severity,
    Skipped,
    SmokeReport,
)
from pipeline.smoke.agreement import count_found
from pipeline.smoke.inference import (
    LEAST_SIDE,
    InferenceJob,
    InferenceLimits,
    InferenceResult,
    PictureReading,
    run_inference,
)
from pipeline.smoke.overlays import Overlay, draw_overlay
from pipeline.value import Value

OVERLAY_FOLDER = "overlays"
LISTED = 12
"""Most entries named in one message."""
KEPT_PREDICTIONS = 100
"""Most predictions kept and drawn for one picture; all of them are counted."""
MANY_PER_LABEL = 3
"""More predictions than this for a label are worth a remark."""
FLOOD_PER_LABEL, FLOOD_PER_PICTURE = 10, 50
"""A model with more than both is a flood: it finds every label because it sees everything everywhere."""


class SmokeOptions(Value):
    """How the test is done, besides what it has to show."""

    confidence: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Least confidence of a prediction; a classifier's best class is taken in any case."""
    asked_size: tuple[int, int] | None = None
    """Height and width that the training was asked for, in pixels."""
    fallback_size: Annotated[int, Field(ge=LEAST_SIDE)] = 640
    """Side length to feed where neither the graph, nor its trainer, nor the request says one, in pixels."""
    limits: InferenceLimits = InferenceLimits()
    """What the model's process may use."""


DEFAULT_OPTIONS = SmokeOptions()


def smoke_test(
    artifact: ModelArtifact,
    samples: tuple[SamplePicture, ...],
    *,
    min_agreement: float,
    output_dir: Path,
    labels: tuple[str, ...],
    options: SmokeOptions = DEFAULT_OPTIONS,
) -> SmokeReport | Skipped:
    """Run the model on every sample picture, draw what it saw, and judge it; without any there is nothing to judge by.

    ``labels`` are the classes of the export the model was trained on; empty leaves them unchecked.

    Raises:
        ModelLoadError: The file is no model that can be opened here.
        InferenceError: It did not run.
        OutputCheckError: Its outputs, classes or answers are not those of a usable model.
        OutputPathError: The pictures of predictions cannot be written.
        ArtifactError: This machine cannot run anything now; nothing is said about the model.
    """
    if not samples:
        return Skipped(stage="smoke test", reason="there is no picture of its training data to run the model on")
    classes, findings = check_classes(artifact.model, labels)
    job = InferenceJob(
        model=artifact.path,
        task=artifact.model.task,
        architecture=artifact.model.architecture,
        classes=classes,
        pictures=tuple(sample.path for sample in samples),
        confidence=options.confidence,
        fallback_size=_open_size(artifact.model, options),
        limits=options.limits,
    )
    outcome = run_inference(job)
    results = _tally_results(job, samples, outcome, output_dir / OVERLAY_FOLDER)
    if not outcome.responds:
        raise _refused(f"model {artifact.model.name!r} is dead: different pictures give the very same outputs")
    findings = (*findings, *_judge_amount(artifact.model, samples, outcome))
    agreement = _require_agreement(artifact.model, results, min_agreement, output_dir)
    return SmokeReport(
        results=results,
        input_size=outcome.input_size,
        classes=classes,
        agreement=agreement,
        findings=(*findings, *_remark_on(results, agreement)),
    )


def _open_size(model: ModelFacts, options: SmokeOptions) -> tuple[int, int]:
    """Return height and width to feed where the graph leaves them open."""
    for size in (model.input_size, options.asked_size):
        if size is not None and min(size) >= LEAST_SIDE and max(size) <= options.limits.input_side:
            return size
    return options.fallback_size, options.fallback_size


def check_hosted(report: HostedReport, *, min_agreement: float) -> None:
    """Judge what a model answered at the provider.

    Raises:
        OutputCheckError: It left samples without a usable answer, or agrees with too few of their labels.
    """
    if report.inconclusive is not None:
        return
    if report.answered < report.asked:
        raise _refused(f"model {report.model_id!r} answered {report.answered} of {report.asked} samples usably")
    if report.agreement is not None and report.agreement < min_agreement:
        raise _refused(
            f"model {report.model_id!r} agrees with {report.agreement:.1%} of the labels, less than the "
            f"{min_agreement:.1%} asked for"
        )


def check_classes(model: ModelFacts, labels: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """Return the classes to read the model with, and remarks on them.

    Raises:
        OutputCheckError: The model lacks a class of the export, names one twice, or there are none at all.
    """
    classes = model.classes or labels
    if not classes:
        raise _refused(f"neither model {model.name!r} nor its export names any class")
    repeated = sorted({name for name in classes if classes.count(name) > 1})
    if repeated:
        raise _refused(f"model {model.name!r} names classes twice: {_enumerate(repeated)}")
    missing, extra = sorted(set(labels) - set(classes)), sorted(set(classes) - set(labels))
    if labels and missing:
        raise _refused(
            f"model {model.name!r} was not trained on the classes of its export: missing {_enumerate(missing)}; "
            f"extra {_enumerate(extra)}; it is probably the model of another training"
        )
    if not model.classes:
        text = f"The provider names no classes for model {model.name!r}; it was read with those of the export."
        return classes, (Finding(severity=Severity.WARNING, code="classes_assumed", message=text),)
    if not labels:
        text = f"The classes of model {model.name!r} could not be compared: the export names none."
        return classes, (Finding(severity=Severity.WARNING, code="classes_unchecked", message=text),)
    if extra:
        # A data set may define classes that nothing is labelled with yet; the model is not worth less for it.
        text = f"Model {model.name!r} also names classes that no label of its export shows: {_enumerate(extra)}."
        return classes, (Finding(severity=Severity.WARNING, code="classes_extra", message=text),)
    return classes, ()


def _tally_results(
    job: InferenceJob, samples: tuple[SamplePicture, ...], outcome: InferenceResult, folder: Path
) -> tuple[SampleResult, ...]:
    """Compare each picture's predictions with its labels and draw both.

    Raises:
        OutputPathError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    results = []
    for number, (sample, reading) in enumerate(zip(samples, outcome.readings, strict=True), start=1):
        tally = count_found(job.task, sample, reading.predictions)
        result = SampleResult(
            picture=sample.path.name,
            predictions=reading.predictions[:KEPT_PREDICTIONS],
            expected=tally.expected,
            found=tally.found,
            latency_s=reading.latency_s,
            overlay=folder / f"{number:02d}-{_plain_name(sample.path.stem)}.png",
        )
        _draw(job, sample, reading, result)
        results.append(result)
    return tuple(results)


def _draw(job: InferenceJob, sample: SamplePicture, reading: PictureReading, result: SampleResult) -> None:
    if result.overlay is None:
        return
    try:
        masks = tuple(mask.unpack() for mask in reading.masks)
        overlay = Overlay(sample, result.predictions, masks, job.classes, _caption(job.task, sample, result))
        draw_overlay(overlay, result.overlay)
    except OSError as error:
        raise _unwritable(result.overlay.parent, error) from error
    except (PictureError, ValueError) as error:
        raise InferenceError(f"picture {sample.path.name!r} cannot be drawn: {error}") from error


def _caption(task: ModelTask, sample: SamplePicture, result: SampleResult) -> str:
    if task is ModelTask.CLASSIFICATION and result.predictions:
        best = result.predictions[0]
        tags = ", ".join(sample.tags) or "no tag"
        return f"{best.name} {best.confidence:.0%} (labelled: {tags})"
    if not result.expected:
        return f"{len(result.predictions)} predicted, no labels"
    return f"found {result.found} of {result.expected} (thin green: labelled)"


def _require_agreement(
    model: ModelFacts, results: tuple[SampleResult, ...], min_agreement: float, output_dir: Path
) -> float | None:
    """Return the share of labels found, or None without labels.

    Raises:
        OutputCheckError: The share is below ``min_agreement``.
    """
    expected = sum(result.expected for result in results)
    if not expected:
        return None
    found = sum(result.found for result in results)
    agreement = found / expected
    if agreement < min_agreement:
        shares = _enumerate([f"{result.picture} {result.found}/{result.expected}" for result in results])
        raise _refused(
            f"model {model.name!r} found {found} of {expected} labels ({agreement:.1%}), less than the "
            f"{min_agreement:.1%} asked for: {shares}; see the pictures in {str(output_dir / OVERLAY_FOLDER)!r}"
        )
    return agreement


def _judge_amount(
    model: ModelFacts, samples: tuple[SamplePicture, ...], outcome: InferenceResult
) -> tuple[Finding, ...]:
    """Remark on a model that sees far more than is labelled.

    Raises:
        OutputCheckError: It sees so much that finding the labels proves nothing.
    """
    seen = [
        (len(sample.boxes), len(reading.predictions))
        for sample, reading in zip(samples, outcome.readings, strict=True)
        if sample.boxes
    ]
    labels, predictions = sum(expected for expected, _ in seen), sum(count for _, count in seen)
    if model.task is ModelTask.CLASSIFICATION or predictions <= MANY_PER_LABEL * labels:
        return ()
    text = f"Model {model.name!r} predicts {predictions} objects where {labels} are labelled ({len(seen)} pictures)."
    if predictions > FLOOD_PER_LABEL * labels and predictions > FLOOD_PER_PICTURE * len(seen):
        raise _refused(f"{text} Finding the labels among them proves nothing.")
    return (Finding(severity=Severity.WARNING, code="many_predictions", message=text),)


def _remark_on(results: tuple[SampleResult, ...], agreement: float | None) -> list[Finding]:
    findings = [
        Finding(
            severity=Severity.WARNING,
            code="no_prediction",
            message=f"The model saw nothing on picture {result.picture!r}, which carries {result.expected} label(s).",
        )
        for result in results
        if not result.predictions
    ]
    if agreement is None:
        text = "No sample picture carries a label, so what the model saw could not be compared with anything."
        findings.append(Finding(severity=Severity.WARNING, code="agreement_unknown", message=text))
    return findings


def _plain_name(stem: str) -> str:
    """Return a file name's stem without anything a file system could take for more than a letter."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:60].strip("-") or "picture"


def _enumerate(names: list[str]) -> str:
    shown = ", ".join(names[:LISTED]) or "none"
    return shown if len(names) <= LISTED else f"{shown} and {len(names) - LISTED} more"


def _unwritable(folder: Path, error: OSError) -> OutputPathError:
    reason = error.strerror or type(error).__name__
    return OutputPathError(f"the pictures of predictions cannot be written to {str(folder)!r}: {reason}")


def _refused(message: str) -> OutputCheckError:
    return OutputCheckError(message, ErrorContext(operation="smoke.judge"))
