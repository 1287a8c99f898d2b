"""The emulated PhotoGPT API: its routes under the vendor's prefix, and the addresses of pictures."""

from fastapi import APIRouter

from sandbox.api.photogpt import generation as photogpt_generation
from sandbox.api.photogpt import images as photogpt_images
from sandbox.api.photogpt import jobs as photogpt_jobs
from sandbox.api.photogpt import models as photogpt_models
from sandbox.api.photogpt import ping as photogpt_ping

PREFIX = "/api"

router = APIRouter()
for part in (
    photogpt_ping.router,
    photogpt_models.router,
    photogpt_images.of_models,
    photogpt_images.router,
    photogpt_generation.router,
    photogpt_jobs.router,
):
    router.include_router(part, prefix=PREFIX)
router.include_router(photogpt_images.addresses)
