"""A journal that goes away while a paid run is watched ends nothing: what is written then is best effort."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.models import TrainPlan
from tests.unit.conftest import make_plan, make_run
from tests.unit.dossiers import make_dossier


@pytest.fixture
def gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainPlan:
    """The plan of a run whose journal's folder has become a file."""
    (tmp_path / "taken").write_text("not a folder")
    monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", str(tmp_path / "taken" / "journal.db"))
    return make_plan()


def _writings() -> dict[str, Callable[[TrainPlan], object]]:
    from tasks import journal

    return {
        "completed": journal.note_completed,
        "to be cancelled": journal.note_cancel,
        "cancelled": journal.note_cancelled,
        "cost": journal.known_cost,
        "deadline": journal.deadline_of,
        "watched before": journal.watched_before_s,
        "failed": lambda plan: journal.close_failed(plan, make_run()),
        "closed": lambda _: journal.close_operation(make_dossier()),
    }


@pytest.mark.parametrize("what", list(_writings()))
def test_nothing_written_down_beside_the_run_raises(what: str, gone: TrainPlan) -> None:
    """The cancel still reaches the provider, the model is still collected, the flow still ends as it should."""
    _writings()[what](gone)


def test_nothing_is_begun_without_it(gone: TrainPlan) -> None:
    """Where something is about to be paid for it is asked, and its absence is an error that names the variable."""
    from pipeline.errors import PipelineError
    from tasks.journal import opened_journal

    assert gone
    with pytest.raises(PipelineError, match="TRAIN_PIPELINE_JOURNAL"):
        opened_journal()
