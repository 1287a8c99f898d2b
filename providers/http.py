"""One small JSON client over httpx: key, timeouts, request ids, retries, and every failure as one of our errors.

httpx and JSON exceptions stop here. No message, log line or exception of this module contains the key or the query of a
URL: queries of signed URLs are as good as a password.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Generator
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from typing import BinaryIO, Literal
from urllib.parse import quote, urlsplit

import httpx
from pydantic import JsonValue, SecretStr

from pipeline.addresses import REDACTED
from pipeline.errors import (
    ConfigurationError,
    ErrorContext,
    InvalidRequestError,
    ProviderError,
)
from providers.calls import ApiReply, ApiRequest, ClientOptions, UploadPart
from providers.http_errors import read_error_body
from providers.retry import ONCE, call_with_retries, parse_retry_after
from providers.scrubbing import Scrubber
from providers.transport import tls_context, transport_failure, trusts_environment

SANDBOX_HEADER = "X-Train-Pipeline-Sandbox"
"""What a sandbox says of itself on every answer, so that neither it nor a hosted account is taken for the other."""
MAY_NAME_A_DELAY = frozenset({429, 503})
"""Statuses whose Retry-After is believed."""
_LONGEST_HEADER = 200


def user_agent() -> str:
    """Return the name this program gives itself."""
    try:
        return f"train-pipeline/{version('train-pipeline')}"
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "train-pipeline/dev"


def redact_url(url: str | httpx.URL) -> str:
    """Return a URL that may be shown: no user, no password, and of the query only that there was one."""
    parts = urlsplit(str(url))
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    shown = f"{parts.scheme}://{host}{port}{parts.path}" if parts.scheme else parts.path
    return f"{shown}?{REDACTED}" if parts.query else shown


class _RedactQueries(logging.Filter):
    """httpx logs the whole URL of every request at INFO; a signed URL must not get into a log that way."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(redact_url(arg) if isinstance(arg, httpx.URL) else arg for arg in record.args)
        return True


logging.getLogger("httpx").addFilter(_RedactQueries())


def path_segment(name: str) -> str:
    """Return a name as exactly one path segment.

    Raises:
        InvalidRequestError: The name is empty or a dot segment, which would address something else.
    """
    if name in {"", ".", ".."}:
        raise InvalidRequestError(f"{name!r} cannot be a name: use a different one.")
    return quote(name, safe="")


def check_key(api_key: SecretStr) -> SecretStr:
    """Return the key when it can be sent.

    Raises:
        ConfigurationError: It is empty or holds characters no header may carry; sending it anyway would make the HTTP
            library repeat it in its own error.
    """
    key = api_key.get_secret_value()
    if not key or not all("!" <= character <= "~" for character in key):
        raise ConfigurationError("The API key is empty or contains spaces or control characters: paste it again.")
    return api_key


class _KeyHeader(httpx.Auth):
    """Adds the key at the last moment, so that it is in no default header and no repr."""

    def __init__(self, api_key: SecretStr, scheme: Literal["X-API-Key", "Bearer"]) -> None:
        self._api_key = api_key
        self._scheme = scheme

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        key = self._api_key.get_secret_value()
        if self._scheme == "Bearer":
            request.headers["Authorization"] = f"Bearer {key}"
        else:
            request.headers[self._scheme] = key
        yield request


class ApiClient:
    """Sends requests to one API with one key, or with none where an API has no keys."""

    def __init__(self, api_key: SecretStr | None, options: ClientOptions) -> None:
        self._scrubber = Scrubber(check_key(api_key)) if api_key is not None else Scrubber()
        self._options = options
        self._base_url = options.base_url.rstrip("/")
        self._client = httpx.Client(
            auth=_KeyHeader(api_key, options.scheme) if api_key is not None else None,
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": user_agent(),
                **dict(options.headers),
            },
            timeout=options.timeout_s,
            transport=options.transport,
            follow_redirects=False,
            trust_env=trusts_environment(self._base_url),
            verify=tls_context(),
        )

    def __repr__(self) -> str:
        """Show the address alone."""
        return f"ApiClient({redact_url(self._base_url)!r})"

    def close(self) -> None:
        """Release connections."""
        self._client.close()

    def call(self, request: ApiRequest) -> ApiReply:
        """Send a request, again where the operation is safe to repeat, and return its answer.

        Raises:
            ProviderError: By status or transport failure; ``context.outcome_unknown`` when an operation with an effect
                may have had it although no usable answer came.
            ConfigurationError: The base URL cannot be called.
        """
        policy = self._options.retry if request.repeatable else ONCE
        return call_with_retries(
            lambda: self._send(request),
            policy,
            clock=self._options.clock,
            uniform=self._options.uniform,
            stop_in_doubt=request.look_first,
        )

    def _url(self, request: ApiRequest) -> str:
        parts = urlsplit(request.path)
        if not parts.scheme and not parts.netloc:
            return self._base_url + request.path
        # A server that hands out absolute URLs must not be able to send the key to another host.
        base = urlsplit(self._base_url)
        query = f"?{parts.query}" if parts.query else ""
        return f"{base.scheme}://{base.netloc}{parts.path}{query}"

    def _send(self, request: ApiRequest) -> ApiReply:
        headers = dict(request.headers)
        if request.idempotency_key:
            headers["Idempotency-Key"] = request.idempotency_key
        usual_s = self._options.timeout_s
        try:
            with ExitStack() as opened:
                response = self._client.request(
                    request.method,
                    self._url(request),
                    headers=headers,
                    params=dict(request.params) or None,
                    json=dict(request.body) if request.body is not None else None,
                    files=[_form_part(part, opened) for part in request.parts] or None,
                    timeout=httpx.Timeout(usual_s if request.timeout_s is None else request.timeout_s, connect=usual_s),
                )
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as exc:
            context = ErrorContext(operation=request.operation, outcome_unknown=request.effect)
            raise transport_failure(request.subject, exc, context) from exc
        return self._read(request, response)

    def _read(self, request: ApiRequest, response: httpx.Response) -> ApiReply:
        # Scrubbed before anything looks at it: whatever a server echoes, nothing later can carry the key. Parsed first:
        # an escape in the text would hide the key from the scrubber and reveal it to the parser.
        payload = self._parse_json(response.text)
        text = self._scrubber.text(response.text)
        request_id = self._header(response, "X-Request-Id")
        if not response.is_success:
            raise self._status_error(request, response, payload, text)
        reply = ApiReply(request, response.status_code, payload, request_id, SANDBOX_HEADER in response.headers)
        if payload is None and text.strip() not in {"", "null"}:
            kind = self._header(response, "Content-Type") or "no content type"
            raise reply.unreadable(f"expected JSON, got {kind!r}")
        return reply

    def _header(self, response: httpx.Response, name: str) -> str | None:
        """Return what a header says as it may be shown: without the key, and cut."""
        said = self._scrubber.header(response.headers.get(name))
        return said if said is None else said[:_LONGEST_HEADER]

    def _parse_json(self, text: str) -> JsonValue:
        try:
            return self._scrubber.payload(json.loads(text))
        except (ValueError, RecursionError):
            return None

    def _status_error(
        self, request: ApiRequest, response: httpx.Response, payload: JsonValue, text: str
    ) -> ProviderError:
        status = response.status_code
        body = read_error_body(payload, text)
        delay = response.headers.get("Retry-After") if status in MAY_NAME_A_DELAY else None
        context = ErrorContext(
            operation=request.operation,
            status_code=status,
            code=body.code,
            request_id=self._header(response, "X-Request-Id"),
            retry_after_s=parse_retry_after(delay, self._options.clock.time()),
            outcome_unknown=request.effect and (status >= 500 or status == 408),
        )
        return self._options.error_of(request.subject, body, context)


_FormPart = tuple[str, tuple[str | None, BinaryIO | bytes, str]]


def _form_part(part: UploadPart, opened: ExitStack) -> _FormPart:
    if isinstance(part.content, bytes):
        return part.field, (part.filename, part.content, part.content_type)
    try:
        content = opened.enter_context(part.content.open("rb"))
    except OSError as exc:
        message = f"What is to be sent as {part.field!r} cannot be read ({exc.strerror}): make it readable."
        raise ConfigurationError(message) from exc
    return part.field, (part.filename, content, part.content_type)
