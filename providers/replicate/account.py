"""The token's account, and what there is once for an account. Source: OpenAPI 1.0.0-a1, checked 2026-11-20."""

from __future__ import annotations

from pydantic import SecretStr

from providers.replicate.session import ReplicateSession, get
from providers.replicate.wire import AccountWire, HardwareWire, SecretWire


class Accounts:
    """The account; the API shows neither a balance nor a price."""

    def __init__(self, session: ReplicateSession) -> None:
        self._session = session

    def get(self) -> AccountWire:
        """Return the account; the cheapest check of a token.

        Raises:
            AuthenticationError: The token is not accepted.
        """
        return self._session.read(get("account.get", "/v1/account"), AccountWire)

    def hardware(self) -> tuple[HardwareWire, ...]:
        """Return the hardware models can be made for."""
        return self._session.read_rows(get("hardware.list", "/v1/hardware"), HardwareWire)

    def webhook_secret(self) -> SecretStr:
        """Return the secret that this account's webhook deliveries are signed with."""
        return SecretStr(self._session.read(get("webhooks.secret", "/v1/webhooks/default/secret"), SecretWire).key)
