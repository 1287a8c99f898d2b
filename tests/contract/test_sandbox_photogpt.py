"""The emulated PhotoGPT API: what every call passes, models, pictures and their addresses."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from sandbox.launch import NO_TLS
from sandbox.server import SandboxServer
from tests.contract.photogpt_calls import AT_ONCE, PERSON, NewCaller, callers, fetched, picture, upload

HEIC = b"\x00\x00\x00\x18ftypheic" + bytes(300)


@pytest.fixture
def new_caller(server: SandboxServer) -> Iterator[NewCaller]:
    """Give a function that opens an account with these settings of PhotoGPT."""
    with callers(server) as make:
        yield make


def test_a_ping_needs_a_key_and_has_no_result(new_caller: NewCaller) -> None:
    """With a good key it answers pong; a bad and a missing one get 401 in the envelope."""
    caller = new_caller()
    assert caller.http.get("/ping").json() == {"message": "pong!", "status": "OK"}
    assert caller.refused("GET", "/ping", headers={"Authorization": "Bearer nobody"})[0] == 401
    del caller.http.headers["Authorization"]
    assert caller.refused("GET", "/ping")[0] == 401


@pytest.mark.parametrize(("given", "expected"), [({"API-Version": "2"}, 400), ({"API-Version": ""}, 400)])
def test_another_version_is_refused(new_caller: NewCaller, given: dict[str, str], expected: int) -> None:
    """Only version 1 is spoken."""
    assert new_caller().refused("GET", "/models", headers=given) == (expected, "version error: send API-Version: 1")


@pytest.mark.parametrize("status", [None, 400, 422])
def test_a_missing_version_is_refused_as_set(new_caller: NewCaller, status: int | None) -> None:
    """The status of the refusal is the account's choice, and whether there is one."""
    caller = new_caller(missing_version_status=status)
    del caller.http.headers["API-Version"]
    if status is None:
        assert caller.ask("GET", "/models") == []
    else:
        assert caller.refused("GET", "/models")[0] == status


@pytest.mark.parametrize("agent", ["python-httpx/0.28", "Python-urllib/3.11"])
@pytest.mark.parametrize("known", [True, False])
def test_the_firewall_knows_no_json(new_caller: NewCaller, agent: str, known: bool) -> None:
    """Default agents of Python are blocked before anybody looks at the key, and not in the envelope."""
    caller = new_caller()
    key = {} if known else {"Authorization": "Bearer nobody"}
    answer = caller.http.get("/ping", headers={"User-Agent": agent, **key})
    assert (answer.status_code, answer.text) == (403, "error code: 1010")
    caller.account.configure(photogpt={"firewall": False})
    assert caller.http.get("/ping", headers={"User-Agent": agent}).status_code == 200


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/ping", 405)])
def test_what_is_not_there_answers_in_the_envelope(new_caller: NewCaller, method: str, path: str, status: int) -> None:
    """Unknown paths and methods too."""
    assert new_caller().refused(method, path)[0] == status


def test_faults_answer_in_the_envelope(new_caller: NewCaller) -> None:
    """An injected fault looks like the vendor's own, and one after the effect leaves it."""
    caller = new_caller()
    caller.account.fault("status", status=500, path="/models$", method="POST", stage="after")
    assert caller.refused("POST", "/models", json=PERSON)[0] == 500
    assert len(caller.ask("GET", "/models")) == 1
    caller.account.configure(rate_limit=1)
    assert caller.refused("GET", "/models") == (429, "Rate limit exceeded")


def test_a_new_model_shows_five_fields(new_caller: NewCaller) -> None:
    """Neither create nor list nor read tell its name; the id is a UUID that knows its time."""
    caller = new_caller()
    made = caller.ask("POST", "/models", json={**PERSON, "eyeColor": "green", "userID": "x"})
    assert set(made) == {"id", "status", "modelType", "createdAt", "updatedAt"}
    assert (made["status"], uuid.UUID(made["id"]).version) == ("new", 7)
    assert caller.ask("GET", "/models") == [made]
    assert caller.ask("GET", f"/models/{made['id']}") == made


def test_reading_shows_the_person_where_set(new_caller: NewCaller) -> None:
    """With the setting, list and read tell what was sent; create still does not."""
    caller = new_caller(shows_name=True)
    made = caller.ask("POST", "/models", json=PERSON)
    assert "name" not in made
    assert caller.ask("GET", f"/models/{made['id']}") == {**made, **PERSON}
    assert caller.ask("GET", "/models") == [{**made, **PERSON}]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"name": None}, "name"),
        ({"age": None}, "age"),
        ({"age": "30"}, "age"),
        ({"age": True}, "age"),
        ({"gender": "female"}, "gender"),
        ({"gender": None}, "gender"),
    ],
)
def test_a_model_without_its_fields_is_refused(new_caller: NewCaller, change: dict[str, Any], word: str) -> None:
    """Name, age and gender are needed, with their types; the refusal names the field."""
    status, message = new_caller().refused("POST", "/models", json={**PERSON, **change})
    assert status == 400
    assert word in message


def test_which_fields_are_needed_can_be_set(new_caller: NewCaller) -> None:
    """Nobody knows which ones the vendor enforces; what is no JSON is refused in any case."""
    caller = new_caller(required_fields=[])
    assert caller.ask("POST", "/models", json={})["status"] == "new"
    assert caller.refused("POST", "/models", content=b"{")[0] == 400


def test_a_create_with_an_id_updates(new_caller: NewCaller) -> None:
    """The model keeps its id and what was not sent; an unknown id is no create."""
    caller = new_caller(shows_name=True)
    ref = caller.model()
    assert caller.ask("POST", "/models", json={"id": ref, "age": 31})["id"] == ref
    assert len(caller.ask("GET", "/models")) == 1
    assert caller.ask("GET", f"/models/{ref}")["age"] == 31
    assert caller.ask("GET", f"/models/{ref}")["name"] == "p"
    assert caller.refused("POST", "/models", json={"id": str(uuid.uuid4()), **PERSON})[0] == 404


def test_models_come_in_pages_where_set(new_caller: NewCaller) -> None:
    """Newest first; without the setting all come at once and nothing tells of pages."""
    caller = new_caller()
    made = [caller.model() for _ in range(3)][::-1]
    plain = caller.http.get("/models?pageSize=2").json()
    assert [model["id"] for model in plain["result"]] == made
    assert set(plain) == {"status", "result"}
    caller.account.configure(photogpt={"models_page_size": 2})
    pages = [caller.http.get(f"/models?pageNum={number}").json() for number in (1, 2, 3)]
    assert [[model["id"] for model in page["result"]] for page in pages] == [made[:2], made[2:], []]
    assert (pages[1]["page"], pages[1]["pageSize"]) == (2, 2)


@pytest.mark.parametrize(("shown", "answer"), [("shown", "deleted"), ("gone", 404)])
def test_a_deleted_model_takes_its_pictures_with_it(new_caller: NewCaller, shown: str, answer: str | int) -> None:
    """It reads as deleted, or not at all; its pictures' addresses lead nowhere."""
    caller = new_caller(deleted_models=shown)
    ref = caller.model()
    image = caller.ask("POST", "/images/upload", **upload(ref, picture()))
    caller.ask("DELETE", f"/models/{ref}")
    found = caller.status(ref) if answer == "deleted" else caller.refused("GET", f"/models/{ref}")[0]
    assert found == answer
    assert len(caller.ask("GET", "/models")) == (answer == "deleted")
    assert caller.refused("GET", f"/images/{image['id']}")[0] == 404
    assert fetched(image["url"]).status_code == 404
    for method, path in (
        ("DELETE", f"/models/{ref}"),
        ("GET", f"/models/{ref}/train"),
        ("GET", f"/models/{ref}/images"),
    ):
        assert caller.refused(method, path)[0] == 404
    assert caller.refused("POST", "/images/upload", **upload(ref, picture()))[0] == 404


@pytest.mark.parametrize("status", [403, 404])
def test_what_is_another_account_s_is_refused(new_caller: NewCaller, status: int) -> None:
    """Models and pictures of others, by any call; the status is the account's choice."""
    owner, other = new_caller(), new_caller(foreign_status=status)
    ref = owner.model(1)
    image = owner.ask("GET", f"/models/{ref}/images")[0]["id"]
    for method, path in (
        ("GET", f"/models/{ref}"),
        ("GET", f"/models/{ref}/train"),
        ("GET", f"/models/{ref}/images"),
        ("DELETE", f"/models/{ref}"),
        ("GET", f"/images/{image}"),
        ("DELETE", f"/images/{image}"),
    ):
        assert other.refused(method, path)[0] == status
    assert other.refused("POST", "/images/upload", **upload(ref, picture()))[0] == status
    assert other.refused("GET", f"/models/{uuid.uuid4()}")[0] == 404
    assert len(owner.ask("GET", f"/models/{ref}/images")) == 1


@pytest.mark.parametrize("as_json", [True, False])
def test_an_uploaded_picture_comes_back_as_it_was(new_caller: NewCaller, as_json: bool) -> None:
    """Either form of the part `data`; the address needs no key and gives the same bytes, as an image."""
    caller = new_caller()
    ref, content = caller.model(), picture(3, "JPEG")
    image = caller.ask("POST", "/images/upload", **upload(ref, content, as_json=as_json))
    assert (image["modelID"], image["type"], image["data"], image["liked"]) == (ref, "modelInput", {}, False)
    answer = fetched(image["url"])
    assert (answer.content, answer.headers["content-type"]) == (content, "image/jpeg")
    assert httpx.head(image["url"], trust_env=False, verify=NO_TLS).headers["content-length"] == str(len(content))
    assert fetched(image["url"], headers={"Range": "bytes=2-4"}).content == content[2:5]
    assert caller.ask("GET", f"/images/{image['id']}") == image
    assert content[:20] not in str(image).encode()


def test_an_address_cannot_be_guessed(new_caller: NewCaller) -> None:
    """Neither another name nor a path upwards gives a picture."""
    caller = new_caller()
    url = caller.ask("POST", "/images/upload", **upload(caller.model(), picture()))["url"]
    folder, _, name = url.rpartition("/")
    flipped = ("0" if name[0] != "0" else "1") + name[1:]
    assert [fetched(f"{folder}/{other}").status_code for other in (flipped, "picture.png", f"%2e%2e%2f{name}")] == [
        404
    ] * 3
    caller.account.fault("status", status=503, path="/photogpt/")
    assert [fetched(url).status_code for _ in range(2)] == [503, 200]


def test_a_picture_may_be_encoded_anew(new_caller: NewCaller) -> None:
    """With the setting its address gives other bytes of the same picture."""
    caller = new_caller(keeps_bytes=False)
    content = picture(7, "JPEG")
    answer = fetched(caller.ask("POST", "/images/upload", **upload(caller.model(), content))["url"])
    assert answer.content != content
    assert Image.open(io.BytesIO(answer.content)).size == (24, 24)


@pytest.mark.parametrize(
    ("content", "status"),
    [(picture(0, "WEBP"), 200), (HEIC, 200), (picture(0, "GIF"), 400), (b"words", 400), (b"", 400)],
    ids=["webp", "heic", "gif", "words", "nothing"],
)
def test_a_format_is_read_from_the_content(new_caller: NewCaller, content: bytes, status: int) -> None:
    """The filename says png each time."""
    caller = new_caller()
    assert caller.http.post("/images/upload", **upload(caller.model(), content)).status_code == status


@pytest.mark.parametrize(
    "parts",
    [
        {"file": ("a.png", picture(), "image/png")},
        {"data": (None, "{}"), "file": ("a.png", picture(), "image/png")},
        {"data": (None, "no JSON"), "file": ("a.png", picture(), "image/png")},
        {"data": (None, '{"modelID": "m", "type": "input"}'), "file": ("a.png", picture(), "image/png")},
        {"data": (None, '{"modelID": "m", "type": "modelInput"}'), "file": (None, "text")},
        {"data": (None, '{"modelID": "m", "type": "modelInput"}')},
    ],
    ids=["no data", "empty data", "no JSON", "type of the filter", "no filename", "no file"],
)
def test_an_upload_of_another_form_is_refused(new_caller: NewCaller, parts: dict[str, Any]) -> None:
    """Both parts are needed, in their form."""
    assert new_caller().refused("POST", "/images/upload", files=parts)[0] == 400


def test_a_body_that_is_no_multipart_is_refused(new_caller: NewCaller) -> None:
    """JSON, and a multipart body without its boundary."""
    caller = new_caller()
    assert caller.refused("POST", "/images/upload", json={"modelID": "m"})[0] == 400
    headers = {"Content-Type": "multipart/form-data"}
    assert caller.refused("POST", "/images/upload", content=b"x", headers=headers)[0] == 400


def test_a_request_over_twenty_megabytes_is_refused(new_caller: NewCaller) -> None:
    """The framing counts: a picture of the whole size is too large by it."""
    caller = new_caller()
    ref, start = caller.model(), picture()
    full = start + bytes(20_000_000 - len(start))
    assert caller.refused("POST", "/images/upload", **upload(ref, full)) == (400, "the request is larger than 20 MB")
    assert caller.http.post("/images/upload", **upload(ref, full[:-1000])).status_code == 200


def test_a_model_takes_twenty_pictures_of_a_type(new_caller: NewCaller) -> None:
    """The next one is refused, one of the other type is not, and there is room again after a delete."""
    caller = new_caller()
    ref = caller.model(20)
    assert caller.refused("POST", "/images/upload", **upload(ref, picture()))[0] == 400
    caller.ask("POST", "/images/upload", **upload(ref, picture(), "auxiliaryType"))
    first = caller.ask("GET", f"/models/{ref}/images?imageType=input")[0]
    caller.ask("DELETE", f"/images/{first['id']}")
    assert fetched(first["url"]).status_code == 404
    assert caller.refused("DELETE", f"/images/{first['id']}")[0] == 404
    caller.ask("POST", "/images/upload", **upload(ref, picture()))


def test_pictures_are_listed_by_type_and_in_pages(new_caller: NewCaller) -> None:
    """Filters have words of their own; pages count from 1 and are told beside the result."""
    caller = new_caller()
    ref = caller.model(3)
    caller.ask("POST", "/images/upload", **upload(ref, picture(), "auxiliaryType"))
    path = f"/models/{ref}/images"
    counts = {
        word: len(caller.ask("GET", f"{path}?imageType={word}")) for word in ("all", "input", "auxiliaryType", "output")
    }
    assert counts == {"all": 4, "input": 3, "auxiliaryType": 1, "output": 0}
    body = caller.http.get(path).json()
    assert (body["page"], body["pageSize"]) == (1, 20)
    pages = [caller.http.get(f"{path}?pageNum={number}&pageSize=3").json() for number in (1, 2, 3)]
    assert [len(page["result"]) for page in pages] == [3, 1, 0]
    assert [image for page in pages for image in page["result"]] == body["result"]
    assert caller.refused("GET", f"{path}?imageType=modelInput")[0] == 400
    assert caller.refused("GET", f"{path}?pageNum=0")[0] == 400


def test_the_request_log_holds_no_picture(new_caller: NewCaller) -> None:
    """Of an upload it keeps the type and the length."""
    caller = new_caller()
    content = picture()
    caller.ask("POST", "/images/upload", **upload(caller.model(), content))
    row = caller.account.requests()[-1]
    assert row["body"].startswith("(multipart/form-data, ")
    assert all("IHDR" not in (row["body"] or "") for row in caller.account.requests())


def test_a_reset_forgets_models_and_pictures(new_caller: NewCaller) -> None:
    """Nothing is listed and no address leads anywhere."""
    caller = new_caller(AT_ONCE)
    image = caller.ask("POST", "/images/upload", **upload(caller.model(), picture()))
    caller.account.reset()
    assert caller.ask("GET", "/models") == []
    assert fetched(image["url"]).status_code == 404
