"""Which dialects know a path: checked before anything else of a request is looked at."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from sandbox.accounts import Account
from sandbox.api.pictograph.errors import ApiError
from sandbox.settings import Dialect

_KEY = "x-dialect"
V1_ONLY: dict[str, Any] = {_KEY: "v1"}
"""What a route of the old dialect is given as openapi_extra."""
V2_ONLY: dict[str, Any] = {_KEY: "v2"}
"""What a route of today's dialect is given as openapi_extra."""


class DialectRoute(APIRoute):
    """A route that does not exist for accounts of the other dialect, whatever they send to it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, behind the check."""
        handle, wanted = super().get_route_handler(), (self.openapi_extra or {}).get(_KEY)

        async def checked(request: Request) -> Response:
            account: Account | None = request.state.account
            if wanted is not None and account is not None and not speaks(account, wanted):
                raise ApiError(404, "Not Found")
            return await handle(request)

        return checked


def speaks(account: Account, dialect: Dialect) -> bool:
    """Whether an account knows the paths and names of a dialect."""
    return account.settings.dialect in (dialect, "both")
