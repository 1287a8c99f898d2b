"""Which accounts a sweep is about, and what came of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.journal.records import OperationRecord
from pipeline.requests import ProviderName, SweepRequest, refused
from pipeline.sweep.mending import Mended


@dataclass(frozen=True)
class Swept:
    """What came of looking after one account."""

    account: SweepRequest
    """The request, with the account's provider and credentials in it."""
    mended: tuple[Mended, ...] = ()
    """What was done about each of its trainings."""
    trouble: str | None = None
    """Why it could not be looked after; none when it was."""

    @property
    def title(self) -> str:
        """The account for people."""
        block = self.account.credentials
        return f"{self.account.provider}" + (f" ({block})" if block is not None else "")


def accounts_of(
    request: SweepRequest, records: Iterable[OperationRecord], with_keys: Iterable[ProviderName]
) -> tuple[SweepRequest, ...]:
    """Return a request for each account: the one that is named, or those with a key and those with something open.

    Args:
        request: What is asked.
        records: Every open attempt of the journal.
        with_keys: Providers whose key the environment holds.

    Raises:
        ConfigurationError: Credentials are named without their provider.
    """
    if request.provider is not None:
        return (request,)
    if request.credentials is not None:
        raise refused("credentials", "credentials names a block of one provider's: name the provider as well")
    asked = [record.request for record in records if record.sandbox is request.sandbox]
    opened = [(one.provider, None if request.sandbox else one.credentials) for one in asked]
    every = dict.fromkeys([*((name, None) for name in with_keys), *opened])
    return tuple(request.model_copy(update={"provider": name, "credentials": block}) for name, block in every)
