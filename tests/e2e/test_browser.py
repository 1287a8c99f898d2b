"""The pages of a finished run in a real browser: what a person sees, not only what the server stores."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest

from flows.train_pipeline import train_pipeline
from pipeline.local_requests import BluesightRequest
from pipeline.provider_requests import read_request
from tests.e2e.browser import Browser, find_browser
from tests.e2e.conftest import FlowRun, at_server
from tests.waiting import eventually

UIS = ("", "/v2")
"""Prefect 3.8 comes with two user interfaces; links lead to the first, the start page to the second."""


@pytest.fixture(scope="module")
def page() -> Iterator[Browser]:
    """One browser for all pages; without one the tests are skipped, and fail on CI, which installs one."""
    if find_browser() is None:
        refuse = pytest.fail if os.environ.get("CI", "").lower() in {"1", "true"} else pytest.skip
        refuse("no Chromium on the PATH (chromium, chromium-browser or google-chrome): install one")
    with Browser() as opened:
        yield opened


@pytest.fixture
def form(prefect_server: str) -> Iterator[str]:
    """The address of a deployment's run form."""
    with at_server(prefect_server):
        made = train_pipeline.to_deployment(name="form").apply()
    yield f"{prefect_server.removesuffix('/api')}/deployments/deployment/{made}/run"
    httpx.delete(f"{prefect_server}/deployments/{made}").raise_for_status()


@pytest.mark.parametrize("ui", UIS)
def test_the_run_page_tells_the_story(page: Browser, accepted: FlowRun, ui: str) -> None:
    """Name, state and log lines at once; every stage under Task Runs; every artifact under Artifacts."""
    base = accepted.api.removesuffix("/api")
    page.open(
        f"{base}{ui}/runs/flow-run/{accepted.id}", "rehearse-road-signs-yolox", "Completed", "10 Task runs", "plan: "
    )
    page.click("Task Runs")
    page.wait_for(*(run["name"] for run in accepted.task_runs()))
    page.click("Artifacts")
    page.wait_for(
        "rehearsal-progress-road-signs-yolox", "rehearsal-findings-road-signs", "rehearsal-report-road-signs-yolox"
    )


@pytest.mark.parametrize("ui", UIS)
def test_the_report_is_rendered_with_its_pictures(page: Browser, accepted: FlowRun, ui: str) -> None:
    """Headings and tables are laid out, not printed as source; curve and predictions are pictures with pixels."""
    (report,) = accepted.artifacts("markdown")
    base = accepted.api.removesuffix("/api")
    page.open(
        f"{base}{ui}/artifacts/artifact/{report['id']}", "Accepted: road-signs-yolox-", "Training loss", "Rehearsal."
    )
    page.wait_until("document.querySelectorAll('table').length >= 3")
    pictures = "[...document.images].filter(i => i.src.startsWith('data:') && i.naturalWidth)"
    # Taken as they are there: the page lays out again what it has shown.
    widths = page.wait_until(f"(w => w.length >= 2 && w)({pictures}.map(i => i.naturalWidth))")
    assert len(widths) == 2
    assert min(widths) >= 600
    text = page.run("document.body.innerText")
    assert "| --- |" not in text
    assert "base64" not in text


@pytest.mark.parametrize("ui", UIS)
def test_the_run_form_explains_itself(page: Browser, form: str, ui: str) -> None:
    """The form of a deployment shows the request's fields with their sentences, and offers choices."""
    page.open(_in(ui, form), "Name of the data set to train on.", "GPU tier to train on.")
    page.wait_for("Dataset", "Budget Usd", "Stop before spending", "Rehearse against the local sandbox")
    page.wait_for("Allowed: at least 1, at most 64.")


@pytest.mark.parametrize("ui", UIS)
def test_the_run_form_asks_what_the_chosen_provider_can_be_asked(page: Browser, form: str, ui: str) -> None:
    """Every provider can be chosen by its name; its own fields come first, and those of the others go away."""
    page.open(_in(ui, form), "Name of the data set to train on.")
    for provider, own, other in (
        ("Replicate", "The model of yours that gets the new version", "GPU tier to train on."),
        ("Bluesight", "Number of classes; needed for segmentation.", "The model of yours"),
        ("PhotoGPT", "The person's age in years. Allowed: at least 18, at most 120.", "Number of classes"),
        ("Pictograph", "GPU tier to train on.", "The person's age"),
    ):
        page.click(provider)
        text = page.wait_for(own, "Stop before spending")
        assert other not in text
        assert text.index(own) < text.index("Stop before spending")


@pytest.mark.parametrize("ui", UIS)
def test_a_run_of_another_provider_is_ordered_on_the_form(
    page: Browser, form: str, ui: str, prefect_server: str
) -> None:
    """What is filled in for Bluesight arrives as its request, without anything of Pictograph's."""
    page.open(_in(ui, form), "Name of the data set to train on.")
    page.click("Bluesight")
    page.wait_for("Path of the training data: one HDF5 file of labelled tiles.")
    page.fill("Dataset", "/data/tiles.h5")
    page.click("Submit")
    wanted = {"deployments": {"id": {"any_": [form.split("/")[-2]]}}}
    (run,) = eventually(lambda: httpx.post(f"{prefect_server}/flow_runs/filter", json=wanted, timeout=30).json())
    httpx.delete(f"{prefect_server}/flow_runs/{run['id']}", timeout=30).raise_for_status()
    request = read_request(run["parameters"]["request"])
    assert request == BluesightRequest(dataset="/data/tiles.h5")


def _in(ui: str, address: str) -> str:
    return address.replace("/deployments/", f"{ui}/deployments/", 1)
