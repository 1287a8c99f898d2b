"""Bluesight behind the provider port; the API itself is in its resources, one file each.

Source: the vendor's guides and its published server, checked 2026-11-20.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue, SecretStr

from pipeline.errors import NotFoundError, ProviderError
from pipeline.local_requests import BluesightRequest
from pipeline.models import (
    CostEstimate,
    Export,
    ExportReport,
    Finding,
    HostedReport,
    ProviderProfile,
    RunHandle,
    Severity,
    Skipped,
    TrainingRun,
    TrainPlan,
)
from pipeline.provider import Notes
from providers.adapters import WithoutExports, WithoutWeights
from providers.bluesight.errors import BASE_URL_VARIABLE, bluesight_error
from providers.bluesight.files import Files
from providers.bluesight.inference import Inference
from providers.bluesight.jobs import Jobs
from providers.bluesight.session import USUAL_TIMES, AnswerTimes, BluesightSession
from providers.bluesight.trial import try_model
from providers.calls import ClientOptions
from providers.http import ApiClient
from providers.sides import check_side

_SENT = "creates_sent"


class BluesightProvider(WithoutExports, WithoutWeights):
    """Implements ``pipeline.provider.Provider``; ``files jobs inference``: the typed API.

    ``options.timeout_s`` is for connections alone (``session.CONNECT_S``); ``times`` are for answers.
    """

    def __init__(
        self,
        api_key: SecretStr | None,
        options: ClientOptions,
        profile: ProviderProfile,
        *,
        times: AnswerTimes = USUAL_TIMES,
    ) -> None:
        options = replace(options, scheme="Bearer", error_of=bluesight_error)
        key = api_key.get_secret_value() if api_key is not None else ""
        super().__init__(profile, options.base_url.rstrip("/"), key)
        self._session = BluesightSession(ApiClient(api_key, options), times)
        self.files = Files(self._session)
        self.jobs = Jobs(self._session)
        self.inference = Inference(self._session, options.clock)

    def close(self) -> None:
        """Release connections."""
        self._session.close()

    def check_account(self, plan: TrainPlan) -> None:
        """Check that the server is there; nothing can be learned about a key, and the data is a local file.

        Raises:
            ConfigurationError: A hosted run was asked for and a sandbox answers, or the other way round.
            UnexpectedResponseError: The address leads to something else.
        """
        _ = plan
        self._session.greet()
        check_side(from_sandbox=self._session.from_sandbox, expected=self._profile.sandbox, variable=BASE_URL_VARIABLE)

    def estimate_cost(self, plan: TrainPlan, export: Export) -> CostEstimate | Skipped:
        """Skip it: nobody can say what a training costs, which is not the same as nothing."""
        _ = plan, export
        return Skipped(stage="price", reason="Bluesight publishes no price")

    def find_run(self, plan: TrainPlan, order: dict[str, JsonValue] | None = None) -> None:
        """Find nothing: jobs have no name and cannot be listed, as ``profile.finds_runs`` says."""
        _ = plan, order

    def order(self, plan: TrainPlan, export: Export, notes: Notes) -> dict[str, JsonValue]:
        """Upload what is not uploaded yet, and return what a create sends.

        Returns as soon as no other training holds the server up. It is waited for here, where giving up is harmless.

        Raises:
            ConfigurationError: A file cannot be read; the error names its field.
        """
        _ = export
        request = plan.asked_of(BluesightRequest)
        training = self.files.bring("dataset", Path(request.dataset), f"{plan.run_name}.h5", notes)
        validation = None
        if request.validation is not None:
            path, filename = Path(request.validation), f"{plan.run_name}-validation.h5"
            validation = self.files.bring("validation", path, filename, notes)
        self._session.wait_until_free()
        return {
            "task": request.task,
            "training_file": training,
            "validation_file": validation,
            "hyperparameters": None if request.num_classes is None else {"num_classes": request.num_classes},
        }

    def create_run(self, plan: TrainPlan, order: dict[str, JsonValue], notes: Notes) -> TrainingRun:
        """Start the training; the notes say beforehand that it may have been sent.

        A run that may not be the only one says so in its warnings.

        Raises:
            ProviderError: With ``context.outcome_unknown`` set when the job may exist although no answer came.
        """
        noted = notes.read()
        before = _count(noted.get(_SENT))
        notes.write({**noted, _SENT: before + 1})
        try:
            run = self.jobs.create(order, plan.run_name, plan.request.dataset)
        except ProviderError as error:
            if not error.context.outcome_unknown:
                notes.write({**noted, _SENT: before})
            raise
        return run if not before else run.model_copy(update={"warnings": (*run.warnings, _maybe_twin(before))})

    def get_run(self, handle: RunHandle) -> TrainingRun:
        """Look at a run once; a look that meets a training gets no answer, which says nothing about the run."""
        return self.jobs.get(handle)

    def get_runs(self, handles: tuple[RunHandle, ...]) -> tuple[TrainingRun, ...]:
        """Look at many runs, one by one; unknown ones are left out."""
        found = []
        for handle in handles:
            with suppress(NotFoundError):
                found.append(self.jobs.get(handle))
        return tuple(found)

    def live_runs(self) -> tuple[TrainingRun, ...]:
        """Return none: jobs cannot be listed, as ``profile.lists_runs`` says."""
        return ()

    def cancel_run(self, handle: RunHandle) -> TrainingRun:
        """Advise the end of a run, which the server may ignore; a run that has already ended is returned as it is."""
        return self.jobs.cancel(handle)

    def settle(self, run: TrainingRun) -> None:
        """Return nothing: there is no bill to read."""
        _ = run

    def hosted_inference(self, plan: TrainPlan, run: TrainingRun, export: ExportReport | None) -> HostedReport:
        """Ask the run's model about labelled tiles of the request's files, and judge its answers; free of charge.

        Raises:
            InferenceError: The run names no model, or the model is not there.
            OutputCheckError: An answer does not fit the task.
        """
        return try_model(self.inference, plan, run, export)


def _count(noted: JsonValue) -> int:
    return noted if isinstance(noted, int) else 0


def _maybe_twin(before: int) -> Finding:
    message = (
        f"{before} earlier create{'s' if before > 1 else ''} of this training got no answer and may have made a job "
        f"each, possible orphans: Bluesight cannot be asked for them, and nobody will collect what they make."
    )
    return Finding(severity=Severity.WARNING, code="possible_orphan_job", message=message)
