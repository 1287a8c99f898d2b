"""The link to a run's page at the provider."""

from __future__ import annotations

import pytest

from pipeline.models import RunReport
from pipeline.report.figures import run_page
from tests.unit.conftest import make_plan, make_profile, make_run


@pytest.mark.parametrize(
    ("template", "page"),
    [
        ("https://x/{dataset}/{run_id}", "https://x/road-signs/r1"),
        ("", ""),
        ("https://x/{id}", ""),
        ("https://x/{}", ""),
        ("https://x/{run_id", ""),
        ("https://x/{run_id.color}", ""),
        ("https://x/{run_id:d}", ""),
    ],
)
def test_a_link_never_costs_a_report(template: str, page: str) -> None:
    """A template that cannot be filled in gives no link, and no error after the run was paid for."""
    plan = make_plan(profile=make_profile(run_page=template))
    assert run_page(RunReport.model_construct(plan=plan, run=make_run())) == page
