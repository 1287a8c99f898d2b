"""Is there anything to retrain for: the comparison with the last accepted model, in words."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.journal.records import ExportContent, OperationOutcome, Owner
from pipeline.journal.rows import Intent
from pipeline.journal.store import Journal
from pipeline.local_requests import BluesightRequest, PhotogptRequest, ReplicateRequest
from pipeline.models import ClassCount, ExportReport, ModelTask, Operation, TrainPlan
from pipeline.requests import TrainConfig, TrainRequest
from pipeline.start.changes import compare_with_last, content_of, describe_changes, ingredients
from pipeline.start.planning import resolve_plan
from tests.unit.conftest import make_export, make_plan, make_profile

OWNER = Owner(host="h", pid=1, born="1", flow_run_id="f")


def _report(images: int = 6, fingerprint: str = "f" * 64, **objects: int) -> ExportReport:
    counts = tuple(ClassCount(name=name, images=count, objects=count) for name, count in objects.items())
    return ExportReport(
        export=make_export(image_count=images),
        classes=counts,
        findings=(),
        content_fingerprint=fingerprint,
        samples=(),
    )


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """A journal in which nothing is written yet."""
    return Journal(str(tmp_path / "journal.db"))


def _accept(journal: Journal, plan: TrainPlan, report: ExportReport, outcome: OperationOutcome) -> None:
    intent = Intent(
        plan=plan,
        account="a",
        body={},
        estimate=None,
        owner=OWNER,
        owner_until_s=time.time() + 60,
        content_fingerprint=ingredients(plan, report),
        content=content_of(report),
    )
    journal.intend(intent)
    journal.judged(plan.operation_key, outcome, "judged")


def test_the_same_content_is_nothing_to_train_for(journal: Journal) -> None:
    """Another night, another export, the same images and labels."""
    _accept(journal, make_plan("op-1"), _report(stop=3), OperationOutcome.ACCEPTED)
    changed, reason = compare_with_last(journal, make_plan("op-2", gpu="a100", export="another"), _report(stop=3))
    assert not changed
    assert "op-1" in reason


@pytest.mark.parametrize(
    ("plan", "report", "said"),
    [
        (make_plan("op-2"), _report(40, "0" * 64, stop=3, bus=9), "+34 images, class bus new"),
        (make_plan("op-2"), _report(6, "0" * 64, stop=3), "same counts, but other images, labels or hyperparameters"),
        (make_plan("op-2", config=TrainConfig(epochs=3)), _report(stop=3), "same counts"),
        (make_plan("op-2", pipeline="classification"), _report(stop=3), "no model of this data set and pipeline"),
        (make_plan("op-2", dataset="other"), _report(stop=3), "no model of this data set and pipeline"),
    ],
    ids=["more", "other-images", "other-config", "other-pipeline", "other-dataset"],
)
def test_what_differs_is_said(journal: Journal, plan: TrainPlan, report: ExportReport, said: str) -> None:
    """Everything a model is made of counts, and the reason is in words."""
    _accept(journal, make_plan("op-1"), _report(stop=3), OperationOutcome.ACCEPTED)
    changed, reason = compare_with_last(journal, plan, report)
    assert changed
    assert said in reason


@pytest.mark.parametrize("outcome", [OperationOutcome.REJECTED, OperationOutcome.FAILED])
def test_only_an_accepted_model_makes_retraining_needless(journal: Journal, outcome: OperationOutcome) -> None:
    """What was refused or failed is no model to rest on."""
    _accept(journal, make_plan("op-1"), _report(stop=3), outcome)
    assert compare_with_last(journal, make_plan("op-2"), _report(stop=3))[0]


def test_a_rehearsal_does_not_stand_in_for_a_hosted_model(journal: Journal) -> None:
    """The sandbox's models never keep a hosted training from happening."""
    sandbox = make_profile(sandbox=True)
    _accept(journal, make_plan("op-1", sandbox), _report(stop=3), OperationOutcome.ACCEPTED)
    assert compare_with_last(journal, make_plan("op-2"), _report(stop=3))[0]
    assert not compare_with_last(journal, make_plan("op-2", sandbox), _report(stop=3))[0]


def test_changes_are_told_briefly() -> None:
    """A few changes are named, the rest is counted."""
    before = ExportContent(images=10, objects={"stop": 5, "gone": 1})
    now = ExportContent(images=9, objects={"stop": 4, **{f"c{number}": 1 for number in range(9)}})
    assert describe_changes(before, now).startswith("-1 images, class c0 new, class c1 new")
    assert describe_changes(before, now).endswith("and 6 more changes")
    assert describe_changes(now, now) == ""
    assert describe_changes(
        ExportContent(images=None, objects={"a": 1}), ExportContent(images=3, objects={"a": 3})
    ) == ("a +2")


@pytest.mark.parametrize(
    ("request_", "change"),
    [
        (BluesightRequest(dataset="t.h5", task="segmentation", num_classes=3), {"num_classes": 4}),
        (PhotogptRequest(dataset="faces", age=30, gender="Male"), {"age": 31}),
        (
            ReplicateRequest(dataset="d.zip", trainer="a/b:" + "0" * 64, destination="a/c", inputs={"layers": [1]}),
            {"inputs": {"layers": [2]}},
        ),
        (
            ReplicateRequest(dataset="d.zip", trainer="a/b:" + "0" * 64, destination="a/c"),
            {"trainer": "a/b:" + "1" * 64},
        ),
    ],
)
def test_whatever_decides_the_model_counts_as_a_change(request_: TrainRequest, change: dict[str, Any]) -> None:
    """The same data for another model is no reason to leave the training out; another patience is none to train."""
    kinds = {request_.kind: ModelTask.CLASSIFICATION}
    profile = make_profile(name=request_.provider, pipelines=kinds, gpus=())
    one, other, patient = (
        ingredients(resolve_plan(asked, profile, Operation(id="op-1")), _report())
        for asked in (request_, request_.model_copy(update=change), request_.model_copy(update={"deadline_s": 5.0}))
    )
    assert one == patient
    assert one != other
