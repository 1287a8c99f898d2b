"""What the request log keeps of a request, and what it must not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sandbox.requestlog import Sent, logged_body, logged_path, redacted

URI = "data:image/png;base64," + "iVBORw0KGgo" * 30
SECRET = "0123456789ab" * 4
ADDRESS = f"/storage/acc/photogpt/img/{SECRET}.png"
JSON = "application/json"


def logged(body: bytes, kind: str | None = JSON, path: str = "/v1/predictions", method: str = "POST") -> Any:
    """Return what is kept of a body."""
    return logged_body(Sent(method, path, {} if kind is None else {"content-type": kind}), body)


def test_no_signature_is_logged() -> None:
    """A link's signature is a secret, whichever vendor's; what goes with it is kept."""
    assert redacted("owner=a&expiry=1&signature=ab%2Bc%3D") == "owner=a&expiry=1&signature=…"
    assert redacted("X-Sandbox-Signature=abc&x=1") == "X-Sandbox-Signature=…&x=1"
    assert redacted("resignature=abc") == "resignature=abc"


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"input": {"image": URI, "confidence": 0.5}}),
        json.dumps({"input": [{"image": f" {URI.upper()}", "confidence": 0.5}]}),
        json.dumps({"image": URI.replace("iVB", "iVB\n"), "confidence": 0.5}),
        json.dumps({"image": f"see {URI} there", "confidence": 0.5}),
        json.dumps({"image": URI, "confidence": 0.5}).replace("data:", "d\\u0061ta\\u003a"),
        json.dumps({URI: 1, "confidence": 0.5}),
    ],
)
def test_a_file_in_json_is_a_note(body: str) -> None:
    """Wherever it stands and however it is written; the rest of the body stays."""
    kept = logged(body.encode())
    assert "VBOR" not in kept.upper()
    assert "(data: URI, 3" in kept
    assert '"confidence": 0.5' in kept


def test_a_file_in_a_form_is_a_note() -> None:
    """Its percent-encoding hides it from nobody; a form without files stays as it was sent."""
    form = "application/x-www-form-urlencoded"
    kept = logged(b"a=1&image=data%3Aimage%2Fpng%3Bbase64%2CiVBORw0KGgo%3D&b=%41", form)
    assert "VBOR" not in kept
    assert kept.startswith("a=1&image=(data:+URI,+")
    assert logged(b"b=%41&a=", form) == "b=%41&a="


@pytest.mark.parametrize(
    ("body", "kind", "note"),
    [
        (b"\x89PNG\r\n", None, "(no content type, 6 bytes)"),
        (b'{"image": "x"}', None, "(no content type, 14 bytes)"),
        (b"P1 1 1 1", "text/plain", "(text/plain, 8 bytes)"),
        (b"\x89PNG\r\n", "image/png", "(image/png, 6 bytes)"),
        (b"\x89PNG\r\n", JSON, "(application/json, 6 bytes)"),
        (b'{"image": "data:,x"', JSON, "(application/json, 19 bytes)"),
        (b"[" * 100_000, JSON, "(application/json, 100000 bytes)"),
        (b'"' + b"a" * 4_000_000 + b'"', JSON, "(application/json, 4000002 bytes)"),
    ],
    ids=["none", "json-none", "text", "png", "png-as-json", "torn", "deep", "long"],
)
def test_what_cannot_be_looked_through_is_a_note(body: bytes, kind: str | None, note: str) -> None:
    """Only JSON and forms are kept, and only where they can be read."""
    assert logged(body, kind) == note


def test_json_is_kept_as_it_was_written() -> None:
    """Spaces, escapes and the order of fields; its beginning where it is long; nothing of nothing."""
    body = b'{ "b":1,  "a": "\\u00e4", "lone": "\\ud800" }'
    assert logged(body, "application/json; charset=utf-8") == body.decode()
    assert logged(json.dumps({"lone": "\ud800", "image": URI}).encode()).encode().startswith(b'{"lone": "\\ud800"')
    assert logged(json.dumps(["a" * 200_000]).encode()) == '["' + "a" * 99_998
    assert logged(b"") is None


@pytest.mark.parametrize("path", ["/api/models", "/api/models/"])
def test_of_a_person_only_the_names_of_fields_are_kept(path: str) -> None:
    """Name, age and looks belong to somebody; other bodies of the same vendor are kept."""
    body = b'{"name": "Ada", "age": 36, "eyeColor": "grey"}'
    assert json.loads(logged(body, path=path)) == {"name": "…", "age": "…", "eyeColor": "…"}
    for kind in ("application/x-www-form-urlencoded", "text/plain", None):
        assert "Ada" not in logged(body, kind, path)
    assert logged(b'["Ada"]', path=path) == "(application/json, 7 bytes)"
    assert "Ada" in logged(body, path="/api/images/generation")


@pytest.mark.parametrize("path", [ADDRESS, ADDRESS.replace("photogpt", "%70hotogpt"), ADDRESS.replace("/st", "//st")])
def test_the_address_of_a_picture_is_not_logged(path: str) -> None:
    """Whoever reads the log cannot fetch the picture, from a path or a body; other paths stay as they came."""
    assert SECRET[:4] not in logged_path(path)
    assert logged_path(path).endswith("storage/acc/photogpt/img/…")
    kept = logged(json.dumps({"image": f"http://localhost{ADDRESS}", "n": 1}).encode())
    assert SECRET[:4] not in kept
    assert '"n": 1' in kept
    for other in ("/storage/acc/exports/a%20b", "/api/models/photogpt/x"):
        assert logged_path(other) == other
