"""Account, hardware and webhook secret of the emulated Replicate API."""

from typing import Any

from fastapi import APIRouter

from sandbox.api.replicate.call import Caller
from sandbox.replicate.prices import NAMES
from sandbox.replicate.webhooks import signing_secret

router = APIRouter()


@router.get("/v1/account")
def account(call: Caller) -> dict[str, Any]:
    """Answer whose token it is."""
    name = call.settings.username
    return {"type": "user", "username": name, "name": name, "github_url": None, "avatar_url": None}


@router.get("/v1/hardware")
def hardware(call: Caller) -> list[dict[str, str]]:
    """Answer what models can run on."""
    return [{"sku": sku, "name": name} for sku, name in NAMES.items()]


@router.get("/v1/webhooks/default/secret")
def webhook_secret(call: Caller) -> dict[str, str]:
    """Answer what webhooks are signed with."""
    return {"key": signing_secret(call.sandbox, call.account)}
