"""One call of the emulated Bluesight API: its turn, its errors, whose it is."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from sandbox import lifecycle
from sandbox.accounts import Account
from sandbox.api.bluesight.vendor import BluesightDialect
from sandbox.bluesight.jobs import is_holding_up
from sandbox.core import Sandbox
from sandbox.dialects import RefusedError
from sandbox.tiles import described
from sandbox.wire import wait_for_disconnect

_LOOK_EVERY_S = 0.05
_GONE = 499  # nobody reads it: the client left before its turn came


def failure(status: int, detail: str) -> Response:
    """Return an error as the vendor writes it: JSON that says it is plain text."""
    return Response(json.dumps({"detail": detail}), status, media_type="text/plain")


def refused(status: int, detail: str) -> RefusedError:
    """Return the exception that ends a call with an error."""
    return RefusedError(failure(status, detail))


class BluesightRoute(APIRoute):
    """Waits for trainings that hold the server up, and answers whatever goes wrong in the handler with a 400."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler with both around it."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            if not await _has_turn(request):
                return failure(_GONE, "the client left before its turn came")
            try:
                return await handle(request)
            except RequestValidationError as error:
                return failure(400, f"RequestValidationError: {list(error.errors())!r}")
            except (RefusedError, HTTPException):
                raise
            except Exception as error:  # the vendor's server knows no other status for what goes wrong in it
                return failure(400, described(error))

        return answer


async def _has_turn(request: Request) -> bool:
    """Wait until nothing trains, and return False when a client that only looks has left meanwhile.

    What changes something is done in its turn even for a client that has left: the vendor's server has the request in
    its socket by then, and reads it when it can.
    """
    sandbox, account = _whose(request)
    only_looks = request.method == "GET"
    while await run_sync(is_holding_up, sandbox, account):
        if not only_looks:
            await asyncio.sleep(_LOOK_EVERY_S)
        elif await _has_left(request):
            return False
    return True


async def _has_left(request: Request) -> bool:
    try:
        await asyncio.wait_for(wait_for_disconnect(request.receive), _LOOK_EVERY_S)
    except TimeoutError:
        return False
    return True


def _whose(request: Request) -> tuple[Sandbox, Account]:
    return request.app.state.sandbox, request.state.account


@dataclass(frozen=True)
class Call:
    """A call whose turn has come."""

    sandbox: Sandbox
    account: Account


def _call(request: Request) -> Call:
    sandbox, account = _whose(request)
    lifecycle.settle(sandbox, account, BluesightDialect.scripted)
    return Call(sandbox, account)


Caller = Annotated[Call, Depends(_call)]
"""Who calls, with the jobs of scripts brought up to date."""
