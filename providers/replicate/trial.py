"""Try a trained version where it is hosted: real samples in, an answer of whatever shape out, and each one billed."""

from __future__ import annotations

import base64
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from pipeline.errors import InferenceError, NotFoundError, NotOfferedError, ProviderError
from pipeline.local_requests import ReplicateRequest
from pipeline.models import (
    ExportReport,
    Finding,
    HostedReport,
    RunStatus,
    SamplePicture,
    Severity,
    TrainingRun,
    TrainPlan,
)
from providers.replicate.files import Files
from providers.replicate.models import Models
from providers.replicate.predictions import Predictions
from providers.replicate.schema import prediction_inputs
from providers.replicate.wire import PredictionWire
from providers.retry import Clock

TRIAL_S = 600.0
"""Seconds for all predictions together; a version that was never used takes minutes to boot."""
LOOK_S = 2.0
"""Seconds between looks at a prediction."""
APPEAR_S = 60.0
"""Seconds during which a prediction that was just made may not be found."""
MAX_DATA_URI = 256_000
"""Longest data URI the API takes, in characters; what is longer is uploaded."""
_WORTH_NAMING_S = 0.1
IMAGE = "image"
"""The input that takes a picture."""
# The provider's own codes for what says nothing about the model: an unknown fault, and a worker that did not start.
_THEIR_FAULTS = ("E1000", "E6716")


class _UndecidedError(Exception):
    """Nothing was learned about the model."""


@dataclass
class _Tally:
    """What came of the predictions so far."""

    version: str
    asked: int = 0
    made: int = 0
    answered: int = 0
    slowest_s: float = 0.0
    billed_s: float = 0.0

    def count(self, prediction: PredictionWire, took_s: float) -> None:
        """Add a prediction that ended well."""
        self.answered += prediction.output is not None
        self.slowest_s = max(self.slowest_s, took_s)
        self.billed_s += prediction.predict_time_s or 0.0

    def report(self, inconclusive: str | None = None) -> HostedReport:
        """Return what the pipeline wants to know."""
        ran = f", which ran for {self.billed_s:.1f} s" if self.billed_s >= _WORTH_NAMING_S else ""
        message = f"Replicate bills the {self.made} predictions that tried {self.version}{ran}, and what booting took."
        bill = Finding(severity=Severity.INFO, code="predictions_billed", message=message)
        return HostedReport(
            model_id=self.version,
            asked=self.asked,
            answered=self.answered,
            latency_s=self.slowest_s,
            inconclusive=inconclusive,
            findings=(bill,) if self.made else (),
        )


class Trial:
    """Asks trained versions about samples."""

    def __init__(self, predictions: Predictions, models: Models, files: Files, clock: Clock) -> None:
        self._predictions = predictions
        self._models = models
        self._files = files
        self._clock = clock

    def run(self, plan: TrainPlan, run: TrainingRun, export: ExportReport | None) -> HostedReport:
        """Ask the run's version about each sample, or once when it takes no picture.

        What the provider refuses or does not answer is no error: repeating the trial would be billed from the first
        sample on, and says nothing about the model. The report then is inconclusive.

        Raises:
            NotOfferedError: The run pushed no version.
            InferenceError: A prediction failed.
        """
        version = run.model_id
        if version is None or ":" not in version:
            raise NotOfferedError(f"Training {run.handle.run_id!r} pushed no version that could be asked.")
        samples = export.samples if export is not None else ()
        tally, until_s = _Tally(version), self._clock.time() + TRIAL_S
        try:
            questions = self._questions(plan.asked_of(ReplicateRequest), version, samples)
            for sample, given in questions:
                inputs = given if sample is None else {**given, IMAGE: self._address(sample.path)}
                tally.asked += 1
                tally.count(*self._ask(tally, inputs, until_s))
        except _UndecidedError as reason:
            return tally.report(str(reason))
        except ProviderError as error:
            return tally.report(f"the version could not be asked: {_reason(error)}")
        return tally.report()

    def _questions(
        self, request: ReplicateRequest, version: str, samples: tuple[SamplePicture, ...]
    ) -> list[tuple[SamplePicture | None, dict[str, JsonValue]]]:
        schema, given = prediction_inputs(self._models.version(version)), dict(request.smoke_input)
        shows = bool(samples) and IMAGE not in given and (schema is None or IMAGE in schema.names)
        needed = schema.required - given.keys() - ({IMAGE} if shows else set()) if schema is not None else set()
        if needed:
            missing = ", ".join(repr(name) for name in sorted(needed))
            raise _UndecidedError(f"the version needs {missing} to predict; set smoke_input")
        return [(sample, given) for sample in samples] if shows else [(None, given)]

    def _address(self, path: Path) -> str:
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        try:
            content = path.read_bytes()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise _UndecidedError(f"picture {path.name!r} cannot be read ({reason})") from error
        uri = f"data:{kind};base64,{base64.b64encode(content).decode()}"
        if len(uri) <= MAX_DATA_URI:
            return uri
        return self._files.upload(content, path.name, kind, {}).url or uri

    def _ask(self, tally: _Tally, inputs: dict[str, JsonValue], until_s: float) -> tuple[PredictionWire, float]:
        begun_s = self._clock.time()
        if begun_s >= until_s:
            raise _UndecidedError(f"there was no time left for it within {TRIAL_S:.0f} s")
        try:
            prediction = self._predictions.create(tally.version, inputs, within_s=until_s - begun_s)
        except ProviderError as error:
            tally.made += _may_be_made(error)
            raise
        tally.made += 1
        # An answer that came with the create may be complete although its status is not the last one yet.
        if prediction.output is None:
            prediction = self._await(prediction, begun_s, until_s)
        _judge(tally.version, prediction)
        return prediction, self._clock.time() - begun_s

    def _await(self, prediction: PredictionWire, begun_s: float, until_s: float) -> PredictionWire:
        while not prediction.run_status.is_terminal:
            now_s = self._clock.time()
            if now_s >= until_s:
                self._end(prediction)
                raise _UndecidedError(f"prediction {prediction.id} did not end within {TRIAL_S:.0f} s")
            self._clock.sleep(LOOK_S)
            try:
                prediction = self._predictions.get(prediction.id)
            except ProviderError as error:
                if isinstance(error, NotFoundError) and now_s - begun_s <= APPEAR_S:
                    continue
                self._end(prediction)
                raise
        return prediction

    def _end(self, prediction: PredictionWire) -> None:
        try:
            self._predictions.cancel(prediction.id)
        except ProviderError:
            return  # it was created with a time after which the provider ends it by itself


def _may_be_made(error: ProviderError) -> bool:
    """Tell whether a create without a usable answer may have made a prediction, which then is billed."""
    status = error.context.status_code
    return status is None or status < 400 or status >= 500 or status == 408


def _reason(error: ProviderError) -> str:
    """Return what happened, without the advice: nothing is to be done about the model."""
    return error.message.partition(" Next: ")[0].rstrip(".")


def _judge(version: str, prediction: PredictionWire) -> None:
    said = prediction.error or "no explanation"
    if prediction.run_status is RunStatus.CANCELLED:
        raise _UndecidedError(f"prediction {prediction.id} was {prediction.status} before it ended ({said})")
    if prediction.run_status is not RunStatus.FAILED:
        return
    if any(code in said for code in _THEIR_FAULTS):
        raise _UndecidedError(f"prediction {prediction.id} failed at the provider ({said})")
    raise InferenceError(f"Version {version!r} fails on a real sample (prediction {prediction.id}): {said}.")
