"""The stages around a model hand on what was asked of it, and say what was found beside it."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Any

import pytest

from pipeline.smoke.judging import SmokeOptions
from tasks import collection, smoke
from tests.unit.conftest import make_plan, make_run
from tests.unit.dossiers import make_artifact, make_finding, make_smoke


@pytest.mark.parametrize(("config", "asked"), [({"image_size": 320}, (320, 320)), ({}, None)])
def test_the_smoke_test_knows_the_size_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, int], asked: tuple[int, int] | None
) -> None:
    """A graph that leaves its size open is fed the one it was trained for."""
    seen: list[dict[str, Any]] = []

    def judge(*_: object, **options: Any) -> object:
        seen.append(options)
        return make_smoke()

    monkeypatch.setattr(smoke, "smoke_test", judge)
    smoke.smoke_test_model.fn(make_plan(config=config), None, make_artifact())
    assert seen[0]["options"] == SmokeOptions(asked_size=asked)


def test_what_was_found_beside_a_model_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before it is tried: what it is refused for may have its reason there."""
    artifact = make_artifact().model_copy(update={"findings": (make_finding("it is another task's"),)})
    monkeypatch.setattr(collection, "open_provider", lambda _: nullcontext())
    monkeypatch.setattr(collection, "fetch_model", lambda *_: artifact)
    with caplog.at_level(logging.INFO, "train_pipeline"):
        assert collection.download_model.fn(make_plan(), make_run()) == artifact
    assert [record.message for record in caplog.records if record.levelno == logging.WARNING] == [
        "it is another task's"
    ]
