"""Replicate behind the provider port; the API itself is in its resources, one file each.

Source: https://replicate.com/docs, its OpenAPI document 1.0.0-a1 and recorded answers, checked 2026-11-20. There is no
idempotency key and no name of a run's own: the address of the training data is unique to an attempt and finds its run.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from itertools import islice

from pydantic import JsonValue, SecretStr

from pipeline.errors import ConfigurationError, ErrorContext, NotFoundError, NotOfferedError
from pipeline.local_requests import ReplicateRequest
from pipeline.models import (
    CostEstimate,
    Export,
    ExportReport,
    HostedReport,
    ModelFacts,
    Money,
    ProviderProfile,
    RunHandle,
    RunStatus,
    Settlement,
    TrainingRun,
    TrainPlan,
    Unit,
)
from pipeline.provider import ByteStream, Notes, ResumePoint
from providers.adapters import WithoutExports
from providers.calls import ClientOptions
from providers.http import ApiClient
from providers.replicate.account import Accounts
from providers.replicate.data import TrainingData, check_archive
from providers.replicate.errors import replicate_error
from providers.replicate.files import Files
from providers.replicate.models import Models
from providers.replicate.predictions import Predictions
from providers.replicate.rates import Rates, never_ran
from providers.replicate.schema import fill_inputs
from providers.replicate.search import RunSearch, twins
from providers.replicate.secrecy import Redaction
from providers.replicate.session import ReplicateSession
from providers.replicate.trainings import Trainings
from providers.replicate.trial import Trial
from providers.replicate.values import SKEW, WEBHOOK_EVENTS, ReplicateSetup, TrainingOrder, moment_of
from providers.replicate.weights import KeyRule, Weights, gone
from providers.replicate.wire import PROVIDER, TrainingWire, VersionWire
from providers.sides import check_side

logger = logging.getLogger(__name__)

_BASE_URL = "REPLICATE_BASE_URL"
_PAGE = 100


class ReplicateProvider(WithoutExports):
    """Implements ``pipeline.provider.Provider``; ``accounts files models predictions trainings``: the typed API."""

    def __init__(
        self,
        api_key: SecretStr,
        options: ClientOptions,
        profile: ProviderProfile,
        setup: ReplicateSetup | None = None,
    ) -> None:
        super().__init__(profile, api_key.get_secret_value())
        self._setup = setup = setup or ReplicateSetup()
        redaction = Redaction(setup.secret_inputs.values())
        error_of = partial(replicate_error, redaction=redaction)
        client = ApiClient(api_key, replace(options, scheme="Bearer", error_of=error_of))
        self._session = ReplicateSession(client, redaction)
        self._clock = options.clock
        self._run_ids: dict[str, str] = {}
        self.rates = Rates(setup.rates)
        self.accounts = Accounts(self._session)
        self.files = Files(self._session)
        self.models = Models(self._session)
        self.predictions = Predictions(self._session)
        self.trainings = Trainings(self._session)
        rule = KeyRule(options.base_url, hosted=not profile.sandbox)
        self._weights = Weights(self.trainings, api_key, options, rule, setup.storage_transport)
        self._data = TrainingData(self.files, self._clock)
        self._search = RunSearch(self.trainings, self._data, self._clock)
        self._trial = Trial(self.predictions, self.models, self.files, self._clock)

    def close(self) -> None:
        """Release connections."""
        self._session.close()
        self._weights.close()

    def check_account(self, plan: TrainPlan) -> None:
        """Check key, archive, trainer, its inputs and the destination with reading calls only.

        Raises:
            AuthenticationError: The key is not accepted.
            ConfigurationError: One of them cannot be used, or the address is not the API's; the error names which.
        """
        request = plan.asked_of(ReplicateRequest)
        username = self._username()
        expected = self._profile.sandbox
        check_side(from_sandbox=self._session.from_sandbox, expected=expected, variable=_BASE_URL)
        check_archive(request)
        fill_inputs(request, self._trainer(request), self._setup.secret_inputs)
        self._check_destination(request, username)

    def _username(self) -> str:
        try:
            return self.accounts.get().username
        except NotFoundError as error:
            message = f"{_BASE_URL} does not lead to Replicate's API, whose address is named without /v1 ({error})"
            raise ConfigurationError(message, ErrorContext("account.get", field=_BASE_URL)) from error

    def _trainer(self, request: ReplicateRequest) -> VersionWire:
        try:
            return self.models.version(request.trainer)
        except NotFoundError as error:
            message = f"trainer={request.trainer!r} is not there for this account: {error.message}"
            raise ConfigurationError(message, replace(error.context, field="trainer")) from error

    def _check_destination(self, request: ReplicateRequest, username: str) -> None:
        destination = request.destination
        foreign = destination.partition("/")[0].lower() != username.lower()
        try:
            self.models.get(destination)
        except NotFoundError as error:
            context = ErrorContext(operation="models.get", field="destination")
            if foreign:
                message = f"destination={destination!r} does not exist, and {username!r} cannot make it: use your own"
                raise ConfigurationError(message, context) from error
            if not request.create_destination:
                message = f"destination={destination!r} does not exist; make it there, or allow create_destination"
                raise ConfigurationError(message, context) from error
            return
        if foreign:
            logger.warning(
                "destination=%r is not %r's own: a training may not be let push to it", destination, username
            )

    def estimate_cost(self, plan: TrainPlan, export: Export) -> CostEstimate:
        """Price the minutes that were named, or a guess, from the table of rates.

        Raises:
            ConfigurationError: The hardware has no rate.
        """
        _ = export
        return self.rates.estimate(plan.asked_of(ReplicateRequest))

    def order(self, plan: TrainPlan, export: Export, notes: Notes) -> dict[str, JsonValue]:
        """Return what a create sends, as data and without secret inputs; free of charge, data and destination are made.

        Raises:
            ConfigurationError: Archive or inputs cannot be used; the error names the field.
        """
        _ = export
        request = plan.asked_of(ReplicateRequest)
        inputs = fill_inputs(request, self._trainer(request), self._setup.secret_inputs)
        if request.create_destination:
            self.models.ensure(request.destination, hardware=request.destination_hardware)
        address = self._data.address(plan, notes)
        webhook = self._setup.webhook
        return TrainingOrder(
            trainer=request.trainer,
            destination=request.destination,
            input={**inputs, request.data_input: address},
            webhook=webhook,
            webhook_events_filter=WEBHOOK_EVENTS if webhook else None,
            since=moment_of(self._clock) - SKEW,
        ).as_data()

    def find_run(self, plan: TrainPlan, order: dict[str, JsonValue] | None = None) -> TrainingRun | None:
        """Return the run that this attempt created, if any; of several the oldest that did not fail, with a warning.

        Raises:
            ConflictError: One may be it, but the provider has removed what it was given.
        """
        found = self._search.find(plan, TrainingOrder.model_validate(order) if order is not None else None)
        if not found:
            return None
        best = self._run_of(plan, found[0])
        return best.model_copy(update={"warnings": (*best.warnings, *twins(found[1:]))})

    def create_run(self, plan: TrainPlan, order: dict[str, JsonValue], notes: Notes) -> TrainingRun:
        """Start the paid training, by one request that is never repeated here; secret inputs are added to it.

        Raises:
            InvalidRequestError: The uploaded data has expired; nothing was sent.
            ProviderError: With ``context.outcome_unknown`` set when the run may exist although no answer came.
        """
        request, what = plan.asked_of(ReplicateRequest), TrainingOrder.model_validate(order)
        self._data.check_fresh(what.input.get(request.data_input), notes)
        return self._run_of(plan, self.trainings.create(what.trainer, what.body(self._setup.secret_inputs)))

    def _run_of(self, plan: TrainPlan, training: TrainingWire) -> TrainingRun:
        request = plan.asked_of(ReplicateRequest)
        handle = RunHandle(provider=PROVIDER, run_id=training.id, name=plan.run_name, dataset=request.dataset)
        return training.to_value(handle, gpu=request.hardware)

    def check_adopted(self, plan: TrainPlan, run: TrainingRun) -> None:
        """Compare the model that a run pushed its version to, once it shows one, with the destination asked for.

        Raises:
            ConfigurationError: It is another one.
        """
        pushed_to, colon, _ = (run.model_id or "").partition(":")
        destination, run_id = plan.asked_of(ReplicateRequest).destination, run.handle.run_id
        if colon and pushed_to.lower() != destination.lower():
            message = (
                f"adopt={run_id!r} made a version of {pushed_to!r}, not of {destination!r}; give that as destination"
            )
            raise ConfigurationError(
                message, ErrorContext(operation="training.get", field="destination", run_id=run_id)
            )

    def get_run(self, handle: RunHandle) -> TrainingRun:
        """Look at a run once."""
        return self.trainings.get(handle.run_id).to_value(handle, gpu=self._setup.hardware)

    def get_runs(self, handles: tuple[RunHandle, ...]) -> tuple[TrainingRun, ...]:
        """Look at many runs with as few requests as the API allows; unknown ones are left out."""
        wanted = {handle.run_id: handle for handle in handles}
        found: dict[str, TrainingRun] = {}
        # A page costs as much as one look, so listing stops paying off after as many pages as there are runs.
        rows = islice(self.trainings.iter(pages=len(wanted)), _PAGE * len(wanted)) if len(wanted) > 1 else ()
        for row in rows:
            if row.id in wanted:
                found[row.id] = row.to_value(wanted[row.id])
            if len(found) == len(wanted):
                break
        for run_id in [run_id for run_id in wanted if run_id not in found]:
            with suppress(NotFoundError):
                found[run_id] = self.get_run(wanted[run_id])
        return tuple(found[run_id] for run_id in wanted if run_id in found)

    def live_runs(self) -> tuple[TrainingRun, ...]:
        """Return every run of the account's last two weeks that has not ended, a hundred a request."""
        return tuple(row.to_value() for row in self._search.recent() if not row.run_status.is_terminal)

    def cancel_run(self, handle: RunHandle) -> TrainingRun:
        """Ask for the end of a run; a run that has already ended is returned as it is."""
        return self.trainings.cancel(handle.run_id).to_value(handle, gpu=self._setup.hardware)

    def settle(self, run: TrainingRun) -> Settlement | None:
        """Multiply the seconds an ended run was billed for with its hardware's rate.

        None of a completed run that shows none.

        Raises:
            NotOfferedError: The hardware is not known here or has no rate, or a run that may have run shows no seconds:
                what is held for the run stays held.
        """
        if not run.status.is_terminal:
            return None
        hardware = run.gpu or self._setup.hardware
        if hardware is None or self.rates.of(hardware) is None:
            message = (
                f"Replicate shows no bill, and hardware {hardware!r} of run {run.handle.run_id!r} has no rate here."
            )
            raise NotOfferedError(message, ErrorContext(operation="settle", run_id=run.handle.run_id))
        charged = self.rates.charge(run, hardware) or self._charge_seen(run.handle, hardware)
        if charged is not None:
            return Settlement(charged=charged, refunded=Money(amount=0, unit=Unit.MICRO_USD))
        if run.status is RunStatus.COMPLETED:
            return None
        message = f"Replicate does not show how long run {run.handle.run_id!r} ran: see there what it was billed."
        raise NotOfferedError(message, ErrorContext(operation="settle", run_id=run.handle.run_id))

    def _charge_seen(self, handle: RunHandle, hardware: str) -> Money | None:
        """Look again, for the answer to a cancel and a row of a list show less, and return what was billed, if known.

        What never ran is free.
        """
        try:
            seen = self.get_run(handle)
        except NotFoundError:
            return None
        free = Money(amount=0, unit=Unit.MICRO_USD) if never_ran(seen) else None
        return self.rates.charge(seen, hardware) or free if seen.status.is_terminal else None

    def get_model(self, run: TrainingRun) -> ModelFacts:
        """Describe the model a completed run made: the version it pushed, and the weights beside it.

        Raises:
            NotFoundError: The run shows neither weights nor a version yet.
            NotOfferedError: The adapter was not told what the model does.
        """
        run_id, task = run.handle.run_id, self._setup.task
        if task is None:
            raise NotOfferedError("Replicate does not say what a model does: connect with the request that trained it.")
        training = self.trainings.get(run_id)
        version = training.output_version
        missing: str | None = None
        if training.weights is None:
            why = "removed by the provider" if training.data_removed else "none in its output"
            missing = gone(run_id, f"{why}; the version is {version}" if version else why)
            if version is None and not training.data_removed:
                raise NotFoundError(missing, ErrorContext(operation="models.get", run_id=run_id))
        model_id = version or run_id
        self._run_ids[model_id] = run_id
        name = version.partition(":")[0] if version else run.handle.name
        return ModelFacts(model_id=model_id, name=name, status="ready", task=task, no_weights=missing)

    def open_model(self, model: ModelFacts, resume: ResumePoint | None = None) -> AbstractContextManager[ByteStream]:
        """Open the weights of a model that ``get_model`` of this adapter described, from ``resume`` on where possible.

        Raises:
            NotFoundError: The weights are not there, or the model was described by another adapter.
        """
        run_id = self._run_ids.get(model.model_id)
        if run_id is None:
            message = f"Model {model.model_id!r} is not known here: ask get_model of this adapter about its run first."
            raise NotFoundError(message, ErrorContext(operation="models.download"))
        return self._weights.open(run_id, resume)

    def hosted_inference(self, plan: TrainPlan, run: TrainingRun, export: ExportReport | None) -> HostedReport:
        """Ask the trained version about samples of the training data; the provider bills that.

        Raises:
            NotOfferedError: The run pushed no version.
            SmokeTestError: The version fails on a real sample; where it could not be asked, the report says why.
        """
        return self._trial.run(plan, run, export)
