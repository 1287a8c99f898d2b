"""Liveness of the emulated PhotoGPT API."""

from fastapi import APIRouter

from sandbox.api.photogpt.call import Caller, Json, PhotogptRoute

router = APIRouter(route_class=PhotogptRoute)


@router.get("/ping")
def ping(call: Caller) -> Json:
    """Say that the key is good and the API answers; there is no result."""
    return {"message": "pong!", "status": "OK"}
