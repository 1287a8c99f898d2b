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
    ModelFacts,
    ProviderProfile,
    RunHandle,
    Settlement,
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

    def estimate_cost(self, plan: TrainPlan, export: Export) -> CostEstimate:
        """Price the training without starting it."""

    def find_run(self, plan: TrainPlan) -> TrainingRun | None:
        """Return the run this operation already created, if any (matched by the plan's run name)."""

    @property
    def account(self) -> str:
        """Hash that tells this account from others without giving its key away."""

    def order(self, plan: TrainPlan, export: Export) -> dict[str, JsonValue]:
        """Return what a create sends, as data: it is written down before it is sent, and repeated unchanged."""

    def create_run(self, plan: TrainPlan, order: dict[str, JsonValue]) -> TrainingRun:
        """Start the paid training; the request carries the operation key so that repeating it pays once.

        Raises:
            ProviderError: With ``context.outcome_unknown`` set when the run may exist although no answer came.
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
