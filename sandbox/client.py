"""A handle on one account of a running sandbox: its key, and the control API in words."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from sandbox.launch import NO_TLS


@dataclass(frozen=True)
class SandboxAccount:
    """One account; `url` and `api_key` are what a client of the emulated API needs."""

    url: str
    api_key: str = field(repr=False)

    def control(self, method: str, path: str, **options: Any) -> Any:
        """Call the control API for this account and return its JSON.

        Raises:
            RuntimeError: It refused; the message holds its answer.
        """
        headers = {"X-API-Key": self.api_key, **options.pop("headers", {})}
        answer = httpx.request(
            method,
            f"{self.url}/_sandbox{path}",
            headers=headers,
            timeout=options.pop("timeout", 60),
            trust_env=False,
            verify=NO_TLS,
            **options,
        )
        if answer.is_error:
            raise RuntimeError(f"control call {method} {path} answered {answer.status_code}: {_reason(answer)}")
        return answer.json() if answer.content else None

    def configure(self, **settings: Any) -> dict[str, Any]:
        """Change settings of the account and return all of them."""
        return dict(self.control("PATCH", "/account", json=settings)["settings"])

    def add_dataset(self, name: str, **choices: Any) -> dict[str, Any]:
        """Add a generated dataset (kind, count, seed, size, single), or one from a folder or ZIP however large."""
        timeout = None if "folder" in choices else 60
        return dict(self.control("POST", "/datasets", json={"name": name, **choices}, timeout=timeout))

    def set_balance(self, amount: int) -> None:
        """Set the balance, in the unit of the account's billing model."""
        self.control("POST", "/balance", json={"set_to": amount})

    def fault(self, action: str, **rule: Any) -> str:
        """Add a fault rule and return its id."""
        return str(self.control("POST", "/faults", json={"action": action, **rule})["id"])

    def faults(self) -> list[dict[str, Any]]:
        """Return the fault rules with how often they struck."""
        return list(self.control("GET", "/faults")["faults"])

    def clear_faults(self) -> None:
        """Remove every fault rule."""
        self.control("DELETE", "/faults")

    def advance(self, run_id: str, ticks: int = 1) -> dict[str, Any]:
        """Move a manually scripted run on."""
        return dict(self.control("POST", f"/runs/{run_id}/advance", json={"ticks": ticks}))

    def upload_model(self, content: bytes, **about: Any) -> None:
        """Make this file the weights of the account's scripted runs (classes="a,b", architecture, side)."""
        self.control("PUT", "/model", content=content, params=about)

    def requests(self) -> list[dict[str, Any]]:
        """Return the requests the account made, in order."""
        return list(self.control("GET", "/requests")["requests"])

    def bill(self) -> dict[str, Any]:
        """Return what the account started, was charged and got back."""
        return dict(self.control("GET", "/bill"))

    def reset(self) -> None:
        """Forget everything the account did."""
        self.control("POST", "/reset")

    @contextmanager
    def http(self, **options: Any) -> Iterator[httpx.Client]:
        """Yield an HTTP client of the emulated API with the account's key."""
        base = f"{self.url}/api/v1/developer"
        with httpx.Client(
            base_url=base, headers={"X-API-Key": self.api_key}, trust_env=False, verify=NO_TLS, **options
        ) as client:
            yield client


def _reason(answer: httpx.Response) -> str:
    """Return a refusal's sentence as it was written, or else the whole answer."""
    try:
        detail = answer.json()["detail"]
    except (ValueError, TypeError, KeyError):
        return answer.text
    return detail if isinstance(detail, str) else answer.text


def new_account(url: str, *, balance: int | None = None, api_key: str | None = None, **settings: Any) -> SandboxAccount:
    """Add an account with these settings to a running sandbox.

    Raises:
        RuntimeError: The sandbox refused; the message holds its answer.
    """
    body = {"settings": settings, "balance": balance, "api_key": api_key}
    answer = httpx.post(f"{url}/_sandbox/accounts", json=body, timeout=30, trust_env=False, verify=NO_TLS)
    if answer.is_error:
        raise RuntimeError(f"the sandbox refused the account ({answer.status_code}): {answer.text}")
    return SandboxAccount(url, answer.json()["api_key"])
