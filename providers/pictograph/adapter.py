"""Pictograph behind the provider port; the API itself is in its resources, one file each.

Source: seed documents "Training" and "Models" and https://docs.pictograph.io, checked 2026-11-20.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from itertools import islice

import httpx
from pydantic import JsonValue, SecretStr

from pipeline.errors import (
    ConfigurationError,
    ConflictError,
    ErrorContext,
    InvalidRequestError,
    NotFoundError,
    NotOfferedError,
    ProviderError,
    UnexpectedResponseError,
)
from pipeline.models import (
    CostEstimate,
    Export,
    ExportReport,
    Finding,
    HostedReport,
    ModelFacts,
    Money,
    ProviderProfile,
    RunHandle,
    RunStatus,
    Settlement,
    Severity,
    TrainingRun,
    TrainPlan,
)
from pipeline.provider import ByteStream, Notes, ResumePoint
from pipeline.provider_requests import PictographRequest
from providers.adapters import Adapter
from providers.calls import ClientOptions
from providers.http import ApiClient
from providers.pictograph.adopting import check_dataset
from providers.pictograph.credits import Credits
from providers.pictograph.exports import Datasets, Exports, export_key
from providers.pictograph.jobs import Jobs
from providers.pictograph.ledger import back_to, is_about
from providers.pictograph.models import Models
from providers.pictograph.quotes import cost_of_quote
from providers.pictograph.session import PAGE_SIZE, PictographSession, check_side
from providers.pictograph.training import ROUTE_MISSING, Training
from providers.pictograph.values import TrainingSpec
from providers.pictograph.wire import to_facts
from providers.storage import SignedStorage

API_PREFIX = "/api/v1/developer"
_LEDGER_ROWS = 5_000
_GUESSED_MINUTES = 30
_NAMES_SHOWN = 10


class PictographProvider(Adapter):
    """Implements ``pipeline.provider.Provider``; ``credits datasets exports training jobs models``: the typed API."""

    def __init__(
        self,
        api_key: SecretStr,
        options: ClientOptions,
        profile: ProviderProfile,
        *,
        storage_transport: httpx.BaseTransport | None = None,
    ) -> None:
        client = ApiClient(api_key, replace(options, base_url=options.base_url.rstrip("/") + API_PREFIX))
        super().__init__(profile, api_key.get_secret_value())
        self._session = PictographSession(client)
        self._storage = SignedStorage(
            require_https=options.base_url.startswith("https:"),
            timeout_s=options.timeout_s,
            transport=storage_transport or options.transport,
        )
        self._has_quotes = True
        self.credits = Credits(self._session)
        self.datasets = Datasets(self._session)
        self.exports = Exports(self._session, self._storage)
        self.training = Training(self._session)
        self.jobs = Jobs(self._session, self.training)
        self.models = Models(self._session, self._storage)

    def close(self) -> None:
        """Release connections."""
        self._session.close()
        self._storage.close()

    def check_account(self, plan: TrainPlan) -> None:
        """Check key and data set with reading calls only.

        Raises:
            AuthenticationError: The key is not accepted.
            ConfigurationError: A hosted run was asked for and a sandbox answers, or the other way round.
            NotFoundError: The data set does not exist; the message names it and the nearest that do.
        """
        self.credits.balance()
        check_side(from_sandbox=self._session.from_sandbox, expected=self._profile.sandbox)
        name = plan.request.dataset
        try:
            self.datasets.get(name)
        except NotFoundError as error:
            existing = _names(dataset.name for dataset in self.datasets.iter())
            message = f"Data set {name!r} does not exist for this key; {_nearest(name, existing, 'data sets')}."
            raise NotFoundError(message, replace(error.context, field="dataset")) from error

    def find_or_create_export(self, plan: TrainPlan) -> Export:
        """Return the plan's export, making it when the request did not name an existing one.

        Raises:
            NotFoundError: The request names an export that does not exist; the message names the nearest that do.
        """
        request = plan.asked_of(PictographRequest)
        dataset = request.dataset
        if request.export is not None:
            return self._existing_export(dataset, request.export)
        try:
            return self.exports.create(
                dataset,
                plan.export_name,
                include_images=True,
                class_filter=request.class_filter,
                status_filter=request.status_filter,
                key=export_key(plan.operation_key),
            )
        except (ConflictError, InvalidRequestError) as refusal:
            # The name carries the operation key, so an export that has it was made by an earlier attempt of ours.
            with suppress(NotFoundError):
                return self.exports.get(dataset, plan.export_name)
            raise refusal from None

    def _existing_export(self, dataset: str, name: str) -> Export:
        try:
            return self.exports.get(dataset, name)
        except NotFoundError as error:
            existing = _names(export.name for export in self.exports.iter(dataset=dataset))
            message = f"Data set {dataset!r} has no export {name!r}; {_nearest(name, existing, 'exports')}."
            raise NotFoundError(message, replace(error.context, field="export")) from error

    def get_export(self, export: Export) -> Export:
        """Look at an export again."""
        return self.exports.get(export.dataset, export.name)

    def open_export(self, export: Export, resume: ResumePoint | None = None) -> AbstractContextManager[ByteStream]:
        """Open the export's archive for reading, from ``resume`` on where the storage can."""
        return self.exports.open(export.dataset, export.name, resume)

    def estimate_cost(self, plan: TrainPlan, export: Export) -> CostEstimate:
        """Price the training: a quote for this very run, or where the server has none, unit price times minutes."""
        if self._has_quotes:
            try:
                return cost_of_quote(self.training.quote(_spec(plan, export)))
            except ProviderError as error:
                if error.context.status_code not in ROUTE_MISSING:
                    raise
                self._has_quotes = False
        return self._cost_of_minutes(plan)

    def _cost_of_minutes(self, plan: TrainPlan) -> CostEstimate:
        request = plan.asked_of(PictographRequest)
        gpu, minutes = request.gpu, request.gpu_minutes or _GUESSED_MINUTES
        if gpu == "auto":
            message = "This server gives no quotes, so gpu 'auto' has no price: name a10g, a100 or h100."
            raise ConfigurationError(message, ErrorContext(operation="credits.estimate", field="gpu"))
        estimate = self.credits.estimate_gpu_minutes(gpu, minutes=minutes)
        return CostEstimate(
            total=estimate.total,
            per_minute=estimate.per_unit,
            gpu_minutes=estimate.quantity,
            gpu=gpu,
            balance=estimate.remaining,
            sufficient=estimate.sufficient,
            source="estimate",
        )

    def find_run(self, plan: TrainPlan, _order: dict[str, JsonValue] | None = None) -> TrainingRun | None:
        """Return the run that the plan's operation created, if any; of several the best, warning of the others."""
        runs = self.training.iter(dataset=plan.request.dataset)
        ours = [run for run in runs if plan.owns(run.handle.name)]
        if not ours:
            return None
        best = max(ours, key=_worth)
        others = [run for run in ours if run.handle.run_id != best.handle.run_id]
        return best.model_copy(update={"warnings": (*best.warnings, *_twins(others))})

    def order(self, plan: TrainPlan, export: Export, _notes: Notes) -> dict[str, JsonValue]:
        """Return what a create sends, as data."""
        return _spec(plan, export).model_dump(mode="json")

    def create_run(self, plan: TrainPlan, order: dict[str, JsonValue], _notes: Notes) -> TrainingRun:
        """Start the paid training; every attempt carries the operation key, so that repeating pays once.

        Raises:
            InsufficientCreditsError: The message carries what is required and what remains.
            ProviderError: With ``context.outcome_unknown`` set when the run may exist although no answer came.
        """
        return self.training.create(TrainingSpec.model_validate(order), plan.run_name, key=plan.operation_key)

    def check_adopted(self, plan: TrainPlan, run: TrainingRun) -> None:
        """Compare the data set that a run shows with the one that is asked for.

        Raises:
            ConfigurationError: It is another one.
        """
        check_dataset(self.datasets, plan.request.dataset, run)

    def get_run(self, handle: RunHandle) -> TrainingRun:
        """Look at a run once."""
        return self.training.get(handle.run_id, dataset=handle.dataset)

    def get_runs(self, handles: tuple[RunHandle, ...]) -> tuple[TrainingRun, ...]:
        """Look at many runs with as few requests as the API allows; unknown ones are left out."""
        wanted = {handle.run_id: handle for handle in handles}
        found: dict[str, TrainingRun] = {}
        # A page costs as much as one look, so listing stops paying off after as many pages as there are runs.
        rows = islice(self.training.iter(), PAGE_SIZE * len(wanted)) if len(wanted) > 1 else ()
        for run in rows:
            if run.handle.run_id in wanted:
                found[run.handle.run_id] = run.model_copy(update={"handle": wanted[run.handle.run_id]})
            if len(found) == len(wanted):
                break
        for run_id in [run_id for run_id in wanted if run_id not in found]:
            with suppress(NotFoundError):
                found[run_id] = self.get_run(wanted[run_id])
        return tuple(found[run_id] for run_id in wanted if run_id in found)

    def live_runs(self) -> tuple[TrainingRun, ...]:
        """Return every run of the account that has not ended, a hundred a request."""
        found = {run.handle.run_id: run for run in self.jobs.iter_active()}
        return tuple(run for run in found.values() if not run.status.is_terminal)

    def cancel_run(self, handle: RunHandle) -> TrainingRun:
        """Ask for the end of a run; a run that has already ended is returned as it is."""
        return self.training.cancel(handle.run_id, dataset=handle.dataset)

    def settle(self, run: TrainingRun) -> Settlement | None:
        """Sum up the ledger's entries that name this run; None when none does."""
        entries = back_to(islice(self.credits.iter(), _LEDGER_ROWS), run.created_at)
        ours = [entry.amount for entry in entries if is_about(entry, run.handle)]
        if not ours:
            return None
        refunded = sum(money.amount for money in ours if money.amount > 0)
        spent = -sum(money.amount for money in ours if money.amount < 0)
        unit, balance = ours[0].unit, self.credits.balance().spendable
        return Settlement(
            charged=Money(amount=spent - refunded, unit=unit),
            refunded=Money(amount=refunded, unit=unit),
            balance=balance if balance is not None and balance.unit is unit else None,
        )

    def get_model(self, run: TrainingRun) -> ModelFacts:
        """Describe the model a completed run made.

        Raises:
            NotFoundError: The run names no model, or the model is gone.
            UnexpectedResponseError: It is of a type this pipeline has no reader for.
        """
        name = run.handle.name
        if run.model_id is None:
            context = ErrorContext(operation="models.get", run_id=run.handle.run_id)
            raise NotFoundError(f"Run {name!r} ({run.provider_status}) names no model: look again later.", context)
        model = self.models.get(run.model_id)
        facts = to_facts(model)
        if facts is None:
            message = f"Model {model.name!r} is of type {model.model_type!r}, which this pipeline cannot read."
            raise UnexpectedResponseError(message, ErrorContext(operation="models.get", run_id=run.handle.run_id))
        return facts

    def hosted_inference(self, plan: TrainPlan, run: TrainingRun, export: ExportReport | None) -> HostedReport:
        """Refuse: a model of this provider's is tried here.

        Raises:
            NotOfferedError: Always.
        """
        _ = plan, run, export
        raise NotOfferedError("Pictograph's models are downloaded and tried here, not asked there.")

    def open_model(self, model: ModelFacts, resume: ResumePoint | None = None) -> AbstractContextManager[ByteStream]:
        """Open the model's ONNX weights for reading, from ``resume`` on where the storage can.

        Raises:
            ConflictError: The model is not ready, or never got ONNX weights.
            NotFoundError: The weights are not in storage.
        """
        return self.models.open(self.models.get(model.model_id), resume)


def _worth(run: TrainingRun) -> tuple[bool, bool, float]:
    """Order the runs of one operation: a model is worth more than a hope, a hope more than a failure."""
    created = run.created_at.timestamp() if run.created_at else 0.0
    return run.status is RunStatus.COMPLETED, not run.status.is_terminal, created


def _twins(others: list[TrainingRun]) -> Iterator[Finding]:
    for run in others:
        state = run.provider_status if run.status.is_terminal else f"{run.provider_status} and billed: cancel it there"
        message = f"Run {run.handle.run_id} carries the same operation and is {state}."
        yield Finding(severity=Severity.WARNING, code="twin_run", message=message)


def _spec(plan: TrainPlan, export: Export) -> TrainingSpec:
    request = plan.asked_of(PictographRequest)
    return TrainingSpec(
        dataset=request.dataset,
        export=export.name,
        pipeline=request.pipeline,
        gpu=request.gpu,
        config=request.config.to_wire(),
    )


def _names(names: Iterable[str]) -> list[str]:
    """Return the names, or none when they cannot be read: they only make a message better."""
    try:
        return list(names)
    except ProviderError:
        return []


def _nearest(name: str, existing: list[str], kind: str) -> str:
    close = difflib.get_close_matches(name, existing, n=_NAMES_SHOWN, cutoff=0.3)
    shown = close or sorted(existing)[:_NAMES_SHOWN]
    return f"{kind} that exist: {', '.join(map(repr, shown))}" if shown else f"it shows no {kind} at all"
