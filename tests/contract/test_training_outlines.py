"""Objects that have only a box, given to the pipelines that learn masks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.exportzip import write_export
from sandbox.roadsigns import road_signs
from sandbox.training.run import run_job


@pytest.mark.parametrize("kind", ["rfdetr_segmentation", "detectron2", "sm_pytorch"])
@pytest.mark.parametrize("polygons", [None, ((20.0, 20.0), (30.0, 30.0))], ids=["no polygon", "a line"])
def test_boxes_train_as_masks_and_are_counted(kind: str, polygons: Any, tmp_path: Path) -> None:
    """The training ends with a model, and its warning says how many objects had no outline."""
    images = [
        replace(image, shapes=tuple(replace(shape, polygon=polygons) for shape in image.shapes))
        for image in road_signs(8, size=64)
    ]
    export = tmp_path / "export.zip"
    write_export(export, dataset="d", export="e", images=images, include_images=True)
    config = {"epochs": 1, "batch_size": 4, "image_size": 64}
    result = run_job(tmp_path, {"pipeline_type": kind, "seed": 0, "export": str(export), "config": config})
    warned = [warning for warning in result["warnings"] if warning["code"] == "shapes_without_polygon"]
    assert result["status"] == "completed"
    assert [warning["count"] for warning in warned] == [sum(len(image.shapes) for image in images)]
    assert "the whole box was taken" in warned[0]["message"]
