"""The report: money that tells the truth, the headline figure, files that read back, what is shown meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import (
    ErrorContext,
    OutputPathError,
    TransportError,
)
from pipeline.models import (
    Money,
    Operation,
    RunReport,
    RunStatus,
    Settlement,
    Unit,
)
from pipeline.report.dossier import Dossier
from pipeline.report.figures import (
    describe_hosted,
    describe_progress,
    headline_metric,
    money_line,
    summary_json,
    summary_rows,
)
from pipeline.report.illustrations import filed
from pipeline.report.rendering import render_markdown, write_report
from tests.unit.conftest import make_estimate, make_plan, make_profile, make_request, make_run
from tests.unit.dossiers import (
    END,
    RUNS,
    START,
    full_dossier,
    make_artifact,
    make_dossier,
    make_hosted,
    make_smoke,
)


class TestMoney:
    """The money line never says more than is known."""

    def test_before_the_price(self) -> None:
        """Nothing priced is nothing spent."""
        assert money_line(make_dossier().report(END)) == "not priced, nothing was spent"

    def test_after_the_price(self) -> None:
        """A price alone costs nothing."""
        dossier = make_dossier()
        dossier.cost = make_estimate()
        assert money_line(dossier.report(END)) == "priced at 100 credits, nothing was spent"

    def test_after_a_create_whose_answer_was_lost(self) -> None:
        """Where it is not known whether a paid run exists, the line does not say that nothing was spent."""
        dossier = make_dossier()
        dossier.cost = make_estimate()
        dossier.fail(TransportError("lost", ErrorContext(outcome_unknown=True)))
        report = dossier.report(END)
        assert report.outcome_unknown
        assert money_line(report) == "priced at 100 credits, it is not known whether it was spent"

    def test_before_the_ledger_knows(self) -> None:
        """A run without a settlement may still be charged."""
        dossier = make_dossier()
        dossier.cost = make_estimate()
        dossier.run = make_run()
        assert money_line(dossier.report(END)) == "priced at 100 credits, the charge is not in the ledger yet"

    def test_after_the_settlement(self) -> None:
        """Charge and refund, the latter only when there was one."""
        dossier = full_dossier()
        assert money_line(dossier.report(END)) == "priced at 100 credits, charged 90 credits (10 credits refunded)"
        none = Money(amount=0, unit=Unit.CREDITS)
        dossier.settlement = Settlement(charged=Money(amount=90, unit=Unit.CREDITS), refunded=none)
        assert money_line(dossier.report(END)) == "priced at 100 credits, charged 90 credits"


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
        dossier = full_dossier()
        dossier.artifact = make_artifact(**metrics)
        assert headline_metric(dossier.report(END)) == expected


class TestFiles:
    """What programs read."""

    @pytest.mark.parametrize(
        "dossier", [full_dossier(), make_dossier(), Dossier(make_request(), Operation(id="op-1"), START)]
    )
    def test_the_report_survives_json(self, dossier: Dossier) -> None:
        """What was written reads back equal."""
        report = dossier.report(END)
        assert RunReport.model_validate_json(report.model_dump_json()) == report

    def test_a_full_report_has_no_empty_part(self) -> None:
        """The round trip above is made with every field in use."""
        empty = [name for name, value in full_dossier().report(END) if value is None or value == ()]
        assert empty == ["skipped"]

    def test_both_files_are_written(self, tmp_path: Path) -> None:
        """Markdown, JSON and the curve, whole, with nothing left beside them; a second time replaces them."""
        report = full_dossier().report(END)
        write_report(make_dossier().report(END), tmp_path / "run")
        markdown, data = write_report(report, tmp_path / "run")
        assert markdown.read_text(encoding="utf-8") == render_markdown(report, filed(report, tmp_path / "run"))
        assert RunReport.model_validate_json(data.read_text(encoding="utf-8")) == report
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["loss.svg", "report.json", "report.md"]

    def test_a_folder_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        """The report's own failure is one of our errors."""
        (tmp_path / "run").write_bytes(b"a file")
        with pytest.raises(OutputPathError):
            write_report(full_dossier().report(END), tmp_path / "run")

    def test_the_summary_is_one_line_of_plain_json(self) -> None:
        """Everything a calling program wants, and legal JSON even when a figure is not a number."""
        dossier = full_dossier()
        dossier.artifact = make_artifact(mAP50=float("nan"))
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
        summary = json.loads(summary_json(Dossier(make_request(), Operation(id="op-1"), START).report(END)))
        known = {"outcome", "message", "sandbox"}
        assert {key for key, value in summary.items() if value is not None} <= known | {"operation"}


class TestTerminal:
    """What a person at a terminal reads."""

    def test_a_full_run_is_summed_up(self) -> None:
        """Money, metric, run, file, digest, hosted model and report, in this order."""
        dossier = full_dossier()
        dossier.artifact = make_artifact(mAP50=0.75, evaluated_images=12)
        report = dossier.report(END)
        assert report.plan is not None
        assert summary_rows(report) == [
            ("Money", money_line(report)),
            ("Held-out metric", "mAP50 0.750 on 12 held-out images"),
            ("Run", "run-1 (r1)"),
            ("Model", str(RUNS / "model.onnx")),
            ("SHA-256", "b" * 64),
            ("Hosted model", describe_hosted(make_hosted())),
            ("Report", str(report.plan.output_dir / "report.md")),
        ]

    def test_a_run_that_failed_at_once_is_summed_up(self) -> None:
        """Only what is known is listed."""
        report = Dossier(make_request(), Operation(id="op-1"), START).report(END)
        assert summary_rows(report) == [("Money", "not priced, nothing was spent")]

    def test_a_rehearsal_is_said_first(self) -> None:
        """Before anything else in the summary."""
        dossier = Dossier(make_request(sandbox=True), Operation(id="op-1"), START)
        dossier.plan = make_plan(profile=make_profile(sandbox=True), sandbox=True)
        assert "rehearsal" in summary_rows(dossier.report(END))[0][1]

    def test_a_picture_without_predictions_says_so(self) -> None:
        """Nothing seen is a result; the model's path and size are in the table."""
        dossier = full_dossier()
        smoke = make_smoke()
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
