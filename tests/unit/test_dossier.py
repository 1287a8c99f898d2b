"""The dossier: every way to end, and how an error becomes a verdict."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from pipeline import errors
from pipeline.errors import (
    ConfigurationError,
    DownloadError,
    ErrorContext,
    OutputCheckError,
    OutputPathError,
    PipelineError,
    TrainingCancelledError,
    TrainingFailedError,
    TrainingTimedOutError,
    TransportError,
)
from pipeline.models import (
    Finding,
    Outcome,
    RunStatus,
    Severity,
    Skipped,
    TrainingRun,
)
from pipeline.report.dossier import OUTCOMES
from pipeline.report.figures import (
    all_findings,
    summary_json,
    summary_rows,
)
from pipeline.report.rendering import render_markdown
from tests.unit.conftest import make_run
from tests.unit.dossiers import (
    END,
    make_dossier,
    make_hosted,
    make_smoke,
)

OUTCOME_OF = {
    "NotOfferedError": Outcome.FAILED,
    "UnpackError": Outcome.FAILED,
    "ConfigurationError": Outcome.USAGE,
    "OutputPathError": Outcome.USAGE,
    "BudgetExceededError": Outcome.OVER_BUDGET,
    "JournalError": Outcome.FAILED,
    "OperationBusyError": Outcome.SKIPPED,
    "InsufficientCreditsError": Outcome.OVER_BUDGET,
    "ExportRejectedError": Outcome.REJECTED,
    "SmokeTestError": Outcome.REJECTED,
    "ModelLoadError": Outcome.REJECTED,
    "InferenceError": Outcome.REJECTED,
    "OutputCheckError": Outcome.REJECTED,
    "TrainingCancelledError": Outcome.CANCELLED,
    "TrainingTimedOutError": Outcome.TIMED_OUT,
    **dict.fromkeys(
        [
            "CancelUnconfirmedError",
            "CrashLoopError",
            "WatchStoppedError",
            "PipelineError",
            "ProviderError",
            "RetryableProviderError",
            "TransportError",
            "ProviderUnavailableError",
            "RateLimitError",
            "AuthenticationError",
            "PermissionDeniedError",
            "NotFoundError",
            "ConflictError",
            "InvalidRequestError",
            "UnexpectedResponseError",
            "ExportError",
            "ExportNotReadyError",
            "TrainingError",
            "TrainingFailedError",
            "TrainingLostError",
            "ArtifactError",
            "DownloadError",
            "DigestMismatchError",
            "ArtifactTooLargeError",
        ],
        Outcome.FAILED,
    ),
}

ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PipelineError)]


class TestOutcome:
    """How an error becomes a verdict."""

    @pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
    def test_every_error_has_its_outcome(self, kind: type[PipelineError]) -> None:
        """The table knows each class, and a new class has to be put into it."""
        dossier = make_dossier()
        dossier.fail(kind("what failed"))
        report = dossier.report(END)
        assert (report.outcome, report.message) == (OUTCOME_OF[kind.__name__], "what failed")

    def test_no_row_of_the_table_is_shadowed(self) -> None:
        """Most specific first: no earlier row takes a later row's errors."""
        kinds = [kind for kind, _ in OUTCOMES]
        assert [
            (early.__name__, late.__name__)
            for number, early in enumerate(kinds)
            for late in kinds[number + 1 :]
            if issubclass(late, early)
        ] == []

    def test_a_run_without_an_end_is_not_accepted(self) -> None:
        """Accepted is said only when it was said."""
        assert make_dossier().report(END).outcome is Outcome.FAILED

    def test_a_run_left_to_itself_says_what_was_skipped(self) -> None:
        """Submitted names the stages that did not happen, and why."""
        dossier = make_dossier(wait="none")
        dossier.submit("wait is off")
        report = dossier.report(END)
        assert report.outcome is Outcome.SUBMITTED
        assert {skipped.stage for skipped in report.skipped} == {"watch", "download", "smoke test"}
        assert "- download: wait is off" in render_markdown(report)

    def test_an_adopted_run_stays_adopted(self) -> None:
        """Later looks do not know it, the report does."""
        dossier = make_dossier()
        dossier.run = make_run(adopted=True)
        dossier.run = make_run(RunStatus.COMPLETED)
        report = dossier.report(END)
        assert report.run == make_run(RunStatus.COMPLETED, adopted=True)
        assert "found and taken over" in render_markdown(report)

    def test_an_interruption_says_how_to_come_back(self) -> None:
        """A paid run left alone is named with its operation; an ended one needs no word."""
        dossier = make_dossier()
        assert dossier.farewell() is None
        dossier.creating = True
        assert "may exist and be billed; come back to it with --operation op-1" in str(dossier.farewell())
        dossier.run = make_run()
        assert "goes on and is billed; come back to it with --operation op-1" in str(dossier.farewell())
        dossier.run = make_run(RunStatus.COMPLETED)
        assert "was not collected; come back to it with --operation op-1" in str(dossier.farewell())
        dossier.accept()
        assert dossier.farewell() is None
        dossier = make_dossier()
        dossier.run = make_run(RunStatus.FAILED)
        assert dossier.farewell() is None

    @pytest.mark.parametrize(
        ("run", "error", "named"),
        [
            (make_run(), TrainingTimedOutError("too slow"), True),
            (make_run(RunStatus.COMPLETED), DownloadError("broken"), True),
            (make_run(RunStatus.COMPLETED), OutputPathError("disk full"), True),
            (None, TransportError("lost", ErrorContext(outcome_unknown=True)), True),
            (make_run(RunStatus.FAILED), TrainingFailedError("out of memory"), False),
            (make_run(RunStatus.CANCELLED), TrainingCancelledError("cancelled"), False),
            (make_run(RunStatus.COMPLETED), OutputCheckError("useless"), False),
            (None, ConfigurationError("no such data set"), False),
        ],
    )
    def test_whatever_is_paid_for_and_left_names_the_way_back(
        self, run: TrainingRun | None, error: PipelineError, named: bool
    ) -> None:
        """Message, JSON and terminal carry the operation wherever a rerun can still collect something."""
        dossier = make_dossier()
        if run is not None:
            dossier.run = run
        dossier.fail(error)
        report = dossier.report(END)
        assert ("come back to it with --operation op-1" in report.message) is named
        assert json.loads(summary_json(report))["operation"] == "op-1"
        if named:
            assert ("Operation", "op-1") in summary_rows(report)

    def test_what_was_odd_about_a_run_is_not_forgotten_by_later_looks(self) -> None:
        """The warning that another run carries the operation is in the report."""
        twin = Finding(severity=Severity.WARNING, code="twin_run", message="r2 is alive")
        dossier = make_dossier()
        dossier.run = make_run(warnings=(twin,))
        dossier.run = make_run(RunStatus.COMPLETED)
        assert twin in all_findings(dossier.report(END))


class TestAccepting:
    """What a model is called that passed every stage there was."""

    def test_a_model_that_ran_here_is_accepted(self) -> None:
        """On real pictures."""
        assert self._accepted(smoke=make_smoke()) == (
            Outcome.ACCEPTED,
            "the model was trained, verified, and ran on real pictures",
        )

    def test_a_model_that_answered_there_is_accepted(self) -> None:
        """Where there are no weights to have."""
        assert self._accepted(hosted=make_hosted()) == (
            Outcome.ACCEPTED,
            "the model was trained, and answered at the provider as it should",
        )

    def test_a_model_that_nobody_tried_is_not_called_accepted(self) -> None:
        """Because it was not asked for, or because nothing could be learned."""
        assert self._accepted() == (
            Outcome.UNTRIED,
            "the model was trained; it was not tried: nothing more was asked for",
        )
        assert self._accepted(hosted=make_hosted(inconclusive="no credits")) == (
            Outcome.UNTRIED,
            "the model was trained; it was not tried: no credits",
        )

    @staticmethod
    def _accepted(**proof: Any) -> tuple[Outcome, str]:
        dossier = make_dossier()
        dossier.run = make_run(RunStatus.COMPLETED)
        for name, value in proof.items():
            setattr(dossier, name, value)
        dossier.accept()
        report = dossier.report(END)
        return report.outcome, report.message


def test_a_stage_that_does_not_apply_is_recorded() -> None:
    """And what one has made is handed on."""
    dossier = make_dossier()
    skipped = Skipped(stage="download", reason="there are no weights")
    assert dossier.take("made") == "made"
    assert dossier.take(skipped) is None
    assert dossier.report(END).skipped == (skipped,)
