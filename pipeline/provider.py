"""The provider port: what an adapter must be able to do. Small, synchronous, serialisable handles in and out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from pydantic import JsonValue

from pipeline.models import (
    CostEstimate,
    Export,
    ExportReport,
    HostedReport,
    ModelFacts,
    ProviderProfile,
    RunHandle,
    Settlement,
    Skipped,
    TrainingRun,
    TrainPlan,
)


@dataclass(frozen=True)
class StreamFacts:
    """What the storage announces about the bytes it is sending; digests are lowercase hex."""

    offset: int = 0
    """Where in the file these bytes begin; 0 although a later offset was asked means: start over."""
    size_bytes: int | None = None
    """Size of the whole file."""
    etag: str | None = None
    """The storage's version tag, for resuming."""
    digests: dict[str, str] = field(default_factory=dict)
    """Algorithm (``md5``, ``sha256``) to digest of the whole file."""
    digest_source: str | None = None
    """The header the digests came from."""


@dataclass(frozen=True)
class ByteStream:
    """An open transfer."""

    facts: StreamFacts
    """What the storage announced."""
    chunks: Iterator[bytes]
    """The bytes; raises ``TransportError`` when the transfer breaks or ends early."""


@dataclass(frozen=True)
class ResumePoint:
    """Where to go on with a transfer."""

    offset: int
    """Bytes already held."""
    etag: str | None
    """The version they belong to; the storage starts over when it changed."""


class Notes(Protocol):
    """What an adapter must remember of one operation before anything of it is paid for, whatever dies."""

    def read(self) -> dict[str, JsonValue]:
        """Return what was written last; empty at first."""

    def write(self, notes: dict[str, JsonValue]) -> None:
        """Keep this instead; it survives the process from the moment this returns.

        Raises:
            JournalError: It could not be kept.
        """


class Provider(Protocol):
    """One vendor's API in the pipeline's words. Every method raises ``ProviderError`` and its subclasses."""

    @property
    def profile(self) -> ProviderProfile:
        """The vendor's facts as data."""

    def close(self) -> None:
        """Release connections."""

    def check_account(self, plan: TrainPlan) -> None:
        """Check key and data set with reading calls only, so that bad input is named before anything is made.

        Raises:
            AuthenticationError: The key is not accepted.
            NotFoundError: The data set does not exist; the message names it and what exists.
        """

    def find_or_create_export(self, plan: TrainPlan) -> Export:
        """Return the plan's export, making it when the request did not name an existing one. Free of charge."""

    def get_export(self, export: Export) -> Export:
        """Look at an export again."""

    def open_export(self, export: Export, resume: ResumePoint | None = None) -> AbstractContextManager[ByteStream]:
        """Open the export's archive for reading, from ``resume`` on where the storage can."""

    def estimate_cost(self, plan: TrainPlan, export: Export) -> CostEstimate | Skipped:
        """Price the training without starting it; skipped where nobody can say what it costs."""

    def find_run(self, plan: TrainPlan, order: dict[str, JsonValue] | None = None) -> TrainingRun | None:
        """Return the run this operation already created, if any, by the plan's names or by what its create sent."""

    @property
    def account(self) -> str:
        """Hash that tells this account from others without giving its key away."""

    def order(self, plan: TrainPlan, export: Export, notes: Notes) -> dict[str, JsonValue]:
        """Return what a create sends, as data: it is written down before it is sent, and repeated unchanged.

        What it needs and costs nothing, such as uploads, is done here, once: ``notes`` remember it.
        """

    def create_run(self, plan: TrainPlan, order: dict[str, JsonValue], notes: Notes) -> TrainingRun:
        """Start the paid training, in such a way that repeating it pays once where the provider allows that.

        Raises:
            ProviderError: With ``context.outcome_unknown`` set when the run may exist although no answer came.
        """

    def check_adopted(self, plan: TrainPlan, run: TrainingRun) -> None:
        """Refuse a run that was started by hand and shows that it trains something else than the plan asks for.

        Raises:
            ConfigurationError: It does; the error names the field.
        """

    def get_run(self, handle: RunHandle) -> TrainingRun:
        """Look at a run once."""

    def get_runs(self, handles: tuple[RunHandle, ...]) -> tuple[TrainingRun, ...]:
        """Look at many runs with as few requests as the API allows; unknown ones are left out."""

    def live_runs(self) -> tuple[TrainingRun, ...]:
        """Return every run of the account that has not ended, with as few requests as the API allows."""

    def cancel_run(self, handle: RunHandle) -> TrainingRun:
        """Ask for the end of a run; a run that has already ended is returned as it is."""

    def settle(self, run: TrainingRun) -> Settlement | None:
        """Read what the run really cost, where the provider keeps a ledger of it."""

    def get_model(self, run: TrainingRun) -> ModelFacts:
        """Describe the model a completed run made."""

    def open_model(self, model: ModelFacts, resume: ResumePoint | None = None) -> AbstractContextManager[ByteStream]:
        """Open the model's ONNX weights for reading, from ``resume`` on where the storage can."""

    def hosted_inference(self, plan: TrainPlan, run: TrainingRun, export: ExportReport | None) -> HostedReport:
        """Ask the trained model at the provider about samples of the training data, and judge its answers.

        Raises:
            NotOfferedError: There is no such call.
            SmokeTestError: The model does not answer, or its answers do not fit its task.
        """
