"""Tests of telling a genuine webhook delivery from any other."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from providers.replicate.webhooks import WebhookRefusedError, sign, verify
from tests.unit.http_double import everything_in

# The vendor's published vector.
SECRET = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
BODY = b'{"test": 2432232314}'
SENT_S = 1_614_265_330
HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(SENT_S),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
GOOD = HEADERS["webhook-signature"]


def test_the_published_vector_is_genuine() -> None:
    """The vendor's own example is accepted, and its id comes back."""
    assert verify(SECRET, HEADERS, BODY, SENT_S) == HEADERS["webhook-id"]


def test_header_names_are_read_in_any_case() -> None:
    """Servers hand headers over in cases of their own."""
    assert verify(SECRET, {name.title(): value for name, value in HEADERS.items()}, BODY, SENT_S)


@pytest.mark.parametrize("signatures", [f"v1,AAAA {GOOD}", f"{GOOD} v1,AAAA", f"v2,x {GOOD} v1,"])
def test_one_fitting_signature_of_several_is_enough(signatures: str) -> None:
    """While a secret is being changed a delivery carries two."""
    assert verify(SECRET, {**HEADERS, "webhook-signature": signatures}, BODY, SENT_S)


@pytest.mark.parametrize("signatures", [GOOD.replace("v1", "v2"), GOOD.replace("v1,", ""), "v1,", "v1,é", "x"])
def test_only_fitting_signatures_of_the_known_version_count(signatures: str) -> None:
    """The right bytes under another version, or none, are refused."""
    with pytest.raises(WebhookRefusedError, match="signatures fits"):
        verify(SECRET, {**HEADERS, "webhook-signature": signatures}, BODY, SENT_S)


@pytest.mark.parametrize("off_s", [-300, 0, 300])
def test_a_time_within_the_tolerance_is_accepted(off_s: int) -> None:
    """Clocks may differ, either way."""
    assert verify(SECRET, HEADERS, BODY, SENT_S + off_s)


@pytest.mark.parametrize(("off_s", "way"), [(-301, "ahead"), (301, "old")])
def test_a_time_beyond_the_tolerance_is_refused(off_s: int, way: str) -> None:
    """A genuine delivery that is replayed later is no delivery."""
    with pytest.raises(WebhookRefusedError, match=way):
        verify(SECRET, HEADERS, BODY, SENT_S + off_s)


@pytest.mark.parametrize("timestamp", ["soon", "-1", "1e9", "16142653300000", "²"])
def test_a_time_that_is_none_is_refused(timestamp: str) -> None:
    """Even when it was signed."""
    signature = f"v1,{sign(SECRET, 'id', timestamp, BODY)}"
    headers = {"webhook-id": "id", "webhook-timestamp": timestamp, "webhook-signature": signature}
    with pytest.raises(WebhookRefusedError, match="no time in seconds"):
        verify(SECRET, headers, BODY, SENT_S)


@pytest.mark.parametrize("missing", list(HEADERS))
def test_a_missing_header_is_named(missing: str) -> None:
    """Each of the three is needed."""
    with pytest.raises(WebhookRefusedError, match=missing):
        verify(SECRET, {**HEADERS, missing: " "}, BODY, SENT_S)


@pytest.mark.parametrize("body", [BODY + b" ", BODY.replace(b"2", b"3"), b""])
def test_a_body_that_was_touched_is_refused(body: bytes) -> None:
    """Parsing and writing it again is touching."""
    with pytest.raises(WebhookRefusedError, match="untouched body"):
        verify(SECRET, HEADERS, body, SENT_S)


@pytest.mark.parametrize("secret", ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_", "whsec_***canary***"])
def test_a_secret_that_cannot_be_read_is_refused_and_not_shown(secret: str) -> None:
    """An empty key would accept whatever anybody signs with an empty key."""
    with pytest.raises(WebhookRefusedError, match="signing secret") as caught:
        verify(SecretStr(secret), HEADERS, BODY, SENT_S)
    assert secret.removeprefix("whsec_") == "" or secret.removeprefix("whsec_") not in everything_in(caught.value)
