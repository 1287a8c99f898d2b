"""What a webhook delivery is worth: whether it is genuine, which run it is about, whether it was taken in before.

A delivery is a reason to look early and never the truth: of its body nothing but the run's id is read.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import BaseModel, ConfigDict, SecretStr, StringConstraints, TypeAdapter, ValidationError

from pipeline.errors import ErrorContext, PipelineError
from pipeline.requests import SweepRequest
from providers.replicate.webhooks import WebhookRefusedError, verify
from providers.settings import read_settings, stripped
from tasks.credentials import open_provider
from tasks.journal import opened_journal

if TYPE_CHECKING:
    from providers.replicate.adapter import ReplicateProvider

logger = logging.getLogger(__name__)

PROVIDER = "replicate"
"""Whose deliveries these are."""
REFRESH_S = 60.0
"""Least seconds between two requests for the secret because a signature did not fit."""
AGAIN_S = 5.0
"""The same while there is no secret at all."""
ID_MOST = 200
"""Longest delivery id or run id; real ones are a fifth of it."""
_ID = Annotated[str, StringConstraints(pattern=rf"^[!-~]{{1,{ID_MOST}}}$")]
_DELIVERY_ID: TypeAdapter[str] = TypeAdapter(_ID)


class DeliveryUnreadableError(PipelineError):
    """The delivery is genuine and not one that can be understood: it names no run."""


class DeliveryUndecidedError(PipelineError):
    """Whether the delivery is genuine cannot be told at the moment: it is to be sent again."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    id: _ID


def answer_to(error: PipelineError) -> int:
    """Return the HTTP status a delivery is answered with: 4xx for what stays wrong, 503 for what is to come again."""
    if isinstance(error, WebhookRefusedError):
        return 401
    return 400 if isinstance(error, DeliveryUnreadableError) else 503


@dataclass(frozen=True)
class Taken:
    """A delivery that was taken in."""

    run_id: str
    """The run it is about."""
    is_new: bool
    """False when the same one was taken in before."""


class SigningSecret:
    """The secret deliveries are signed with: asked for once, kept in memory, and asked for again when it changed.

    Without ``ask`` there is the configured one and no other.
    """

    def __init__(
        self,
        ask: Callable[[], SecretStr] | None,
        configured: SecretStr | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._known = configured
        self._monotonic = monotonic
        self._asking = threading.Lock()
        self._asked_at: float | None = None

    @property
    def is_known(self) -> bool:
        """True once deliveries can be judged."""
        return self._known is not None

    def get(self) -> SecretStr:
        """Return the secret, asking for it where it is not known yet.

        Raises:
            DeliveryUndecidedError: It could not be had.
        """
        known = self._known  # whoever asks for a newer one keeps nobody from going by this one
        if known is not None:
            return known
        with self._asking:
            self._known = self._known or self._asked(AGAIN_S)
            if self._known is None:
                raise DeliveryUndecidedError(
                    "the signing secret is not known: the API did not give it; set REPLICATE_WEBHOOK_SECRET, or see "
                    "to the API's address and key",
                    ErrorContext(operation="webhooks.secret"),
                )
            return self._known

    def newer(self, than: SecretStr) -> SecretStr | None:
        """Return a secret other than the one that did not fit; none when there is none, or it was asked just before."""
        if self._known is not None and self._known != than:
            return self._known
        if not self._asking.acquire(blocking=False):
            return None
        try:
            asked = self._asked(REFRESH_S)
            if asked is None or asked == than:
                return None
            self._known = asked
            return asked
        finally:
            self._asking.release()

    def _asked(self, pause_s: float) -> SecretStr | None:
        now = self._monotonic()
        if self._ask is None or (self._asked_at is not None and now - self._asked_at < pause_s):
            return None
        self._asked_at = now
        try:
            return self._ask()
        except PipelineError as error:
            logger.warning("the signing secret could not be asked for: %s", error)
            return None


class Receiver:
    """Judges deliveries and writes the genuine ones down."""

    def __init__(self, secret: SigningSecret, provider: str = PROVIDER, now: Callable[[], float] = time.time) -> None:
        self.secret = secret
        self.provider = provider
        self._now = now

    def prepare(self) -> None:
        """Ask for the secret before the first delivery needs it; a failure is logged, and made good later."""
        try:
            self.secret.get()
        except PipelineError as error:
            logger.warning("%s", error)

    def take_in(self, headers: Mapping[str, str], body: bytes) -> Taken:
        """Write a genuine delivery down, once; ``body`` is the untouched bytes.

        Raises:
            WebhookRefusedError: It is forged, or too old.
            DeliveryUnreadableError: It names no run.
            DeliveryUndecidedError: The secret is not known.
            JournalError: It could not be written down.
        """
        delivery_id = self._verified(headers, body)
        run_id = _run_of(delivery_id, body)
        with opened_journal() as journal:
            return Taken(run_id, is_new=journal.deliver(self.provider, delivery_id, run_id))

    def _verified(self, headers: Mapping[str, str], body: bytes) -> str:
        secret, now_s = self.secret.get(), self._now()
        try:
            return verify(secret, headers, body, now_s)
        except WebhookRefusedError:
            newer = self.secret.newer(secret)
            if newer is None:
                raise
        return verify(newer, headers, body, now_s)


def _run_of(delivery_id: str, body: bytes) -> str:
    try:
        _DELIVERY_ID.validate_python(delivery_id)
        return _Body.model_validate_json(body).id
    except ValidationError:
        message = "the delivery names no run that could be one: it has no usable id, or is not JSON"
        error = DeliveryUnreadableError(message, ErrorContext(operation="webhooks.read"))
    raise error  # here, outside of the handler: what the parser raised may quote the body


def replicate_receiver(*, sandbox: bool, credentials: str | None = None) -> Receiver:
    """Return the receiver of an account's deliveries: the environment's, a credentials block's, or the sandbox's.

    Raises:
        ConfigurationError: The environment cannot be read.
    """
    configured = None if sandbox else stripped(read_settings().replicate_webhook_secret)
    account = SweepRequest(provider="replicate", sandbox=sandbox, credentials=credentials)

    def ask() -> SecretStr:
        with open_provider(account) as provider:
            return cast("ReplicateProvider", provider).accounts.webhook_secret()

    return Receiver(SigningSecret(ask if configured is None else None, configured))
