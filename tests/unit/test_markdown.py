"""The report as people read it: everything known, and nothing of someone else's making that breaks out."""

from __future__ import annotations

import json

import pytest

from pipeline import errors
from pipeline.models import (
    Operation,
)
from pipeline.report.dossier import Dossier
from pipeline.report.figures import (
    all_findings,
    run_page,
    summary_json,
)
from pipeline.report.illustrations import filed
from pipeline.report.rendering import render_markdown
from tests.unit.conftest import make_plan, make_profile, make_request, make_run
from tests.unit.dossiers import (
    END,
    RUNS,
    START,
    full_dossier,
    make_artifact,
    make_dossier,
    make_export_report,
    make_finding,
)


class TestMarkdown:
    """What people read."""

    def test_everything_known_is_shown(self) -> None:
        """Verdict, money, metric, digests, pictures, classes, and every stage's findings in order."""
        report = full_dossier().report(END)
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
            "m-hosted: 2 of 2 samples answered, 50% agree with the labels, 1.2 s at most",
            "https://example.test/road-signs/runs/r1",
        ):
            assert part in text
        assert [finding.message for finding in all_findings(report)] == [
            f"from the {stage}" for stage in ("export", "quote", "run", "weights", "smoke test", "hosted model")
        ]

    def test_a_run_that_stopped_early_still_has_a_report(self) -> None:
        """Without even a plan there is a verdict and a reason."""
        dossier = Dossier(make_request(dataset="x|y\n<b>"), Operation(id="op-1"), START)
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
        dossier = full_dossier()
        dossier.export = make_export_report(make_finding(foreign, code=foreign))
        dossier.message = foreign
        text = render_markdown(dossier.report(END))
        assert "<script" not in text
        assert "](https://evil" not in text
        assert "](javascript" not in text
        rows = [line for line in text.split("## Findings")[1].splitlines() if line.startswith("|")]
        assert len(rows) == 2 + 6
        bare = [row.replace("\\\\", "").replace("\\|", "") for row in rows]
        assert {row.count("|") for row in bare} == {4}
        assert all(row.endswith("|") for row in rows)

    def test_a_rehearsal_is_marked(self) -> None:
        """What the sandbox made says so, in Markdown and in JSON."""
        dossier = Dossier(make_request(sandbox=True), Operation(id="op-1"), START)
        dossier.plan = make_plan(profile=make_profile(sandbox=True), sandbox=True)
        report = dossier.report(END)
        assert "> **Rehearsal.**" in render_markdown(report)
        assert json.loads(summary_json(report))["sandbox"] is True

    def test_a_real_run_is_not_called_a_rehearsal(self) -> None:
        """The mark means something."""
        assert "Rehearsal" not in render_markdown(full_dossier().report(END))

    def test_a_missing_digest_is_said(self) -> None:
        """Size alone is not passed off as verification of the bytes."""
        dossier = full_dossier()
        dossier.artifact = make_artifact(verified_by=("size",))
        assert "size; the storage offered no digest" in render_markdown(dossier.report(END))

    def test_the_page_is_an_address(self) -> None:
        """Names with spaces and slashes do not break the link."""
        dossier = make_dossier()
        handle = make_run().handle.model_copy(update={"dataset": "road signs/2"})
        dossier.run = make_run(handle=handle)
        assert run_page(dossier.report(END)) == "https://example.test/road%20signs%2F2/runs/r1"
        assert run_page(make_dossier().report(END)) == ""
