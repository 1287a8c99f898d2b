"""Refusals of the emulated PhotoGPT API and the envelope they come in."""

from starlette.responses import JSONResponse, Response

from sandbox.dialects import RefusedError

_WORDS = {
    400: "bad_request",
    401: "unauthorized",
    402: "insufficient_credits",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    429: "too_many_requests",
}


class PhotogptError(RefusedError):
    """Ends a request with a refusal: a status, a message for people and a word for logs."""

    def __init__(self, status: int, message: str, err: str | None = None) -> None:
        super().__init__(refusal(status, message, err))


def refusal(status: int, message: str, err: str | None = None) -> Response:
    """Return a refusal in the vendor's envelope."""
    word = err or _WORDS.get(status, "internal_error" if status >= 500 else "error")
    return JSONResponse({"status": "NOK", "message": message, "err": word, "result": None}, status)


def not_found(thing: str) -> PhotogptError:
    """Return the 404 for a model, image or job that is not there."""
    return PhotogptError(404, f"{thing} not found")
