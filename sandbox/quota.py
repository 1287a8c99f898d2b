"""The rate limit of a request: a sliding window over the request log."""

from sqlalchemy import Connection, func, select

from sandbox.accounts import Account
from sandbox.dialects import Allowance, Quota
from sandbox.store import requests


def allowance(tx: Connection, account: Account, quota: Quota, now_s: float) -> Allowance:
    """Return what a request leaves of a quota; less than nothing means that it is over the limit."""
    mine = (requests.c.account_id == account.id, requests.c.counted, requests.c.bucket == quota.bucket)
    window = (*mine, requests.c.at > now_s - quota.window_s)
    used, oldest_s = tx.execute(select(func.count(), func.min(requests.c.at)).where(*window)).one()
    return Allowance(quota, quota.limit - used - 1, (oldest_s or now_s) + quota.window_s, now_s)
