"""The FastAPI app: emulated APIs, storage, control API, and the gate in front of them."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from fastapi import FastAPI

from sandbox import control, storage
from sandbox.api import errors
from sandbox.api.bluesight import routes as bluesight
from sandbox.api.photogpt import routes as photogpt
from sandbox.api.pictograph import routes as pictograph
from sandbox.api.replicate import routes as replicate
from sandbox.core import Sandbox
from sandbox.gate import Gate


def create_app(sandbox: Sandbox, in_use: Callable[[], AbstractContextManager[None]]) -> FastAPI:
    """Build the app over one sandbox; each request is handled inside one in_use()."""
    app = FastAPI(title="sandbox", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.sandbox = sandbox
    for router in (
        pictograph.router,
        replicate.router,
        bluesight.router,
        photogpt.router,
        storage.router,
        control.router,
    ):
        app.include_router(router)
    errors.install(app)
    app.add_middleware(Gate, sandbox=sandbox, in_use=in_use)
    return app
