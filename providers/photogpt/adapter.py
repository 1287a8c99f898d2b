"""PhotoGPT behind the provider port: a model of one person, trained on pictures that lie on this machine.

There are no weights to download, no prices, no progress and no way to end a training. Source:
https://docs.photogptai.com and the seed page, checked 2026-11-20.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import httpx
from pydantic import JsonValue, SecretStr

from pipeline.errors import ConfigurationError, ErrorContext, InvalidRequestError, NotFoundError, NotOfferedError
from pipeline.local_requests import PhotogptRequest
from pipeline.models import (
    CostEstimate,
    Export,
    ExportReport,
    HostedReport,
    Money,
    ProviderProfile,
    RunHandle,
    RunStatus,
    Settlement,
    Skipped,
    TrainingRun,
    TrainPlan,
    Unit,
)
from pipeline.provider import Notes
from providers.adapters import WithoutExports, WithoutWeights
from providers.calls import ApiRequest, ClientOptions
from providers.http import ApiClient
from providers.photogpt.delivery import Delivery
from providers.photogpt.errors import photogpt_error
from providers.photogpt.generation import Generations, Wish
from providers.photogpt.images import Images
from providers.photogpt.jobs import Jobs, Window, training_among
from providers.photogpt.models import Models
from providers.photogpt.notes import NoteBook
from providers.photogpt.preparing import Preparing
from providers.photogpt.profile import PROVIDER
from providers.photogpt.runs import Runs, handle_of, status_of
from providers.photogpt.session import PhotogptSession
from providers.photogpt.trigger import Trigger
from providers.photogpt.wire import NEW
from providers.sides import check_side
from providers.storage import SignedStorage

_BASE_URL = "PHOTOGPT_BASE_URL"
_GENERATION_WAIT_S, _SANDBOX_GENERATION_WAIT_S = 5.0, 0.2


class PhotogptProvider(WithoutExports, WithoutWeights):
    """Implements ``pipeline.provider.Provider``; ``models images jobs generations``: the typed API."""

    def __init__(
        self,
        api_key: SecretStr | None,
        options: ClientOptions,
        profile: ProviderProfile,
        *,
        storage_transport: httpx.BaseTransport | None = None,
    ) -> None:
        key = api_key.get_secret_value() if api_key is not None else ""
        ours = replace(options, scheme="Bearer", headers=(("API-Version", "1"),), error_of=photogpt_error)
        super().__init__(profile, key)
        self._clock = options.clock
        self._session = PhotogptSession(ApiClient(api_key, ours))
        self._storage = SignedStorage(
            require_https=options.base_url.startswith("https:"),
            timeout_s=options.timeout_s,
            transport=storage_transport or options.transport,
        )
        wait_s = _SANDBOX_GENERATION_WAIT_S if profile.sandbox else _GENERATION_WAIT_S
        self.models = Models(self._session)
        self.images = Images(self._session)
        self.jobs = Jobs(self._session, self._clock)
        delivery = Delivery(self._storage, self.jobs, self._clock, wait_s)
        self.generations = Generations(self._session, self.jobs, delivery, self._clock, wait_s)
        self._runs = Runs(self.jobs)

    def close(self) -> None:
        """Release connections."""
        self._session.close()
        self._storage.close()

    def check_account(self, plan: TrainPlan) -> None:
        """Check address and key with one reading call; the pictures lie here.

        Raises:
            AuthenticationError: The key is not accepted.
            ConfigurationError: The address is not the API's; or a hosted run was asked for and a sandbox answers, or
                the other way round.
            PermissionDeniedError: Something before the API refuses this program.
        """
        _ = plan
        try:
            self._session.call(ApiRequest("account.ping", "GET", "/ping", repeatable=True))
        except (NotFoundError, InvalidRequestError) as error:
            message = f"{_BASE_URL} does not lead to PhotoGPT's API, which ends in /api ({error})"
            raise ConfigurationError(message, ErrorContext("account.ping", field=_BASE_URL)) from error
        check_side(from_sandbox=self._session.from_sandbox, expected=self._profile.sandbox, variable=_BASE_URL)

    def estimate_cost(self, plan: TrainPlan, export: Export) -> CostEstimate | Skipped:
        """Return the price the request names; the provider publishes none."""
        _ = export
        price = plan.asked_of(PhotogptRequest).price_credits
        if price is None:
            return Skipped(stage="price", reason="PhotoGPT publishes no price; name one with price_credits")
        return CostEstimate(
            total=Money(amount=price, unit=Unit.CREDITS),
            per_minute=Money(amount=0, unit=Unit.CREDITS),
            gpu_minutes=0,
            gpu="",
            balance=None,
            sufficient=True,
            source="configured",
        )

    def find_run(self, plan: TrainPlan, order: dict[str, JsonValue] | None = None) -> TrainingRun | None:
        """Return the training of the order's model if it was triggered; without an order, by name where one is shown.

        Raises:
            ProviderError: Models or jobs could not be read, which must not pass for their absence.
        """
        model_id = order.get("model_id") if order is not None else None
        if not isinstance(model_id, str):
            return self._find_by_name(plan)
        try:
            model = self.models.get(model_id)
        except NotFoundError:
            return None
        return self._runs.triggered(model, _handle(plan, model_id))

    def _find_by_name(self, plan: TrainPlan) -> TrainingRun | None:
        """Return the operation's run by its name; one that failed is none, for its order would have been known."""
        owned = [model for model in self.models.all() if model.name is not None and plan.owns(model.name)]
        able = [model for model in owned if model.word != NEW and status_of(model) is not RunStatus.FAILED]
        if not able:
            return None
        best = max(able, key=lambda model: (status_of(model) is RunStatus.COMPLETED, model.id))
        return self._runs.seen(best, _handle(plan, best.id))

    def order(self, plan: TrainPlan, export: Export, notes: Notes) -> dict[str, JsonValue]:
        """Make the model and upload the pictures, each once, and return their ids; nothing of it is paid for.

        Raises:
            ExportRejectedError: The pictures cannot be trained on.
        """
        _ = export
        wait_s = self._profile.creation.lookup_wait_s
        return Preparing(self.models, self.images, NoteBook(notes), self._clock, wait_s).prepare(plan)

    def create_run(self, plan: TrainPlan, order: dict[str, JsonValue], notes: Notes) -> TrainingRun:
        """Trigger the paid training, unless it was; what was sent before is in the notes, and two triggers the most.

        Raises:
            InsufficientCreditsError: The account cannot pay for it.
            ProviderError: With ``context.outcome_unknown`` set when the training may run although no answer came.
        """
        model_id = order.get("model_id")
        if not isinstance(model_id, str):
            raise InvalidRequestError("the order names no model_id", ErrorContext(operation="models.train"))
        trigger = Trigger(self.models, self._runs, NoteBook(notes), self._profile, self._clock)
        return trigger.pull(_handle(plan, model_id))

    def get_run(self, handle: RunHandle) -> TrainingRun:
        """Look at a run once."""
        return self._runs.seen(self.models.get(handle.run_id), handle)

    def get_runs(self, handles: tuple[RunHandle, ...]) -> tuple[TrainingRun, ...]:
        """Look at many runs by one list of the account's models; unknown ones are left out."""
        listed = {model.id: model for model in self.models.all()} if len(handles) > 1 else {}
        found = []
        for handle in handles:
            with suppress(NotFoundError):
                model = listed.get(handle.run_id)
                shown = model if model is not None and model.word else self.models.get(handle.run_id)
                found.append(self._runs.seen(shown, handle))
        return tuple(found)

    def live_runs(self) -> tuple[TrainingRun, ...]:
        """Return every model of the account that is being trained, as far as its status tells."""
        begun = (model for model in self.models.all() if model.word not in {"", NEW})
        runs = (self._runs.seen(model, handle_of(model)) for model in begun if not status_of(model).is_terminal)
        return tuple(run for run in runs if not run.status.is_terminal)

    def cancel_run(self, handle: RunHandle) -> TrainingRun:
        """Refuse: a training cannot be ended.

        Raises:
            NotOfferedError: Always.
        """
        message = (
            f"PhotoGPT cannot end a training: the one of model {handle.run_id} goes on, is paid for, and takes 20 to "
            f"25 minutes; collect it later, or ask support@photogptai.com"
        )
        raise NotOfferedError(message, ErrorContext(operation="training.cancel", run_id=handle.run_id))

    def settle(self, run: TrainingRun) -> Settlement | None:
        """Read the credits of the training's job; none when no job names the model, or the list shows no credits."""
        jobs = self.jobs.of_model(run.handle.run_id, Window(since=run.created_at, until=run.completed_at))
        training = training_among(jobs, done=run.status is RunStatus.COMPLETED)
        if training is None or training.credits is None:
            return None
        nothing = Money(amount=0, unit=Unit.CREDITS)
        return Settlement(charged=Money(amount=training.credits, unit=Unit.CREDITS), refunded=nothing)

    def hosted_inference(self, plan: TrainPlan, run: TrainingRun, export: ExportReport | None) -> HostedReport:
        """Have the trained model make one picture, which is billed, and keep it in the run's folder.

        Raises:
            SmokeTestError: It makes none, or something that is no picture.
        """
        _ = export
        wish = Wish(
            model_id=run.model_id or run.handle.run_id,
            prompt=plan.asked_of(PhotogptRequest).smoke_prompt,
            trained_at=run.completed_at,
            folder=plan.output_dir / "generated",
        )
        return self.generations.try_model(wish)


def _handle(plan: TrainPlan, model_id: str) -> RunHandle:
    return RunHandle(provider=PROVIDER, run_id=model_id, name=plan.run_name, dataset=plan.request.dataset)
