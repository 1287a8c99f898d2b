"""The emulated Pictograph API: its routes under the vendor's prefix."""

from fastapi import APIRouter

from sandbox.api import (
    pictograph_credits,
    pictograph_datasets,
    pictograph_exports,
    pictograph_jobs,
    pictograph_models,
    pictograph_training,
)

PREFIX = "/api/v1/developer"

router = APIRouter(prefix=PREFIX)
for part in (
    pictograph_credits,
    pictograph_datasets,
    pictograph_exports,
    pictograph_training,
    pictograph_models,
    pictograph_jobs,
):
    router.include_router(part.router)
