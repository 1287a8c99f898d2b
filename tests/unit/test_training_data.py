"""Training data on this machine, read in the place of an export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.data.training_data import inspect_data
from pipeline.errors import ConfigurationError, ExportRejectedError
from pipeline.local_requests import BluesightRequest, PhotogptRequest, ReplicateRequest
from pipeline.models import ExportReport, ModelTask, Operation, TrainPlan
from pipeline.requests import TrainRequest
from pipeline.start.planning import resolve_plan
from tests.unit.conftest import FakeClock, FakeProvider, annotation, make_archive, make_profile, make_zip
from tests.unit.portrait_folders import fill
from tests.unit.tile_files import make_tiles, write_tiles

TRAINER = "acme/trainer:" + "0" * 64
TASKS = {
    "archive": {"yolox": ModelTask.OBJECT_DETECTION},
    "tiles": {"classification": ModelTask.CLASSIFICATION, "segmentation": ModelTask.SEMANTIC_SEGMENTATION},
    "pictures": {"portrait": ModelTask.IMAGE_GENERATION},
}


def _plan(data: str, request: TrainRequest, **facts: Any) -> TrainPlan:
    profile = make_profile(name=request.provider, data=data, pipelines=TASKS[data], gpus=(), **facts)
    return resolve_plan(request, profile, Operation(id="op-1"))


def _inspect(plan: TrainPlan) -> ExportReport:
    """Inspect it without a provider: nothing is asked about data that lies here."""
    return inspect_data(FakeProvider(), plan, FakeClock())  # type: ignore[arg-type]


def _archive(tmp_path: Path, count: int = 6) -> ReplicateRequest:
    path = tmp_path / "signs.zip"
    path.write_bytes(make_zip(make_archive(*(annotation(f"p{number}.png", "stop") for number in range(count)))))
    return ReplicateRequest(
        dataset=str(path), trainer=TRAINER, destination="acme/signs", output_dir=tmp_path / "runs", samples=3
    )


def test_an_archive_is_counted_and_gives_samples(tmp_path: Path) -> None:
    """Classes, counts, fingerprint and pictures as of an export, though nobody else has counted them."""
    report = _inspect(_plan("archive", _archive(tmp_path)))
    assert (report.export.name, report.export.image_count, report.export.annotation_count) == ("signs", 6, 6)
    assert [(count.name, count.objects) for count in report.classes] == [("stop", 6)]
    assert len(report.samples) == 3
    assert all(sample.path.is_file() for sample in report.samples)


def test_an_archive_of_too_few_pictures_is_refused(tmp_path: Path) -> None:
    """As an export would be, before anything is uploaded."""
    with pytest.raises(ExportRejectedError, match="holds 4 images"):
        _inspect(_plan("archive", _archive(tmp_path, count=4)))


def test_an_archive_that_is_none_is_refused(tmp_path: Path) -> None:
    """By its name."""
    request = _archive(tmp_path)
    Path(request.dataset).write_bytes(b"not a zip")
    with pytest.raises(ExportRejectedError, match=r"'signs'.*ZIP"):
        _inspect(_plan("archive", request))


@pytest.mark.parametrize(
    ("data", "request_"),
    [
        ("archive", ReplicateRequest(dataset="gone.zip", trainer=TRAINER, destination="acme/signs")),
        ("tiles", BluesightRequest(dataset="gone.h5")),
        ("pictures", PhotogptRequest(dataset="gone", age=30, gender="Male")),
    ],
)
def test_data_that_is_not_there_is_named(data: str, request_: TrainRequest) -> None:
    """With the field to change."""
    with pytest.raises(ConfigurationError, match="dataset='gone") as caught:
        _inspect(_plan(data, request_))
    assert caught.value.context.field == "dataset"


def test_tiles_are_checked_with_those_to_validate_on(tmp_path: Path) -> None:
    """A bad validation file is found as early as a bad training file, and named as such."""
    good = write_tiles(tmp_path / "tiles.h5", make_tiles())
    report = _inspect(_plan("tiles", BluesightRequest(dataset=str(good), validation=str(good))))
    assert report.export.name == "tiles"
    assert report.export.image_count
    bad = tmp_path / "bad.h5"
    bad.write_bytes(b"not HDF5")
    with pytest.raises(ExportRejectedError, match="validation"):
        _inspect(_plan("tiles", BluesightRequest(dataset=str(good), validation=str(bad))))


def test_pictures_are_counted(tmp_path: Path) -> None:
    """A folder of twelve can be trained on."""
    folder = fill(tmp_path / "faces", 12)
    report = _inspect(_plan("pictures", PhotogptRequest(dataset=str(folder), age=30, gender="Male")))
    assert (report.export.name, report.export.image_count) == ("faces", 12)
