"""Try a trained model where it is: ask it about labelled tiles of the data it was made for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.tile_samples import SampleTile
from pipeline.data.tiles import keep_tiles
from pipeline.errors import (
    ConfigurationError,
    ErrorContext,
    ExportRejectedError,
    InferenceError,
    InvalidRequestError,
    NotFoundError,
    ProviderError,
    ProviderUnavailableError,
)
from pipeline.local_requests import BluesightRequest
from pipeline.models import ExportReport, Finding, HostedReport, Severity, TrainingRun, TrainPlan
from providers.bluesight.inference import Inference, calls_of
from providers.bluesight.judging import Judge, agreement, judge_of


@dataclass(frozen=True)
class _Answered:
    """What came of asking."""

    tiles: tuple[SampleTile, ...] = ()
    answers: tuple[NDArray[np.int64], ...] = ()
    latency_s: float = 0.0
    inconclusive: str | None = None


def try_model(inference: Inference, plan: TrainPlan, run: TrainingRun, export: ExportReport | None) -> HostedReport:
    """Ask the run's model about tiles of the validation file, or else of the training file, and judge its answers.

    Raises:
        InferenceError: The run names no model, or the model is not there.
        OutputCheckError: An answer does not fit the task.
        ProviderError: The server could not be asked.
    """
    request = plan.asked_of(BluesightRequest)
    if run.model_id is None:
        message = f"run {run.handle.run_id!r} ({run.provider_status}) names no model: train again"
        raise InferenceError(message, ErrorContext(operation="inference.ask", run_id=run.handle.run_id))
    role = _tried_on(request)
    try:
        tiles = keep_tiles(Path(getattr(request, role)), request.samples, plan.output_dir / "samples", role=role)
    except (ConfigurationError, ExportRejectedError) as error:
        return _report(run.model_id, (), _Answered(inconclusive=f"there are no tiles to ask about: {error}"))
    if not tiles:
        reason = f"no tile of {role} {getattr(request, role)!r} could be taken; reading tiles needs h5py"
        return _report(run.model_id, (), _Answered(inconclusive=reason))
    judge = judge_of(run.model_id, request, export)
    return _report(run.model_id, tiles, _ask(inference, judge, tiles), _asked_about(role, judge, len(tiles)))


def _tried_on(request: BluesightRequest) -> str:
    """Return the field that names the file to take tiles of: one the model has not seen, where there is one."""
    has_unseen = request.validation is not None and Path(request.validation).is_file()
    return "validation" if has_unseen else "dataset"


def _ask(inference: Inference, judge: Judge, tiles: Sequence[SampleTile]) -> _Answered:
    asked: list[SampleTile] = []
    answers: list[NDArray[np.int64]] = []
    slowest_s, reason = 0.0, None
    for call in calls_of(tiles):
        began_s = time.perf_counter()
        try:
            labels = inference.ask(judge.model_id, call)
        except ProviderError as error:
            reason = _inconclusive(error, judge)
            break
        slowest_s = max(slowest_s, time.perf_counter() - began_s)
        answers += judge.check(labels, call)
        asked += call
    return _Answered(tuple(asked), tuple(answers), slowest_s, reason)


def _inconclusive(error: ProviderError, judge: Judge) -> str:
    """Return why nothing was learned of the model.

    Raises:
        InferenceError: It is not there.
        ProviderError: Something that may pass.
    """
    if isinstance(error, NotFoundError):
        message = f"model {judge.model_id!r} is not there, although its job succeeded: {error} Train again"
        raise InferenceError(message, error.context) from error
    if error.context.status_code == 400 and isinstance(error, InvalidRequestError):
        return f"the server refuses the tiles: {error}"
    if error.context.status_code == 400 and isinstance(error, ProviderUnavailableError) and not judge.masks:
        # For months the vendor's server could not ask any classification model, good or bad.
        return f"hosted inference unavailable: {error}"
    raise error


def _asked_about(role: str, judge: Judge, count: int) -> tuple[Finding, ...]:
    seen = "tiles the model was not trained on" if role == "validation" else "tiles it was trained on"
    message = f"Model {judge.model_id!r} was asked about {count} {seen}, of the file that {role} names."
    found = [Finding(severity=Severity.INFO, code=f"asked_about_{role}", message=message)]
    if judge.allowed is None:
        message = "Which labels the model can have learned is not known: any whole number passed for one."
        found.append(Finding(severity=Severity.WARNING, code="labels_unchecked", message=message))
    return tuple(found)


def _report(
    model_id: str, tiles: Sequence[SampleTile], answered: _Answered, findings: tuple[Finding, ...] = ()
) -> HostedReport:
    return HostedReport(
        model_id=model_id,
        asked=len(tiles),
        answered=len(answered.answers),
        agreement=agreement(answered.answers, answered.tiles),
        latency_s=answered.latency_s,
        inconclusive=answered.inconclusive,
        findings=findings,
    )
