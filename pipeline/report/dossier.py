"""Gathers each stage's value as it is made, so that a run that stops half-way still reports what it knows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

from pipeline.errors import (
    BudgetExceededError,
    ConfigurationError,
    ExportRejectedError,
    InsufficientCreditsError,
    OperationBusyError,
    OutputPathError,
    PipelineError,
    SmokeTestError,
    TrainingCancelledError,
    TrainingTimedOutError,
)
from pipeline.models import (
    CostEstimate,
    ExportReport,
    HostedReport,
    ModelArtifact,
    Operation,
    Outcome,
    RunReport,
    RunStatus,
    Settlement,
    Skipped,
    SmokeReport,
    TrainingRun,
    TrainPlan,
    WatchedRun,
)
from pipeline.requests import TrainRequest

Made = TypeVar("Made")

OUTCOMES: tuple[tuple[type[PipelineError], Outcome], ...] = (
    (TrainingCancelledError, Outcome.CANCELLED),
    (TrainingTimedOutError, Outcome.TIMED_OUT),
    (OperationBusyError, Outcome.SKIPPED),
    (BudgetExceededError, Outcome.OVER_BUDGET),
    (InsufficientCreditsError, Outcome.OVER_BUDGET),
    (ConfigurationError, Outcome.USAGE),
    (OutputPathError, Outcome.USAGE),
    (ExportRejectedError, Outcome.REJECTED),
    (SmokeTestError, Outcome.REJECTED),
    (PipelineError, Outcome.FAILED),
)
"""Errors to outcomes, most specific first."""


DONE = frozenset({Outcome.ACCEPTED, Outcome.UNTRIED})
"""Outcomes that leave nothing to do."""


class Dossier:
    """Collects each stage's value as it is made, so that a run that stops half-way still reports what it knows."""

    def __init__(self, request: TrainRequest, operation: Operation, started_at: datetime) -> None:
        self.request = request
        self.operation = operation
        self.started_at = started_at
        self._plan: TrainPlan | None = None
        self.export: ExportReport | None = None
        self.cost: CostEstimate | None = None
        self._run: TrainingRun | None = None
        self.watched: WatchedRun | None = None
        self.settlement: Settlement | None = None
        self.artifact: ModelArtifact | None = None
        self.smoke: SmokeReport | None = None
        self.hosted: HostedReport | None = None
        self.skipped: list[Skipped] = []
        self.outcome = Outcome.FAILED
        self.message = "the run did not reach an end"
        self.outcome_unknown = False
        self.error: PipelineError | None = None
        """Why the run stopped, when it did."""
        self.creating = False
        """True from the moment a create may have been sent."""

    @property
    def plan(self) -> TrainPlan | None:
        """Return what is to be done."""
        return self._plan

    @plan.setter
    def plan(self, made: TrainPlan) -> None:
        self._plan = made
        self.operation = made.operation  # another one than was begun with, when an open operation is continued

    def begin_attempt(self, plan: TrainPlan) -> None:
        """Go on with the operation's next attempt: what is known of the last one's run is over."""
        self.plan = plan
        self._run = self.watched = self.settlement = None

    @property
    def run(self) -> TrainingRun | None:
        """Return the run as last seen."""
        return self._run

    @run.setter
    def run(self, seen: TrainingRun) -> None:
        # That a run was adopted, and what was odd about that, is known from its creation only.
        before = self._run
        adopted = seen.adopted or (before is not None and before.adopted)
        odd = tuple(item for item in before.warnings if item not in seen.warnings) if before is not None else ()
        self._run = seen.model_copy(update={"adopted": adopted, "warnings": (*odd, *seen.warnings)})

    def accept(self) -> None:
        """Record that every stage passed; a model that nobody could or was to try is not called accepted."""
        self.outcome = Outcome.ACCEPTED
        if self.smoke is not None:
            self.message = "the model was trained, verified, and ran on real pictures"
        elif self.hosted is not None and self.hosted.inconclusive is None:
            self.message = "the model was trained, and answered at the provider as it should"
        else:
            self.outcome = Outcome.UNTRIED
            why = self.hosted.inconclusive if self.hosted is not None else self._why_untried()
            self.message = f"the model was trained; it was not tried: {why}"

    def _why_untried(self) -> str:
        reasons = {item.stage: item.reason for item in self.skipped}
        if "smoke test" in reasons:
            return "; ".join(reasons[stage] for stage in ("smoke test", "export") if stage in reasons)
        return "; ".join(
            [*(reasons[stage] for stage in ("download",) if stage in reasons), "nothing more was asked for"]
        )

    def submit(self, reason: str) -> None:
        """Record that the run was left to itself on purpose."""
        self.outcome = Outcome.SUBMITTED
        self.message = f"the run was created and goes on at the provider; {self._way_back}"
        self.skipped.extend(Skipped(stage=stage, reason=reason) for stage in ("watch", "download", "smoke test"))

    def skip_training(self, reason: str) -> None:
        """Record that there was nothing to train for."""
        self.outcome = Outcome.SKIPPED
        self.message = reason
        self.skipped.extend(Skipped(stage=stage, reason=reason) for stage in ("price", "training", "smoke test"))

    def fail(self, error: PipelineError) -> None:
        """Record why the run stopped."""
        self.error = error
        self.outcome = next(outcome for kind, outcome in OUTCOMES if isinstance(error, kind))
        self.message = str(error)
        self.outcome_unknown = error.context.outcome_unknown
        if self._is_uncollected and not isinstance(error, SmokeTestError):
            self.message += f"; {self._way_back}"

    def skip(self, stage: str, reason: str) -> None:
        """Record a stage that did not apply."""
        self.skipped.append(Skipped(stage=stage, reason=reason))

    def take(self, made: Made | Skipped) -> Made | None:
        """Return what a stage made, or none when it did not apply, which is recorded."""
        if isinstance(made, Skipped):
            self.skipped.append(made)
            return None
        return made

    @property
    def _is_uncollected(self) -> bool:
        """True when something may have been paid for that a later attempt can still collect."""
        if self.run is None:
            return self.outcome_unknown
        return self.run.status not in {RunStatus.FAILED, RunStatus.CANCELLED}

    @property
    def _way_back(self) -> str:
        return f"come back to it with --operation {self.operation.id}"

    def farewell(self) -> str | None:
        """Return what to tell a person who stops us now; none when nothing paid for is left behind."""
        if self.run is not None:
            if not self._is_uncollected or self.outcome in DONE:
                return None
            named = f"training {self.run.handle.name} ({self.run.handle.run_id})"
            what = "has ended but was not collected" if self.run.status.is_terminal else "goes on and is billed"
            return f"interrupted: {named} {what}; {self._way_back}"
        if not self.creating:
            return None
        return f"interrupted while the training was being created: it may exist and be billed; {self._way_back}"

    def report(self, ended_at: datetime) -> RunReport:
        """Return everything gathered."""
        return RunReport(
            outcome=self.outcome,
            message=self.message,
            outcome_unknown=self.outcome_unknown,
            operation_id=self.operation.id,
            request=self.request.shown(),
            plan=_shown(self.plan) if self.plan is not None else None,
            started_at=self.started_at,
            ended_at=ended_at,
            export=self.export,
            cost=self.cost,
            settlement=self.settlement,
            run=self.run,
            watched=self.watched,
            artifact=self.artifact,
            smoke=self.smoke,
            hosted=self.hosted,
            skipped=tuple(self.skipped),
        )


def _shown(plan: TrainPlan) -> TrainPlan:
    return plan.model_copy(update={"request": plan.request.shown(), "config_asked": plan.config_asked.shown()})


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
