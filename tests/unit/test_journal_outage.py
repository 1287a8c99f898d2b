"""A journal that goes away while a paid run is watched ends nothing: what is written then is best effort."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.models import TrainPlan
from tasks import journal
from tests.unit.conftest import make_plan, make_run
from tests.unit.dossiers import make_dossier


@pytest.fixture
def gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainPlan:
    """The plan of a run whose journal's folder has become a file."""
    (tmp_path / "taken").write_text("not a folder")
    monkeypatch.setenv("TRAIN_PIPELINE_JOURNAL", str(tmp_path / "taken" / "journal.db"))
    return make_plan()


WRITINGS: dict[str, tuple[Callable[[TrainPlan], None], str]] = {
    "completed": (journal.note_completed, "the run goes on"),
    "to be cancelled": (journal.note_cancel, "the provider is asked all the same"),
    "cancelled": (journal.note_cancelled, "the run has ended at the provider all the same"),
    "failed": (lambda plan: journal.close_failed(plan, make_run()), "still reads as open there"),
    "closed": (lambda _: journal.close_operation(make_dossier()), "still reads as open there"),
}


@pytest.mark.parametrize(("write", "said"), WRITINGS.values(), ids=WRITINGS)
def test_what_cannot_be_written_down_is_said(
    write: Callable[[TrainPlan], None], said: str, gone: TrainPlan, caplog: pytest.LogCaptureFixture
) -> None:
    """The cancel still reaches the provider, the model is still collected, and a line says what is missing where."""
    write(gone)
    (line,) = caplog.messages
    assert "TRAIN_PIPELINE_JOURNAL" in line
    assert said in line


def test_what_cannot_be_read_is_not_known(gone: TrainPlan) -> None:
    """Neither price nor deadline: the watch goes on without them."""
    deferred = make_plan(wait="defer")
    assert (journal.known_cost(gone), journal.deadline_of(gone), journal.watched_before_s(deferred)) == (
        None,
        None,
        0.0,
    )


def test_nothing_is_begun_without_it(gone: TrainPlan) -> None:
    """Where something is about to be paid for it is asked, and its absence is an error that names the variable."""
    assert gone
    with pytest.raises(PipelineError, match="TRAIN_PIPELINE_JOURNAL"):
        journal.opened_journal()
