"""PhotoGPT's money: whole credits, taken when a job begins and given back when it fails."""

from sqlalchemy import Connection

from sandbox import billing
from sandbox.accounts import Account
from sandbox.photogpt.errors import PhotogptError
from sandbox.prices import MICRO_USD_PER_CREDIT
from sandbox.store import Row


def take(tx: Connection, account: Account, job: Row, credits: int, *, at_s: float) -> Row:
    """Take a job's price from the balance and return the job with it.

    Raises:
        PhotogptError: The balance is short; the status is the account's choice.
    """
    price = _booked(account, credits)
    if billing.spendable(tx, account) < price:
        status = account.settings.photogpt.insufficient_status
        raise PhotogptError(status, "insufficient credits", "insufficient_credits")
    return billing.charge_document(tx, account, job, price, at_s=at_s) if price else job


def give_back(tx: Connection, account: Account, job: Row, *, at_s: float) -> None:
    """Return a failed job's price to the balance."""
    left = job["charged"] - job["refunded"]
    if left:
        billing.refund_document(tx, account, job, left, at_s=at_s)


def credits_of(account: Account, job: Row) -> int:
    """Return what a job cost, in credits."""
    return int((job["charged"] - job["refunded"]) // _booked(account, 1))


def _booked(account: Account, credits: int) -> int:
    """Return credits in the unit of the account's books."""
    return credits * (MICRO_USD_PER_CREDIT if account.settings.billing == "micro_usd" else 1)
