"""Accounts: an API key, an organisation and how the sandbox behaves towards it."""

import secrets
import shutil
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from sandbox.core import Sandbox, new_id
from sandbox.settings import DEFAULT_BALANCE, AccountSettings
from sandbox.store import (
    ACCOUNT_TABLES,
    Row,
    accounts,
    datasets,
    documents,
    every,
    first,
    ledger,
    models,
    runs,
    versions,
)

KEY_PREFIX = "pk_live_sandbox_"
PUBLIC_KEY = "bluesight-public"
"""Key under which the control API finds the account that Bluesight's callers without a key share; no vendor's token."""


class AccountConflictError(ValueError):
    """What was asked of an account contradicts what is there already."""


@dataclass(frozen=True)
class Account:
    """One account as the handlers see it."""

    id: str
    api_key: str
    organization_id: str
    settings: AccountSettings


def create_account(
    sandbox: Sandbox, settings: AccountSettings, *, balance: int | None = None, api_key: str | None = None
) -> Account:
    """Add an account with a fresh key; the balance is in the unit of its billing model.

    Raises:
        AccountConflictError: Another account has the given key.
    """
    try:
        with sandbox.store.write() as tx:
            return add_account(sandbox, tx, settings, balance=balance, api_key=api_key)
    except IntegrityError:  # from None: its text holds the key
        raise AccountConflictError("another account has this api_key: leave it out, or give another one") from None


def shared_account(sandbox: Sandbox, tx: Connection) -> Account:
    """Return the account of callers who need no key, making it on first use."""
    return find_by_key(tx, PUBLIC_KEY) or add_account(sandbox, tx, AccountSettings(), balance=None, api_key=PUBLIC_KEY)


def add_account(
    sandbox: Sandbox, tx: Connection, settings: AccountSettings, *, balance: int | None, api_key: str | None
) -> Account:
    """Add an account in the caller's transaction.

    Raises:
        sqlalchemy.exc.IntegrityError: Another account has the given key; the message holds it.
    """
    account = Account(new_id(), api_key or KEY_PREFIX + secrets.token_urlsafe(24), new_id(), settings)
    values = {
        "id": account.id,
        "api_key": account.api_key,
        "organization_id": account.organization_id,
        "settings": settings.model_dump(mode="json"),
        "balance": DEFAULT_BALANCE[settings.billing] if balance is None else balance,
        "created_at": sandbox.clock.now_s(),
    }
    tx.execute(insert(accounts).values(values))
    return account


def find_by_key(tx: Connection, api_key: str) -> Account | None:
    """Return the account of an API key."""
    return _account(first(tx, select(accounts).where(accounts.c.api_key == api_key)))


def find_account(tx: Connection, account_id: str) -> Account | None:
    """Return the account of an id."""
    return _account(first(tx, select(accounts).where(accounts.c.id == account_id)))


def change_settings(tx: Connection, account: Account, changes: dict[str, Any]) -> Account:
    """Change some settings; the rest stay as they are.

    Raises:
        pydantic.ValidationError: A setting is unknown or its value is not allowed.
        AccountConflictError: The billing model is to change after money was counted in the old one.
    """
    settings = AccountSettings.model_validate({**account.settings.model_dump(), **changes})
    if settings.billing != account.settings.billing and _has_books(tx, account):
        raise AccountConflictError(
            f"the account's books are in {account.settings.billing}: reset the account before changing its billing"
        )
    values = {"settings": settings.model_dump(mode="json")}
    tx.execute(update(accounts).where(accounts.c.id == account.id).values(values))
    return Account(account.id, account.api_key, account.organization_id, settings)


def _has_books(tx: Connection, account: Account) -> bool:
    """Whether anything was counted in the account's unit; a run is, before its first ledger entry."""
    tables = (ledger, runs, documents)
    return any(first(tx, select(table.c.seq).where(table.c.account_id == account.id)) for table in tables)


def reset_account(sandbox: Sandbox, account: Account) -> None:
    """Forget everything the account did, files included; its key and settings stay."""
    with sandbox.store.write() as tx:
        kept = every(tx, select(datasets.c.id).where(datasets.c.account_id == account.id))
        owned = select(models.c.id).where(models.c.account_id == account.id)
        tx.execute(delete(versions).where(versions.c.model_id.in_(owned)))
        for table in ACCOUNT_TABLES:
            tx.execute(delete(table).where(table.c.account_id == account.id))
        fresh = DEFAULT_BALANCE[account.settings.billing]
        tx.execute(update(accounts).where(accounts.c.id == account.id).values(balance=fresh))
    for dataset in kept:
        sandbox.images_path(dataset["id"]).unlink(missing_ok=True)
    shutil.rmtree(sandbox.objects / account.id, ignore_errors=True)


def _account(row: Row | None) -> Account | None:
    if row is None:
        return None
    settings = AccountSettings.model_validate(row["settings"])
    return Account(row["id"], row["api_key"], row["organization_id"], settings)
