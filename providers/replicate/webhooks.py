"""Whether a delivery comes from Replicate. Source: https://replicate.com/docs/topics/webhooks, checked 2026-11-20.

Deliveries may come twice, late and out of order: drop those whose id is known, and whatever says less than was known.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from pydantic import SecretStr

from pipeline.errors import ErrorContext, PipelineError

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
TOLERANCE_S = 300.0
"""Most seconds between a delivery's time and ours, either way."""
_PREFIX = "whsec_"
_VERSION = "v1"


class WebhookRefusedError(PipelineError):
    """The delivery is not one to be believed: answer it with 401 and do nothing."""


def verify(
    secret: SecretStr, headers: Mapping[str, str], body: bytes, now_s: float, tolerance_s: float = TOLERANCE_S
) -> str:
    """Return the id of a genuine delivery; ``body`` is the untouched bytes, ``now_s`` seconds since the epoch.

    Raises:
        WebhookRefusedError: A header is missing, the time is off by more than the tolerance, no signature fits, or the
            secret cannot be read.
    """
    given = {name.lower(): value for name, value in headers.items()}
    delivery_id, timestamp = _header(given, ID_HEADER), _header(given, TIMESTAMP_HEADER)
    signatures = _header(given, SIGNATURE_HEADER)
    expected = sign(secret, delivery_id, timestamp, body).encode()
    # Every one is compared, so that how long it takes says nothing about which of them fitted.
    fits = [hmac.compare_digest(expected, offered) for offered in _offered(signatures)]
    if not any(fits):
        raise _refused(f"none of its {len(fits)} {_VERSION} signatures fits; check the secret and the untouched body")
    _check_time(timestamp, now_s, tolerance_s)
    return delivery_id


def sign(secret: SecretStr, delivery_id: str, timestamp: str, body: bytes) -> str:
    """Return the signature a delivery carries, without its version.

    Raises:
        WebhookRefusedError: The secret cannot be read.
    """
    signed = f"{delivery_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def _key(secret: SecretStr) -> bytes:
    text = secret.get_secret_value().strip()
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(_PREFIX) or not key:
        raise _refused(f"the signing secret is not {_PREFIX!r} and base64: read it again from the account")
    return key


def _header(given: Mapping[str, str], name: str) -> str:
    value = given.get(name, "").strip()
    if not value:
        raise _refused(f"it has no {name!r} header")
    return value


def _offered(signatures: str) -> list[bytes]:
    parts = (entry.partition(",") for entry in signatures.split())
    return [value.encode() for version, _, value in parts if version == _VERSION]


def _check_time(timestamp: str, now_s: float, tolerance_s: float) -> None:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise _refused(f"its {TIMESTAMP_HEADER!r} is no time in seconds")
    off_s = now_s - int(timestamp)
    if abs(off_s) > tolerance_s:
        way = "old" if off_s > 0 else "ahead of this machine's clock"
        raise _refused(f"it is {abs(off_s):.0f} s {way}, more than {tolerance_s:.0f} s: a replay, or a wrong clock")


def _refused(reason: str) -> WebhookRefusedError:
    return WebhookRefusedError(f"The webhook delivery is refused: {reason}.", ErrorContext(operation="webhook.verify"))
