"""Trigger a PhotoGPT training: a GET that is paid for, sent twice at most in an operation's life, and never blindly."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from pipeline.errors import ConflictError, ErrorContext, InvalidRequestError, ProviderError, RateLimitError
from pipeline.models import ProviderProfile, RunHandle, RunStatus, TrainingRun
from pipeline.watch.polling import RETRY_AFTER_MOST_S
from providers.photogpt.models import Models
from providers.photogpt.notes import NoteBook
from providers.photogpt.runs import Runs
from providers.retry import Clock, with_context

logger = logging.getLogger(__name__)

_MAY_BE_UNDER_WAY = (InvalidRequestError, ConflictError, RateLimitError)
# How a trigger is refused, among other reasons, because the model trains already.


@dataclass(frozen=True)
class Trigger:
    """What triggering works with."""

    models: Models
    runs: Runs
    book: NoteBook
    """What is remembered, the triggers sent among it."""
    profile: ProviderProfile
    clock: Clock
    """The ``time`` module, or a fake."""

    def pull(self, handle: RunHandle) -> TrainingRun:
        """Return the training of a model, triggering it unless it was.

        Raises:
            ProviderError: With ``context.outcome_unknown`` set as long as a trigger may have had its effect.
        """
        try:
            return self._already(handle) or self._waited_for(handle) or self._send(handle)
        except ProviderError as error:
            in_doubt = self.book.progress.triggers > 0
            if error.context.outcome_unknown is in_doubt:
                raise
            raise with_context(error, replace(error.context, outcome_unknown=in_doubt)) from error

    def _already(self, handle: RunHandle) -> TrainingRun | None:
        return self.runs.triggered(self.models.get(handle.run_id), handle)

    def _waited_for(self, handle: RunHandle) -> TrainingRun | None:
        """Return the training that an earlier trigger started, once it shows; it is given its time to do so."""
        progress, creation = self.book.progress, self.profile.creation
        until_s = progress.triggered_at_s + creation.lookups * creation.lookup_wait_s
        for _ in range(creation.lookups if progress.triggers else 0):
            left_s = until_s - self.clock.time()
            if left_s <= 0:
                return None
            self.clock.sleep(min(creation.lookup_wait_s, left_s))
            if (found := self._already(handle)) is not None:
                return found
        return None

    def _send(self, handle: RunHandle) -> TrainingRun:
        """Send a trigger, and again as long as the provider has no room for another training."""
        until_s = self.clock.time() + self.profile.poll.deadline_s
        while True:
            sent = self._note_sending(handle)
            try:
                self.models.train(handle.run_id)
            except ProviderError as error:
                if error.context.outcome_unknown:
                    raise
                found = self._already(handle) if isinstance(error, _MAY_BE_UNDER_WAY) else None
                if found is not None:
                    return found
                self.book.change(triggers=sent - 1)
                if not isinstance(error, RateLimitError) or self.clock.time() >= until_s:
                    raise
                logger.info("the provider has no room for the training of model %s yet (%s)", handle.run_id, error)
                wait_s = max(self.profile.poll.interval_s, error.context.retry_after_s or 0.0)
                self.clock.sleep(min(wait_s, RETRY_AFTER_MOST_S))
                if (found := self._already(handle)) is not None:
                    return found
            else:
                return TrainingRun(handle=handle, status=RunStatus.PENDING, provider_status="training triggered")

    def _note_sending(self, handle: RunHandle) -> int:
        """Write down that a trigger is about to be sent, and return which one it is."""
        sent, most = self.book.progress.triggers, self.profile.creation.sendings
        if sent >= most:
            raise ConflictError(
                f"model {handle.run_id} still shows no training after {sent} triggers, the most that are sent; look at "
                f"it in the provider's console: when it trains, run the same operation again to collect it; when it "
                f"does not, have it trained there by hand or ask support@photogptai.com, and then do the same",
                ErrorContext(operation="models.train", run_id=handle.run_id, outcome_unknown=True),
            )
        self.book.change(triggers=sent + 1, triggered_at_s=self.clock.time())
        return sent + 1
