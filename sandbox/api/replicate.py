"""The emulated Replicate API: its routes."""

from fastapi import APIRouter

from sandbox.api import (
    replicate_account,
    replicate_files,
    replicate_models,
    replicate_predictions,
    replicate_trainings,
)

router = APIRouter()
for part in (replicate_trainings, replicate_predictions, replicate_models, replicate_files, replicate_account):
    router.include_router(part.router)
