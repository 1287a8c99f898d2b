"""What every adapter has, and what those of vendors without a call have in its place."""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager

from pipeline.errors import ErrorContext, NotOfferedError
from pipeline.models import Export, ModelFacts, ProviderProfile, TrainingRun, TrainPlan
from pipeline.provider import ByteStream, ResumePoint


class Adapter:
    """Who the vendor is, and whose account this is.

    ``account_parts`` tell the account from others: the key, the server's address; none of them can be read back.
    """

    def __init__(self, profile: ProviderProfile, *account_parts: str) -> None:
        self._profile = profile
        self._account = hashlib.sha256(":".join((profile.name, *account_parts)).encode()).hexdigest()[:16]

    @property
    def profile(self) -> ProviderProfile:
        """The vendor's facts as data."""
        return self._profile

    @property
    def account(self) -> str:
        """Hash that tells this account from others without giving its key away."""
        return self._account

    def check_adopted(self, plan: TrainPlan, run: TrainingRun) -> None:
        """Believe what is said of a run that was started by hand: the vendor shows nothing that it could be held to."""
        _ = plan, run


class WithoutExports(Adapter):
    """An adapter of a vendor that keeps no data sets."""

    def find_or_create_export(self, plan: TrainPlan) -> Export:
        """Refuse: the training data is on this machine.

        Raises:
            NotOfferedError: Always.
        """
        _ = plan
        raise self._no_exports()

    def get_export(self, export: Export) -> Export:
        """Refuse: the training data is on this machine.

        Raises:
            NotOfferedError: Always.
        """
        _ = export
        raise self._no_exports()

    def open_export(self, export: Export, resume: ResumePoint | None = None) -> AbstractContextManager[ByteStream]:
        """Refuse: the training data is on this machine.

        Raises:
            NotOfferedError: Always.
        """
        _ = export, resume
        raise self._no_exports()

    def _no_exports(self) -> NotOfferedError:
        message = f"{self._profile.title} keeps no exports: the training data is what dataset names on this machine."
        return NotOfferedError(message, ErrorContext(operation="exports.get"))


class WithoutWeights(Adapter):
    """An adapter of a vendor that gives no weights away."""

    def get_model(self, run: TrainingRun) -> ModelFacts:
        """Refuse: there is nothing to download.

        Raises:
            NotOfferedError: Always.
        """
        raise self._no_weights(run.handle.run_id)

    def open_model(self, model: ModelFacts, resume: ResumePoint | None = None) -> AbstractContextManager[ByteStream]:
        """Refuse: there is nothing to download.

        Raises:
            NotOfferedError: Always.
        """
        _ = resume
        raise self._no_weights(model.model_id)

    def _no_weights(self, of: str) -> NotOfferedError:
        message = f"{self._profile.title} gives no weights away: the model of {of!r} can only be asked there."
        return NotOfferedError(message, ErrorContext(operation="models.get", run_id=of))
