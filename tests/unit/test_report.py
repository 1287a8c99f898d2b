"""The report: every outcome, safe Markdown, money that tells the truth, JSON that reads back."""

from __future__ import annotations

import inspect
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline import errors
from pipeline.dossier import OUTCOMES, Dossier
from pipeline.errors import ErrorContext, OutputPathError, PipelineError, TransportError
from pipeline.illustrations import filed
from pipeline.models import (
    ClassCount,
    CurvePoint,
    ExportReport,
    Finding,
    ModelArtifact,
    ModelFacts,
    ModelTask,
    Money,
    Outcome,
    Prediction,
    RunReport,
    RunStatus,
    SampleResult,
    Settlement,
    Severity,
    SmokeReport,
    Unit,
    WatchedRun,
)
from pipeline.rendering import render_markdown, write_report
from pipeline.report import (
    all_findings,
    describe_progress,
    headline_metric,
    money_line,
    run_page,
    summary_json,
    summary_rows,
)
from tests.unit.conftest import make_estimate, make_export, make_plan, make_profile, make_request, make_run

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
END = START + timedelta(hours=1, minutes=5)
RUNS = Path("runs")
OUTCOME_OF = {
    "ConfigurationError": Outcome.USAGE,
    "OutputPathError": Outcome.USAGE,
    "BudgetExceededError": Outcome.OVER_BUDGET,
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


def _finding(message: str, code: str = "odd") -> Finding:
    return Finding(severity=Severity.WARNING, code=code, message=message)


def _export_report(*findings: Finding) -> ExportReport:
    classes = (ClassCount(name="stop", images=6, objects=12),)
    return ExportReport(
        export=make_export(), classes=classes, findings=findings, content_fingerprint="f" * 64, samples=()
    )


def _artifact(verified_by: tuple[str, ...] = ("size", "md5 (ETag)"), **metrics: Any) -> ModelArtifact:
    model = ModelFacts(
        model_id="m1", name="m", status="ready", task=ModelTask.OBJECT_DETECTION, classes=("stop",), metrics=metrics
    )
    return ModelArtifact(
        path=RUNS / "model.onnx", size_bytes=9, md5="a" * 32, sha256="b" * 64, verified_by=verified_by, model=model
    )


def _smoke(*findings: Finding) -> SmokeReport:
    seen = Prediction(name="stop", confidence=0.9, box=(1, 2, 3, 4))
    result = SampleResult(
        picture="a|b.png",
        predictions=(seen,),
        expected=1,
        found=1,
        latency_s=0.0123,
        overlay=RUNS / "overlays" / "a.png",
    )
    return SmokeReport(results=(result,), input_size=(64, 64), classes=("stop",), agreement=1.0, findings=findings)


def _curve(*losses: float) -> tuple[CurvePoint, ...]:
    return tuple(CurvePoint(epoch=number, loss=loss) for number, loss in enumerate(losses, 1))


def _dossier(**request: Any) -> Dossier:
    dossier = Dossier(make_request(**request), "op-1", START)
    dossier.plan = make_plan(**request)
    return dossier


def _full() -> Dossier:
    dossier = _dossier()
    dossier.export = _export_report(_finding("from the export"))
    dossier.cost = make_estimate(findings=(_finding("from the quote"),))
    ended = make_run(RunStatus.COMPLETED, warnings=(_finding("from the run"),), started_at=START, completed_at=END)
    dossier.watched = WatchedRun(run=ended, curve=_curve(1, 0.5), looks=3, failed_looks=1, watched_s=60.4)
    dossier.run = ended
    credits = Money(amount=90, unit=Unit.CREDITS)
    dossier.settlement = Settlement(charged=credits, refunded=Money(amount=10, unit=Unit.CREDITS), balance=credits)
    dossier.artifact = _artifact(mAP50=0.75)
    dossier.smoke = _smoke(_finding("from the smoke test"))
    dossier.accept()
    return dossier


class TestOutcome:
    """How an error becomes a verdict."""

    @pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
    def test_every_error_has_its_outcome(self, kind: type[PipelineError]) -> None:
        """The table knows each class, and a new class has to be put into it."""
        dossier = _dossier()
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
        assert _dossier().report(END).outcome is Outcome.FAILED

    def test_a_run_left_to_itself_says_what_was_skipped(self) -> None:
        """Submitted names the stages that did not happen, and why."""
        dossier = _dossier(wait=False)
        dossier.submit("wait is off")
        report = dossier.report(END)
        assert report.outcome is Outcome.SUBMITTED
        assert {skipped.stage for skipped in report.skipped} == {"watch", "download", "smoke test"}
        assert "- download: wait is off" in render_markdown(report)

    def test_an_adopted_run_stays_adopted(self) -> None:
        """Later looks do not know it, the report does."""
        dossier = _dossier()
        dossier.run = make_run(adopted=True)
        dossier.run = make_run(RunStatus.COMPLETED)
        report = dossier.report(END)
        assert report.run == make_run(RunStatus.COMPLETED, adopted=True)
        assert "found and taken over" in render_markdown(report)

    def test_an_interruption_says_how_to_come_back(self) -> None:
        """A paid run left alone is named with its operation; an ended one needs no word."""
        dossier = _dossier()
        assert dossier.farewell() is None
        dossier.run = make_run()
        assert "--operation op-1" in str(dossier.farewell())
        dossier.run = make_run(RunStatus.COMPLETED)
        assert dossier.farewell() is None


class TestMoney:
    """The money line never says more than is known."""

    def test_before_the_price(self) -> None:
        """Nothing priced is nothing spent."""
        assert money_line(_dossier().report(END)) == "nothing was priced, nothing was spent"

    def test_after_the_price(self) -> None:
        """A price alone costs nothing."""
        dossier = _dossier()
        dossier.cost = make_estimate()
        assert money_line(dossier.report(END)) == "priced at 100 credits, nothing was spent"

    def test_after_a_create_whose_answer_was_lost(self) -> None:
        """Where it is not known whether a paid run exists, the line does not say that nothing was spent."""
        dossier = _dossier()
        dossier.cost = make_estimate()
        dossier.fail(TransportError("lost", ErrorContext(outcome_unknown=True)))
        report = dossier.report(END)
        assert report.outcome_unknown
        assert money_line(report) == "priced at 100 credits, it is not known whether it was spent"

    def test_before_the_ledger_knows(self) -> None:
        """A run without a settlement may still be charged."""
        dossier = _dossier()
        dossier.cost = make_estimate()
        dossier.run = make_run()
        assert money_line(dossier.report(END)) == "priced at 100 credits, the charge is not in the ledger yet"

    def test_after_the_settlement(self) -> None:
        """Charge and refund, the latter only when there was one."""
        dossier = _full()
        assert money_line(dossier.report(END)) == "priced at 100 credits, charged 90 credits (10 credits refunded)"
        none = Money(amount=0, unit=Unit.CREDITS)
        dossier.settlement = Settlement(charged=Money(amount=90, unit=Unit.CREDITS), refunded=none)
        assert money_line(dossier.report(END)) == "priced at 100 credits, charged 90 credits"


class TestMarkdown:
    """What people read."""

    def test_everything_known_is_shown(self) -> None:
        """Verdict, money, metric, digests, pictures, classes, and every stage's findings in order."""
        report = _full().report(END)
        text = render_markdown(report, filed(report, RUNS))
        for part in (
            "# Accepted: road-signs-yolox-",
            "mAP50 0.750",
            "1 h 5 min",
            "1 min 0 s, 3 looks, 1 more failed",
            "size, md5 (ETag) |",
            "b" * 64,
            "100% of the labels found",
            "![predictions](overlays/a.png)",
            "| stop | 6 | 12 |",
            "12.3",
            "https://example.test/road-signs/runs/r1",
        ):
            assert part in text
        assert [finding.message for finding in all_findings(report)] == [
            f"from the {stage}" for stage in ("export", "quote", "run", "smoke test")
        ]

    def test_a_run_that_stopped_early_still_has_a_report(self) -> None:
        """Without even a plan there is a verdict and a reason."""
        dossier = Dossier(make_request(dataset="x|y\n<b>"), "op-1", START)
        dossier.fail(errors.ConfigurationError("gpu='x' is not offered"))
        text = render_markdown(dossier.report(END))
        assert text.startswith("# Usage: x\\|y &lt;b>\n")
        assert "is not offered" in text
        assert "none reported" in text

    @pytest.mark.parametrize(
        "foreign",
        [
            "a | b",
            "a \\| b",
            "line\nbreak",
            "line\r\nbreak",
            "line\u2028break",
            "<script>alert(1)</script>",
            "![pixel](https://evil.test/p.png)",
            "[click](javascript:x)",
        ],
    )
    def test_foreign_text_cannot_break_out(self, foreign: str) -> None:
        """Tables keep their columns, and no markup, link or picture of someone else's making opens."""
        dossier = _full()
        dossier.export = _export_report(_finding(foreign, code=foreign))
        dossier.message = foreign
        text = render_markdown(dossier.report(END))
        assert "<script" not in text
        assert "](https://evil" not in text
        assert "](javascript" not in text
        rows = [line for line in text.split("## Findings")[1].splitlines() if line.startswith("|")]
        assert len(rows) == 2 + 4
        bare = [row.replace("\\\\", "").replace("\\|", "") for row in rows]
        assert {row.count("|") for row in bare} == {4}
        assert all(row.endswith("|") for row in rows)

    @pytest.mark.parametrize(("request_says", "profile_says"), [(True, False), (False, True), (True, True)])
    def test_a_rehearsal_is_marked(self, request_says: bool, profile_says: bool) -> None:
        """Asked for or not: what the sandbox made says so, in Markdown and in JSON."""
        dossier = Dossier(make_request(sandbox=request_says), "op-1", START)
        dossier.plan = make_plan(profile=make_profile(sandbox=profile_says), sandbox=request_says)
        report = dossier.report(END)
        assert "> **Rehearsal.**" in render_markdown(report)
        assert json.loads(summary_json(report))["sandbox"] is True

    def test_a_real_run_is_not_called_a_rehearsal(self) -> None:
        """The mark means something."""
        assert "Rehearsal" not in render_markdown(_full().report(END))

    def test_a_missing_digest_is_said(self) -> None:
        """Size alone is not passed off as verification of the bytes."""
        dossier = _full()
        dossier.artifact = _artifact(verified_by=("size",))
        assert "size; the storage offered no digest" in render_markdown(dossier.report(END))

    def test_the_page_is_an_address(self) -> None:
        """Names with spaces and slashes do not break the link."""
        dossier = _dossier()
        handle = make_run().handle.model_copy(update={"dataset": "road signs/2"})
        dossier.run = make_run(handle=handle)
        assert run_page(dossier.report(END)) == "https://example.test/road%20signs%2F2/runs/r1"
        assert run_page(_dossier().report(END)) == ""


class TestMetric:
    """The headline figure."""

    @pytest.mark.parametrize(
        ("metrics", "expected"),
        [
            ({}, None),
            ({"loss": 1.0}, None),
            ({"recall": 0.5, "mAP50": 0.7}, ("mAP50", 0.7)),
            ({"mAP50": None, "mAP": 1}, ("mAP", 1.0)),
            ({"mAP50": "0.7"}, None),
            ({"mAP50": float("nan"), "recall": 0.2}, ("recall", 0.2)),
        ],
    )
    def test_the_best_known_figure_is_taken(self, metrics: dict[str, Any], expected: Any) -> None:
        """By our order of preference, numbers only."""
        dossier = _full()
        dossier.artifact = _artifact(**metrics)
        assert headline_metric(dossier.report(END)) == expected


class TestFiles:
    """What programs read."""

    @pytest.mark.parametrize("dossier", [_full(), _dossier(), Dossier(make_request(), "op-1", START)])
    def test_the_report_survives_json(self, dossier: Dossier) -> None:
        """What was written reads back equal."""
        report = dossier.report(END)
        assert RunReport.model_validate_json(report.model_dump_json()) == report

    def test_a_full_report_has_no_empty_part(self) -> None:
        """The round trip above is made with every field in use."""
        empty = [name for name, value in _full().report(END) if value is None or value == ()]
        assert empty == ["skipped"]

    def test_both_files_are_written(self, tmp_path: Path) -> None:
        """Markdown, JSON and the curve, whole, with nothing left beside them; a second time replaces them."""
        report = _full().report(END)
        write_report(_dossier().report(END), tmp_path / "run")
        markdown, data = write_report(report, tmp_path / "run")
        assert markdown.read_text(encoding="utf-8") == render_markdown(report, filed(report, tmp_path / "run"))
        assert RunReport.model_validate_json(data.read_text(encoding="utf-8")) == report
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["loss.svg", "report.json", "report.md"]

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        """The report's own failure is one of our errors."""
        (tmp_path / "run").write_bytes(b"a file")
        with pytest.raises(OutputPathError):
            write_report(_full().report(END), tmp_path / "run")

    def test_the_summary_is_one_line_of_plain_json(self) -> None:
        """Everything a calling program wants, and legal JSON even when a figure is not a number."""
        dossier = _full()
        dossier.artifact = _artifact(mAP50=float("nan"))
        line = summary_json(dossier.report(END))
        assert "\n" not in line

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is not JSON")

        summary = json.loads(line, parse_constant=refuse)
        assert summary["metric"] is None
        assert summary["outcome"] == "accepted"
        assert summary["run_id"] == "r1"
        assert summary["sha256"] == "b" * 64
        assert summary["charged"] == {"amount": 90, "unit": "credits"}
        assert summary["priced"] == {"amount": 100, "unit": "credits"}

    def test_the_summary_of_nothing_is_all_nulls(self) -> None:
        """A run that failed at once has a summary too."""
        summary = json.loads(summary_json(Dossier(make_request(), "op-1", START).report(END)))
        known = {"outcome", "message", "sandbox"}
        assert {key for key, value in summary.items() if value is not None} <= known | {"operation"}


class TestTerminal:
    """What a person at a terminal reads."""

    def test_a_full_run_is_summed_up(self) -> None:
        """Money, metric, run, file, digest and report, in this order."""
        dossier = _full()
        dossier.artifact = _artifact(mAP50=0.75, evaluated_images=12)
        report = dossier.report(END)
        assert report.plan is not None
        assert summary_rows(report) == [
            ("Money", money_line(report)),
            ("Held-out metric", "mAP50 0.750 on 12 held-out images"),
            ("Run", "run-1 (r1)"),
            ("Model", str(RUNS / "model.onnx")),
            ("SHA-256", "b" * 64),
            ("Report", str(report.plan.output_dir / "report.md")),
        ]

    def test_a_run_that_failed_at_once_is_summed_up(self) -> None:
        """Only what is known is listed."""
        report = Dossier(make_request(), "op-1", START).report(END)
        assert summary_rows(report) == [("Money", "nothing was priced, nothing was spent")]

    @pytest.mark.parametrize(("request_says", "profile_says"), [(True, False), (False, True)])
    def test_a_rehearsal_is_said_first(self, request_says: bool, profile_says: bool) -> None:
        """Asked for or not."""
        dossier = Dossier(make_request(sandbox=request_says), "op-1", START)
        dossier.plan = make_plan(profile=make_profile(sandbox=profile_says), sandbox=request_says)
        assert "rehearsal" in summary_rows(dossier.report(END))[0][1]

    def test_a_picture_without_predictions_says_so(self) -> None:
        """Nothing seen is a result; the model's path and size are in the table."""
        dossier = _full()
        smoke = _smoke()
        dossier.smoke = smoke.model_copy(update={"results": (smoke.results[0].model_copy(update={"predictions": ()}),)})
        text = render_markdown(dossier.report(END))
        assert "| nothing | 1 of 1 |" in text
        assert "model.onnx`, 9 bytes" in text


class TestProgress:
    """The line while it runs."""

    @pytest.mark.parametrize(
        ("run", "line"),
        [
            (make_run(RunStatus.QUEUED, eta_s=60, progress=0), "training: queued"),
            (
                make_run(progress=12.4, epoch=3, total_epochs=20, eta_s=90),
                "training: running, 12 %, epoch 3/20, 1 min 30 s to go",
            ),
            (make_run(eta_s=float("nan")), "training: running"),
            (make_run(epoch=3), "training: running"),
            (make_run(eta_s=float("inf")), "training: running"),
            (
                make_run(RunStatus.COMPLETED, progress=100, epoch=20, total_epochs=20),
                "training: completed, epoch 20/20",
            ),
        ],
    )
    def test_the_line_says_what_is_known(self, run: Any, line: str) -> None:
        """No more than the provider said, whatever it said."""
        assert describe_progress(run, None) == line

    def test_the_cost_is_part_of_it(self) -> None:
        """Money is seen while it is being spent."""
        assert (
            describe_progress(make_run(), Money(amount=3, unit=Unit.CREDITS)) == "training: running, 3 credits so far"
        )
