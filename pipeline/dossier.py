"""Gathers each stage's value as it is made, so that a run that stops half-way still reports what it knows."""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.errors import (
    BudgetExceededError,
    ConfigurationError,
    ExportRejectedError,
    InsufficientCreditsError,
    OutputPathError,
    PipelineError,
    SmokeTestError,
    TrainingCancelledError,
    TrainingTimedOutError,
)
from pipeline.models import (
    CostEstimate,
    ExportReport,
    ModelArtifact,
    Outcome,
    RunReport,
    Settlement,
    Skipped,
    SmokeReport,
    TrainingRun,
    TrainPlan,
    TrainRequest,
    WatchedRun,
)

OUTCOMES: tuple[tuple[type[PipelineError], Outcome], ...] = (
    (TrainingCancelledError, Outcome.CANCELLED),
    (TrainingTimedOutError, Outcome.TIMED_OUT),
    (BudgetExceededError, Outcome.OVER_BUDGET),
    (InsufficientCreditsError, Outcome.OVER_BUDGET),
    (ConfigurationError, Outcome.USAGE),
    (OutputPathError, Outcome.USAGE),
    (ExportRejectedError, Outcome.REJECTED),
    (SmokeTestError, Outcome.REJECTED),
    (PipelineError, Outcome.FAILED),
)
"""Errors to outcomes, most specific first."""


class Dossier:
    """Collects each stage's value as it is made, so that a run that stops half-way still reports what it knows."""

    def __init__(self, request: TrainRequest, operation_id: str, started_at: datetime) -> None:
        self.request = request
        self.operation_id = operation_id
        self.started_at = started_at
        self.plan: TrainPlan | None = None
        self.export: ExportReport | None = None
        self.cost: CostEstimate | None = None
        self._run: TrainingRun | None = None
        self.watched: WatchedRun | None = None
        self.settlement: Settlement | None = None
        self.artifact: ModelArtifact | None = None
        self.smoke: SmokeReport | None = None
        self.skipped: list[Skipped] = []
        self.outcome = Outcome.FAILED
        self.message = "the run did not reach an end"
        self.outcome_unknown = False

    @property
    def run(self) -> TrainingRun | None:
        """Return the run as last seen."""
        return self._run

    @run.setter
    def run(self, seen: TrainingRun) -> None:
        # That a run was adopted is known from its creation only; later looks do not say it.
        adopted = seen.adopted or (self._run is not None and self._run.adopted)
        self._run = seen.model_copy(update={"adopted": adopted})

    def accept(self) -> None:
        """Record that every stage passed."""
        self.outcome = Outcome.ACCEPTED
        self.message = "the model was trained, verified, and ran on real pictures"

    def submit(self, reason: str) -> None:
        """Record that the run was left to itself on purpose."""
        self.outcome = Outcome.SUBMITTED
        self.message = "the run was created and goes on at the provider"
        self.skipped.extend(Skipped(stage=stage, reason=reason) for stage in ("watch", "download", "smoke test"))

    def fail(self, error: PipelineError) -> None:
        """Record why the run stopped."""
        self.outcome = next(outcome for kind, outcome in OUTCOMES if isinstance(error, kind))
        self.message = str(error)
        self.outcome_unknown = error.context.outcome_unknown

    def farewell(self) -> str | None:
        """Return what to tell a person who stops us now; none when no paid run is left to itself."""
        if self.run is None or self.run.status.is_terminal:
            return None
        return (
            f"interrupted: training {self.run.handle.name} ({self.run.handle.run_id}) goes on at the provider and is "
            f"billed; the same command with --operation {self.operation_id} comes back to it"
        )

    def report(self, ended_at: datetime) -> RunReport:
        """Return everything gathered."""
        return RunReport(
            outcome=self.outcome,
            message=self.message,
            outcome_unknown=self.outcome_unknown,
            request=self.request,
            plan=self.plan,
            started_at=self.started_at,
            ended_at=ended_at,
            export=self.export,
            cost=self.cost,
            settlement=self.settlement,
            run=self.run,
            watched=self.watched,
            artifact=self.artifact,
            smoke=self.smoke,
            skipped=tuple(self.skipped),
        )


class RunEndedError(Exception):
    """How a run ended that did not end well, for an engine that wants an exception there; carries the report."""

    def __init__(self, report: RunReport) -> None:
        super().__init__(report)
        self.report = report

    def __str__(self) -> str:
        """Return the outcome and its reason."""
        return f"{self.report.outcome.value}: {self.report.message}"


def read_report(result: object) -> RunReport | None:
    """Return the report in what a flow run ended with; none when it is something else."""
    found = result.report if isinstance(result, RunEndedError) else result
    return found if isinstance(found, RunReport) else None


def utc_now() -> datetime:
    """Return the current time, aware."""
    return datetime.now(UTC)
