"""The emulated Replicate API: its routes."""

from fastapi import APIRouter

router = APIRouter()
