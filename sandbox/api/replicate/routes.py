"""The emulated Replicate API: its routes."""

from fastapi import APIRouter

from sandbox.api.replicate import account as replicate_account
from sandbox.api.replicate import files as replicate_files
from sandbox.api.replicate import models as replicate_models
from sandbox.api.replicate import predictions as replicate_predictions
from sandbox.api.replicate import trainings as replicate_trainings

router = APIRouter()
for part in (replicate_trainings, replicate_predictions, replicate_models, replicate_files, replicate_account):
    router.include_router(part.router)
