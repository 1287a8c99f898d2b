"""The weights a trainer returned: read from wherever the provider keeps them, which wants the key at some places."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import httpx
from pydantic import SecretStr

from pipeline.errors import ErrorContext, NotFoundError
from pipeline.provider import ByteStream, ResumePoint
from providers.calls import ClientOptions
from providers.replicate.trainings import Trainings
from providers.storage import SignedStorage

DELIVERY_DOMAIN = "replicate.delivery"
"""Where output files are, on this domain and those below it."""


@dataclass(frozen=True)
class KeyRule:
    """Who may be sent the key: the API itself, and for a hosted account the vendor's own domain for files."""

    base_url: str
    """The API's address."""
    hosted: bool
    """False for the sandbox, whose key goes to the sandbox alone."""

    def allows(self, url: httpx.URL) -> bool:
        """Tell whether an address may be asked with the key."""
        api = httpx.URL(self.base_url)
        if (url.scheme, url.host, _port(url)) == (api.scheme, api.host, _port(api)):
            return True
        delivers = url.host == DELIVERY_DOMAIN or url.host.endswith(f".{DELIVERY_DOMAIN}")
        return self.hosted and delivers and url.scheme == "https" and _port(url) == 443


def _port(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


class Weights:
    """Reads the weights of trainings."""

    def __init__(
        self,
        trainings: Trainings,
        api_key: SecretStr,
        options: ClientOptions,
        rule: KeyRule,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        def headers_for(url: httpx.URL) -> dict[str, str]:
            return {"Authorization": f"Bearer {api_key.get_secret_value()}"} if rule.allows(url) else {}

        self._trainings = trainings
        self._storage = SignedStorage(
            require_https=options.base_url.startswith("https:"),
            timeout_s=options.timeout_s,
            transport=transport or options.transport,
            headers_for=headers_for,
        )

    def close(self) -> None:
        """Release connections."""
        self._storage.close()

    @contextmanager
    def open(self, run_id: str, resume: ResumePoint | None = None) -> Iterator[ByteStream]:
        """Open the weights of a training, at the address it names now, from ``resume`` on where the storage can.

        Raises:
            NotFoundError: They are not there any more.
        """
        try:
            with self._storage.open(lambda: self._address(run_id), f"weights of training {run_id!r}", resume) as stream:
                yield stream
        except NotFoundError as error:
            raise NotFoundError(gone(run_id, error.message), replace(error.context, run_id=run_id)) from error

    def _address(self, run_id: str) -> str:
        address = self._trainings.get(run_id).weights
        if address is None:
            raise NotFoundError("the training names none", ErrorContext(operation="models.download", run_id=run_id))
        return address


def gone(run_id: str, reason: str) -> str:
    """Return the sentence about weights that are not there."""
    return (
        f"The weights of training {run_id!r} are not there ({reason}): outputs may be removed an hour after the run, "
        f"while the version it pushed stays at its destination. Use it there, or train again."
    )
