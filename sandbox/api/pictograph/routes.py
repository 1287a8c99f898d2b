"""The emulated Pictograph API: its routes under the vendor's prefix."""

from fastapi import APIRouter

from sandbox.api.pictograph import credits as pictograph_credits
from sandbox.api.pictograph import datasets as pictograph_datasets
from sandbox.api.pictograph import exports as pictograph_exports
from sandbox.api.pictograph import jobs as pictograph_jobs
from sandbox.api.pictograph import models as pictograph_models
from sandbox.api.pictograph import training as pictograph_training

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
