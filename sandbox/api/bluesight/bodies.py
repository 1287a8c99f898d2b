"""Bodies of Bluesight's calls, both ways."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, field_validator, model_validator

from sandbox.accounts import Account
from sandbox.bluesight.jobs import finished_at_s, status_of
from sandbox.core import Sandbox
from sandbox.store import Row
from sandbox.tiles import SIDE_STEP

Json = dict[str, Any]


class TaskWord(StrEnum):
    """What can be trained."""

    CLASSIFICATION = "classification"
    SEGMENTATION = "segmentation"


class Platform(StrEnum):
    """Satellites whose pictures the vendor's network knows."""

    SENTINEL_2_L2A = "sentinel-2-l2a"
    LANDSAT_C2L1 = "landsat-c2l1"
    LANDSAT_C2L2_SR = "landsat-c2l2-sr"
    NAIP = "naip"
    LINZ = "linz"
    SENTINEL_1_RTC = "sentinel-1-rtc"


class Hyperparameters(BaseModel):
    """The only one there is; others are dropped."""

    num_classes: int | None = None


class JobBody(BaseModel):
    """Order of a training."""

    task: TaskWord
    training_file: str
    validation_file: str | None = None
    hyperparameters: Hyperparameters | None = None


class Image(BaseModel):
    """One tile to label."""

    gsd: float
    bands: list[str]
    pixels: list[list[list[float]]]
    platform: Platform | None = None
    wavelengths: list[float] | None = None
    point: tuple[float, float] | None = None
    timestamp: int | None = None

    @field_validator("pixels")
    @classmethod
    def _is_square(cls, pixels: list[list[list[float]]]) -> list[list[list[float]]]:
        if not pixels or not pixels[0]:
            raise ValueError("pixels must have the shape (bands, height, width)")
        height, width = len(pixels[0]), len(pixels[0][0])
        if any(len(band) != height or any(len(row) != width for row in band) for band in pixels):
            raise ValueError("pixels must have the shape (bands, height, width)")
        if height != width:
            raise ValueError(f"Height != Width: {height} != {width}")
        if height % SIDE_STEP:
            raise ValueError(f"Height (and Width) not divisible by {SIDE_STEP}: {height}")
        return pixels

    @model_validator(mode="after")
    def _has_its_bands(self) -> "Image":
        if len(self.bands) != len(self.pixels):
            raise ValueError(f"{len(self.bands)} bands are named, pixels has {len(self.pixels)}")
        return self


class InferenceBody(BaseModel):
    """Tiles, and the model to label them."""

    model: str
    images: list[Image]


def file_view(row: Row) -> Json:
    """Return a file as it is answered."""
    return {**_only(row, "filename", "bytes"), "id": row["id"], "created_at": int(row["created_at"])}


def job_view(sandbox: Sandbox, account: Account, row: Row, *, status: str | None = None) -> Json:
    """Return a job as it is answered."""
    ended_at_s, hyperparameters = finished_at_s(row), row["data"]["hyperparameters"]
    is_echoed = account.settings.bluesight.echoes_hyperparameters
    return {
        **_only(row, "task", "training_file", "validation_file"),
        "hyperparameters": hyperparameters if is_echoed else None,
        "id": row["id"],
        "created_at": int(row["created_at"]),
        "finished_at": None if ended_at_s is None else int(ended_at_s),
        "status": status or status_of(sandbox, account, row),
        **_only(row, "error", "trained_model"),
    }


def model_view(row: Row) -> Json:
    """Return a model as it is answered."""
    created_at = int(row["created_at"])
    return {**_only(row, "task"), "id": row["id"], "created_at": created_at, **_only(row, "bytes")}


def _only(row: Row, *names: str) -> Json:
    return {name: row["data"].get(name) for name in names}
