"""The control API under /_sandbox: accounts, data, faults, request log and bill; from this machine only."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from sqlalchemy import select

from sandbox import billing, documents, lifecycle
from sandbox.accounts import (
    Account,
    AccountConflictError,
    change_settings,
    create_account,
    find_by_key,
    reset_account,
)
from sandbox.builtin import BuiltIn, generate
from sandbox.catalog import add_dataset
from sandbox.core import Sandbox, put_bytes
from sandbox.datasets import DataError, LabelledImage
from sandbox.engines import UPLOADS, advance
from sandbox.faults import FaultRule, add_fault, clear_faults, list_faults
from sandbox.layouts.reading import read_data
from sandbox.runs import find_run
from sandbox.settings import AccountSettings
from sandbox.store import every, requests
from sandbox.vendors import settle_all

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def _local_only(request: Request) -> None:
    """Refuse other machines, and pages in a browser that reach us under a name of their own."""
    client = request.client.host if request.client else ""
    if client not in LOOPBACK or request.url.hostname not in LOOPBACK:
        raise HTTPException(403, "the control API answers this machine only")


def _sandbox(request: Request) -> Sandbox:
    sandbox: Sandbox = request.app.state.sandbox
    return sandbox


def _found(request: Request) -> Account:
    sandbox, key = _sandbox(request), request.headers.get("x-api-key", "")
    with sandbox.store.read() as tx:
        account = find_by_key(tx, key)
    if account is None:
        raise HTTPException(404, "no account has this key: send an account's key as X-API-Key")
    return account


def _account(request: Request) -> Account:
    account = _found(request)
    settle_all(_sandbox(request), account)
    return account


router = APIRouter(prefix="/_sandbox", dependencies=[Depends(_local_only)])
Home = Annotated[Sandbox, Depends(_sandbox)]
Mine = Annotated[Account, Depends(_account)]
"""The caller's account, its scripted runs brought up to date."""
AsItIs = Annotated[Account, Depends(_found)]
"""The caller's account untouched: what puts a run right must not have to bring it up to date first."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewAccount(_Body):
    """Settings of a new account, and its first balance in the unit of its billing model."""

    settings: AccountSettings = AccountSettings()
    balance: int | None = None
    api_key: str | None = Field(default=None, min_length=8)


class Money(_Body):
    """A balance to set, or an amount to add."""

    set_to: int | None = None
    add: int = 0


class NewDataset(_Body):
    """A dataset to generate like one of the built-in ones, or to read from a folder or ZIP of this machine."""

    name: str
    kind: BuiltIn = "road-signs"
    count: int | None = Field(default=None, ge=0, le=10_000)
    seed: int = Field(default=0, ge=0)
    size: int | None = Field(default=None, ge=32, le=1024)
    single: bool = False
    folder: Path | None = None
    cold: bool = False

    @model_validator(mode="after")
    def _only_signs_are_drawn_singly(self) -> Self:
        if self.single and not self.kind.startswith("road-signs"):
            raise ValueError(f"single is for road signs: leave it out for {self.kind!r}")
        return self

    def images(self) -> list[LabelledImage]:
        """Generate the images.

        Raises:
            DataError: They cannot be made on this machine.
        """
        kind: BuiltIn = "road-signs-classes" if self.single else self.kind
        return generate(kind, count=self.count, seed=self.seed, size=self.size)


class Ticks(_Body):
    """How far to move a manually scripted run."""

    ticks: int = Field(default=1, ge=1)


@router.get("/health")
def health(sandbox: Home) -> dict[str, Any]:
    """Say that the server answers, and which one it is."""
    return {"status": "ok", "pid": os.getpid(), "home": str(sandbox.home)}


@router.post("/accounts", status_code=201)
def new_account(sandbox: Home, body: NewAccount) -> dict[str, Any]:
    """Add an account and answer its key."""
    try:
        account = create_account(sandbox, body.settings, balance=body.balance, api_key=body.api_key)
    except AccountConflictError as error:
        raise HTTPException(409, str(error)) from error
    return {"api_key": account.api_key, "id": account.id, "organization_id": account.organization_id}


@router.get("/account")
def get_account(account: Mine) -> dict[str, Any]:
    """Answer an account's settings."""
    return {"id": account.id, "settings": account.settings.model_dump(mode="json")}


@router.patch("/account")
def patch_account(sandbox: Home, account: AsItIs, changes: dict[str, Any]) -> dict[str, Any]:
    """Change some settings of an account."""
    try:
        with sandbox.store.write() as tx:
            changed = change_settings(tx, account, changes)
    except ValidationError as error:
        raise HTTPException(422, json.loads(error.json(include_url=False, include_context=False))) from error
    except AccountConflictError as error:
        raise HTTPException(409, str(error)) from error
    return {"id": changed.id, "settings": changed.settings.model_dump(mode="json")}


@router.post("/reset", status_code=204)
def reset(sandbox: Home, account: AsItIs) -> None:
    """Forget everything an account did; key and settings stay, the balance is the default one again."""
    reset_account(sandbox, account)
    for suffix in (".onnx", ".json"):
        (sandbox.home / UPLOADS / f"{account.id}{suffix}").unlink(missing_ok=True)
    sandbox.wake.set()


@router.post("/datasets", status_code=201)
def new_dataset(sandbox: Home, account: Mine, body: NewDataset) -> dict[str, Any]:
    """Add a dataset, or replace the images of one."""
    about: dict[str, Any] = {}
    try:
        if body.folder is not None:
            found = read_data(body.folder)
            images, about = list(found.images), {"layout": found.layout, "notices": list(found.notices)}
        else:
            images = body.images()
        row = add_dataset(sandbox, account, body.name, images, cold=body.cold)
    except DataError as error:
        raise HTTPException(422, str(error)) from error
    return {**{key: row[key] for key in ("id", "name", "image_count", "completed_image_count")}, **about}


@router.post("/balance")
def set_balance(sandbox: Home, account: Mine, body: Money) -> dict[str, Any]:
    """Change an account's balance, with a ledger entry."""
    with sandbox.store.write() as tx:
        known = billing.balance_of(tx, account)
        amount = body.add + (body.set_to - known if body.set_to is not None else 0)
        billing.post(tx, account, "top_up", amount, at_s=sandbox.clock.now_s())
    return {"balance": known + amount, "unit": account.settings.billing}


@router.post("/runs/{ref}/advance")
def advance_run(sandbox: Home, account: Mine, ref: str, body: Ticks | None = None) -> dict[str, Any]:
    """Move a manually scripted run, or another vendor's training, on and answer its state."""
    with sandbox.store.write() as tx:
        run = find_run(tx, account, ref)
        training = documents.find_training(tx, account, ref) if run is None else None
        if run is not None and run["engine"] == "scripted":
            advance(tx, run, (body or Ticks()).ticks)
        elif training is not None and lifecycle.is_scripted(training):
            documents.tick(tx, training, (body or Ticks()).ticks)
        else:
            raise HTTPException(404, f"no scripted run {ref!r}")
    settle_all(sandbox, account)
    with sandbox.store.read() as tx:
        if training is not None:
            training = documents.reload(tx, training)
            return {"id": training["id"], "status": training["status"], "progress": None}
        run = find_run(tx, account, ref) or run
    return {"id": run["id"], "status": run["status"], "progress": run["progress"]} if run else {}


@router.put("/model")
async def put_model(
    request: Request, account: AsItIs, classes: str = "", architecture: str = "", side: int = 0
) -> dict[str, Any]:
    """Keep a file as the weights of this account's scripted runs; classes are separated by commas."""
    content = await request.body()
    about: dict[str, Any] = {"classes": [name for name in classes.split(",") if name], "side": side}
    if architecture:
        about["architecture"] = architecture
    folder = _sandbox(request).home / UPLOADS
    put_bytes(folder / f"{account.id}.json", json.dumps(about).encode())
    put_bytes(folder / f"{account.id}.onnx", content)
    return {"size_bytes": len(content)}


@router.get("/requests")
def request_log(sandbox: Home, account: Mine, after: int = 0, limit: int = 1000) -> dict[str, Any]:
    """Answer an account's requests in order; `after` is the last seq already seen."""
    query = select(requests).where(requests.c.account_id == account.id, requests.c.seq > after)
    with sandbox.store.read() as tx:
        rows = every(tx, query.order_by(requests.c.seq).limit(limit))
    return {"requests": [{key: value for key, value in row.items() if key != "account_id"} for row in rows]}


@router.get("/bill")
def bill(sandbox: Home, account: Mine) -> dict[str, Any]:
    """Answer what an account started, was charged and got back."""
    with sandbox.store.read() as tx:
        return billing.bill(tx, account)


@router.post("/faults", status_code=201)
def new_fault(sandbox: Home, account: Mine, rule: FaultRule) -> dict[str, Any]:
    """Add a fault rule for an account's requests."""
    with sandbox.store.write() as tx:
        return {"id": add_fault(tx, account, rule)}


@router.get("/faults")
def get_faults(sandbox: Home, account: Mine) -> dict[str, Any]:
    """Answer an account's fault rules and how often they struck."""
    with sandbox.store.read() as tx:
        return {"faults": list_faults(tx, account)}


@router.delete("/faults")
def delete_faults(sandbox: Home, account: Mine, fault_id: str | None = None) -> dict[str, Any]:
    """Remove one fault rule, or all of an account."""
    with sandbox.store.write() as tx:
        return {"removed": clear_faults(tx, account, fault_id)}
