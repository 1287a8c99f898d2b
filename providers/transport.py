"""The way to a server: certificates, proxies, and what an httpx exception means."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

import httpx

from pipeline.errors import ConfigurationError, ErrorContext, PipelineError, TransportError, UnexpectedResponseError

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@cache
def tls_context() -> ssl.SSLContext:
    """Return this process's TLS settings; reading the system's certificates takes 20 ms, and every stage connects."""
    return httpx.create_ssl_context()


def trusts_environment(url: str) -> bool:
    """Tell whether proxies from the environment apply: never for this very machine."""
    return (urlsplit(url).hostname or "") not in _LOOPBACK


@dataclass(frozen=True)
class Failure:
    """What an httpx exception means."""

    raised: type[Exception]
    """httpx's class."""
    error: type[PipelineError]
    """Ours."""
    phrase: str
    """What happened, in words that quote nothing: httpx puts header values into some messages."""
    may_have_arrived: bool = True
    """Whether the server may have acted on the request."""


_BAD_ADDRESS = "the address is not one that can be called; correct the base URL"
FAILURES: tuple[Failure, ...] = (
    Failure(httpx.UnsupportedProtocol, ConfigurationError, _BAD_ADDRESS, may_have_arrived=False),
    Failure(httpx.InvalidURL, ConfigurationError, _BAD_ADDRESS, may_have_arrived=False),
    Failure(httpx.LocalProtocolError, ConfigurationError, "the request could not be put on the wire", False),
    Failure(httpx.ConnectTimeout, TransportError, "no connection within the timeout", may_have_arrived=False),
    Failure(httpx.PoolTimeout, TransportError, "no free connection within the timeout", may_have_arrived=False),
    Failure(httpx.ConnectError, TransportError, "no connection could be made", may_have_arrived=False),
    Failure(httpx.ProxyError, TransportError, "the proxy refused", may_have_arrived=False),
    Failure(httpx.TimeoutException, TransportError, "no answer within the timeout"),
    Failure(httpx.DecodingError, UnexpectedResponseError, "the body's compression is damaged"),
    Failure(httpx.TransportError, TransportError, "the connection broke"),
    Failure(httpx.HTTPError, TransportError, "the exchange failed"),
    Failure(httpx.StreamError, TransportError, "the transfer was interrupted"),
)
"""Every exception httpx can raise while calling, most specific first."""


def failure_of(exc: Exception) -> Failure:
    """Return the first row that fits."""
    return next(row for row in FAILURES if isinstance(exc, row.raised))


def transport_failure(subject: str, exc: Exception, context: ErrorContext) -> PipelineError:
    """Turn an httpx exception into one of our errors; an outcome is only unknown when the request may have arrived."""
    row = failure_of(exc)
    known = ErrorContext(operation=context.operation, outcome_unknown=context.outcome_unknown and row.may_have_arrived)
    return row.error(f"{subject} got no answer: {row.phrase} ({type(exc).__name__}).", known)
