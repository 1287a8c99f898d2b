"""Errors of the whole app, each in the shape of the vendor whose path was asked for."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sandbox.api.pictograph.errors import ApiError, error_response, field_errors
from sandbox.api.pictograph.vendor import PictographDialect
from sandbox.dialects import RefusedError
from sandbox.vendors import dialect_of


def install(app: FastAPI) -> None:
    """Make the app answer every error as the vendor does."""
    for kind in (ApiError, RefusedError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _on_error)


def _on_error(request: Request, error: Exception) -> Response:
    account, dialect = getattr(request.state, "account", None), dialect_of(request.url.path)
    if isinstance(error, RefusedError):
        return error.response
    if isinstance(error, HTTPException):
        response = dialect.error(error.status_code, str(error.detail), account)
        response.headers.update(error.headers or {})
        return response
    if isinstance(error, RequestValidationError):
        found = field_errors(error.errors())
        is_ours = isinstance(dialect, PictographDialect)
        return error_response(found, account) if is_ours else dialect.error(422, found.message, account)
    if isinstance(error, ApiError):
        return error_response(error, account)
    raise error
