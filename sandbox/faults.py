"""Fault rules: what goes wrong, for which requests of an account, and how often."""

import re
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from sqlalchemy import Connection, delete, insert, select, update

from sandbox.accounts import Account
from sandbox.core import new_id
from sandbox.setting import Setting
from sandbox.store import Row, every, faults

Action = Literal["status", "body", "reset", "close", "stall", "truncate", "bitflip", "headers", "ignore_range"]

_MADE_UP = ("status", "body")
_IN_MID_BODY = ("truncate", "bitflip", "reset", "close", "stall")


class FaultRule(Setting):
    """One thing that goes wrong for the requests it matches."""

    method: str = "*"
    """HTTP method, or * for any."""
    path: str = ".*"
    """Regular expression searched in the path, storage paths included."""
    stage: Literal["before", "after"] = "before"
    """Before the request has any effect, or after its effect with the answer lost."""
    action: Action
    """What happens; truncate, bitflip, headers and ignore_range spoil the real answer, whatever the stage."""
    status: int | None = Field(default=None, ge=200, le=599)
    """Status of the made-up answer: 503 for action status and 200 for action body when absent."""
    retry_after: str | None = None
    """Retry-After header, sent as written: seconds or an HTTP date."""
    headers: dict[str, str | None] = Field(default_factory=dict)
    """Headers to set on the answer; null removes one."""
    body: str | None = None
    """Body of the actions status and body; a JSON error by default for status, no JSON for body."""
    seconds: float = Field(default=5.0, ge=0, le=3600)
    """How long a stall lasts."""
    after_bytes: int | None = Field(default=None, ge=0)
    """Body bytes sent before a truncate, reset, close or stall; which byte a bitflip changes. Half when absent."""
    times: int | None = Field(default=1, ge=1)
    """How often it happens; null for ever."""
    skip: int = Field(default=0, ge=0)
    """Matching requests let through first."""

    @field_validator("path")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"path {value!r} is no regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _says_nothing_idle(self) -> Self:
        """Refuse combinations that would count as struck without anything going wrong."""
        made_up = {"status": self.status, "body": self.body, "retry_after": self.retry_after}
        idle = [name for name, value in made_up.items() if value is not None and self.action not in _MADE_UP]
        if self.after_bytes is not None and self.action not in _IN_MID_BODY:
            idle.append("after_bytes")
        if idle:
            raise ValueError(f"action {self.action!r} has no use for {' and '.join(idle)}: leave it out")
        if self.action == "headers" and not self.headers:
            raise ValueError("action 'headers' needs headers to set or to remove")
        return self

    def matches(self, method: str, path: str) -> bool:
        """Whether the rule speaks about this request."""
        return self.method.upper() in ("*", method.upper()) and re.search(self.path, path) is not None

    @property
    def is_in_mid_body(self) -> bool:
        """Whether the fault strikes the body of the real answer, and nothing when there is none."""
        return self.action in ("truncate", "bitflip") or self.after_bytes is not None

    @property
    def needs_answer(self) -> bool:
        """Whether the real answer is produced before the fault shows."""
        spoils = self.action in ("truncate", "bitflip", "headers", "ignore_range")
        return spoils or self.stage == "after" or self.after_bytes is not None


@dataclass(frozen=True)
class Due:
    """A rule that strikes a request, and its number in the store."""

    seq: int
    rule: FaultRule


def add_fault(tx: Connection, account: Account, rule: FaultRule) -> str:
    """Store a rule for an account and return its id."""
    fault_id = new_id()
    tx.execute(insert(faults).values(id=fault_id, account_id=account.id, rule=rule.model_dump(), seen=0, hits=0))
    return fault_id


def list_faults(tx: Connection, account: Account) -> list[dict[str, Any]]:
    """Return an account's rules in order, with how often each matched and struck."""
    rows = every(tx, select(faults).where(faults.c.account_id == account.id).order_by(faults.c.seq))
    return [{"id": row["id"], "seen": row["seen"], "hits": row["hits"], "rule": row["rule"]} for row in rows]


def clear_faults(tx: Connection, account: Account, fault_id: str | None = None) -> int:
    """Remove one rule, or all of an account, and return how many went."""
    query = delete(faults).where(faults.c.account_id == account.id)
    return tx.execute(query if fault_id is None else query.where(faults.c.id == fault_id)).rowcount


def strike(tx: Connection, account: Account, method: str, path: str) -> Due | None:
    """Count this request against the account's rules and return the first that is due."""
    query = select(faults).where(faults.c.account_id == account.id).order_by(faults.c.seq)
    for row in every(tx, query):
        rule = FaultRule.model_validate(row["rule"])
        if not rule.matches(method, path) or _is_spent(row, rule):
            continue
        due = row["seen"] >= rule.skip
        values = {"seen": row["seen"] + 1, "hits": row["hits"] + due}
        tx.execute(update(faults).where(faults.c.seq == row["seq"]).values(values))
        if due:
            return Due(row["seq"], rule)
    return None


def give_back(tx: Connection, due: Due) -> None:
    """Take a strike back that found nothing to spoil; the next request that matches is struck instead."""
    tx.execute(update(faults).where(faults.c.seq == due.seq).values(hits=faults.c.hits - 1))


def _is_spent(row: Row, rule: FaultRule) -> bool:
    return rule.times is not None and row["hits"] >= rule.times
