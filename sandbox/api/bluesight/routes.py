"""The emulated Bluesight API: its routes."""

from typing import Any

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi

from sandbox.api.bluesight import jobs as bluesight_jobs
from sandbox.api.bluesight import storage as bluesight_storage
from sandbox.api.bluesight.call import BluesightRoute

router = APIRouter(route_class=BluesightRoute)


@router.get("/")
def welcome() -> dict[str, str]:
    """Say that the server is there."""
    return {"message": "Welcome to Bluesight API! This is the sandbox's emulation of it."}


@router.get("/openapi.json", include_in_schema=False)
def openapi() -> dict[str, Any]:
    """Describe the routes, without authentication and with a 422 that no route answers, as the vendor does."""
    return get_openapi(title="FastAPI", version="0.1.0", routes=router.routes)


for part in (bluesight_storage, bluesight_jobs):
    router.include_router(part.router)
