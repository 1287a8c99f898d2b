"""One call of the emulated PhotoGPT API: the firewall in front, the headers it needs, and who makes it."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from sandbox.accounts import Account
from sandbox.api.photogpt.firewall import blocked, is_blocked
from sandbox.core import Sandbox
from sandbox.lifecycle import settle
from sandbox.photogpt.errors import PhotogptError, refusal
from sandbox.photogpt.lifecycle import SCRIPTED
from sandbox.photogpt.settings import PhotogptSettings

Json = dict[str, Any]
_API_VERSION = "1"


@dataclass(frozen=True)
class Call:
    """An authenticated call."""

    sandbox: Sandbox
    account: Account
    request: Request

    @property
    def now_s(self) -> float:
        """The sandbox's time."""
        return self.sandbox.clock.now_s()

    @property
    def settings(self) -> PhotogptSettings:
        """How the dialect behaves towards the caller."""
        return self.account.settings.photogpt

    @property
    def base_url(self) -> str:
        """Scheme and host the caller reached the sandbox by."""
        return str(self.request.base_url)


class PhotogptRoute(APIRoute):
    """A route behind the firewall and the header checks, answering every refusal in the vendor's envelope."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, behind the checks."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            account: Account = request.state.account  # nobody comes here without one
            if account.settings.photogpt.firewall and is_blocked(request.headers):
                return blocked()
            _check_version(request, account.settings.photogpt.missing_version_status)
            try:
                return await handle(request)
            except RequestValidationError as error:
                return refusal(400, _told(error))

        return checked


def ok(result: Any, **more: Any) -> Json:
    """Return the envelope of a success."""
    return {"status": "OK", "result": result, **more}


def _check_version(request: Request, refused_with: int | None) -> None:
    if refused_with is not None and request.headers.get("api-version", "").strip() != _API_VERSION:
        raise PhotogptError(refused_with, "version error: send API-Version: 1", "version_error")


def _told(error: RequestValidationError) -> str:
    """Say which fields are wrong, without the values: they are about real persons."""
    fields = (f"{'.'.join(str(part) for part in entry['loc'])}: {entry['msg']}" for entry in error.errors())
    return "; ".join(fields)


def _caller(request: Request) -> Call:
    sandbox: Sandbox = request.app.state.sandbox
    account: Account = request.state.account
    settle(sandbox, account, SCRIPTED)
    return Call(sandbox, account, request)


Caller = Annotated[Call, Depends(_caller)]
"""The authenticated caller, its jobs brought up to date."""
