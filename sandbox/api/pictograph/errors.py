"""Error answers of the emulated API, in the body shape of the caller's dialect."""

from collections.abc import Sequence
from typing import Any

from fastapi.responses import JSONResponse
from starlette.responses import Response

from sandbox.accounts import Account
from sandbox.billing import Shortage

CODES = {
    400: "validation_error",
    401: "unauthorized",
    402: "insufficient_credits",
    403: "forbidden",
    404: "not_found",
    409: "conflict",
    422: "validation_error",
    429: "rate_limited",
}


class ApiError(Exception):
    """An answer that refuses the request: status, message, and what each dialect says besides."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        details: dict[str, Any] | None = None,
        legacy: Any = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code or CODES.get(status, "internal_error" if status >= 500 else "error")
        self.details = details or {}
        self.legacy = message if legacy is None else legacy


def not_found(kind: str, ref: str) -> ApiError:
    """Return the 404 for an object that is missing or belongs to somebody else: the two look the same."""
    return ApiError(404, f"{kind} '{ref}' not found")


def invalid(field: str, message: str) -> ApiError:
    """Return the 422 for one field of the body or query that holds a value of the wrong kind."""
    return field_errors([{"loc": field.split("."), "msg": message, "type": "value_error"}])


def insufficient(account: Account, missing: Shortage) -> ApiError:
    """Return the 402 for a start the account cannot pay."""
    unit, message = (
        account.settings.billing,
        f"Insufficient balance: {missing.required} needed, {missing.remaining} left",
    )
    amounts = {"required": missing.required, "remaining": missing.remaining, "unit": unit}
    details: dict[str, Any] = {**amounts, "upgrade_url": "https://sandbox.invalid/billing"}
    if unit == "micro_usd":
        details |= {"required_micro_usd": missing.required, "remaining_micro_usd": missing.remaining}
    legacy = {"error": "insufficient_credits", "message": message, **details}
    return ApiError(402, message, details=details, legacy=legacy)


def error_response(error: ApiError, account: Account | None) -> Response:
    """Return the answer for an error; callers without an account get the form that both clients read."""
    if account is not None and account.settings.dialect == "v1":
        return JSONResponse({"detail": error.legacy}, error.status)
    body = {"error": {"code": error.code, "message": error.message, "details": error.details}, "detail": error.legacy}
    return JSONResponse(body, error.status)


def field_errors(errors: Sequence[Any]) -> ApiError:
    """Return the 422 for the fields a request filled wrongly."""
    fields = [{"loc": list(entry["loc"]), "msg": entry["msg"], "type": entry["type"]} for entry in errors]
    message = "; ".join(f"{'.'.join(str(part) for part in entry['loc'])}: {entry['msg']}" for entry in fields)
    return ApiError(422, message, details={"errors": fields}, legacy=fields)
